package health

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
)

// ExecFunc runs a command inside a task until it ends or ctx does.
type ExecFunc func(ctx context.Context, req *drivers.ExecRequest) (*drivers.Exit, error)

// script passes when a command inside a task ends with code 0.
type script struct {
	exec    ExecFunc
	command []string
	timeout time.Duration
}

func (s *script) Probe(ctx context.Context) Outcome {
	out := &drivers.Head{Max: maxOutput}
	exit, err := s.exec(ctx, &drivers.ExecRequest{Command: s.command, Stdin: strings.NewReader(""), Stdout: out, Stderr: out})
	said := out.String()
	words := func(how string) string {
		if said == "" {
			return how
		}
		return how + ": " + said
	}
	switch {
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.DeadlineExceeded), problem.Is(err, problem.Timeout):
		return Outcome{Output: words(fmt.Sprintf("did not end within %s", s.timeout))}
	case err != nil:
		return Outcome{Output: words("cannot be run: " + err.Error())}
	case exit.OK():
		return Outcome{OK: true, Output: said}
	case exit.Signal != 0:
		return Outcome{Output: words("ended by " + unix.SignalName(syscall.Signal(exit.Signal)))}
	case exit.Err != "":
		return Outcome{Output: words(exit.Err)}
	}
	return Outcome{Output: words(fmt.Sprintf("exit code %d", exit.Code))}
}
