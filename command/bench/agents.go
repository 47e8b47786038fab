package bench

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/google/uuid"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// conns is how many connections the simulated agents share, per server: as many
// sessions as wanted fit one HTTP/2 connection, but a few spread the work.
const conns = 2

// agents are simulated: sessions that acknowledge what they are assigned as running,
// without running it.
type agents struct {
	nodes []*berthv1.Node
	seen  func(alloc *berthv1.Alloc, at time.Time) // a new allocation has arrived
}

// newNode makes a node of 2 cells with 32 threads and 128 GiB each.
func newNode(i int) *berthv1.Node {
	cell := func(id uint32) *berthv1.Cell {
		c := &berthv1.Cell{Id: id, MemoryMib: 128 << 10, Distances: []uint32{10 + 10*id, 20 - 10*id}}
		for core := range uint32(16) {
			first := id*16 + core
			c.Cores = append(c.Cores, fmt.Sprintf("%d,%d", first, first+32))
		}
		return c
	}
	return &berthv1.Node{
		Id: uuid.NewString(), Name: fmt.Sprintf("sim-%05d", i), Pool: "default", Arch: "amd64",
		Attributes: map[string]string{"node.rack": fmt.Sprint("r", i/32), "kernel.name": "linux"},
		Hardware:   &berthv1.Hardware{Cells: []*berthv1.Cell{cell(0), cell(1)}, DiskMib: 4 << 20},
		Drivers:    []*berthv1.DriverInfo{{Name: "mock", Healthy: true}},
		MinPort:    20000, MaxPort: 32000, Address: "127.0.0.1", Version: "sim",
	}
}

// run holds a session for each node until ctx ends; ready is called once all are open.
func (a *agents) run(ctx context.Context, servers []string, ready func()) error {
	var clients []berthv1.AgentServiceClient
	for _, address := range servers {
		for range conns {
			conn, err := grpc.NewClient("passthrough:///"+address,
				grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
			if err != nil {
				return fmt.Errorf("connecting to %s: %w", address, err)
			}
			defer func() { _ = conn.Close() }() // the bench is over then
			clients = append(clients, berthv1.NewAgentServiceClient(conn))
		}
	}
	var open sync.WaitGroup
	open.Add(len(a.nodes))
	group, ctx := errgroup.WithContext(ctx)
	for i, node := range a.nodes {
		group.Go(func() error { return a.session(ctx, clients[i%len(clients)], node, open.Done) })
	}
	go func() {
		open.Wait()
		ready()
	}()
	return group.Wait()
}

// session is one node's; it dials again when its stream ends.
func (a *agents) session(ctx context.Context, client berthv1.AgentServiceClient, node *berthv1.Node, opened func()) error {
	once := sync.OnceFunc(opened)
	defer once()
	s := &simulated{agents: a, node: node, known: map[string]struct{}{}, unacked: map[uint64]*berthv1.StatusReport{}}
	for {
		err := s.dial(ctx, client, once)
		if ctx.Err() != nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(200 * time.Millisecond):
		}
		_ = err // it dials again, whatever ended the stream
	}
}

type simulated struct {
	agents *agents
	node   *berthv1.Node
	known  map[string]struct{}
	serial uint64
	// unacked are the reports that are not known to be durable, by sequence.
	unacked map[uint64]*berthv1.StatusReport
}

func (s *simulated) dial(ctx context.Context, client berthv1.AgentServiceClient, opened func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.Session(ctx)
	if err != nil {
		return err
	}
	hello := &berthv1.Hello{Node: s.node, Protocol: 1}
	if err := stream.Send(&berthv1.AgentMessage{Body: &berthv1.AgentMessage_Hello{Hello: hello}}); err != nil {
		return err
	}
	var sending sync.Mutex // of stream.Send
	send := func(m *berthv1.AgentMessage) error {
		sending.Lock()
		defer sending.Unlock()
		return stream.Send(m)
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		switch body := m.GetBody().(type) {
		case *berthv1.ServerMessage_Welcome:
			go s.beat(ctx, body.Welcome.GetHeartbeatPeriod().AsDuration(), send)
		case *berthv1.ServerMessage_Assignments:
			opened()
			err = s.report(s.accept(body.Assignments), send)
		case *berthv1.ServerMessage_Ack:
			if body.Ack.GetProblem() == nil {
				delete(s.unacked, body.Ack.GetSequence())
				continue
			}
			time.Sleep(100 * time.Millisecond) // as an agent that waits for a new leader
			err = s.repeat(body.Ack.GetSequence(), send)
		}
		if err != nil {
			return err
		}
	}
}

func (s *simulated) beat(ctx context.Context, period time.Duration, send func(*berthv1.AgentMessage) error) {
	tick := time.NewTicker(max(period, 100*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if send(&berthv1.AgentMessage{Body: &berthv1.AgentMessage_Heartbeat{Heartbeat: &berthv1.Heartbeat{}}}) != nil {
				return // Recv tells why
			}
		}
	}
}

// report sends a report and keeps it until it is acknowledged.
func (s *simulated) report(r *berthv1.StatusReport, send func(*berthv1.AgentMessage) error) error {
	if r == nil {
		return nil
	}
	s.unacked[r.GetSequence()] = r
	return send(&berthv1.AgentMessage{Body: &berthv1.AgentMessage_Report{Report: r}})
}

func (s *simulated) repeat(sequence uint64, send func(*berthv1.AgentMessage) error) error {
	return s.report(s.unacked[sequence], send)
}

// accept takes assignments in and says that what is new runs, and what is to stop has.
func (s *simulated) accept(a *berthv1.Assignments) *berthv1.StatusReport {
	now := time.Now()
	report := &berthv1.StatusReport{}
	for _, alloc := range a.GetAllocs() {
		if _, known := s.known[alloc.GetId()]; !known {
			s.known[alloc.GetId()] = struct{}{}
			s.agents.seen(alloc, now)
		}
		status := berthv1.Alloc_running
		if !alloc.Wanted() {
			status = berthv1.Alloc_complete
		}
		if alloc.Ended() || alloc.GetStatus() == status {
			continue
		}
		report.Updates = append(report.Updates, &berthv1.AllocStatusUpdate{
			AllocId: alloc.GetId(), Status: status, StatusTime: timestamppb.New(now),
		})
	}
	for _, id := range a.GetRemoved() {
		delete(s.known, id)
	}
	if len(report.Updates) == 0 {
		return nil
	}
	s.serial++
	report.Sequence = s.serial
	return report
}
