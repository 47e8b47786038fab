package plugins

import (
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

var (
	_ drivers.Driver      = (*Plugin)(nil)
	_ drivers.Signaler    = (*Plugin)(nil)
	_ drivers.Execer      = (*Plugin)(nil)
	_ drivers.StatsReader = (*Plugin)(nil)
	_ drivers.Updater     = (*Plugin)(nil)
)

// asProblem is a call's error as the caller gets it: the context's own when that ended.
func (p *Plugin) asProblem(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	e := *problem.From(err)
	if e.Kind == problem.Timeout {
		// The other side may see the caller's own deadline a moment before it is here.
		if end, ok := ctx.Deadline(); ok && time.Until(end) < time.Second {
			<-ctx.Done()
			return ctx.Err()
		}
		return problem.New(problem.Unavailable, e.Field, "plugin %s did not answer in time", p.cfg.Name)
	}
	if e.Kind == problem.Internal || e.Kind == problem.Unavailable && e.Field == "" {
		e.Reason = "plugin " + p.cfg.Name + ": " + e.Reason
	}
	return &e
}

// call makes one call that ought to be short.
func (p *Plugin) call(ctx context.Context, do func(context.Context, *link) error) error {
	l, err := p.current()
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, p.cfg.CallTimeout)
	defer cancel()
	return p.asProblem(ctx, do(limited, l))
}

// Info implements drivers.Driver. Before the first connection only the name is known.
func (p *Plugin) Info() drivers.Info {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.info
}

// Probe implements drivers.Driver. A plugin that does not run is no error: it is not healthy.
func (p *Plugin) Probe(ctx context.Context) (info *berthv1.DriverInfo, err error) {
	err = p.call(ctx, func(ctx context.Context, l *link) error {
		info, err = l.service.ProbeDriver(ctx, &berthv1.ProbeDriverRequest{})
		return err
	})
	own := p.Info()
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		info = &berthv1.DriverInfo{Message: err.Error()}
	}
	// Who the driver is was settled at the handshake.
	info.Name, info.Version, info.Plugin, info.Capabilities = own.Name, own.Version, true, nil
	for _, c := range own.Capabilities {
		info.Capabilities = append(info.Capabilities, string(c))
	}
	return info, nil
}

// Prepare implements drivers.Driver.
func (p *Plugin) Prepare(ctx context.Context, t *drivers.Task, progress func(string)) error {
	l, err := p.current()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := l.service.PrepareTask(ctx, taskToWire(t))
	for err == nil {
		var step *berthv1.PrepareProgress
		if step, err = stream.Recv(); err == nil && progress != nil {
			progress(step.GetMessage())
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return p.asProblem(ctx, err)
}

// Start implements drivers.Driver.
func (p *Plugin) Start(ctx context.Context, t *drivers.Task) (*drivers.Handle, error) {
	l, err := p.current()
	if err != nil {
		return nil, err
	}
	h, err := l.service.StartTask(ctx, taskToWire(t))
	if err != nil {
		return nil, p.asProblem(ctx, err)
	}
	if err := checkHandle(h); err != nil {
		return nil, p.asProblem(ctx, err)
	}
	handle := handleFromWire(h)
	p.remember(t, handle)
	return handle, nil
}

// Recover implements drivers.Driver.
func (p *Plugin) Recover(ctx context.Context, t *drivers.Task, h *drivers.Handle) error {
	err := p.call(ctx, func(ctx context.Context, l *link) error { return l.recover(ctx, t, h) })
	if err == nil {
		p.remember(t, h)
	}
	return err
}

func (l *link) recover(ctx context.Context, t *drivers.Task, h *drivers.Handle) error {
	_, err := l.service.RecoverTask(ctx, &berthv1.TaskAndHandle{Task: taskToWire(t), Handle: handleToWire(h)})
	return err
}

// Wait implements drivers.Driver. When the plugin dies it waits for the next one, which
// has recovered the task before it takes calls.
func (p *Plugin) Wait(ctx context.Context, id string) (*drivers.Exit, error) {
	for {
		if !p.knows(id) {
			return nil, problem.New(problem.NotFound, "task", "plugin %s knows no task %q", p.cfg.Name, id)
		}
		l, err := p.current()
		if err == nil {
			exit, err := l.service.WaitTask(ctx, &berthv1.TaskRef{Id: id})
			if err == nil {
				if err := checkExit(exit); err != nil {
					return nil, p.asProblem(ctx, err)
				}
				return exitFromWire(exit), nil
			}
			if !l.dies(ctx, err) {
				return nil, p.asProblem(ctx, err)
			}
		}
		if p.Ready(ctx) != nil && ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// dies says whether the plugin's process is gone, of which a call that failed with err
// may be the first to hear.
func (l *link) dies(ctx context.Context, err error) bool {
	// Canceled: the link was closed for that very reason.
	if !problem.Is(err, problem.Unavailable) && !problem.Is(err, problem.Canceled) || ctx.Err() != nil {
		return false
	}
	const patience = 2 * time.Second // go-plugin looks for an attached process once a second
	select {
	case <-l.gone:
		return true
	case <-time.After(patience):
		return false
	case <-ctx.Done():
		return false
	}
}

func (p *Plugin) knows(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.tasks[id]
	return ok
}

// Stop implements drivers.Driver.
func (p *Plugin) Stop(ctx context.Context, id, signal string, timeout time.Duration) error {
	l, err := p.current()
	if err != nil {
		return err
	}
	// The driver waits for timeout before it kills; then it ought to be short.
	limited, cancel := context.WithTimeout(ctx, timeout+p.cfg.CallTimeout)
	defer cancel()
	_, err = l.service.StopTask(limited, &berthv1.StopTaskRequest{Id: id, Signal: signal, Timeout: durationpb.New(timeout)})
	return p.asProblem(ctx, err)
}

// Remove implements drivers.Driver.
func (p *Plugin) Remove(ctx context.Context, t *drivers.Task, h *drivers.Handle) error {
	err := p.call(ctx, func(ctx context.Context, l *link) error {
		_, err := l.service.RemoveTask(ctx, &berthv1.TaskAndHandle{Task: taskToWire(t), Handle: handleToWire(h)})
		return err
	})
	if err == nil {
		p.forget(t.ID)
	}
	return err
}

// Signal implements drivers.Signaler.
func (p *Plugin) Signal(ctx context.Context, id, signal string) error {
	return p.call(ctx, func(ctx context.Context, l *link) error {
		_, err := l.service.SignalTask(ctx, &berthv1.SignalTaskRequest{Id: id, Signal: signal})
		return err
	})
}

// Stats implements drivers.StatsReader.
func (p *Plugin) Stats(ctx context.Context, id string) (stats *drivers.Stats, err error) {
	err = p.call(ctx, func(ctx context.Context, l *link) error {
		s, err := l.service.GetTaskStats(ctx, &berthv1.TaskRef{Id: id})
		if err == nil {
			stats = statsFromWire(s)
		}
		return err
	})
	return stats, err
}

// Update implements drivers.Updater.
func (p *Plugin) Update(ctx context.Context, t *drivers.Task) error {
	return p.call(ctx, func(ctx context.Context, l *link) error {
		_, err := l.service.UpdateTask(ctx, taskToWire(t))
		return err
	})
}

// Exec implements drivers.Execer.
func (p *Plugin) Exec(ctx context.Context, id string, req *drivers.ExecRequest) (*drivers.Exit, error) {
	l, err := p.current()
	if err != nil {
		return nil, err
	}
	streamCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := l.service.ExecTask(streamCtx)
	if err != nil {
		return nil, p.asProblem(ctx, err)
	}
	start := &berthv1.ExecTaskStart{Id: id, Command: req.Command, Env: req.Env, Tty: req.TTY, Size: sizeToWire(req.Size)}
	// An error of Send is told by Recv, in the driver's words.
	_ = stream.Send(&berthv1.ExecTaskFrame{Frame: &berthv1.ExecTaskFrame_Start{Start: start}})
	go sendInput(streamCtx, stream, req)
	exit, err := receiveOutput(stream, req)
	return exit, p.asProblem(ctx, err)
}

// sendInput sends input and sizes until the call ends. A read of input that blocks then
// is left behind: it ends with the caller's reader.
func sendInput(ctx context.Context, stream grpc.BidiStreamingClient[berthv1.ExecTaskFrame, berthv1.ExecTaskFrame], req *drivers.ExecRequest) {
	chunks := make(chan []byte)
	go func() {
		defer close(chunks)
		buf := make([]byte, 32<<10)
		for req.Stdin != nil {
			n, err := req.Stdin.Read(buf)
			select {
			case chunks <- append([]byte(nil), buf[:n]...):
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	resize := req.Resize
	for input := (<-chan []byte)(chunks); input != nil || resize != nil; {
		f := &berthv1.ExecTaskFrame{}
		select {
		case b, ok := <-input:
			f.Frame = &berthv1.ExecTaskFrame_Stdin{Stdin: b}
			if !ok {
				input = nil
				f.Frame = &berthv1.ExecTaskFrame_StdinEof{StdinEof: true}
			}
		case size, ok := <-resize:
			if !ok {
				resize = nil
				continue
			}
			f.Frame = &berthv1.ExecTaskFrame_Resize{Resize: sizeToWire(size)}
		case <-ctx.Done():
			return
		}
		if stream.Send(f) != nil {
			return
		}
	}
}

func receiveOutput(stream grpc.BidiStreamingClient[berthv1.ExecTaskFrame, berthv1.ExecTaskFrame], req *drivers.ExecRequest) (*drivers.Exit, error) {
	write := func(to io.Writer, b []byte) {
		if to != nil {
			_, _ = to.Write(b) // a caller who does not read does not stop the command
		}
	}
	for {
		f, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, garbage("a command ended without a word how")
		}
		if err != nil {
			return nil, err
		}
		switch f := f.GetFrame().(type) {
		case *berthv1.ExecTaskFrame_Stdout:
			write(req.Stdout, f.Stdout)
		case *berthv1.ExecTaskFrame_Stderr:
			write(req.Stderr, f.Stderr)
		case *berthv1.ExecTaskFrame_Exit:
			if err := checkExit(f.Exit); err != nil {
				return nil, err
			}
			return exitFromWire(f.Exit), nil
		}
	}
}

func itoa(n int) string { return strconv.Itoa(n) }
