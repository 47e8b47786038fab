package exec

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/exec/shim"
	"github.com/berthd/berth/problem"
)

// Exec implements drivers.Execer. The shim only starts the command: its streams are
// pipes of this process, or a terminal that the command's stage opens inside the task
// and passes out.
func (d *Driver) Exec(ctx context.Context, id string, req *drivers.ExecRequest) (*drivers.Exit, error) {
	t, err := d.task(id)
	if err != nil {
		return nil, err
	}
	if len(req.Command) == 0 || req.Command[0] == "" {
		return nil, problem.New(problem.Invalid, "command", "is missing")
	}
	order := shim.Request{
		Command: req.Command, Env: commandEnv(t.env, req), TTY: req.TTY, Rows: req.Size.Rows, Columns: req.Size.Columns,
	}
	content := order.Encode()
	if len(content) > shim.MaxOrder {
		return nil, problem.New(problem.Invalid, "command", "command and environment have more than %d KiB", shim.MaxOrder>>10)
	}
	s := &session{req: req}
	if req.TTY {
		err = s.openTerminal()
	} else {
		err = s.openPipes()
	}
	if err != nil {
		s.close()
		return nil, unavailable("making the command's streams", err)
	}
	return s.run(ctx, t, content)
}

// commandEnv is the task's environment with the request's over it.
func commandEnv(task []string, req *drivers.ExecRequest) []string {
	env := map[string]string{}
	if req.TTY {
		env["TERM"] = "xterm"
	}
	for _, e := range task {
		k, v, _ := strings.Cut(e, "=")
		env[k] = v
	}
	for k, v := range req.Env {
		env[k] = v
	}
	return sorted(env)
}

// session is a command's streams.
type session struct {
	req    *drivers.ExecRequest
	theirs []*os.File // the command's ends
	stdin  *os.File
	out    []*os.File // what to copy from, ...
	to     []io.Writer
	socket *net.UnixConn // on which the terminal comes; nil: none

	ended atomic.Bool
	outs  sync.WaitGroup
}

func (s *session) openPipes() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	s.theirs, s.stdin = append(s.theirs, r), w
	for _, to := range []io.Writer{s.req.Stdout, s.req.Stderr} {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		s.theirs, s.out, s.to = append(s.theirs, w), append(s.out, r), append(s.to, to)
	}
	return nil
}

func (s *session) openTerminal() error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	ours := os.NewFile(uintptr(pair[0]), "terminal")
	defer ours.Close()
	s.theirs = append(s.theirs, os.NewFile(uintptr(pair[1]), "terminal"))
	conn, err := net.FileConn(ours)
	if err != nil {
		return err
	}
	s.socket = conn.(*net.UnixConn)
	return nil
}

func (s *session) close() {
	for _, f := range append(append(s.theirs, s.out...), s.stdin) {
		if f != nil {
			f.Close()
		}
	}
	if s.socket != nil {
		s.socket.Close()
	}
}

// run sends the order and moves data until the command has ended.
func (s *session) run(ctx context.Context, t *task, content []byte) (*drivers.Exit, error) {
	defer s.close()
	fds := make([]int, len(s.theirs))
	for i, f := range s.theirs {
		fds[i] = int(f.Fd())
	}
	type result struct {
		answer []byte
		err    error
	}
	done := make(chan result, 1)
	go func() {
		answer, err := t.dir.order(ctx, shim.OpExec, content, fds...)
		done <- result{answer, err}
	}()
	stop := make(chan struct{})
	var helpers sync.WaitGroup
	if s.socket != nil {
		helpers.Go(func() { s.takeTerminal(stop) })
	} else {
		s.move(stop)
	}
	r := <-done
	close(stop)
	// Our copies of the command's ends would keep the streams open.
	for _, f := range s.theirs {
		f.Close()
	}
	if s.socket != nil {
		s.socket.Close()
	}
	helpers.Wait()
	s.drain()
	return s.exit(ctx, t, r.answer, r.err)
}

func (s *session) exit(ctx context.Context, t *task, answer []byte, err error) (*drivers.Exit, error) {
	var p *problem.Error
	switch {
	case err == nil && len(answer) == 2:
		return &drivers.Exit{Code: int(answer[0]), Signal: int(answer[1]), At: time.Now()}, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.As(err, &p):
		return nil, err
	}
	if _, ok := t.dir.exit(); ok || !t.dir.alive() {
		return nil, problem.New(problem.NotFound, "task", "task %q has ended", t.id)
	}
	return nil, unavailable("running a command in the task", err)
}

// takeTerminal waits for the terminal, then moves data and sizes.
func (s *session) takeTerminal(stop chan struct{}) {
	b, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := s.socket.ReadMsgUnix(b, oob)
	if err != nil || n == 0 {
		return // the answer says why
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) == 0 {
		return
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return
	}
	unix.CloseOnExec(fds[0])
	_ = unix.SetNonblock(fds[0], true)
	master := os.NewFile(uintptr(fds[0]), "terminal")
	s.stdin, s.out, s.to = nil, []*os.File{master}, []io.Writer{s.req.Stdout}
	s.move(stop)
	s.resize(master, stop)
}

// move starts copying. A copy of input that is blocked in the caller's reader when the
// command ends is left behind: it ends with that reader.
func (s *session) move(stop chan struct{}) {
	for i, from := range s.out {
		s.outs.Go(func() { s.copyOut(s.to[i], from) })
	}
	if s.stdin == nil && s.req.Stdin == nil {
		return // a terminal without a keyboard
	}
	if s.req.Stdin == nil {
		s.stdin.Close()
		return
	}
	to := s.stdin
	if to == nil {
		to = s.out[0]
	}
	terminal := s.stdin == nil
	go func() {
		_, _ = io.Copy(to, s.req.Stdin)
		if !terminal {
			to.Close()
			return
		}
		select {
		case <-stop:
		default:
			_, _ = to.Write([]byte{4}) // Ctrl-D is a terminal's end of input
		}
	}()
}

func (s *session) resize(master *os.File, stop chan struct{}) {
	for {
		select {
		case size, ok := <-s.req.Resize:
			if !ok {
				<-stop
				return
			}
			if conn, err := master.SyscallConn(); err == nil {
				_ = conn.Control(func(fd uintptr) {
					_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Columns})
				})
			}
		case <-stop:
			return
		}
	}
}

// lingering is how long silence may last after the command has ended before its output
// is given up: something that it left running holds the stream.
const lingering = 250 * time.Millisecond

func (s *session) copyOut(to io.Writer, from *os.File) {
	if to == nil {
		to = io.Discard
	}
	buf := make([]byte, 32<<10)
	for {
		if s.ended.Load() {
			_ = from.SetReadDeadline(time.Now().Add(lingering))
		}
		n, err := from.Read(buf)
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				to = io.Discard // the caller has gone; the command must not block for that
			}
		}
		if err != nil {
			return
		}
	}
}

// drain returns when all output of a command that has ended was copied.
func (s *session) drain() {
	s.ended.Store(true)
	for _, f := range s.out {
		_ = f.SetReadDeadline(time.Now().Add(lingering))
	}
	s.outs.Wait()
}
