package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/berthd/berth/client"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// consoleFlags are those of `alloc console`.
type consoleFlags struct {
	vnc    bool
	listen string
	linger time.Duration
}

func (a *app) allocConsole() *cobra.Command {
	var f consoleFlags
	cmd := a.leaf("console ALLOC [TASK]", "Join the serial console of a virtual machine, or its display",
		"What the console has shown last comes first. At a terminal every key goes to the machine; Ctrl-] leaves, and so does ~. at the beginning of a line. "+
			"In a pipe, standard input is typed, and -linger after its end the console is left. Leaving changes nothing for the machine.\n\n"+
			"With -vnc a local port leads to the machine's display until Ctrl-C; a VNC viewer shows it.",
		func(ctx context.Context, args []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			start := &berthv1.AttachStart{AllocId: args[0], Channel: "console"}
			if len(args) > 1 {
				start.Task = args[1]
			}
			if f.vnc {
				start.Channel = "vnc"
				return a.vnc(ctx, c, start, f.listen)
			}
			return a.console(ctx, c, start, f.linger)
		})
	cmd.Example = "  berth alloc console 8f3a\n  printf 'uname -a\\n' | berth alloc console -linger 1s 8f3a\n  berth alloc console -vnc 8f3a"
	cmd.Flags().BoolVar(&f.vnc, "vnc", false, "open a local port to the machine's display")
	cmd.Flags().StringVar(&f.listen, "listen", "127.0.0.1:0", "`address` of that port; port 0 takes a free one")
	cmd.Flags().DurationVar(&f.linger, "linger", 2*time.Second, "in a pipe: how `long` to stay after the end of the input")
	cmd.ValidArgsFunction = a.completeAllocs
	return cmd
}

// console joins a serial console to this program's streams.
func (a *app) console(ctx context.Context, c *client.Client, start *berthv1.AttachStart, linger time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	name := start.GetAllocId()
	if a.term.in && a.term.out {
		in, ok := a.In.(*os.File)
		if !ok {
			return problem.New(problem.Internal, "", "the terminal is no file")
		}
		before, err := term.MakeRaw(int(in.Fd()))
		if err != nil {
			return problem.New(problem.Unsupported, "", "the terminal cannot be switched to raw mode: %w", err)
		}
		defer func() { _ = term.Restore(int(in.Fd()), before) }()
		// Raw: a line ends with \r\n.
		fmt.Fprintf(a.Err, "The console of %s. Ctrl-] leaves it.\r\n", name)
		keys := &keys{from: a.In, leave: cancel, fresh: true}
		err = c.Attach(ctx, start, keys, a.Out)
		switch {
		case keys.hasLeft():
			fmt.Fprintf(a.Err, "\r\nLeft the console of %s; the machine goes on.\r\n", name)
			return nil
		case err == nil:
			fmt.Fprintf(a.Err, "\r\nThe console of %s has ended: the machine does not run any more.\r\n", name)
		}
		return err
	}
	ended := &tail{from: a.In, ended: func() { time.AfterFunc(linger, cancel) }}
	err := c.Attach(ctx, start, ended, a.Out)
	if ended.is() && ctx.Err() != nil {
		return nil
	}
	return err
}

// keys is what somebody types, up to Ctrl-], or to ~. at the beginning of a line.
type keys struct {
	from  io.Reader
	leave func()
	// fresh: a line begins; tilde: with a ~ that was not handed on yet.
	fresh, tilde bool
	ready        []byte // to be handed on
	mu           sync.Mutex
	left         bool
}

const ctrlBracket = 0x1d

func (k *keys) hasLeft() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.left
}

// Read gives io.EOF once it was left.
func (k *keys) Read(p []byte) (int, error) {
	for len(k.ready) == 0 {
		if k.hasLeft() {
			return 0, io.EOF
		}
		n, err := k.from.Read(p)
		k.take(p[:n])
		if err != nil && len(k.ready) == 0 {
			return 0, err
		}
	}
	n := copy(p, k.ready)
	k.ready = k.ready[n:]
	return n, nil
}

// take sorts out what was typed.
func (k *keys) take(typed []byte) {
	for _, b := range typed {
		switch {
		case b == ctrlBracket, k.tilde && b == '.':
			k.mu.Lock()
			k.left = true
			k.mu.Unlock()
			k.leave()
			return
		case k.fresh && !k.tilde && b == '~':
			k.tilde = true
			continue
		case k.tilde && b != '~': // ~~ is one ~
			k.ready = append(k.ready, '~')
		}
		k.tilde = false
		k.ready = append(k.ready, b)
		k.fresh = b == '\r' || b == '\n'
	}
}

// tail tells when its reader has come to its end.
type tail struct {
	from  io.Reader
	ended func()
	mu    sync.Mutex
	done  bool
}

func (t *tail) Read(p []byte) (int, error) {
	n, err := t.from.Read(p)
	if err != nil {
		t.mu.Lock()
		first := !t.done
		t.done = true
		t.mu.Unlock()
		if first {
			t.ended()
		}
	}
	return n, err
}

func (t *tail) is() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.done
}

// vnc serves a local port that leads to a display, each connection by itself, until ctx
// ends.
func (a *app) vnc(ctx context.Context, c *client.Client, start *berthv1.AttachStart, listen string) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return problem.New(problem.Invalid, "-listen", "%w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	defer l.Close()
	host, port, _ := net.SplitHostPort(l.Addr().String())
	a.printf("The display of %s is at %s (vncviewer %s::%s). Ctrl-C ends this.\n", start.GetAllocId(), l.Addr(), host, port)
	var viewers sync.WaitGroup
	defer viewers.Wait()
	refused := make(chan error, 1)
	for {
		conn, err := l.Accept()
		if err != nil {
			select {
			case why := <-refused:
				return why
			default:
			}
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("waiting for viewers: %w", err)
		}
		viewers.Go(func() {
			defer conn.Close()
			unblock := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer unblock()
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			in := &tail{from: conn, ended: cancel}
			err := c.Attach(ctx, start, in, conn)
			if err == nil || ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			select { // nobody will get further than this one
			case refused <- err:
				_ = l.Close()
			default:
			}
		})
	}
}
