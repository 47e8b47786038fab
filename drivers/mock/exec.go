package mock

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
)

// Exec implements drivers.Execer with a handful of commands: "echo words", "cat",
// "env NAME", "exit code", "sleep duration" and "size" (prints the terminal's size now
// and at each change, until its input ends).
func (d *Driver) Exec(ctx context.Context, id string, req *drivers.ExecRequest) (*drivers.Exit, error) {
	d.count("Exec")
	t, err := d.task(id)
	if err != nil {
		return nil, err
	}
	select {
	case <-t.ended:
		return nil, problem.New(problem.NotFound, "task", "task %q has ended", id)
	default:
	}
	if len(req.Command) == 0 {
		return nil, problem.New(problem.Invalid, "command", "is missing")
	}
	code, err := run(ctx, t, req)
	if err != nil {
		return nil, err
	}
	return &drivers.Exit{Code: code, At: time.Now()}, nil
}

func run(ctx context.Context, t *task, req *drivers.ExecRequest) (int, error) {
	out := req.Stdout
	if out == nil {
		out = io.Discard
	}
	rest := strings.Join(req.Command[1:], " ")
	switch req.Command[0] {
	case "echo":
		fmt.Fprintln(out, rest)
	case "env":
		fmt.Fprintln(out, req.Env[rest])
	case "cat":
		return 0, untilEnd(ctx, t, func() { _, _ = io.Copy(out, input(req)) })
	case "exit":
		code, err := strconv.Atoi(rest)
		if err != nil {
			return 0, problem.New(problem.Invalid, "command[1]", "%q is not an exit code", rest)
		}
		return code, nil
	case "sleep":
		delay, err := time.ParseDuration(rest)
		if err != nil {
			return 0, problem.New(problem.Invalid, "command[1]", "%q is not a duration", rest)
		}
		return 0, untilEnd(ctx, t, func() { _ = sleep(ctx, delay) })
	case "size":
		return 0, sizes(ctx, t, req, out)
	default:
		return 0, problem.New(problem.Invalid, "command[0]", "the mock driver has no command %q", req.Command[0])
	}
	return 0, nil
}

func sizes(ctx context.Context, t *task, req *drivers.ExecRequest, out io.Writer) error {
	fmt.Fprintf(out, "%d %d\n", req.Size.Rows, req.Size.Columns)
	eof := make(chan struct{})
	go func() { // ends with the caller's input
		defer close(eof)
		r := bufio.NewReader(input(req))
		for _, err := r.ReadByte(); err == nil; _, err = r.ReadByte() {
		}
	}()
	resize := req.Resize
	for {
		select {
		case s, ok := <-resize:
			if !ok {
				resize = nil
				continue
			}
			fmt.Fprintf(out, "%d %d\n", s.Rows, s.Columns)
		case <-eof:
			return nil
		case <-t.ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// untilEnd runs copy and returns when it has, the task has ended or ctx has. A copy that
// is left behind ends with the caller's input, or by itself.
func untilEnd(ctx context.Context, t *task, copy func()) error {
	done := make(chan struct{})
	go func() { defer close(done); copy() }()
	select {
	case <-done:
		return nil
	case <-t.ended:
		return problem.New(problem.NotFound, "task", "the task has ended")
	case <-ctx.Done():
		return ctx.Err()
	}
}

func input(req *drivers.ExecRequest) io.Reader {
	if req.Stdin == nil {
		return strings.NewReader("")
	}
	return req.Stdin
}
