package client

import (
	"net"
	"net/url"
	"strconv"
	"strings"
	"unicode"

	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/berthd/berth/problem"
)

const (
	// defaultPort is the servers' gRPC port.
	defaultPort = "7461"
	// scheme names our resolver to grpc, which only has to hold a list of addresses.
	scheme = "berth"
)

// ParseAddress takes the address of one or more servers apart and fills in what was
// left out. It refuses URLs: they belong to the REST API, which listens on another port.
func ParseAddress(text string) ([]string, error) {
	if strings.TrimSpace(text) == "" {
		return []string{DefaultAddress}, nil
	}
	var addresses []string
	for one := range strings.SplitSeq(text, ",") {
		address, err := parseOne(strings.TrimSpace(one))
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, address)
	}
	return addresses, nil
}

func parseOne(text string) (string, error) {
	wrong := func(format string, args ...any) error {
		return problem.New(problem.Invalid, strconv.Quote(text), format, args...).
			WithRemedy("give host:port, such as %s", DefaultAddress)
	}
	switch {
	case text == "":
		return "", wrong("one of the server addresses is empty")
	case strings.Contains(text, "://"):
		host := "the server's host"
		if u, err := url.Parse(text); err == nil && u.Hostname() != "" {
			host = net.JoinHostPort(u.Hostname(), defaultPort)
		}
		return "", problem.New(problem.Invalid, text, "the server's address is a URL, and this client speaks gRPC, not HTTP").
			WithRemedy("use the gRPC address: %s", host)
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		// A host alone; IPv6 addresses with or without their brackets.
		host, port = strings.Trim(text, "[]"), defaultPort
		if strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return "", wrong("not a server address")
		}
	}
	if host == "" {
		host = "127.0.0.1"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", wrong("the port %q of the server address is not a number from 1 to 65535", port)
	}
	if strings.ContainsFunc(host, notInHost) {
		return "", wrong("%q is not a host name", host)
	}
	return net.JoinHostPort(host, port), nil
}

// notInHost says that a rune cannot be part of a host's name or address.
func notInHost(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune("/?#@[]", r)
}

// newResolver hands grpc the addresses, which it tries in their order.
func newResolver(addresses []string) resolver.Builder {
	r := manual.NewBuilderWithScheme(scheme)
	var state resolver.State
	for _, a := range addresses {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: a, ServerName: a}}})
	}
	r.InitialState(state)
	return r
}
