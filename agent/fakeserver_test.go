package agent_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/agent"
	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/mock"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// cluster is a set of fake servers that share what they know, as a test dictates.
type cluster struct {
	t *testing.T

	mu       sync.Mutex
	servers  map[string]*fakeServer
	revision uint64
	clockOff time.Duration
	jobs     map[string]*berthv1.Job
	allocs   map[string]*berthv1.Alloc
	reported map[string]*berthv1.AllocStatusUpdate
	refuse   bool // reports are not made durable
	reports  int  // StatusReports received
	hellos   []string
	node     *berthv1.Node
	double   bool // every message is sent twice
	skip     bool // the next delta is lost
	lag      uint64
	id       string
	tell     []string // addresses of all servers
}

func newCluster(t *testing.T, names ...string) *cluster {
	c := &cluster{t: t, id: "cluster-1", servers: map[string]*fakeServer{}, revision: 10,
		jobs: map[string]*berthv1.Job{}, allocs: map[string]*berthv1.Alloc{}, reported: map[string]*berthv1.AllocStatusUpdate{}}
	for _, name := range names {
		c.startServer(name)
	}
	return c
}

func (c *cluster) startServer(name string) {
	s := &fakeServer{cluster: c, name: name, lis: bufconn.Listen(64 << 10), grpc: grpc.NewServer(),
		sessions: map[chan *berthv1.ServerMessage]bool{}, opened: make(chan grpc.BidiStreamingServer[berthv1.StreamFrame, berthv1.StreamFrame], 8)}
	berthv1.RegisterAgentServiceServer(s.grpc, s)
	s.wg.Go(func() { _ = s.grpc.Serve(s.lis) })
	c.mu.Lock()
	c.servers[name] = s
	c.mu.Unlock()
}

func (c *cluster) stopServer(name string) {
	c.mu.Lock()
	s := c.servers[name]
	delete(c.servers, name)
	c.mu.Unlock()
	if s != nil {
		s.grpc.Stop()
		s.wg.Wait()
	}
}

func (c *cluster) stop() {
	c.mu.Lock()
	var names []string
	for name := range c.servers {
		names = append(names, name)
	}
	c.mu.Unlock()
	for _, name := range names {
		c.stopServer(name)
	}
}

func (c *cluster) dial(ctx context.Context, addr string) (net.Conn, error) {
	c.mu.Lock()
	s := c.servers[addr]
	c.mu.Unlock()
	if s == nil {
		return nil, errors.New("connection refused")
	}
	return s.lis.DialContext(ctx)
}

// change makes allocs and jobs what the servers want, and sends the delta.
func (c *cluster) change(job *berthv1.Job, removed []string, allocs ...*berthv1.Alloc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.revision
	c.revision++
	as := &berthv1.Assignments{AppliesTo: before, ResultsIn: c.revision, Removed: removed, Allocs: allocs}
	if job != nil {
		c.jobs[job.GetName()] = job
		as.Jobs = append(as.Jobs, job)
	}
	for _, a := range allocs {
		c.allocs[a.GetId()] = a
	}
	for _, id := range removed {
		delete(c.allocs, id)
	}
	if c.skip {
		c.skip = false
		return
	}
	c.broadcast(&berthv1.ServerMessage{Body: &berthv1.ServerMessage_Assignments{Assignments: as}})
}

// broadcast sends to every session; mu is held.
func (c *cluster) broadcast(m *berthv1.ServerMessage) {
	for _, s := range c.servers {
		for ch := range s.sessions {
			ch <- m
			if c.double {
				ch <- m
			}
		}
	}
}

func (c *cluster) status(id string) *berthv1.AllocStatusUpdate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reported[id]
}

type fakeServer struct {
	berthv1.UnimplementedAgentServiceServer
	cluster  *cluster
	name     string
	lis      *bufconn.Listener
	grpc     *grpc.Server
	wg       sync.WaitGroup
	sessions map[chan *berthv1.ServerMessage]bool // guarded by cluster.mu
	opened   chan grpc.BidiStreamingServer[berthv1.StreamFrame, berthv1.StreamFrame]
}

func (s *fakeServer) Session(stream grpc.BidiStreamingServer[berthv1.AgentMessage, berthv1.ServerMessage]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	c := s.cluster
	out := make(chan *berthv1.ServerMessage, 1000)
	c.mu.Lock()
	c.hellos = append(c.hellos, s.name)
	c.node = first.GetHello().GetNode()
	out <- &berthv1.ServerMessage{Body: &berthv1.ServerMessage_Welcome{Welcome: &berthv1.Welcome{
		ClusterId: c.id, Servers: c.tell, HeartbeatPeriod: durationpb.New(time.Second)}}}
	as := &berthv1.Assignments{Complete: true, ResultsIn: c.revision - c.lag}
	for _, j := range c.jobs {
		as.Jobs = append(as.Jobs, j)
	}
	if c.lag == 0 {
		for _, a := range c.allocs {
			as.Allocs = append(as.Allocs, a)
		}
	}
	out <- &berthv1.ServerMessage{Body: &berthv1.ServerMessage_Assignments{Assignments: as}}
	s.sessions[out] = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(s.sessions, out)
		c.mu.Unlock()
	}()
	go s.receive(stream, out)
	for {
		select {
		case <-stream.Context().Done():
			return nil
		case m := <-out:
			if err := stream.Send(m); err != nil {
				return err
			}
			if m.GetRedirect() != nil {
				return nil
			}
		}
	}
}

func (s *fakeServer) receive(stream grpc.BidiStreamingServer[berthv1.AgentMessage, berthv1.ServerMessage], out chan *berthv1.ServerMessage) {
	c := s.cluster
	for {
		m, err := stream.Recv()
		if err != nil {
			return
		}
		var answer *berthv1.ServerMessage
		c.mu.Lock()
		switch body := m.GetBody().(type) {
		case *berthv1.AgentMessage_Heartbeat:
			answer = &berthv1.ServerMessage{Body: &berthv1.ServerMessage_Heartbeat{Heartbeat: &berthv1.HeartbeatAck{
				ServerTime: timestamppb.New(time.Now().Add(c.clockOff))}}}
		case *berthv1.AgentMessage_Report:
			c.reports++
			ack := &berthv1.ReportAck{Sequence: body.Report.GetSequence()}
			if c.refuse {
				ack.Problem = &berthv1.Problem{Kind: "unavailable", Reason: "no leader"}
			} else {
				for _, u := range body.Report.GetUpdates() {
					c.reported[u.GetAllocId()] = u
				}
			}
			answer = &berthv1.ServerMessage{Body: &berthv1.ServerMessage_Ack{Ack: ack}}
		case *berthv1.AgentMessage_Node:
			c.node = body.Node
		}
		double := c.double
		c.mu.Unlock()
		if answer != nil {
			out <- answer
			if double {
				out <- answer
			}
		}
	}
}

func (s *fakeServer) Stream(stream grpc.BidiStreamingServer[berthv1.StreamFrame, berthv1.StreamFrame]) error {
	s.opened <- stream
	// The test reads and writes; this ends it some time after.
	select {
	case <-stream.Context().Done():
	case <-time.After(time.Second):
	}
	return nil
}

// host is a host with an agent that can be ended and started.
type host struct {
	t       *testing.T
	cluster *cluster
	dir     string
	mock    *mock.Host
	servers []string

	agent  *agent.Agent
	cancel context.CancelFunc
	done   chan error
}

func newHost(t *testing.T, c *cluster, servers ...string) *host {
	return &host{t: t, cluster: c, dir: t.TempDir(), mock: mock.NewHost(), servers: servers}
}

func (h *host) start() {
	h.t.Helper()
	a, err := agent.New(agent.Config{
		DataDir: h.dir, Name: "n1", Servers: h.servers, Address: "10.0.0.1", Root: h.t.TempDir(),
		Logger:  slog.New(slog.NewTextHandler(h.t.Output(), nil)),
		Drivers: []drivers.Driver{mock.New(h.mock)}, Dialer: h.cluster.dial,
	})
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.agent, h.cancel, h.done = a, cancel, make(chan error, 1)
	go func() { h.done <- a.Run(ctx) }()
}

func (h *host) end() {
	h.t.Helper()
	h.cancel()
	if err := <-h.done; err != nil && !errors.Is(err, io.EOF) {
		h.t.Error(err)
	}
}

func mockJob(name string, config map[string]any) *berthv1.Job {
	s, err := structpb.NewStruct(config)
	if err != nil {
		panic(err)
	}
	return &berthv1.Job{Namespace: "default", Name: name, Version: 1, Groups: []*berthv1.Group{
		{Name: "g", Tasks: []*berthv1.Task{{Name: "t", Driver: "mock", Config: s}}}}}
}

func durationpbOf(d time.Duration) *durationpb.Duration { return durationpb.New(d) }

func allocOf(job *berthv1.Job, id string) *berthv1.Alloc {
	return &berthv1.Alloc{Id: id, Namespace: "default", Job: job.GetName(), JobVersion: job.GetVersion(), Group: "g"}
}
