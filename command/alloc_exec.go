package command

import (
	"context"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/berthd/berth/client"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// execFlags are those of `alloc exec`.
type execFlags struct {
	task             string
	interactive, tty bool
	ttyGiven         bool // -t or -t=false
	env, command     []string
}

func (a *app) allocExec() *cobra.Command {
	var f execFlags
	cmd := a.leaf("exec ALLOC COMMAND...", "Run a command inside a task",
		"Everything after ALLOC and its flags is the command, and its exit code is this one's (a signal n gives 128+n). "+
			"When typed at a terminal, -i and -t are on; in a pipe only -i is. Turn them off by -i=false, -t=false.",
		nil)
	cmd.Annotations = map[string]string{annotationStopAfter: "1"}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f.ttyGiven = cmd.Flags().Changed("tty")
		f.command = args[1:]
		return a.exec(cmd.Context(), args[0], &f)
	}
	cmd.Example = "  berth alloc exec 8f3a sh\n  berth alloc exec -task server 8f3a cat /etc/hostname\n  tar c . | berth alloc exec 8f3a tar x -C /local"
	registerTask(cmd, &f.task, "the only one")
	cmd.Flags().BoolVarP(&f.interactive, "interactive", "i", true, "pass standard input on")
	cmd.Flags().BoolVarP(&f.tty, "tty", "t", false, "give the command a terminal (default on at a terminal)")
	cmd.Flags().StringArrayVarP(&f.env, "env", "e", nil, "environment variable, `NAME=value`, beside the task's; may be repeated")
	cmd.ValidArgsFunction = a.completeAllocs
	return cmd
}

func (a *app) exec(ctx context.Context, allocID string, f *execFlags) error {
	if !f.ttyGiven {
		f.tty = a.term.in && a.term.out && f.interactive
	}
	if f.tty && f.ttyGiven && !a.term.in {
		return problem.New(problem.Invalid, "-t", "standard input is not a terminal").WithRemedy("leave out -t")
	}
	c, err := a.api()
	if err != nil {
		return err
	}
	start := &berthv1.ExecStart{AllocId: allocID, Task: f.task, Command: f.command, Tty: f.tty, Env: map[string]string{}}
	for _, pair := range f.env {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return problem.New(problem.Invalid, "-env", "%q is not NAME=value", pair)
		}
		start.Env[name] = value
	}
	session := client.Exec{Start: start, Stdout: a.Out, Stderr: a.Err}
	if f.interactive {
		session.Stdin = a.In
	}
	if f.tty {
		restore, resize, err := a.rawTerminal(start)
		if err != nil {
			return err
		}
		session.Resize = resize
		defer restore()
	}
	exit, err := c.Exec(ctx, session)
	if err != nil {
		return err
	}
	switch {
	case exit.GetSignal() != 0:
		return &exitStatus{code: 128 + int(exit.GetSignal())}
	case exit.GetCode() != 0:
		return &exitStatus{code: int(exit.GetCode())}
	}
	return nil
}

// rawTerminal hands the terminal over to the command: every key goes there, Ctrl-C
// too. restore takes it back and ends the watch of its size.
func (a *app) rawTerminal(start *berthv1.ExecStart) (restore func(), resize <-chan *berthv1.TerminalSize, err error) {
	in, ok := a.In.(*os.File)
	if !ok {
		return nil, nil, problem.New(problem.Invalid, "-t", "standard input is not a terminal").WithRemedy("leave out -t")
	}
	start.Size = terminalSize(in)
	if _, set := start.Env["TERM"]; !set && a.Getenv("TERM") != "" {
		start.Env["TERM"] = a.Getenv("TERM")
	}
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, nil, problem.New(problem.Unsupported, "-t", "the terminal cannot be switched to raw mode: %w", err)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGWINCH)
	sizes := make(chan *berthv1.TerminalSize)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-signals:
				select {
				case sizes <- terminalSize(in):
				case <-stop:
					return
				}
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(stop)
		<-stopped
		_ = term.Restore(int(in.Fd()), before)
	}, sizes, nil
}

func terminalSize(f *os.File) *berthv1.TerminalSize {
	w, h, err := term.GetSize(int(f.Fd()))
	if err != nil || w <= 0 || h <= 0 {
		return &berthv1.TerminalSize{Columns: 80, Rows: 24}
	}
	return &berthv1.TerminalSize{Columns: uint32(w), Rows: uint32(h)}
}
