package client

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Exec is a command to run inside a running task.
type Exec struct {
	// Start says where and what; with Start.Tty all output comes on Stdout.
	Start *berthv1.ExecStart
	// Stdin is copied to the command until its end; nil: there is none.
	Stdin io.Reader
	// Stdout and Stderr take the command's output; nil: thrown away.
	Stdout, Stderr io.Writer
	// Resize says that the terminal has a new size; may be nil.
	Resize <-chan *berthv1.TerminalSize
}

// Exec runs a command inside a task and returns how it ended. Cancelling ctx kills the
// command.
//
// One goroutine copies Stdin. It may be left behind in a Read that never returns (that
// of a terminal does not); it touches nothing but Stdin then.
func (c *Client) Exec(ctx context.Context, e Exec) (*berthv1.ExecExit, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Allocs.Exec(ctx)
	if err != nil {
		return nil, err
	}
	s := &execSender{stream: stream}
	if err := s.send(&berthv1.ExecFrame{Body: &berthv1.ExecFrame_Start{Start: e.Start}}); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	go s.copyStdin(ctx, e.Stdin)
	resized := make(chan struct{})
	go func() {
		defer close(resized)
		s.sendSizes(ctx, e.Resize)
	}()
	exit, err := receiveExec(stream, e.Stdout, e.Stderr)
	cancel()
	<-resized
	return exit, err
}

// execSender lets the goroutines of a session share its sending side.
type execSender struct {
	mu     sync.Mutex
	stream interface {
		Send(*berthv1.ExecFrame) error
	}
}

func (s *execSender) send(f *berthv1.ExecFrame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stream.Send(f)
}

// copyStdin ends at the end of stdin, at an error of it, and when the session is over. What
// goes wrong in sending is told by the receiving side.
func (s *execSender) copyStdin(ctx context.Context, stdin io.Reader) {
	buf := make([]byte, chunkBytes)
	for stdin != nil {
		n, err := stdin.Read(buf)
		if ctx.Err() != nil {
			return
		}
		if n > 0 {
			if s.send(&berthv1.ExecFrame{Body: &berthv1.ExecFrame_Stdin{Stdin: buf[:n]}}) != nil {
				return
			}
		}
		if err != nil {
			break
		}
	}
	_ = s.send(&berthv1.ExecFrame{Body: &berthv1.ExecFrame_StdinClose{StdinClose: true}})
}

func (s *execSender) sendSizes(ctx context.Context, sizes <-chan *berthv1.TerminalSize) {
	for {
		select {
		case <-ctx.Done():
			return
		case size, ok := <-sizes:
			if !ok || s.send(&berthv1.ExecFrame{Body: &berthv1.ExecFrame_Resize{Resize: size}}) != nil {
				return
			}
		}
	}
}

func receiveExec(stream interface {
	Recv() (*berthv1.ExecFrame, error)
}, stdout, stderr io.Writer) (*berthv1.ExecExit, error) {
	for {
		frame, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, problem.New(problem.Unavailable, "", "the session ended without saying how the command did")
		}
		if err != nil {
			return nil, err
		}
		var w io.Writer
		var data []byte
		switch body := frame.GetBody().(type) {
		case *berthv1.ExecFrame_Exit:
			return body.Exit, nil
		case *berthv1.ExecFrame_Stdout:
			w, data = stdout, body.Stdout
		case *berthv1.ExecFrame_Stderr:
			w, data = stderr, body.Stderr
		}
		if w == nil {
			continue
		}
		if _, err := w.Write(data); err != nil {
			return nil, err
		}
	}
}
