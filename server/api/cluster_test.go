package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/consensus"
	"github.com/berthd/berth/server/external"
	"github.com/berthd/berth/server/fsm"
	"github.com/berthd/berth/server/state"
)

// cluster is servers with real stores and FSMs, whose Raft is one lock: an entry is on
// every server when Propose returns.
type cluster struct {
	t       testing.TB
	mu      sync.Mutex
	members []*member
	leader  *member // nil: none
	changed chan struct{}
	index   uint64
	term    uint64
	lagging *member // gets no entries
}

// member is one server and everything that its API asks of the rest.
type member struct {
	c         *cluster
	id        string
	store     *state.Store
	fsm       *fsm.FSM
	api       *API
	listener  *bufconn.Listener
	contact   time.Duration
	proposed  int
	refuse    error         // what Propose says instead of doing it
	hang      chan struct{} // what Propose waits for, if anything
	server    *grpc.Server
	dryRun    []*berthv1.GroupOutcome
	agent     func(nodeID string, order *berthv1.StreamOrder) (Stream, error)
	restored  []byte
	removed   string
	transfers int
	desk      *external.Desk // without a plan loop behind it
}

// newCluster starts n servers, the first of them leading, with the namespace "default".
func newCluster(t testing.TB, n int, change ...func(*Config)) *cluster {
	return newClusterOf(t, n, nil, change...)
}

func newClusterOf(t testing.TB, n int, options []grpc.ServerOption, change ...func(*Config)) *cluster {
	c := &cluster{t: t, changed: make(chan struct{})}
	for i := range n {
		c.members = append(c.members, c.start(fmt.Sprintf("s%d", i), options, change))
	}
	c.elect(c.members[0])
	c.write(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_ClusterCreated{ClusterCreated: &berthv1.ClusterCreated{ClusterId: "c1"}}
	})
	return c
}

func (c *cluster) start(id string, options []grpc.ServerOption, change []func(*Config)) *member {
	m := &member{c: c, id: id, listener: bufconn.Listen(1 << 16), desk: external.New(slog.New(slog.DiscardHandler))}
	config := Config{
		Store: state.New(), Leadership: m, Raft: m, Gossip: m, Proposer: m, Planner: m, Streams: m,
		Logger:  slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Version: &berthv1.Version{Version: "1.2.3"},
		Metrics: prometheus.NewRegistry(),
		Desk:    func() *external.Desk { return m.desk },
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return c.dial(ctx, address)
		})},
	}
	for _, f := range change {
		f(&config)
	}
	m.store = config.Store
	m.fsm = fsm.New(m.store, func(err error) { c.t.Errorf("the FSM of %s gave up: %v", id, err) })
	var err error
	if m.api, err = New(config); err != nil {
		c.t.Fatal(err)
	}
	server := grpc.NewServer(append(m.api.ServerOptions(), options...)...)
	m.api.Register(server)
	m.server = server
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(m.listener) })
	running.Go(func() {
		if err := m.api.Run(ctx); err != nil {
			c.t.Errorf("running %s: %v", id, err)
		}
	})
	c.t.Cleanup(func() {
		cancel()
		server.Stop()
		running.Wait()
	})
	return m
}

func (c *cluster) dial(ctx context.Context, address string) (net.Conn, error) {
	for _, m := range c.members {
		if m.id == address {
			return m.listener.DialContext(ctx)
		}
	}
	return nil, fmt.Errorf("nobody is at %s", address)
}

// elect makes a server lead; nil: nobody does.
func (c *cluster) elect(m *member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leader = m
	c.term++
	close(c.changed)
	c.changed = make(chan struct{})
}

// write makes a fact of the test's own durable.
func (c *cluster) write(set func(*berthv1.LogEntry)) fsm.Result {
	c.t.Helper()
	result, err := c.apply(fsm.NewEntry(time.Now(), set))
	if err != nil || result.Err != nil {
		c.t.Fatalf("writing a fact: %v, %v", err, result.Err)
	}
	return result
}

func (c *cluster) apply(entry *berthv1.LogEntry) (fsm.Result, error) {
	data, err := fsm.Encode(entry)
	if err != nil {
		return fsm.Result{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.index++
	var result fsm.Result
	for _, m := range c.members {
		if m != c.lagging {
			result = m.fsm.Apply(&raft.Log{Index: c.index, Type: raft.LogCommand, Data: data}).(fsm.Result)
		}
	}
	return result, nil
}

func (m *member) IsLeader() bool {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	return m.c.leader == m
}

func (m *member) Leader() (string, <-chan struct{}) {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	if m.c.leader == nil {
		return "", m.c.changed
	}
	return m.c.leader.id, m.c.changed
}

func (m *member) LastContact() time.Duration { return m.contact }

func (m *member) VerifyLeader(context.Context) error {
	if !m.IsLeader() {
		return consensus.ErrNotLeader
	}
	return nil
}

// refuses sets what Propose says instead of doing it; nil: nothing.
func (m *member) refuses(err error) {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	m.refuse = err
}

func (m *member) Propose(ctx context.Context, entry *berthv1.LogEntry) (fsm.Result, error) {
	m.c.mu.Lock()
	m.proposed++
	refuse := m.refuse
	m.c.mu.Unlock()
	if m.hang != nil {
		select {
		case <-m.hang:
		case <-ctx.Done():
			return fsm.Result{}, ctx.Err()
		}
	}
	if refuse != nil {
		return fsm.Result{}, refuse
	}
	if !m.IsLeader() {
		return fsm.Result{}, fmt.Errorf("proposing: %w", consensus.ErrNotLeader)
	}
	return m.c.apply(entry)
}

func (m *member) Status(context.Context) (*berthv1.GetRaftResponse, error) {
	resp := &berthv1.GetRaftResponse{Term: m.c.term}
	for _, p := range m.c.members {
		resp.Peers = append(resp.Peers, &berthv1.RaftPeer{Id: p.id, Name: "name-" + p.id, Leader: p.IsLeader(), Voter: true})
	}
	return resp, nil
}

func (m *member) RemovePeer(_ context.Context, id string) error {
	m.removed = id
	return nil
}

func (m *member) Transfer(context.Context, string) error {
	m.transfers++
	return nil
}

func (m *member) Save(_ context.Context, w io.Writer) error { return m.store.View().Write(w) }

func (m *member) Restore(_ context.Context, r io.Reader) (err error) {
	if m.restored, err = io.ReadAll(r); err != nil {
		return err
	}
	return m.fsm.Restore(io.NopCloser(bytes.NewReader(m.restored)))
}

func (m *member) Members() []*berthv1.Member {
	return []*berthv1.Member{{Id: m.id, State: "alive"}}
}

func (m *member) Join(_ context.Context, addresses []string) (int, error) { return len(addresses), nil }

func (m *member) Leave(context.Context) error { return nil }

func (m *member) DryRun(context.Context, *berthv1.Job) ([]*berthv1.GroupOutcome, error) {
	return m.dryRun, nil
}

func (m *member) Rollout(context.Context, *berthv1.Job) ([]string, error) {
	return []string{"web: 1 new"}, nil
}

func (m *member) Rebalance(context.Context, *berthv1.PlanRebalanceRequest) (*berthv1.RebalancePlan, error) {
	return &berthv1.RebalancePlan{}, nil
}

func (m *member) CollectGarbage(context.Context) (*berthv1.CollectGarbageResponse, error) {
	return &berthv1.CollectGarbageResponse{Jobs: 1}, nil
}

func (m *member) Open(_ context.Context, nodeID string, order *berthv1.StreamOrder) (Stream, error) {
	if m.agent == nil {
		return nil, problem.New(problem.Unavailable, "", "no agent")
	}
	return m.agent(nodeID, order)
}

// fakeAgent answers with frames that the test gives it, and keeps what it is sent.
type fakeAgent struct {
	frames chan *berthv1.StreamFrame
	sent   chan *berthv1.StreamFrame
	closed chan struct{}
	once   sync.Once
}

func newFakeAgent(frames ...*berthv1.StreamFrame) *fakeAgent {
	a := &fakeAgent{frames: make(chan *berthv1.StreamFrame, 100), sent: make(chan *berthv1.StreamFrame, 100), closed: make(chan struct{})}
	for _, f := range frames {
		a.frames <- f
	}
	return a
}

func (a *fakeAgent) Send(f *berthv1.StreamFrame) error {
	a.sent <- f
	return nil
}

func (a *fakeAgent) Recv() (*berthv1.StreamFrame, error) {
	select {
	case f := <-a.frames:
		return f, nil
	case <-a.closed:
		return nil, errors.New("the stream is closed")
	}
}

func (a *fakeAgent) Close() error {
	a.once.Do(func() { close(a.closed) })
	return nil
}

// answer is what came back over HTTP.
type answer struct {
	status int
	header http.Header
	body   string
}

// call makes a request of a server.
func (m *member) call(t testing.TB, verb, path, body string) answer {
	t.Helper()
	r := httptest.NewRequest(verb, path, strings.NewReader(body))
	w := httptest.NewRecorder()
	m.api.Handler().ServeHTTP(w, r)
	return answer{w.Code, w.Header(), w.Body.String()}
}

// want fails the test unless the answer has the status; it gives the decoded body.
func (a answer) want(t testing.TB, status int) map[string]any {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	var decoded map[string]any
	if err := json.Unmarshal([]byte(a.body), &decoded); err != nil {
		t.Fatalf("the body is no JSON object: %v: %s", err, a.body)
	}
	return decoded
}

// problem is the problem that the answer carries.
func (a answer) problem(t testing.TB, status int) map[string]any {
	t.Helper()
	p, ok := a.want(t, status)["error"].(map[string]any)
	if !ok {
		t.Fatalf("no problem in %s", a.body)
	}
	return p
}

func jobJSON(name string, count int) string {
	return fmt.Sprintf(`{"job": {"name": %q, "groups": [{"name": "web", "count": %d, "tasks": [{"name": "server", "driver": "mock"}]}]}}`, name, count)
}

func urlEscape(s string) string { return url.QueryEscape(s) }

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }
