package client

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// fake answers a few calls; what it was asked is kept.
type fake struct {
	berthv1.UnimplementedJobServiceServer
	berthv1.UnimplementedEvaluationServiceServer
	berthv1.UnimplementedStatusServiceServer
	berthv1.UnimplementedAllocServiceServer

	calls    atomic.Int32
	electing int32 // so many calls find no leader
	last     atomic.Pointer[metadata.MD]
}

func (f *fake) noLeader() error {
	if f.calls.Add(1) <= f.electing {
		return problem.Wire(problem.New(problem.Unavailable, "", "no leader"))
	}
	return nil
}

func (f *fake) GetJob(ctx context.Context, r *berthv1.GetJobRequest) (*berthv1.Job, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	f.last.Store(&md)
	if err := f.noLeader(); err != nil {
		return nil, err
	}
	_ = grpc.SetHeader(ctx, metadata.Pairs(headerIndex, "7", headerLastContact, "1500", headerKnownLeader, "true"))
	if r.GetJob() == "none" {
		return nil, problem.Wire(problem.New(problem.NotFound, "none", "there is no such job").WithRemedy("look elsewhere"))
	}
	name := r.GetJob()
	if r.GetStale() {
		name += " stale"
	}
	return &berthv1.Job{Name: name, Namespace: r.GetNamespace()}, nil
}

func (f *fake) StopJob(context.Context, *berthv1.StopJobRequest) (*berthv1.StopJobResponse, error) {
	return nil, f.noLeader()
}

func (f *fake) GetEvaluation(ctx context.Context, r *berthv1.GetEvaluationRequest) (*berthv1.Evaluation, error) {
	_ = grpc.SetHeader(ctx, metadata.Pairs(headerIndex, "5"))
	e := &berthv1.Evaluation{Id: r.GetEvaluationId()}
	if r.GetIndex() == 5 && r.GetWait() != nil {
		e.Status = berthv1.Evaluation_blocked
	}
	return e, nil
}

func (f *fake) StreamEvents(r *berthv1.StreamEventsRequest, s grpc.ServerStreamingServer[berthv1.Event]) error {
	f.calls.Add(1)
	for i := r.GetIndex() + 1; i <= r.GetIndex()+2; i++ {
		if err := s.Send(&berthv1.Event{Index: i, Type: "updated", Topic: "job"}); err != nil {
			return err
		}
	}
	return problem.Wire(problem.New(problem.Unavailable, "", "going down"))
}

func serve(t *testing.T, f *fake) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	berthv1.RegisterJobServiceServer(s, f)
	berthv1.RegisterEvaluationServiceServer(s, f)
	berthv1.RegisterStatusServiceServer(s, f)
	berthv1.RegisterAllocServiceServer(s, f)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

func dial(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]string{
		"": "127.0.0.1:7461", "h": "h:7461", "h:1": "h:1", ":9": "127.0.0.1:9", "::1": "[::1]:7461", "[::1]": "[::1]:7461", "[::1]:5": "[::1]:5", " a , b:2": "a:7461 b:2",
		"http://h:7460": "!h:7461", "https://[::1]/v1": "![::1]:7461", "h:0": "!", "h:x": "!", "a b": "!", "a,,b": "!", "a:b:c": "!", "unix:///x": "!",
	} {
		got, err := ParseAddress(in)
		if wrong, bad := strings.CutPrefix(want, "!"); bad {
			if !problem.Is(err, problem.Invalid) || !strings.Contains(err.Error(), wrong) {
				t.Errorf("%q: %v, %v", in, got, err)
			}
			continue
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: %v, %v; want %s", in, got, err, want)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	f.Add("h:1,[::1]")
	f.Fuzz(func(t *testing.T, text string) {
		addresses, err := ParseAddress(text)
		if err != nil {
			return
		}
		again, err := ParseAddress(strings.Join(addresses, ","))
		if err != nil || strings.Join(again, " ") != strings.Join(addresses, " ") {
			t.Fatalf("%q gives %q, and that %q, %v", text, addresses, again, err)
		}
	})
}

func TestCallsCarryWhatIsConfigured(t *testing.T) {
	f := &fake{}
	var seen Freshness
	c := dial(t, Config{Address: serve(t, f), Namespace: "team", Token: "secret", Stale: true, Observe: func(fr Freshness) { seen = fr }})
	job, err := c.Jobs.GetJob(t.Context(), &berthv1.GetJobRequest{Job: "web"})
	if err != nil || job.GetName() != "web stale" || job.GetNamespace() != "team" {
		t.Errorf("%v, %v", job, err)
	}
	if job, _ = c.Jobs.GetJob(t.Context(), &berthv1.GetJobRequest{Job: "web", Namespace: "own"}); job.GetNamespace() != "own" {
		t.Errorf("a namespace that was given is replaced: %v", job)
	}
	if got := f.last.Load().Get("authorization"); len(got) != 1 || got[0] != "Bearer secret" {
		t.Errorf("the token is %q", got)
	}
	if want := (Freshness{Index: 7, KnownLeader: true, LastContact: 1500 * time.Millisecond}); seen != want {
		t.Errorf("freshness %+v", seen)
	}
	_, err = c.Jobs.GetJob(t.Context(), &berthv1.GetJobRequest{Job: "none"})
	if p := problem.From(err); p.Kind != problem.NotFound || p.Field != "none" || p.Remedy != "look elsewhere" {
		t.Errorf("%#v", p)
	}
}

func TestReadsAreTriedAgainAndWritesAreNot(t *testing.T) {
	f := &fake{electing: 2}
	c := dial(t, Config{Address: serve(t, f)})
	if _, err := c.Jobs.GetJob(t.Context(), &berthv1.GetJobRequest{Job: "web"}); err != nil || f.calls.Load() != 3 {
		t.Errorf("%d calls, %v", f.calls.Load(), err)
	}
	f = &fake{electing: 2}
	c = dial(t, Config{Address: serve(t, f)})
	if _, err := c.Jobs.StopJob(t.Context(), &berthv1.StopJobRequest{Job: "web"}); !problem.Is(err, problem.Unavailable) || f.calls.Load() != 1 {
		t.Errorf("%d calls, %v", f.calls.Load(), err)
	}
	f = &fake{electing: 1000}
	c = dial(t, Config{Address: serve(t, f), RetryFor: -1})
	if _, err := c.Jobs.GetJob(t.Context(), &berthv1.GetJobRequest{Job: "web"}); !problem.Is(err, problem.Unavailable) || f.calls.Load() != 1 {
		t.Errorf("%d calls, %v", f.calls.Load(), err)
	}
}

// TestWrongServers: what answers at an address that is not a server's is told apart.
func TestWrongServers(t *testing.T) {
	web := httptest.NewServer(nil)
	defer web.Close()
	secure := httptest.NewTLSServer(nil)
	defer secure.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	at := func(url string) string { return url[strings.LastIndex(url, "/")+1:] }
	for _, c := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"an HTTP server", Config{Address: at(web.URL)}, "is an HTTP server"},
		{"a TLS server, plain", Config{Address: at(secure.URL)}, "-ca-cert"},
		{"a plain server, TLS", Config{Address: serve(t, &fake{}), TLS: &tls.Config{}}, "speaks without TLS"},
		{"an unknown CA", Config{Address: at(secure.URL), TLS: &tls.Config{}}, "was not accepted"},
		{"nobody", Config{Address: closed.Addr().String()}, "connection refused"},
	} {
		_, err := dial(t, c.cfg).Jobs.GetJob(t.Context(), &berthv1.GetJobRequest{Job: "web"})
		if !problem.Is(err, problem.Unavailable) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestSeveralAddressesAreTriedInTurn(t *testing.T) {
	c := dial(t, Config{Address: "127.0.0.1:1," + serve(t, &fake{})})
	if _, err := c.Jobs.GetJob(t.Context(), &berthv1.GetJobRequest{Job: "web"}); err != nil {
		t.Error(err)
	}
}

func TestWaitEvaluation(t *testing.T) {
	c := dial(t, Config{Address: serve(t, &fake{})})
	e, err := c.WaitEvaluation(t.Context(), "e1")
	if err != nil || e.GetStatus() != berthv1.Evaluation_blocked {
		t.Errorf("%v, %v", e, err)
	}
}

func TestEventsGoOn(t *testing.T) {
	f := &fake{}
	c := dial(t, Config{Address: serve(t, f)})
	enough := errors.New("enough")
	var got []uint64
	err := c.Events(t.Context(), &berthv1.StreamEventsRequest{Index: 10}, func(e *berthv1.Event) error {
		if got = append(got, e.GetIndex()); len(got) == 5 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || len(got) != 5 || got[0] != 11 || got[4] != 15 || f.calls.Load() != 3 {
		t.Errorf("events %v in %d streams, %v", got, f.calls.Load(), err)
	}
}

func TestCancelledCallsSaySo(t *testing.T) {
	c := dial(t, Config{Address: serve(t, &fake{})})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Jobs.GetJob(ctx, &berthv1.GetJobRequest{Job: "web"}); !problem.Is(err, problem.Canceled) {
		t.Error(err)
	}
}

func TestPages(t *testing.T) {
	pages := map[string][]int{"": {1, 2}, "a": {}, "b": {3}}
	next := map[string]string{"": "a", "a": "b"}
	var got []int
	for n, err := range Pages(func(token string) ([]int, string, error) { return pages[token], next[token], nil }) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, n)
	}
	if len(got) != 3 {
		t.Error(got)
	}
	wrong := errors.New("wrong")
	for _, err := range Pages(func(string) ([]int, string, error) { return nil, "", wrong }) {
		if !errors.Is(err, wrong) {
			t.Error(err)
		}
	}
}

// TestWatchBeginsAnew: an index that goes back (a restored state) is not waited for.
func TestWatchBeginsAnew(t *testing.T) {
	answers := []uint64{5, 3, 4}
	var asked []uint64
	err := Watch(t.Context(), func(index uint64, _ *durationpb.Duration) (uint64, bool, error) {
		asked = append(asked, index)
		return answers[len(asked)-1], len(asked) == len(answers), nil
	})
	if err != nil || len(asked) != 3 || asked[1] != 5 || asked[2] != 0 {
		t.Errorf("asked after %v, %v", asked, err)
	}
}
