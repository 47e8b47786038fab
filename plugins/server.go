package plugins

import (
	"context"
	"io"
	"runtime/debug"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// server makes a service of any driver.
type server struct {
	berthv1.UnimplementedDriverServiceServer
	driver drivers.Driver
	turns  turns
}

// NewServer serves a driver on the wire.
func NewServer(d drivers.Driver) berthv1.DriverServiceServer {
	return &server{driver: d, turns: turns{busy: map[string]chan struct{}{}}}
}

var done = &berthv1.DriverTaskDone{}

// GetDriver answers for Driver.Info.
func (s *server) GetDriver(context.Context, *berthv1.GetDriverRequest) (*berthv1.GetDriverResponse, error) {
	info := s.driver.Info()
	r := &berthv1.GetDriverResponse{Name: info.Name, Version: info.Version}
	for _, c := range info.Capabilities {
		r.Capabilities = append(r.Capabilities, string(c))
	}
	return r, nil
}

// ProbeDriver answers for Driver.Probe.
func (s *server) ProbeDriver(ctx context.Context, _ *berthv1.ProbeDriverRequest) (*berthv1.DriverInfo, error) {
	info, err := s.driver.Probe(ctx)
	return info, problem.Wire(err)
}

// PrepareTask answers for Driver.Prepare.
func (s *server) PrepareTask(t *berthv1.DriverTask, stream grpc.ServerStreamingServer[berthv1.PrepareProgress]) error {
	var mu sync.Mutex
	err := s.turns.do(stream.Context(), t.GetId(), func() error {
		return s.driver.Prepare(stream.Context(), taskFromWire(t), func(words string) {
			mu.Lock()
			defer mu.Unlock()
			_ = stream.Send(&berthv1.PrepareProgress{Message: words})
		})
	})
	return problem.Wire(err)
}

// StartTask answers for Driver.Start.
func (s *server) StartTask(ctx context.Context, t *berthv1.DriverTask) (*berthv1.DriverHandle, error) {
	var h *drivers.Handle
	err := s.turns.do(ctx, t.GetId(), func() (err error) {
		h, err = s.driver.Start(ctx, taskFromWire(t))
		return err
	})
	return handleToWire(h), problem.Wire(err)
}

// RecoverTask answers for Driver.Recover.
func (s *server) RecoverTask(ctx context.Context, r *berthv1.TaskAndHandle) (*berthv1.DriverTaskDone, error) {
	return done, problem.Wire(s.turns.do(ctx, r.GetTask().GetId(), func() error {
		return s.driver.Recover(ctx, taskFromWire(r.GetTask()), handleFromWire(r.GetHandle()))
	}))
}

// WaitTask answers for Driver.Wait.
func (s *server) WaitTask(ctx context.Context, r *berthv1.TaskRef) (*berthv1.DriverExit, error) {
	e, err := s.driver.Wait(ctx, r.GetId())
	return exitToWire(e), problem.Wire(err)
}

// StopTask answers for Driver.Stop.
func (s *server) StopTask(ctx context.Context, r *berthv1.StopTaskRequest) (*berthv1.DriverTaskDone, error) {
	return done, problem.Wire(s.driver.Stop(ctx, r.GetId(), r.GetSignal(), r.GetTimeout().AsDuration()))
}

// RemoveTask answers for Driver.Remove.
func (s *server) RemoveTask(ctx context.Context, r *berthv1.TaskAndHandle) (*berthv1.DriverTaskDone, error) {
	return done, problem.Wire(s.turns.do(ctx, r.GetTask().GetId(), func() error {
		return s.driver.Remove(ctx, taskFromWire(r.GetTask()), handleFromWire(r.GetHandle()))
	}))
}

// SignalTask answers for Signaler.Signal.
func (s *server) SignalTask(ctx context.Context, r *berthv1.SignalTaskRequest) (*berthv1.DriverTaskDone, error) {
	p, ok := s.driver.(drivers.Signaler)
	if !ok {
		return nil, problem.Wire(lacks(drivers.CapSignal))
	}
	return done, problem.Wire(p.Signal(ctx, r.GetId(), r.GetSignal()))
}

// GetTaskStats answers for StatsReader.Stats.
func (s *server) GetTaskStats(ctx context.Context, r *berthv1.TaskRef) (*berthv1.DriverStats, error) {
	p, ok := s.driver.(drivers.StatsReader)
	if !ok {
		return nil, problem.Wire(lacks(drivers.CapStats))
	}
	stats, err := p.Stats(ctx, r.GetId())
	if err != nil {
		return nil, problem.Wire(err)
	}
	return statsToWire(stats), nil
}

// UpdateTask answers for Updater.Update.
func (s *server) UpdateTask(ctx context.Context, t *berthv1.DriverTask) (*berthv1.DriverTaskDone, error) {
	p, ok := s.driver.(drivers.Updater)
	if !ok {
		return nil, problem.Wire(lacks(drivers.CapUpdate))
	}
	return done, problem.Wire(p.Update(ctx, taskFromWire(t)))
}

func lacks(c drivers.Capability) error {
	return problem.New(problem.Unsupported, "", "the driver has no power %q", c)
}

// ExecTask answers for Execer.Exec.
func (s *server) ExecTask(stream grpc.BidiStreamingServer[berthv1.ExecTaskFrame, berthv1.ExecTaskFrame]) error {
	p, ok := s.driver.(drivers.Execer)
	if !ok {
		return problem.Wire(lacks(drivers.CapExec))
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	if start == nil {
		return problem.Wire(problem.New(problem.Invalid, "start", "the first frame does not say what to run"))
	}
	stdin, input := io.Pipe()
	resize := make(chan drivers.TerminalSize)
	ended := make(chan struct{})
	var receiver sync.WaitGroup
	// Ends with the stream, which ends when this method returns: nobody waits for it.
	receiver.Go(func() { receiveInput(stream, input, resize, ended) })
	var mu sync.Mutex
	exit, err := p.Exec(stream.Context(), start.GetId(), &drivers.ExecRequest{
		Command: start.GetCommand(), Env: start.GetEnv(), TTY: start.GetTty(), Size: sizeFromWire(start.GetSize()),
		Resize: resize, Stdin: stdin,
		Stdout: frameWriter(func(b []byte) error {
			mu.Lock()
			defer mu.Unlock()
			return stream.Send(&berthv1.ExecTaskFrame{Frame: &berthv1.ExecTaskFrame_Stdout{Stdout: b}})
		}),
		Stderr: frameWriter(func(b []byte) error {
			mu.Lock()
			defer mu.Unlock()
			return stream.Send(&berthv1.ExecTaskFrame{Frame: &berthv1.ExecTaskFrame_Stderr{Stderr: b}})
		}),
	})
	close(ended)
	stdin.Close()
	if err != nil {
		return problem.Wire(err)
	}
	mu.Lock()
	defer mu.Unlock()
	return stream.Send(&berthv1.ExecTaskFrame{Frame: &berthv1.ExecTaskFrame_Exit{Exit: exitToWire(exit)}})
}

// receiveInput passes frames on until the stream or the command ends.
func receiveInput(stream grpc.BidiStreamingServer[berthv1.ExecTaskFrame, berthv1.ExecTaskFrame],
	input *io.PipeWriter, resize chan<- drivers.TerminalSize, ended <-chan struct{},
) {
	defer input.Close()
	for {
		f, err := stream.Recv()
		if err != nil {
			return
		}
		switch f := f.GetFrame().(type) {
		case *berthv1.ExecTaskFrame_Stdin:
			if _, err := input.Write(f.Stdin); err != nil {
				return // the command has ended
			}
		case *berthv1.ExecTaskFrame_StdinEof:
			input.Close()
		case *berthv1.ExecTaskFrame_Resize:
			select {
			case resize <- sizeFromWire(f.Resize):
			case <-ended:
				return
			}
		}
	}
}

// frameWriter makes frames of what is written, each small enough for a message.
type frameWriter func([]byte) error

func (w frameWriter) Write(p []byte) (int, error) {
	const most = 64 << 10
	for sent := 0; sent < len(p); sent += min(most, len(p)-sent) {
		if err := w(p[sent:min(sent+most, len(p))]); err != nil {
			return sent, err
		}
	}
	return len(p), nil
}

// guard turns a panic of the driver into an error: the process may hold other tasks.
func guard(err *error) {
	if r := recover(); r != nil {
		*err = status.Errorf(codes.Internal, "the driver panicked: %v\n%s", r, debug.Stack())
	}
}

func guardUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (answer any, err error) {
	defer guard(&err)
	return next(ctx, req)
}

func guardStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer guard(&err)
	return next(srv, stream)
}
