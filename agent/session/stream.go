package session

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

const (
	// greetTimeout is how long a server may take to welcome the agent.
	greetTimeout = 10 * time.Second
	// A server that was not heard for silentPeriods heartbeats, and at least
	// silentMin, is given up.
	silentPeriods = 3
	silentMin     = 3 * time.Second
	// reportRetry is the wait before a report that a server could not make durable is
	// repeated.
	reportRetry = 2 * time.Second
	// maxStreams bounds what people do on this node at once.
	maxStreams = 64
)

// live is one session. Its loop alone sends; its receiver applies assignments.
type live struct {
	c        *Client
	addr     string
	stream   grpc.BidiStreamingClient[berthv1.AgentMessage, berthv1.ServerMessage]
	rpc      berthv1.AgentServiceClient
	cancel   context.CancelCauseFunc
	silent   *time.Timer // ends the session when the server says nothing
	patience time.Duration

	acks    chan *berthv1.ReportAck
	welcome chan time.Duration // the heartbeat period

	chained    bool // a complete Assignments was applied; used by the receiver alone
	sequence   uint64
	inFlight   []*berthv1.AllocStatusUpdate // of the report that waits for its ack
	nextReport time.Time                    // not before

	slots chan struct{} // one for each stream that is open
	wg    sync.WaitGroup
}

// session runs one session with one server, to its end.
func (c *Client) session(ctx context.Context, addr string) error {
	conn, err := c.dial(addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l := &live{
		c: c, addr: addr, rpc: berthv1.NewAgentServiceClient(conn), cancel: cancel, patience: greetTimeout,
		acks: make(chan *berthv1.ReportAck, 1), welcome: make(chan time.Duration, 1), slots: make(chan struct{}, maxStreams),
	}
	l.silent = time.AfterFunc(greetTimeout, func() {
		cancel(problem.New(problem.Timeout, addr, "the server says nothing any more"))
	})
	defer l.silent.Stop()
	if l.stream, err = l.rpc.Session(ctx); err != nil {
		return cause(ctx, err)
	}
	hello := &berthv1.Hello{Node: c.cfg.Node(), Revision: c.held(), Protocol: protocolVersion}
	if err := l.stream.Send(&berthv1.AgentMessage{Body: &berthv1.AgentMessage_Hello{Hello: hello}}); err != nil {
		_, err = l.stream.Recv() // the reason
		return cause(ctx, err)
	}
	l.wg.Go(func() { cancel(l.receive(ctx)) })
	l.loop(ctx)
	cancel(nil)
	l.wg.Wait()
	return context.Cause(ctx)
}

// cause prefers why the session was ended to what that did to the stream.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return problem.From(err)
}

func (c *Client) held() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.revision
}

// receive takes messages until the session ends, and returns why it did.
func (l *live) receive(ctx context.Context) error {
	for {
		m, err := l.stream.Recv()
		if err != nil {
			return cause(ctx, err)
		}
		l.silent.Reset(l.patience)
		l.c.heard()
		if err := l.take(ctx, m); err != nil {
			return err
		}
		l.silent.Reset(l.patience) // what was taken may have lasted
	}
}

func (l *live) take(ctx context.Context, m *berthv1.ServerMessage) error {
	switch body := m.GetBody().(type) {
	case *berthv1.ServerMessage_Welcome:
		return l.welcomed(body.Welcome)
	case *berthv1.ServerMessage_Assignments:
		return l.assigned(body.Assignments)
	case *berthv1.ServerMessage_Ack:
		select {
		case l.acks <- body.Ack:
		case <-ctx.Done():
		}
	case *berthv1.ServerMessage_Heartbeat:
		l.c.learn(body.Heartbeat.GetServers())
		if t := body.Heartbeat.GetServerTime(); t != nil {
			l.c.cfg.Clock(t.AsTime().Sub(timestamppb.Now().AsTime()))
		}
	case *berthv1.ServerMessage_Open:
		l.open(ctx, body.Open)
	case *berthv1.ServerMessage_Known:
		if d := l.c.cfg.Discovery; d != nil {
			d.Know(body.Known)
		}
	case *berthv1.ServerMessage_Redirect:
		return fmt.Errorf("%w: %s", errRedirect, body.Redirect.GetReason())
	}
	return nil // a newer server may say what this agent does not understand
}

func (l *live) welcomed(w *berthv1.Welcome) error {
	mem := l.c.cfg.Memory
	if have := mem.ClusterID(); have != "" && w.GetClusterId() != "" && have != w.GetClusterId() {
		return problem.New(problem.Conflict, l.addr, "the server belongs to cluster %s, this node to %s", w.GetClusterId(), have).
			WithRemedy("correct the agent's servers; to move the node to that cluster, stop the agent and delete its data directory")
	} else if have == "" && w.GetClusterId() != "" {
		if err := mem.SetClusterID(w.GetClusterId()); err != nil {
			l.c.log.Warn("the cluster's id cannot be stored", "error", err)
		}
	}
	l.c.learn(w.GetServers())
	period := w.GetHeartbeatPeriod().AsDuration()
	if period <= 0 {
		period = silentMin
	}
	l.patience = max(silentPeriods*period, silentMin)
	select {
	case l.welcome <- period:
	default:
	}
	return nil
}

// assigned applies assignments, if they follow what is held.
func (l *live) assigned(as *berthv1.Assignments) error {
	c := l.c
	held := c.held()
	switch {
	case as.GetComplete():
		if err := c.checkFresh(as.GetResultsIn()); err != nil {
			return err
		}
	case !l.chained:
		return problem.New(problem.Conflict, "assignments", "the server sent a change before the whole")
	case as.GetAppliesTo() != held:
		return problem.New(problem.Conflict, "assignments", "there is a gap: the change applies to revision %d, the agent holds %d", as.GetAppliesTo(), held)
	}
	l.silent.Stop() // a slow disk is not the server's silence
	if err := c.cfg.Assignments.Apply(as); err != nil {
		return fmt.Errorf("applying assignments: %w", err)
	}
	first := !l.chained
	l.chained = true
	c.mu.Lock()
	c.revision = as.GetResultsIn()
	if first {
		c.connected, c.rpc = l.addr, l.rpc
	}
	c.mu.Unlock()
	if first {
		c.cfg.Contact(time.Time{})
		c.log.Info("session with a server", "server", l.addr, "revision", as.GetResultsIn(), "allocs", len(as.GetAllocs()))
	}
	return nil
}

// checkFresh refuses a server that has fallen behind what the agent was told already:
// what it does not know yet would be stopped. When nobody offers anything newer for
// stalePatience, the cluster itself went back (a restored backup), and is believed.
func (c *Client) checkFresh(revision uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if revision >= c.revision {
		c.staleSince = time.Time{}
		return nil
	}
	if c.staleSince.IsZero() {
		c.staleSince = time.Now()
	}
	if time.Since(c.staleSince) < stalePatience {
		return problem.New(problem.Unavailable, "assignments", "the server has fallen behind: it is at revision %d, the agent was at %d", revision, c.revision)
	}
	c.log.Warn("every server is behind what the agent was told before; the cluster was restored, it seems, and is followed",
		"revision", revision, "held", c.revision)
	c.staleSince = time.Time{}
	return nil
}

// loop sends heartbeats, reports and the node's changes until the session ends.
func (l *live) loop(ctx context.Context) {
	var period time.Duration
	select {
	case <-ctx.Done():
		return
	case period = <-l.welcome:
	}
	beat := time.NewTimer(period)
	defer beat.Stop()
	report := time.NewTimer(time.Hour)
	defer report.Stop()
	l.c.cfg.Reports.retry(time.Now()) // what an earlier session left unconfirmed
	topics := newTopics(l.c.cfg.Discovery)
	defer topics.timer.Stop()
	for {
		l.schedule(report)
		var m *berthv1.AgentMessage
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			beat.Reset(period)
			m = &berthv1.AgentMessage{Body: &berthv1.AgentMessage_Heartbeat{Heartbeat: &berthv1.Heartbeat{Revision: l.c.held()}}}
		case <-l.c.nodeChanged:
			m = &berthv1.AgentMessage{Body: &berthv1.AgentMessage_Node{Node: l.c.cfg.Node()}}
		case ack := <-l.acks:
			l.acknowledged(ack)
		case <-l.c.cfg.Reports.wake:
		case <-report.C:
			m = l.report()
		case <-topics.changed:
			topics.timer.Reset(topicsPause)
		case <-topics.timer.C:
			m = topics.message()
		}
		if m == nil {
			continue
		}
		if err := l.stream.Send(m); err != nil {
			// Recv has the reason and ends the session.
			<-ctx.Done()
			return
		}
	}
}

// schedule sets the timer of the next report: none while one waits for its ack.
func (l *live) schedule(timer *time.Timer) {
	d, any := l.c.cfg.Reports.dueIn()
	if !any || l.inFlight != nil {
		timer.Stop()
		return
	}
	timer.Reset(max(d, time.Until(l.nextReport)))
}

func (l *live) report() *berthv1.AgentMessage {
	updates := l.c.cfg.Reports.batch()
	if len(updates) == 0 {
		return nil
	}
	l.sequence++
	spacing := shortSpacing
	if len(updates) > few {
		spacing = longSpacing
	}
	l.inFlight, l.nextReport = updates, time.Now().Add(spacing)
	return &berthv1.AgentMessage{Body: &berthv1.AgentMessage_Report{Report: &berthv1.StatusReport{Sequence: l.sequence, Updates: updates}}}
}

func (l *live) acknowledged(ack *berthv1.ReportAck) {
	if ack.GetSequence() != l.sequence || l.inFlight == nil {
		return // doubled
	}
	updates := l.inFlight
	l.inFlight = nil
	if p := problem.FromProto(ack.GetProblem()); p != nil {
		l.c.log.Warn("the server could not make a report durable; it is repeated", "reason", p)
		l.c.cfg.Reports.retry(time.Now().Add(reportRetry))
		return
	}
	l.c.cfg.Reports.confirm(updates)
	if err := l.c.cfg.Memory.Confirm(updates); err != nil {
		l.c.log.Debug("confirmed reports cannot be forgotten yet; they are repeated after a restart", "error", err)
	}
}

// open serves a stream beside the session.
func (l *live) open(ctx context.Context, order *berthv1.StreamOrder) {
	busy := false
	select {
	case l.slots <- struct{}{}:
	default:
		busy = true
	}
	l.wg.Go(func() {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		if !busy {
			defer func() { <-l.slots }()
		}
		stream, err := l.rpc.Stream(ctx)
		if err == nil {
			err = stream.Send(&berthv1.StreamFrame{Body: &berthv1.StreamFrame_StreamId{StreamId: order.GetStreamId()}})
		}
		if err != nil {
			l.c.log.Warn("a stream that the server ordered cannot be opened", "error", err)
			return
		}
		if busy {
			p := problem.New(problem.Exhausted, "", "the node serves %d streams already", maxStreams).WithRemedy("try again later")
			_ = stream.Send(&berthv1.StreamFrame{Body: &berthv1.StreamFrame_Problem{Problem: p.Proto()}})
		} else {
			l.c.cfg.Streams.Serve(ctx, order, stream)
		}
		_ = stream.CloseSend()
		_, _ = stream.Recv() // until the server has read everything and ends the stream
	})
}
