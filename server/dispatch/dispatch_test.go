package dispatch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hashicorp/raft"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/fsm"
	"github.com/berthd/berth/server/rows"
	"github.com/berthd/berth/server/state"
)

// world is one or two servers over one state: what Raft would do is done at once.
type world struct {
	t     *testing.T
	store *state.Store
	fsm   *fsm.FSM

	mu      sync.Mutex
	index   uint64
	leader  string
	contact time.Duration // of every server with its leader
	conns   map[string]*grpc.ClientConn
}

// member is one server of the world.
type member struct {
	*world
	id string
}

func (w *world) Propose(_ context.Context, entry *berthv1.LogEntry) (fsm.Result, error) {
	data, err := fsm.Encode(entry)
	if err != nil {
		return fsm.Result{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.leader == "" {
		return fsm.Result{}, problem.New(problem.Unavailable, "", "no leader")
	}
	w.index++
	return w.fsm.Apply(&raft.Log{Index: w.index, Type: raft.LogCommand, Data: data}).(fsm.Result), nil
}

func (w *world) propose(fact func(*berthv1.LogEntry)) fsm.Result {
	w.t.Helper()
	r, err := w.Propose(context.Background(), fsm.NewEntry(time.Now(), fact))
	if err != nil || r.Err != nil || len(r.Refused) > 0 {
		w.t.Fatalf("proposing: %v %+v", err, r)
	}
	return r
}

func (m member) IsLeader() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.leader == m.id
}

func (m member) LastContact() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.contact
}

func (m member) LeaderConn() (grpc.ClientConnInterface, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leader == "" {
		return nil, problem.New(problem.Unavailable, "", "no leader")
	}
	return m.conns[m.leader], nil
}

func (m member) ServerConn(id string) (grpc.ClientConnInterface, error) { return m.conns[id], nil }
func (m member) Servers() []string                                      { return []string{"s1", "s2"} }

// newWorld runs two servers, s1 leading, until the test ends.
func newWorld(t *testing.T) (*world, map[string]*Dispatcher) {
	w := &world{t: t, store: state.New(), leader: "s1", conns: map[string]*grpc.ClientConn{}}
	w.fsm = fsm.New(w.store, func(err error) { t.Error(err) })
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var stops []func()
	servers := map[string]*Dispatcher{}
	for _, id := range []string{"s1", "s2"} {
		m := member{w, id}
		d := New(Config{ServerID: id, Store: w.store, Proposer: w, Cluster: m, Logger: slog.New(slog.DiscardHandler)})
		g, l := grpc.NewServer(), bufconn.Listen(1<<16)
		d.Register(g)
		wg.Go(func() { _ = g.Serve(l) })
		conn, err := grpc.NewClient("passthrough:///"+id, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
		if err != nil {
			t.Fatal(err)
		}
		w.conns[id], servers[id] = conn, d
		stops = append(stops, func() { _ = conn.Close(); g.Stop() })
	}
	for _, d := range servers {
		wg.Go(func() { _ = d.Run(ctx) })
	}
	wg.Go(func() { _ = servers["s1"].Lead(ctx) })
	t.Cleanup(func() {
		cancel()
		for _, stop := range stops {
			stop()
		}
		wg.Wait()
	})
	w.propose(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_ClusterCreated{ClusterCreated: &berthv1.ClusterCreated{ClusterId: "c"}}
	})
	w.propose(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_JobRegistered{JobRegistered: &berthv1.JobRegistered{Job: &berthv1.Job{Name: "web", Namespace: "default", Version: 1}}}
	})
	return w, servers
}

func testNode(id string) *berthv1.Node {
	return &berthv1.Node{Id: id, Name: "node-" + id, Hardware: &berthv1.Hardware{
		DiskMib: 1000, Cells: []*berthv1.Cell{{Cores: []string{"0", "1"}, MemoryMib: 1000}}}}
}

// client is an agent's end of a session.
type client struct {
	t      *testing.T
	stream grpc.BidiStreamingClient[berthv1.AgentMessage, berthv1.ServerMessage]
	cancel context.CancelFunc
}

func (w *world) dial(server string, node *berthv1.Node) *client {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w.t.Cleanup(cancel)
	stream, err := berthv1.NewAgentServiceClient(w.conns[server]).Session(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	c := &client{w.t, stream, cancel}
	c.send(&berthv1.AgentMessage{Body: &berthv1.AgentMessage_Hello{Hello: &berthv1.Hello{Node: node, Protocol: 1}}})
	return c
}

func (c *client) send(m *berthv1.AgentMessage) {
	c.t.Helper()
	if err := c.stream.Send(m); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) recv() *berthv1.ServerMessage {
	c.t.Helper()
	m, err := c.stream.Recv()
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

func (c *client) assignments() *berthv1.Assignments {
	c.t.Helper()
	for {
		if a := c.recv().GetAssignments(); a != nil {
			return a
		}
	}
}

func allocID(i int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", i) }

// place places allocations on a node in one plan.
func (w *world) place(node string, ids ...int) {
	w.t.Helper()
	p := &berthv1.Plan{}
	for _, i := range ids {
		p.Placements = append(p.Placements, &berthv1.Alloc{
			Id: allocID(i), Namespace: "default", Job: "web", JobVersion: 1, NodeId: node,
			Assignment: &berthv1.Assignment{Tasks: []*berthv1.TaskGrant{{Task: "t", Cells: []*berthv1.CellGrant{{MemoryMib: 10}}}}},
		})
	}
	w.propose(func(e *berthv1.LogEntry) { e.Fact = &berthv1.LogEntry_Plan{Plan: p} })
}

func TestSessionIsCompleteThenDeltas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := newWorld(t)
		c := w.dial("s2", testNode("n1"))
		if m := c.recv(); m.GetWelcome().GetClusterId() != "c" {
			t.Fatalf("first message: %v", m)
		}
		first := c.assignments()
		if !first.GetComplete() || len(first.GetAllocs()) != 0 {
			t.Fatalf("first assignments: %v", first)
		}
		w.place("n1", 1, 2)
		second := c.assignments()
		if second.GetComplete() || second.GetAppliesTo() != first.GetResultsIn() || len(second.GetAllocs()) != 2 || len(second.GetJobs()) != 1 {
			t.Fatalf("second: %v", second)
		}
		w.place("n1", 3)
		third := c.assignments()
		if third.GetAppliesTo() != second.GetResultsIn() || len(third.GetAllocs()) != 1 || len(third.GetJobs()) != 0 {
			t.Fatalf("third: %v", third)
		}
		c.cancel()
		again := w.dial("s1", testNode("n1")).assignments()
		if !again.GetComplete() || len(again.GetAllocs()) != 3 || len(again.GetJobs()) != 1 {
			t.Fatalf("another session: %v", again)
		}
	})
}

// made gives the assignments that a session makes; nil: it makes none.
func made(t *testing.T, s *session, complete bool, what ...news) *berthv1.Assignments {
	t.Helper()
	b := s.assignments(nil, complete, what)
	if len(b) == 0 {
		return nil
	}
	encoded, err := proto.Marshal(wrap(b))
	m := &berthv1.ServerMessage{}
	if err == nil {
		err = proto.Unmarshal(encoded, m)
	}
	if err != nil || len(m.GetAssignments().ProtoReflect().GetUnknown()) > 0 {
		t.Fatalf("%x: %v %v", encoded, m, err)
	}
	return m.GetAssignments()
}

// What the feed tells late must not bring back what everything that was sent had over.
func TestLateNewsAreNoNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, servers := newWorld(t)
		w.dial("s2", testNode("n1")).assignments()
		w.place("n1", 1)
		early := w.store.View()
		w.place("n1", 2)
		s := &session{nodeID: "n1", server: servers["s2"], sentJobs: map[jobVersion]struct{}{}}
		everything := made(t, s, true)
		row, other := early.AllocRow(allocID(1)), w.store.View().AllocRow(allocID(2))
		if a := made(t, s, false, news{row: row, revision: early.Revision()}); len(everything.GetAllocs()) != 2 || a != nil {
			t.Errorf("after %v came %v", everything, a)
		}
		next := made(t, s, false, news{row: row, revision: 98}, news{row: other, revision: 99}, news{row: row, revision: 99, gone: true})
		if len(next.GetAllocs()) != 1 || len(next.GetRemoved()) != 1 || next.GetAppliesTo() != everything.GetResultsIn() || next.GetResultsIn() != 99 {
			t.Errorf("then %v", next)
		}
	})
}

func TestReportsAreAcknowledgedWhenDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := newWorld(t)
		c := w.dial("s2", testNode("n1"))
		c.assignments()
		w.place("n1", 1)
		c.assignments()
		c.send(&berthv1.AgentMessage{Body: &berthv1.AgentMessage_Report{Report: &berthv1.StatusReport{
			Sequence: 7, Updates: []*berthv1.AllocStatusUpdate{{AllocId: allocID(1), Status: berthv1.Alloc_running}}}}})
		m := c.recv()
		if m.GetAck().GetSequence() != 7 || m.GetAck().GetProblem() != nil {
			t.Fatalf("got %v", m)
		}
		if s := w.store.View().Alloc(allocID(1)).GetStatus(); s != berthv1.Alloc_running {
			t.Errorf("acknowledged, but the state says %s", s)
		}
		w.mu.Lock()
		w.leader = ""
		w.mu.Unlock()
		c.send(&berthv1.AgentMessage{Body: &berthv1.AgentMessage_Report{Report: &berthv1.StatusReport{
			Sequence: 8, Updates: []*berthv1.AllocStatusUpdate{{AllocId: allocID(1), Status: berthv1.Alloc_failed}}}}})
		if m := c.recv(); m.GetAck().GetSequence() != 8 || m.GetAck().GetProblem() == nil {
			t.Errorf("without a leader: %v", m)
		}
	})
}

func TestASilentNodeIsDownAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, servers := newWorld(t)
		c := w.dial("s2", testNode("n1"))
		c.assignments()
		beat := func(n int) {
			for range n {
				time.Sleep(time.Second)
				c.send(&berthv1.AgentMessage{Body: &berthv1.AgentMessage_Heartbeat{Heartbeat: &berthv1.Heartbeat{}}})
			}
		}
		go func() { // drain
			for {
				if _, err := c.stream.Recv(); err != nil {
					return
				}
			}
		}()
		beat(60)
		if s := w.store.View().Node("n1").GetStatus(); s != berthv1.Node_ready {
			t.Fatalf("a node that is heard is %s", s)
		}
		silent := time.Now()
		for w.store.View().Node("n1").GetStatus() == berthv1.Node_ready {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(silent); took > 7*time.Second {
			t.Errorf("a dead host was noticed after %s", took)
		}
		time.Sleep(5 * time.Second)
		if n := servers["s2"].Sessions(); n != 0 {
			t.Errorf("the session of a node that is down is still open")
		}
		w.dial("s1", testNode("n1")).assignments()
		if s := w.store.View().Node("n1").GetStatus(); s != berthv1.Node_ready {
			t.Errorf("a node that came back is %s", s)
		}
	})
}

func TestServersWithoutALeaderSendAgentsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := newWorld(t)
		c := w.dial("s2", testNode("n1"))
		c.assignments()
		w.mu.Lock()
		w.contact = time.Minute
		w.mu.Unlock()
		redirected := false
		for {
			m, err := c.stream.Recv()
			redirected = redirected || m.GetRedirect() != nil
			if err != nil {
				if !problem.Is(err, problem.Unavailable) || !redirected {
					t.Errorf("the session ended by %v", err)
				}
				break
			}
		}
		if _, err := w.dial("s2", testNode("n1")).stream.Recv(); !problem.Is(err, problem.Unavailable) {
			t.Errorf("a new session got %v", err)
		}
	})
}

func TestHelloIsChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := newWorld(t)
		bad := testNode("n1")
		bad.Hardware.Cells[0].Cores = []string{"0", "0"}
		if _, err := w.dial("s2", bad).stream.Recv(); !problem.Is(err, problem.Invalid) {
			t.Errorf("a CPU that is there twice: %v", err)
		}
		if _, err := w.dial("s2", &berthv1.Node{Id: "x"}).stream.Recv(); !problem.Is(err, problem.Invalid) {
			t.Errorf("a node without a name: %v", err)
		}
	})
}

// A user of s1 reads from an agent whose session is at s2.
func TestStreamsAreRelayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, servers := newWorld(t)
		for _, at := range []string{"s1", "s2"} {
			c := w.dial(at, testNode("n1"))
			c.assignments()
			time.Sleep(2 * time.Second) // the leader hears where the session is
			go serveStream(c, w.conns[at])
			s, err := servers["s1"].Open(t.Context(), "n1", &berthv1.StreamOrder{Order: &berthv1.StreamOrder_Logs{Logs: &berthv1.LogsRequest{Task: "t"}}})
			if err != nil {
				t.Fatalf("session at %s: %v", at, err)
			}
			if f, err := s.Recv(); err != nil || string(f.GetLog().GetData()) != "log of t" {
				t.Errorf("session at %s: %v %v", at, f, err)
			}
			if f, err := s.Recv(); err != nil || !f.GetDone() {
				t.Errorf("session at %s: %v %v", at, f, err)
			}
			if _, err := s.Recv(); !errors.Is(err, io.EOF) && at == "s1" {
				t.Errorf("session at %s: after the last frame %v", at, err)
			}
			_ = s.Close()
			c.cancel()
			time.Sleep(time.Second)
		}
		if _, err := servers["s1"].Open(t.Context(), "none", &berthv1.StreamOrder{}); !problem.Is(err, problem.Unavailable) {
			t.Errorf("a node without a session: %v", err)
		}
	})
}

func serveStream(c *client, conn *grpc.ClientConn) {
	for {
		m, err := c.stream.Recv()
		if err != nil {
			return
		}
		order := m.GetOpen()
		if order == nil {
			continue
		}
		s, err := berthv1.NewAgentServiceClient(conn).Stream(context.Background())
		if err != nil {
			return
		}
		_ = s.Send(&berthv1.StreamFrame{Body: &berthv1.StreamFrame_StreamId{StreamId: order.GetStreamId()}})
		_ = s.Send(&berthv1.StreamFrame{Body: &berthv1.StreamFrame_Log{Log: &berthv1.LogFrame{Data: []byte("log of " + order.GetLogs().GetTask())}}})
		_ = s.Send(&berthv1.StreamFrame{Body: &berthv1.StreamFrame_Done{Done: true}})
		_ = s.CloseSend()
	}
}

func TestReportsFitEntries(t *testing.T) {
	total := 0
	r := newReports(func(_ context.Context, reported []byte) error {
		_, err := fsm.Encode(fsm.NewEntry(time.Now(), func(e *berthv1.LogEntry) {
			e.Fact = &berthv1.LogEntry_AllocsReported{AllocsReported: &berthv1.AllocsReported{Rows: reported}}
		}))
		updates, _ := rows.ToUpdates(reported)
		total += len(updates)
		return err
	})
	var updates []*berthv1.AllocStatusUpdate
	for i := range 9000 {
		u := &berthv1.AllocStatusUpdate{AllocId: allocID(i), Status: berthv1.Alloc_running, StatusTime: timestamppb.Now()}
		if i%3 == 0 {
			u.StatusReason = "because of this and that"
		}
		updates = append(updates, u)
	}
	encoded := func(updates []*berthv1.AllocStatusUpdate) []byte {
		b, err := proto.Marshal(&berthv1.StatusReport{Sequence: 1, Updates: updates})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	refused := 0
	r.flush(t.Context(), []report{{encoded(updates[:10]), func(error) {}}, {[]byte{2<<3 | 2, 1, 0xff}, func(err error) {
		if err != nil {
			refused++
		}
	}}, {encoded(updates[10:]), func(err error) {
		if err != nil {
			t.Error(err)
		}
	}}})
	if refused != 1 {
		t.Error("a report that is none was not refused")
	}
	if total != len(updates) {
		t.Errorf("%d of %d updates", total, len(updates))
	}
}
