package api

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path"
	"runtime/debug"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// How long the HTTP port waits: for a request's headers, for a JSON body, for the next
// bytes of an upload, and for the next request on a connection. Answers have no limit,
// some of them are streams.
const (
	headerTimeout = 10 * time.Second
	bodyTimeout   = 30 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 64 << 10
)

// HTTPServer is the HTTP port: Handler with its limits. The caller serves and stops it.
func (a *API) HTTPServer() *http.Server {
	return &http.Server{
		Handler:           a.Handler(),
		TLSConfig:         a.serverTLS,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(a.logger.Handler(), slog.LevelDebug),
	}
}

// Handler answers everything over HTTP: the REST form of the services, and the routes
// that have none in the schema. It works while Run does.
func (a *API) Handler() http.Handler {
	routes := http.NewServeMux()
	for _, h := range a.gateway.byHand {
		routes.Handle(h.verb+" "+h.path, h.handler)
	}
	routes.Handle("/", a.gateway)
	guard := http.NewCrossOriginProtection() // a page on another site must not steer the cluster
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, problem.New(problem.Denied, "Origin", "a browser sent this request for a page of another site"))
	}))
	return a.recovered(guard.Handler(cleanPaths(routes)))
}

// cleanPaths refuses paths that http.ServeMux would answer with a redirect.
func cleanPaths(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if clean := path.Clean("/" + r.URL.Path); clean != r.URL.Path {
			writeProblem(w, problem.New(problem.NotFound, "path", "there is nothing at %s", r.URL.Path).
				WithRemedy("use %s, if that is what you mean", clean))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// handmade is a route that the schema cannot describe.
type handmade struct {
	verb    string
	path    string
	handler http.HandlerFunc
}

func (g *gateway) madeByHand() []handmade {
	registry := g.a.registry
	metrics := promhttp.InstrumentMetricHandler(registry, promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return []handmade{
		{http.MethodGet, "/v1/allocs/{alloc_id}/exec", g.exec},
		{http.MethodGet, "/v1/allocs/{alloc_id}/attach", g.attach},
		{http.MethodGet, "/v1/allocs/{alloc_id}/logs", g.logs},
		{http.MethodGet, "/v1/allocs/{alloc_id}/read", g.readFile},
		{http.MethodGet, "/v1/operator/snapshot", g.saveSnapshot},
		{http.MethodPut, "/v1/operator/snapshot", g.restoreSnapshot},
		{http.MethodGet, "/v1/metrics", metrics.ServeHTTP},
		{http.MethodGet, "/v1/openapi.json", serveOpenAPI},
	}
}

// recovered makes a problem of a panic in a handler.
func (a *API) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(p) // cuts the connection, as it is meant to
			}
			a.logger.Error("a request panicked", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
			writeProblem(w, problem.New(problem.Internal, "", "the server failed while handling the request").
				WithRemedy("this is a defect of Berth; the server's log has the details"))
		}()
		next.ServeHTTP(w, r)
	})
}

// body is a request's JSON body, read whole. What is wrong with it is noted here, because
// the generated code keeps only the words of an error.
type body struct {
	*bytes.Reader
	problem error
}

func (b *body) Close() error { return nil }

// readBody reads the body of a request whole, within bounds.
func readBody(w http.ResponseWriter, r *http.Request) (*body, error) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout)) // not every writer can, as in tests
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	_ = control.SetReadDeadline(time.Time{})
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return nil, problem.New(problem.Invalid, "body", "the body is longer than %d KiB", maxBody>>10)
	case err != nil:
		return nil, problem.New(problem.Invalid, "body", "reading the body: %w", err)
	}
	return &body{Reader: bytes.NewReader(data)}, nil
}

// writeProblem answers with a problem.
func writeProblem(w http.ResponseWriter, err error) {
	p := problem.From(err)
	writeProblemAs(w, p.Kind.HTTP(), p)
}

func writeProblemAs(w http.ResponseWriter, status int, p *problem.Error) {
	h := w.Header()
	h.Del("Content-Length")
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(problemJSON(p.Proto())) // the client is gone if it fails
}

// problemJSON is {"error": {...}}.
func problemJSON(p *berthv1.Problem) []byte {
	data, err := toJSON(valid(p))
	if err != nil {
		data = []byte(`{"kind":"internal","reason":"the problem cannot be written as JSON"}`)
	}
	return append(append([]byte(`{"error":`), data...), '}')
}

// valid makes sure that a problem, which may quote what a client has sent, is UTF-8.
func valid(p *berthv1.Problem) *berthv1.Problem {
	v := &berthv1.Problem{
		Kind: text(p.GetKind()), Field: text(p.GetField()), Reason: text(p.GetReason()), Remedy: text(p.GetRemedy()),
	}
	for _, c := range p.GetCauses() {
		v.Causes = append(v.Causes, valid(c))
	}
	return v
}

func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
