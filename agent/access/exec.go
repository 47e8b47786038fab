package access

import (
	"context"
	"io"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// exec runs a command inside a running task. The command is killed when the stream ends.
func (s *Server) exec(ctx context.Context, start *berthv1.ExecStart, out *sender, in <-chan *berthv1.StreamFrame) error {
	if len(start.GetCommand()) == 0 || start.GetCommand()[0] == "" {
		return problem.New(problem.Invalid, "command", "there is no command to run")
	}
	d, task, err := s.allocs.Running(start.GetAllocId(), start.GetTask())
	if err != nil {
		return err
	}
	execer, ok := d.(drivers.Execer)
	if !ok {
		return problem.New(problem.Unsupported, task.Name, "the driver %q cannot run commands in a task", d.Info().Name)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stdin, input := io.Pipe()
	defer stdin.Close()
	resize := make(chan drivers.TerminalSize, 1)
	go feed(ctx, in, input, resize) // ends with ctx, or the input
	s.log.Info("exec in a task", "alloc", task.AllocID, "task", task.Name, "command", start.GetCommand()[0])
	exit, err := execer.Exec(ctx, task.ID, &drivers.ExecRequest{
		Command: start.GetCommand(), Env: start.GetEnv(), TTY: start.GetTty(),
		Size: size(start.GetSize()), Resize: resize, Stdin: stdin,
		Stdout: execWriter(func(b []byte) *berthv1.ExecFrame {
			return &berthv1.ExecFrame{Body: &berthv1.ExecFrame_Stdout{Stdout: b}}
		}, out),
		Stderr: execWriter(func(b []byte) *berthv1.ExecFrame {
			return &berthv1.ExecFrame{Body: &berthv1.ExecFrame_Stderr{Stderr: b}}
		}, out),
	})
	if err != nil {
		return err
	}
	if exit.Err != "" {
		return problem.New(problem.Unavailable, task.Name, "the command's end is not known: %s", exit.Err)
	}
	last := &berthv1.ExecExit{Code: int32(exit.Code), Signal: uint32(exit.Signal)}
	return out.send(execFrame(&berthv1.ExecFrame{Body: &berthv1.ExecFrame_Exit{Exit: last}}))
}

// feed passes on what the person sends.
func feed(ctx context.Context, in <-chan *berthv1.StreamFrame, stdin *io.PipeWriter, resize chan drivers.TerminalSize) {
	defer stdin.Close()
	for {
		var f *berthv1.StreamFrame
		select {
		case <-ctx.Done():
			return
		case f = <-in:
		}
		switch body := f.GetExec().GetBody().(type) {
		case *berthv1.ExecFrame_Stdin:
			if _, err := stdin.Write(body.Stdin); err != nil {
				continue // the command does not read any more; its end is still to come
			}
		case *berthv1.ExecFrame_StdinClose:
			stdin.Close()
		case *berthv1.ExecFrame_Resize:
			select {
			case <-resize: // only the newest size counts
			default:
			}
			resize <- size(body.Resize)
		}
	}
}

func size(s *berthv1.TerminalSize) drivers.TerminalSize {
	return drivers.TerminalSize{Columns: uint16(min(s.GetColumns(), 1<<16-1)), Rows: uint16(min(s.GetRows(), 1<<16-1))}
}

func execFrame(f *berthv1.ExecFrame) *berthv1.StreamFrame {
	return &berthv1.StreamFrame{Body: &berthv1.StreamFrame_Exec{Exec: f}}
}

type writerFunc func([]byte) (int, error)

func (w writerFunc) Write(b []byte) (int, error) { return w(b) }

// execWriter sends a command's output.
func execWriter(frame func([]byte) *berthv1.ExecFrame, out *sender) io.Writer {
	return writerFunc(func(b []byte) (int, error) {
		return sendChunks(b, out, func(b []byte) *berthv1.StreamFrame { return execFrame(frame(b)) })
	})
}

// sendChunks sends bytes in frames of at most chunk bytes.
func sendChunks(b []byte, out *sender, frame func([]byte) *berthv1.StreamFrame) (int, error) {
	written := 0
	for len(b) > 0 {
		n := min(len(b), chunk)
		if err := out.send(frame(b[:n])); err != nil {
			return written, err
		}
		written += n
		b = b[n:]
	}
	return written, nil
}
