package dispatch

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// openTimeout bounds how long an agent may take to open a stream.
const openTimeout = 10 * time.Second

// Stream carries frames to and from an agent. Recv gives io.EOF after the last frame.
// Close must be called; frames that were not read are lost.
type Stream interface {
	Send(*berthv1.StreamFrame) error
	Recv() (*berthv1.StreamFrame, error)
	Close() error
}

// streams are the orders that agents have not opened a stream for yet.
type streams struct {
	mu      sync.Mutex
	waiting map[string]chan<- *agentStream
}

func newStreams() *streams { return &streams{waiting: map[string]chan<- *agentStream{}} }

// agentStream is a stream that an agent has opened.
type agentStream struct {
	grpc.BidiStreamingServer[berthv1.StreamFrame, berthv1.StreamFrame]
	closed chan struct{}
	once   sync.Once
}

// Close ends the stream towards the agent.
func (s *agentStream) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// Open has the node's agent open a stream for an order, through the server that holds
// its session. Unavailable: there is no session.
func (d *Dispatcher) Open(ctx context.Context, nodeID string, order *berthv1.StreamOrder) (Stream, error) {
	if s := d.session(nodeID); s != nil {
		return d.openHere(ctx, s, order)
	}
	return d.openThere(ctx, nodeID, order)
}

func (d *Dispatcher) openHere(ctx context.Context, s *session, order *berthv1.StreamOrder) (Stream, error) {
	id, opened := uuid.NewString(), make(chan *agentStream, 1)
	d.streams.mu.Lock()
	d.streams.waiting[id] = opened
	d.streams.mu.Unlock()
	defer func() {
		d.streams.mu.Lock()
		delete(d.streams.waiting, id)
		d.streams.mu.Unlock()
		select { // it came just now, too late
		case late := <-opened:
			_ = late.Close()
		default:
		}
	}()
	s.post(&berthv1.ServerMessage{Body: &berthv1.ServerMessage_Open{Open: &berthv1.StreamOrder{StreamId: id, Order: order.GetOrder()}}})
	timeout := time.NewTimer(openTimeout)
	defer timeout.Stop()
	select {
	case stream := <-opened:
		return stream, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timeout.C:
		return nil, problem.New(problem.Timeout, "node "+s.nodeID, "its agent did not answer within %s", openTimeout).
			WithRemedy("look at the agent's log")
	}
}

// Stream implements berthv1.AgentServiceServer: an agent opens what it was ordered to.
func (d *Dispatcher) Stream(stream grpc.BidiStreamingServer[berthv1.StreamFrame, berthv1.StreamFrame]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	d.streams.mu.Lock()
	opened, ok := d.streams.waiting[first.GetStreamId()]
	delete(d.streams.waiting, first.GetStreamId())
	s := &agentStream{BidiStreamingServer: stream, closed: make(chan struct{})}
	if ok {
		opened <- s // has room for one, and only one is ever sent
	}
	d.streams.mu.Unlock()
	if !ok {
		return problem.Wire(problem.New(problem.NotFound, "stream_id", "nobody waits for this stream any more"))
	}
	select {
	case <-s.closed:
		return nil
	case <-stream.Context().Done():
		return stream.Context().Err()
	}
}

// openThere relays the order to the server that holds the node's session.
func (d *Dispatcher) openThere(ctx context.Context, nodeID string, order *berthv1.StreamOrder) (Stream, error) {
	located, err := onLeader(ctx, d, &berthv1.LocateNodeRequest{NodeId: nodeID}, d.LocateNode, berthv1.InternalServiceClient.LocateNode)
	if err != nil {
		return nil, err
	}
	if id := located.GetServerId(); id == "" || id == d.cfg.ServerID {
		return nil, noSession(nodeID)
	}
	conn, err := d.cfg.Cluster.ServerConn(located.GetServerId())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	stream, err := berthv1.NewInternalServiceClient(conn).Relay(ctx)
	if err == nil {
		err = stream.Send(&berthv1.StreamFrame{Body: &berthv1.StreamFrame_Relay{Relay: &berthv1.RelayOrder{NodeId: nodeID, Order: order}}})
	}
	if err != nil {
		cancel()
		return nil, problem.From(err)
	}
	return &relayStream{stream, cancel}, nil
}

func noSession(nodeID string) error {
	return problem.New(problem.Unavailable, "node "+nodeID, "its agent has no session with any server").
		WithRemedy("is the agent running, and can it reach the servers?")
}

type relayStream struct {
	grpc.BidiStreamingClient[berthv1.StreamFrame, berthv1.StreamFrame]
	cancel context.CancelFunc
}

// Close ends the relay.
func (s *relayStream) Close() error {
	s.cancel()
	return nil
}

// Relay implements berthv1.InternalServiceServer: another server's user talks to an
// agent of this server.
func (d *Dispatcher) Relay(from grpc.BidiStreamingServer[berthv1.StreamFrame, berthv1.StreamFrame]) error {
	first, err := from.Recv()
	if err != nil {
		return err
	}
	order := first.GetRelay()
	s := d.session(order.GetNodeId())
	if s == nil {
		return problem.Wire(noSession(order.GetNodeId()))
	}
	to, err := d.openHere(from.Context(), s, order.GetOrder())
	if err != nil {
		return problem.Wire(err)
	}
	defer func() { _ = to.Close() }()
	go func() { // ends with from, that is when this handler returns
		for {
			frame, err := from.Recv()
			if err != nil || to.Send(frame) != nil {
				return
			}
		}
	}()
	for {
		frame, err := to.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := from.Send(frame); err != nil {
			return err
		}
	}
}
