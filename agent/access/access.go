// Package access serves what people do inside an allocation: reading logs and files,
// running commands, signals and restarts, and what is done to machines: consoles,
// displays, control, snapshots. Orders come by the agent's session; each is
// served on a stream that the agent has opened to the server.
//
// It promises that nothing outside of an allocation's directory can be reached by any
// path or symbolic link, that only regular files are read, and that whoever goes away
// leaves nothing running: an exec is killed with its stream.
package access

import (
	"context"
	"log/slog"
	"sync"

	"google.golang.org/grpc"

	"github.com/berthd/berth/agent/runner"
	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Allocs is what this package needs of the runner.
type Allocs interface {
	Find(prefix string) (*runner.AllocInfo, error)
	Running(prefix, task string) (drivers.Driver, *drivers.Task, error)
	Signal(ctx context.Context, prefix, task, signal string) error
	Restart(prefix, task string) error
}

// Server serves streams.
type Server struct {
	allocs Allocs
	log    *slog.Logger
}

// New makes a Server.
func New(allocs Allocs, log *slog.Logger) *Server { return &Server{allocs, log} }

// clientStream is the agent's end of a stream.
type clientStream = grpc.BidiStreamingClient[berthv1.StreamFrame, berthv1.StreamFrame]

// sender sends frames; grpc allows one Send at a time.
type sender struct {
	mu     sync.Mutex
	stream clientStream
}

func (s *sender) send(f *berthv1.StreamFrame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stream.Send(f)
}

// Serve serves one order and says at the end how it went. It returns when that is done,
// or when ctx or the stream ends.
func (s *Server) Serve(ctx context.Context, order *berthv1.StreamOrder, stream grpc.BidiStreamingClient[berthv1.StreamFrame, berthv1.StreamFrame]) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := &sender{stream: stream}
	incoming, served := make(chan *berthv1.StreamFrame), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer cancel() // the other side has gone
		for {
			f, err := stream.Recv()
			if err != nil {
				return
			}
			select {
			case incoming <- f:
			case <-served: // nobody is interested any more
			case <-ctx.Done():
				return
			}
		}
	})
	err := s.serve(ctx, order, out, incoming)
	close(served)
	last := &berthv1.StreamFrame{Body: &berthv1.StreamFrame_Done{Done: true}}
	if err != nil {
		s.log.Debug("an order for an allocation ended with an error", "error", err)
		last.Body = &berthv1.StreamFrame_Problem{Problem: problem.From(err).Proto()}
	}
	_ = out.send(last)
	_ = stream.CloseSend()
	wg.Wait() // the server ends the stream when it has read the last frame
}

func (s *Server) serve(ctx context.Context, order *berthv1.StreamOrder, out *sender, in <-chan *berthv1.StreamFrame) error {
	switch o := order.GetOrder().(type) {
	case *berthv1.StreamOrder_Logs:
		return s.logs(ctx, o.Logs, out)
	case *berthv1.StreamOrder_Exec:
		return s.exec(ctx, o.Exec, out, in)
	case *berthv1.StreamOrder_ListFiles:
		return s.listFiles(o.ListFiles, out)
	case *berthv1.StreamOrder_StatFile:
		return s.statFile(o.StatFile, out)
	case *berthv1.StreamOrder_ReadFile:
		return s.readFile(ctx, o.ReadFile, out)
	case *berthv1.StreamOrder_Signal:
		return s.allocs.Signal(ctx, o.Signal.GetAllocId(), o.Signal.GetTask(), o.Signal.GetSignal())
	case *berthv1.StreamOrder_Restart:
		return s.allocs.Restart(o.Restart.GetAllocId(), o.Restart.GetTask())
	case *berthv1.StreamOrder_SendDisk:
		return s.sendDisk(ctx, o.SendDisk, out)
	case *berthv1.StreamOrder_Attach:
		return s.attach(ctx, order, out, in)
	}
	answer, err := s.machine(ctx, order)
	if err != nil || answer == nil {
		return err
	}
	return out.send(answer)
}
