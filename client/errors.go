package client

import (
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// fromServer says whether a server answered with this error, instead of grpc making it
// up because none could be reached.
func fromServer(err error) bool {
	s, ok := status.FromError(err)
	if !ok {
		return false
	}
	for _, d := range s.Details() {
		if _, ok := d.(*berthv1.Problem); ok {
			return true
		}
	}
	return false
}

// explain makes a problem of a call's error. What a server said stays as it is; grpc's
// own words about a connection are put into words that name what to do.
func explain(err error, addresses []string, encrypted bool) error {
	p := problem.From(err)
	s, ok := status.FromError(err)
	if !ok || fromServer(err) || s.Code() != codes.Unavailable {
		return p
	}
	where := strings.Join(addresses, ", ")
	text := s.Message()
	has := func(parts ...string) bool {
		for _, part := range parts {
			if strings.Contains(text, part) {
				return true
			}
		}
		return false
	}
	unreachable := func(reason, remedy string, args ...any) error {
		e := problem.New(problem.Unavailable, where, "%s", reason).WithRemedy(remedy, args...)
		return e
	}
	switch {
	case has("looked like an HTTP/1.1 header", "HTTP/1"):
		return unreachable("what answers there is an HTTP server, and this client speaks gRPC",
			"give the server's gRPC address (port %s unless configured otherwise) by -addr or BERTH_ADDR", defaultPort)
	case has("first record does not look like a TLS handshake"):
		return unreachable("the server there speaks without TLS, and this client was told to use it",
			"leave out -ca-cert, -client-cert and -client-key, and BERTH_CACERT, BERTH_CLIENT_CERT and BERTH_CLIENT_KEY")
	case has("x509:", "authentication handshake failed"):
		return unreachable("the server there was not accepted: "+innermost(text),
			"check BERTH_CACERT and BERTH_TLS_SERVER_NAME")
	case has("connection refused"):
		return unreachable("nothing listens there (connection refused)",
			"start a server (`berth agent -dev` for a first look), or name another one by -addr or BERTH_ADDR")
	case has("no such host", "Temporary failure in name resolution", "server misbehaving"):
		return unreachable("there is no host of that name", "check -addr or BERTH_ADDR")
	case has("server preface", "EOF", "connection reset") && !encrypted:
		return unreachable("the connection was closed before the server said anything: it may be going down, or want TLS ("+innermost(text)+")",
			"give the CA certificate by -ca-cert or BERTH_CACERT if the cluster uses TLS")
	}
	return unreachable("no server can be reached: "+innermost(text), "check -addr or BERTH_ADDR, and the network between here and there")
}

// innermost is what is left of grpc's message without the layers around it.
func innermost(text string) string {
	if i := strings.LastIndex(text, "desc = "); i >= 0 {
		text = strings.Trim(text[i+len("desc = "):], `"`)
	}
	return strings.TrimPrefix(text, "transport: ")
}
