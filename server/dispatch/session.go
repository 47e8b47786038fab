package dispatch

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// protocolVersion is what agents and servers speak.
const protocolVersion = 1

// session is one agent's stream.
type session struct {
	nodeID string
	server *Dispatcher
	cancel context.CancelCauseFunc

	mu       sync.Mutex
	lastSeen time.Time
	news     []news // what the next delta has, newest last
	complete bool   // send everything instead
	outbox   []*berthv1.ServerMessage
	wake     chan struct{} // capacity 1: there is something to send

	// Only the sender uses these.
	sentRevision, completeRevision uint64
	sentJobs                       map[jobVersion]struct{}

	follower *follower // nil: the agent wants to know nothing; only the receiver uses it
}

type jobVersion struct {
	namespace, job string
	version        uint64
}

// errLeaderless sends agents away, to a server that hears the leader.
var errLeaderless = errors.New("this server does not hear the leader")

// maxOutbox bounds the acknowledgements and orders that wait for a slow agent.
const maxOutbox = 1024

// Session implements berthv1.AgentServiceServer.
func (d *Dispatcher) Session(stream grpc.BidiStreamingServer[berthv1.AgentMessage, berthv1.ServerMessage]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if err := d.checkHello(hello); err != nil {
		return problem.Wire(err)
	}
	if err := d.register(stream.Context(), hello.GetNode()); err != nil {
		return problem.Wire(err)
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	s := &session{
		nodeID: hello.GetNode().GetId(), server: d, cancel: cancel, lastSeen: time.Now(),
		complete: true, wake: make(chan struct{}, 1),
		sentJobs: map[jobVersion]struct{}{},
	}
	d.attach(s)
	defer d.detach(s)
	d.log.Debug("session opened", "node", hello.GetNode().GetName(), "node_id", s.nodeID)

	received := make(chan error, 1)
	go func() { received <- s.receive(ctx, stream) }()
	err = s.send(ctx, stream)
	// The receiver ends with the stream, which ends when this handler returns; it only
	// touches s, so nobody waits for it here.
	select {
	case rerr := <-received:
		if err == nil || errors.Is(err, context.Canceled) {
			err = rerr
		}
	default:
	}
	d.log.Debug("session closed", "node_id", s.nodeID, "cause", err)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return problem.Wire(err)
}

func (d *Dispatcher) checkHello(hello *berthv1.Hello) error {
	node := hello.GetNode()
	switch {
	case hello == nil:
		return problem.New(problem.Invalid, "hello", "the first message of a session must be hello")
	case hello.GetProtocol() != protocolVersion:
		return problem.New(problem.Unsupported, "hello.protocol", "the agent speaks version %d, this server %d",
			hello.GetProtocol(), protocolVersion).WithRemedy("upgrade the servers first, then the agents")
	case node.GetId() == "" || node.GetName() == "":
		return problem.New(problem.Invalid, "hello.node", "a node needs an id and a name")
	case d.cfg.Cluster.LastContact() > d.cfg.Timing.Redirect:
		return problem.New(problem.Unavailable, "", "%w", errLeaderless).WithRemedy("dial another server")
	}
	return nil
}

// mark notes what the next delta must have. The list belongs to the session from now on.
func (s *session) mark(what []news) {
	s.mu.Lock()
	if len(s.news) == 0 {
		s.news = what
	} else {
		s.news = append(s.news, what...)
	}
	s.mu.Unlock()
	s.poke()
}

// markAll has everything sent anew.
func (s *session) markAll() {
	s.mu.Lock()
	s.complete = true
	s.mu.Unlock()
	s.poke()
}

// post queues a message. A session whose agent does not read is ended.
func (s *session) post(m *berthv1.ServerMessage) {
	s.mu.Lock()
	full := len(s.outbox) >= maxOutbox
	if !full {
		s.outbox = append(s.outbox, m)
	}
	s.mu.Unlock()
	if full {
		s.end("the agent does not read its messages")
		return
	}
	s.poke()
}

func (s *session) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// end ends the session; the agent dials anew.
func (s *session) end(reason string) {
	s.cancel(problem.New(problem.Unavailable, "", "the session has ended: %s", reason).WithRemedy("dial again"))
}

func (s *session) seen() {
	s.mu.Lock()
	s.lastSeen = time.Now()
	s.mu.Unlock()
}

func (s *session) lastHeard() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastSeen
}

// send writes messages until the session ends.
func (s *session) send(ctx context.Context, stream grpc.BidiStreamingServer[berthv1.AgentMessage, berthv1.ServerMessage]) error {
	welcome := &berthv1.Welcome{
		ClusterId:       s.server.cfg.Store.ClusterID(),
		HeartbeatPeriod: durationpb.New(s.server.heartbeat()),
		Servers:         s.server.cfg.Cluster.Servers(),
	}
	if err := stream.Send(&berthv1.ServerMessage{Body: &berthv1.ServerMessage_Welcome{Welcome: welcome}}); err != nil {
		return err
	}
	for {
		if err := s.sendDue(ctx, stream); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			cause := context.Cause(ctx)
			if errors.Is(cause, errLeaderless) {
				m := &berthv1.ServerMessage_Redirect{Redirect: &berthv1.Redirect{Reason: errLeaderless.Error()}}
				_ = stream.Send(&berthv1.ServerMessage{Body: m}) // the cause ends the stream anyway
			}
			return cause
		case <-s.wake:
		}
	}
}

// sendDue sends what waits. Assignments are made in turn, and what comes in meanwhile
// goes with them.
func (s *session) sendDue(ctx context.Context, stream grpc.ServerStream) error {
	buf, out := s.due(ctx)
	if buf != nil {
		defer release(buf)
	}
	for _, m := range out {
		if err := stream.SendMsg(m); err != nil {
			return err
		}
	}
	return nil
}

// due is what waits to be sent, and the buffer that assignments lie in (nil: there are
// none).
func (s *session) due(ctx context.Context) (*[]byte, []*berthv1.ServerMessage) {
	if s.hasNews() {
		select {
		case s.server.turns <- struct{}{}:
			defer func() { <-s.server.turns }()
		case <-ctx.Done():
			return nil, nil
		}
	}
	s.mu.Lock()
	out, complete, what := s.outbox, s.complete, s.news
	s.outbox, s.complete, s.news = nil, false, nil
	s.mu.Unlock()
	if !complete && len(what) == 0 {
		return nil, out
	}
	buf := wires.Get().(*[]byte)
	*buf = s.assignments((*buf)[:0], complete, what)
	if len(*buf) > 0 {
		out = append(out, wrap(*buf))
	}
	return buf, out
}

func (s *session) hasNews() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.complete || len(s.news) > 0
}

// receive reads messages until the stream ends.
func (s *session) receive(ctx context.Context, stream grpc.BidiStreamingServer[berthv1.AgentMessage, berthv1.ServerMessage]) error {
	var told []string // the servers' addresses
	for {
		// A message without fields keeps those that it does not know: everything, encoded.
		var unread emptypb.Empty
		if err := stream.RecvMsg(&unread); err != nil {
			s.cancel(err)
			return err
		}
		s.seen()
		encoded := unread.ProtoReflect().GetUnknown()
		if report := reportOf(encoded); report != nil {
			s.report(report)
			continue
		}
		m := &berthv1.AgentMessage{}
		if err := proto.Unmarshal(encoded, m); err != nil {
			s.end("a message that is none: " + err.Error())
			continue
		}
		switch body := m.GetBody().(type) {
		case *berthv1.AgentMessage_Heartbeat:
			ack := &berthv1.HeartbeatAck{ServerTime: timestamppb.Now()}
			if servers := s.server.cfg.Cluster.Servers(); !slices.Equal(servers, told) {
				ack.Servers, told = servers, servers
			}
			s.post(&berthv1.ServerMessage{Body: &berthv1.ServerMessage_Heartbeat{Heartbeat: ack}})
		case *berthv1.AgentMessage_Report: // in several parts
			if whole, err := proto.Marshal(body.Report); err == nil {
				s.report(whole)
			}
		case *berthv1.AgentMessage_Node:
			if body.Node.GetId() != s.nodeID {
				s.end("it speaks for another node")
				continue
			}
			if err := s.server.register(ctx, body.Node); err != nil {
				s.end("the node's change could not be made durable: " + err.Error())
			}
		case *berthv1.AgentMessage_Watch:
			s.follow(ctx, body.Watch.GetTopics())
		default:
			s.end("a message that this server does not understand")
		}
	}
}

// report hands an encoded report to the batch and acknowledges it when it is durable.
func (s *session) report(encoded []byte) {
	sequence, err := readReport(encoded, nil)
	if err != nil {
		s.end("a report that is none: " + err.Error())
		return
	}
	s.server.reports.add(encoded, func(err error) {
		ack := &berthv1.ReportAck{Sequence: sequence, Problem: problem.From(err).Proto()}
		s.post(&berthv1.ServerMessage{Body: &berthv1.ServerMessage_Ack{Ack: ack}})
	})
}
