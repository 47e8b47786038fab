package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// gateway is the HTTP side: it turns requests into calls of the gRPC side.
type gateway struct {
	a      *API
	mux    *runtime.ServeMux
	routes map[string]*method // by verb and pattern, as the mux prints it
	byHand []handmade
	allocs berthv1.AllocServiceClient
	admin  berthv1.OperatorServiceClient
}

func newGateway(a *API) (*gateway, error) {
	g := &gateway{
		a: a, routes: map[string]*method{},
		allocs: berthv1.NewAllocServiceClient(a.own),
		admin:  berthv1.NewOperatorServiceClient(a.own),
	}
	g.byHand = g.madeByHand()
	for _, m := range methods {
		if m.path != "" {
			g.routes[m.route()] = m
		}
	}
	g.mux = runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, jsonCodec{}),
		runtime.WithErrorHandler(g.fail),
		runtime.WithRoutingErrorHandler(g.noRoute),
		runtime.WithMiddlewares(g.checkRequest),
		runtime.WithForwardResponseOption(unhealthy),
		runtime.WithIncomingHeaderMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithOutgoingHeaderMatcher(outgoingHeader),
		runtime.WithOutgoingTrailerMatcher(func(string) (string, bool) { return "", false }),
		runtime.WithUnescapingMode(runtime.UnescapingModeAllCharacters),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithWriteContentLength(),
	)
	for _, register := range []func(context.Context, *runtime.ServeMux, *grpc.ClientConn) error{
		berthv1.RegisterJobServiceHandler, berthv1.RegisterAllocServiceHandler, berthv1.RegisterNodeServiceHandler,
		berthv1.RegisterDeploymentServiceHandler,
		berthv1.RegisterReservationServiceHandler, berthv1.RegisterEvaluationServiceHandler, berthv1.RegisterNamespaceServiceHandler,
		berthv1.RegisterServiceServiceHandler, berthv1.RegisterVariableServiceHandler, berthv1.RegisterImageServiceHandler, berthv1.RegisterOperatorServiceHandler, berthv1.RegisterSchedulerServiceHandler, berthv1.RegisterStatusServiceHandler,
	} {
		if err := register(context.Background(), g.mux, a.own); err != nil { // the context is not used
			return nil, fmt.Errorf("registering the HTTP routes: %w", err)
		}
	}
	return g, nil
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, err := readBody(w, r)
	if err != nil {
		writeProblem(w, err)
		return
	}
	r.Body = b
	g.mux.ServeHTTP(w, r)
}

// checkRequest refuses parameters in the path and the query that mean nothing or do not
// parse, before the generated code passes them over or gives them no name.
func (g *gateway) checkRequest(next runtime.HandlerFunc) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, params map[string]string) {
		pattern, _ := runtime.HTTPPattern(r.Context())
		m := g.routes[r.Method+" "+pattern.String()]
		if m == nil {
			writeProblem(w, problem.New(problem.Internal, "", "the route %s %s has no method", r.Method, pattern))
			return
		}
		query, err := checkParameters(m, r, params)
		if err != nil {
			writeProblem(w, err)
			return
		}
		r.URL.RawQuery = query.Encode()
		next(w, r, params)
	}
}

// fail answers a call that has failed.
func (g *gateway) fail(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	if b, ok := r.Body.(*body); ok && b.problem != nil {
		err = b.problem
	}
	writeProblem(w, err)
}

// noRoute answers a request for what is not there.
func (g *gateway) noRoute(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, status int) {
	verbs := g.verbsOf(r.URL.Path)
	switch {
	case len(verbs) > 0:
		status = http.StatusMethodNotAllowed
		w.Header().Set("Allow", strings.Join(verbs, ", "))
		writeProblemAs(w, status, problem.New(problem.Unsupported, "method", "%s is not possible for %s", r.Method, r.URL.Path).
			WithRemedy("it takes %s", orList(verbs)))
	case status == http.StatusNotFound:
		writeProblem(w, problem.New(problem.NotFound, "path", "there is nothing at %s", r.URL.Path).
			WithRemedy("%s", g.hint(r.URL.Path)))
	default:
		writeProblem(w, problem.New(problem.Invalid, "path", "%s is not a path", r.URL.Path))
	}
}

// verbsOf is the verbs that a path takes.
func (g *gateway) verbsOf(path string) []string {
	var verbs []string
	for _, r := range g.everyRoute() {
		verb, pattern, _ := strings.Cut(r, " ")
		if matches(pattern, path) && !slices.Contains(verbs, verb) {
			verbs = append(verbs, verb)
		}
	}
	return verbs
}

// hint says where what a path means may be.
func (g *gateway) hint(path string) string {
	if len(g.verbsOf("/v1"+path)) > 0 {
		return "use /v1" + path
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/v1/"), "/")
	var paths []string
	for _, r := range g.everyRoute() {
		_, pattern, _ := strings.Cut(r, " ")
		if first != "" && strings.HasPrefix(pattern, "/v1/"+first) && !slices.Contains(paths, pattern) {
			paths = append(paths, pattern)
		}
	}
	if len(paths) > 0 {
		slices.Sort(paths)
		return "there are " + orList(paths)
	}
	return "/v1/openapi.json describes every path"
}

// everyRoute is "GET /v1/jobs" and so on, in order.
func (g *gateway) everyRoute() []string {
	var all []string
	for _, m := range g.routes {
		all = append(all, m.verb+" "+m.path)
	}
	for _, h := range g.byHand {
		all = append(all, h.verb+" "+h.path)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func matches(pattern, path string) bool {
	want, have := strings.Split(pattern, "/"), strings.Split(path, "/")
	return slices.EqualFunc(want, have, func(want, have string) bool {
		return want == have || strings.HasPrefix(want, "{") && have != ""
	})
}

// unhealthy gives an unhealthy server's answer the status 503.
func unhealthy(_ context.Context, w http.ResponseWriter, answer proto.Message) error {
	if h, ok := answer.(*berthv1.Health); ok && !h.GetHealthy() {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	return nil
}

// outgoingHeader lets the headers of answers through.
func outgoingHeader(key string) (string, bool) {
	switch key {
	case HeaderIndex, HeaderKnownLeader, HeaderLastContact:
		return http.CanonicalHeaderKey(key), true
	}
	return "", false
}

// callOf is the context of a call that a request makes by hand.
func callOf(r *http.Request) context.Context {
	if auth := r.Header.Get("Authorization"); auth != "" {
		return metadata.AppendToOutgoingContext(r.Context(), "authorization", auth)
	}
	return r.Context()
}
