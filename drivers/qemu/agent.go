package qemu

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/qemu/machine"
	"github.com/berthd/berth/drivers/qemu/qga"
	"github.com/berthd/berth/problem"
)

const (
	// greetTime is how long the guest's agent has to show that it is there.
	greetTime = 5 * time.Second
	// askTime is how long it may take for what takes it no time.
	askTime = 30 * time.Second
)

// ask talks to the guest's agent. Unavailable: there is none.
func (t *task) ask(ctx context.Context, do func(context.Context, *qga.Agent) error) error {
	if t.config.GuestAgent != nil && !t.config.GetGuestAgent() {
		return problem.New(problem.Unsupported, "config.guest_agent", "the machine has no channel to an agent in its guest").
			WithRemedy("set guest_agent = true")
	}
	release, err := hold(ctx, t.asking)
	if err != nil {
		return err
	}
	defer release()
	greeting, cancel := context.WithTimeout(ctx, greetTime)
	defer cancel()
	a, err := qga.Dial(greeting, string(t.dir), machine.AgentSocket)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p := problem.New(problem.Unavailable, "", "%w", err)
		if errors.Is(err, qga.ErrNoAgent) {
			p = problem.New(problem.Unavailable, "", "%w", qga.ErrNoAgent).
				WithRemedy("install and start qemu-guest-agent in the guest, or wait until it has booted")
		}
		return p
	}
	defer a.Close()
	return asProblem(ctx, do(ctx, a))
}

// Exec implements drivers.Execer, by the guest's agent: the input is read to its end
// before the command starts, the output comes when it has ended, and a command whose
// caller has left goes on in the guest.
func (d *Driver) Exec(ctx context.Context, id string, req *drivers.ExecRequest) (*drivers.Exit, error) {
	t, err := d.task(id)
	if err != nil {
		return nil, err
	}
	if err := t.hasEnded(); err != nil {
		return nil, err
	}
	if len(req.Command) == 0 {
		return nil, problem.New(problem.Invalid, "command", "is missing")
	}
	if req.TTY {
		return nil, problem.New(problem.Unsupported, "tty", "the guest's agent has no terminals").
			WithRemedy("leave the terminal out, or use the console")
	}
	input, err := wholeInput(ctx, req.Stdin)
	if err != nil {
		return nil, err
	}
	command := qga.Command{Args: req.Command, Input: input}
	for k, v := range req.Env {
		command.Env = append(command.Env, k+"="+v)
	}
	slices.Sort(command.Env)
	var result *qga.Result
	err = t.untilEnd(ctx, func(ctx context.Context) error {
		return t.ask(ctx, func(ctx context.Context, a *qga.Agent) (err error) {
			result, err = a.Exec(ctx, command)
			return refusedCommand(err)
		})
	})
	if err != nil {
		return nil, err
	}
	for _, out := range []struct {
		to   io.Writer
		text []byte
	}{{req.Stdout, result.Stdout}, {req.Stderr, result.Stderr}} {
		if out.to != nil {
			_, _ = out.to.Write(out.text)
		}
	}
	exit := &drivers.Exit{Code: result.Code, Signal: result.Signal, At: time.Now()}
	if result.Cut {
		exit.Err = "the guest's agent kept only the beginning of the output"
	}
	return exit, nil
}

// wholeInput reads a command's input. One of which nothing has come within a second is
// taken for none: a terminal at which nobody types does not hold a command up.
func wholeInput(ctx context.Context, r io.Reader) ([]byte, error) {
	if r == nil {
		return nil, nil
	}
	const most = 8 << 20 // the agent's own bound is not far above, in base64
	begun, done := make(chan struct{}), make(chan struct{})
	var input bytes.Buffer
	var err error
	go func() { // ends with the caller's reader
		defer close(done)
		first := make([]byte, 4<<10)
		var n int
		n, err = r.Read(first)
		close(begun)
		input.Write(first[:n])
		if err == nil {
			_, err = io.Copy(&input, io.LimitReader(r, most+1))
		}
	}()
	select {
	case <-begun:
	case <-time.After(time.Second):
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case <-done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if input.Len() > most {
		return nil, problem.New(problem.Invalid, "stdin", "the guest's agent takes at most %d MiB of input", most>>20)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, problem.New(problem.Invalid, "stdin", "reading the command's input: %w", err)
	}
	return input.Bytes(), nil
}

// refusedCommand is what the agent says of a command that it cannot start.
func refusedCommand(err error) error {
	var refusal *qga.Error
	if errors.As(err, &refusal) && refusal.Command == "guest-exec" {
		return problem.New(problem.Invalid, "command", "%s", refusal.Reason)
	}
	return err
}

// untilEnd does something that is given up when the task ends.
func (t *task) untilEnd(ctx context.Context, do func(context.Context) error) error {
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-t.ended:
			cancel()
		case <-done:
		}
	}()
	err := do(limited)
	if err != nil && ctx.Err() == nil {
		if over := t.hasEnded(); over != nil {
			return over
		}
	}
	return err
}

// freeze has the guest's file systems stand still, or go on.
func (t *task) freeze(ctx context.Context, action drivers.Action) error {
	limited, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	return t.ask(limited, func(ctx context.Context, a *qga.Agent) error {
		frozen, err := a.Frozen(ctx)
		if err != nil {
			return err
		}
		switch {
		case action == drivers.ActionFreeze && !frozen:
			_, err = a.Freeze(ctx)
		case action == drivers.ActionThaw && frozen:
			_, err = a.Thaw(ctx)
		}
		return err
	})
}
