package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/berthd/berth/drivers"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func probe(t *testing.T, c *berthv1.Check, target Target) Outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	return NewPool(1).Prober(c, target).Probe(ctx)
}

// closed is an address that refuses.
func closed(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestHTTP(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("another host was asked") }))
	defer elsewhere.Close()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
			fmt.Fprintln(w, "fine")
		case "/bad":
			w.WriteHeader(503)
			fmt.Fprintln(w, "no database")
		case "/echo":
			b, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s %s %s %s", r.Method, r.Host, r.Header.Get("X-A"), r.URL.RawQuery, b)
		case "/here":
			http.Redirect(w, r, "/ok", http.StatusFound)
		case "/elsewhere":
			http.Redirect(w, r, elsewhere.URL, http.StatusFound)
		case "/round":
			http.Redirect(w, r, "/round", http.StatusFound)
		case "/flood":
			for range 1000 {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		case "/slow":
			<-r.Context().Done()
		}
	})
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer secure.Close()
	at := strings.TrimPrefix(plain.URL, "http://")
	for _, tc := range []struct {
		name  string
		check *berthv1.Check
		to    string
		ok    bool
		words string
	}{
		{"ok", &berthv1.Check{Path: "/ok"}, at, true, "status 200 OK: fine"},
		{"bad", &berthv1.Check{Path: "/bad"}, at, false, "status 503 Service Unavailable: no database"},
		{"expected", &berthv1.Check{Path: "/bad", ExpectStatus: "200, 500-503"}, at, true, "status 503"},
		{"not expected", &berthv1.Check{Path: "/ok", ExpectStatus: "204,300-399"}, at, false, "status 200"},
		{"all of a request", &berthv1.Check{Path: "/echo?q=1", Method: "POST", Body: "b", Headers: map[string]string{"Host": "web.test", "X-A": "a"}}, at, true, "POST web.test a q=1 b"},
		{"redirect to itself", &berthv1.Check{Path: "/here"}, at, true, "fine"},
		{"redirect to another host", &berthv1.Check{Path: "/elsewhere"}, at, true, "status 302"},
		{"redirect without end", &berthv1.Check{Path: "/round", ExpectStatus: "200"}, at, false, "status 302"},
		{"flood", &berthv1.Check{Path: "/flood"}, at, true, "status 200"},
		{"slow", &berthv1.Check{Path: "/slow"}, at, false, "no answer in time"},
		{"refused", &berthv1.Check{Path: "/ok"}, closed(t), false, "connection refused"},
		{"not http", &berthv1.Check{}, at, true, "status 200"},
		{"tls", &berthv1.Check{Path: "/ok", Tls: true, TlsSkipVerify: true}, strings.TrimPrefix(secure.URL, "https://"), true, "fine"},
		{"tls, not trusted", &berthv1.Check{Path: "/ok", Tls: true}, strings.TrimPrefix(secure.URL, "https://"), false, "certificate"},
		{"bad method", &berthv1.Check{Method: "a b"}, at, false, "invalid method"},
		{"no port", &berthv1.Check{}, "", false, "the group has no such port"},
	} {
		tc.check.Name = "http"
		o := probe(t, tc.check, Target{Address: tc.to, Why: "the group has no such port"})
		if o.OK != tc.ok || !strings.Contains(o.Output, tc.words) || len(clip(o.Output)) > maxOutput {
			t.Errorf("%s: %v %q", tc.name, o.OK, clip(o.Output))
		}
	}
}

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if o := probe(t, &berthv1.Check{Name: "x", Type: "tcp"}, Target{Address: l.Addr().String()}); !o.OK {
		t.Errorf("%+v", o)
	}
	if o := probe(t, &berthv1.Check{Name: "tcp"}, Target{Address: closed(t)}); o.OK || o.Output != "connection refused" {
		t.Errorf("%+v", o)
	}
}

func TestGRPC(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, h := grpc.NewServer(), health.NewServer()
	healthpb.RegisterHealthServer(s, h)
	h.SetServingStatus("good", healthpb.HealthCheckResponse_SERVING)
	h.SetServingStatus("bad", healthpb.HealthCheckResponse_NOT_SERVING)
	go func() { _ = s.Serve(l) }() // ends with Stop
	defer s.Stop()
	for _, tc := range []struct {
		service, to string
		ok          bool
		words       string
	}{
		{"", l.Addr().String(), true, "SERVING"}, {"good", l.Addr().String(), true, "SERVING"},
		{"bad", l.Addr().String(), false, "NOT_SERVING"}, {"other", l.Addr().String(), false, "NotFound: unknown service"},
		{"", closed(t), false, "connection refused"},
	} {
		o := probe(t, &berthv1.Check{Name: "grpc", GrpcService: tc.service}, Target{Address: tc.to})
		if o.OK != tc.ok || !strings.Contains(o.Output, tc.words) {
			t.Errorf("%q: %+v", tc.service, o)
		}
	}
}

func TestScript(t *testing.T) {
	for _, tc := range []struct {
		name  string
		exit  *drivers.Exit
		err   error
		out   string
		ok    bool
		words string
	}{
		{"good", &drivers.Exit{}, nil, "fine\n", true, "fine"},
		{"bad", &drivers.Exit{Code: 2}, nil, "no disk", false, "exit code 2: no disk"},
		{"killed", &drivers.Exit{Signal: 9}, nil, "", false, "ended by SIGKILL"},
		{"lost", &drivers.Exit{Err: "not known"}, nil, "", false, "not known"},
		{"cannot", nil, errors.New("no such program"), "", false, "cannot be run: no such program"},
		{"long", &drivers.Exit{Code: 1}, nil, strings.Repeat("x", 5000), false, "exit code 1: xxx"},
	} {
		o := probe(t, &berthv1.Check{Name: "script", Command: []string{"c"}}, Target{Exec: func(_ context.Context, req *drivers.ExecRequest) (*drivers.Exit, error) {
			fmt.Fprint(req.Stdout, tc.out)
			return tc.exit, tc.err
		}})
		if o.OK != tc.ok || !strings.HasPrefix(o.Output, tc.words) || len(o.Output) > 1100 {
			t.Errorf("%s: %+v", tc.name, o)
		}
	}
	slow := func(ctx context.Context, _ *drivers.ExecRequest) (*drivers.Exit, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if o := probe(t, &berthv1.Check{Name: "script"}, Target{Exec: slow}); o.OK || o.Output != "did not end within 3s" {
		t.Errorf("%+v", o)
	}
	if o := probe(t, &berthv1.Check{Name: "script"}, Target{Why: "the driver cannot"}); o.OK || o.Output != "the driver cannot" {
		t.Errorf("%+v", o)
	}
	if o := probe(t, &berthv1.Check{Name: "ping"}, Target{Address: "x:1"}); o.OK || !strings.Contains(o.Output, `"ping"`) {
		t.Errorf("%+v", o)
	}
}
