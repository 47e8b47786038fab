package exec

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/cgroup"
	"github.com/berthd/berth/drivers/exec/shim"
	"github.com/berthd/berth/problem"
)

// stateDir is a task's state directory: the truth about it. See package shim for the files.
type stateDir string

// record is what was started.
type record struct {
	bootID   string
	shim     int
	pid      int
	started  time.Time
	exitText string // what was noted of its end; "": nothing
}

func (s stateDir) path(file string) string { return filepath.Join(string(s), file) }

// find reads what is recorded of a task, running or ended; false: nothing that is true
// of this boot. A task whose end is known is known for ever.
func (s stateDir) find() (*record, bool) {
	b, err := os.ReadFile(s.path(shim.RecordFile))
	if err != nil {
		return nil, false
	}
	r, ok := parseRecord(string(b))
	if !ok {
		return nil, false
	}
	if text, err := os.ReadFile(s.path(shim.ExitFile)); err == nil {
		if _, ok := parseExit(string(text)); ok {
			r.exitText = string(text)
			return r, true
		}
	}
	return r, r.bootID == bootID()
}

func (r *record) handle() *drivers.Handle {
	return &drivers.Handle{Driver: name, Version: handleVersion, PID: r.pid, StartedAt: r.started}
}

func parseRecord(text string) (*record, bool) {
	r := &record{}
	lines := strings.Split(text, "\n")
	if lines[0] != "berth-exec 1" {
		return nil, false
	}
	for _, line := range lines[1:] {
		key, value, _ := strings.Cut(line, " ")
		n, _ := strconv.ParseInt(value, 10, 64)
		switch key {
		case "boot":
			r.bootID = value
		case "shim":
			r.shim = int(n)
		case "pid":
			r.pid = int(n)
		case "started":
			r.started = time.Unix(0, n)
		}
	}
	return r, r.bootID != "" && r.pid > 0 && r.shim > 0
}

// parseExit reads "exit <code> <signal> <oom> <unix ns>[ <words>]\n", then zeros.
func parseExit(text string) (*drivers.Exit, bool) {
	line, _, whole := strings.Cut(text, "\n")
	f := strings.SplitN(line, " ", 6)
	if !whole || len(f) < 5 || f[0] != "exit" {
		return nil, false
	}
	var n [4]int64
	for i := range n {
		v, err := strconv.ParseInt(f[i+1], 10, 64)
		if err != nil {
			return nil, false
		}
		n[i] = v
	}
	e := &drivers.Exit{Code: int(n[0]), Signal: int(n[1]), OOMKilled: n[2] == 1, At: time.Unix(0, n[3])}
	if len(f) == 6 {
		e.Err = f[5]
	}
	return e, true
}

// exit gives how the task ended; false: that is not noted.
func (s stateDir) exit() (*drivers.Exit, bool) {
	b, err := os.ReadFile(s.path(shim.ExitFile))
	if err != nil {
		return nil, false
	}
	return parseExit(string(b))
}

// alive says whether a shim runs, by whether its lock is held. There is no pid in this,
// so none can be mistaken for another.
func (s stateDir) alive() bool {
	f, err := os.Open(s.path(shim.LockFile))
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// lock takes the lock for a new shim; false: there is one.
func (s stateDir) lock() (*os.File, bool, error) {
	f, err := os.OpenFile(s.path(shim.LockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, false, nil
	}
	return f, true, nil
}

// clear removes the files of a task that has ended.
func (s stateDir) clear() error {
	var errs []error
	for _, file := range []string{
		shim.SocketFile, shim.RecordFile, shim.RecordFile + ".new", shim.ExitFile, shim.LogFile, shim.RootDir, shim.LockFile,
	} {
		if err := os.Remove(s.path(file)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return unavailable("clearing the task's state directory", err)
	}
	return nil
}

// poll is how often what cannot be waited for is looked at; that is only the moments in
// which a shim begins or is killed.
const poll = 2 * time.Millisecond

// kill kills a task with its shim and returns when neither is there any more.
func (s stateDir) kill(ctx context.Context, group *cgroup.Group) error {
	killer := group.Killer()
	for begun := time.Now(); s.alive(); {
		if r, ok := s.find(); ok && r.shim > 0 {
			// The lock is held, so the shim lives and the pid is its own. With it goes the
			// task's PID namespace.
			_ = syscall.Kill(r.shim, syscall.SIGKILL)
			if err := killer.Kill(); err != nil {
				return unavailable("killing the task", err)
			}
		} else if time.Since(begun) > killTime {
			return problem.New(problem.Unavailable, "", "a shim has been starting for %s and does not say who it is", killTime)
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := killer.Kill(); err != nil {
		return unavailable("killing what the task left", err)
	}
	return nil
}

// wait returns when the task has ended. The shim closes its connections as it dies.
func (t *task) wait(ctx context.Context) (*drivers.Exit, error) {
	for pause := poll; ; pause = min(2*pause, time.Second) {
		if conn, err := t.dir.dial(ctx); err == nil {
			watch(ctx, conn)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if exit, ok := t.dir.exit(); ok {
			return exit, nil
		}
		if !t.dir.alive() {
			return t.lost()
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// watch returns when the connection ends, or ctx.
func watch(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := conn.Write(shim.Frame(shim.OpWatch, nil)); err == nil {
		var b [1]byte
		_, _ = conn.Read(b[:])
	}
}

// lost notes the end of a task whose shim died: the kernel has killed it too.
func (t *task) lost() (*drivers.Exit, error) {
	// The shim may have noted the end between the two looks.
	if exit, ok := t.dir.exit(); ok {
		return exit, nil
	}
	if _, ok := t.dir.find(); !ok {
		return nil, notFound(t.id)
	}
	killer := t.group.Killer()
	if err := killer.Kill(); err != nil {
		return nil, unavailable("killing what a dead shim left", err)
	}
	exit := &drivers.Exit{Signal: int(syscall.SIGKILL), At: time.Now(), Err: "its supervisor was killed, and the task with it"}
	text := fmt.Sprintf("exit 0 %d 0 %d %s\n", exit.Signal, exit.At.UnixNano(), exit.Err)
	if err := os.WriteFile(t.dir.path(shim.ExitFile), []byte(text), 0o600); err != nil {
		return nil, unavailable("noting how the task ended", err)
	}
	return exit, nil
}

// dial connects to the shim by the open directory, for a socket's path may have 107
// bytes and the directory's may have more.
func (s stateDir) dial(ctx context.Context) (*net.UnixConn, error) {
	dir, err := os.Open(string(s))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), shim.SocketFile))
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// order sends one and reads the answer; fds go with it.
func (s stateDir) order(ctx context.Context, op byte, content []byte, fds ...int) ([]byte, error) {
	conn, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	frame := shim.Frame(op, content)
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	// The header goes first and alone, so that a short write never parts it from the descriptors.
	if _, _, err := conn.WriteMsgUnix(frame[:shim.HeaderSize], rights, nil); err != nil {
		return nil, ended(ctx, err)
	}
	if _, err := conn.Write(frame[shim.HeaderSize:]); err != nil {
		return nil, ended(ctx, err)
	}
	answer, err := readFrame(conn)
	return answer, ended(ctx, err)
}

// ended prefers the context's error to what its end did to a connection.
func ended(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// signal sends a signal to the task; to one that has ended it sends nothing.
func (t *task) signal(ctx context.Context, sig syscall.Signal) error {
	_, err := t.dir.order(ctx, shim.OpSignal, []byte{byte(sig)})
	var p *problem.Error
	if err == nil || errors.As(err, &p) {
		return err
	}
	if _, ok := t.dir.exit(); ok || !t.dir.alive() {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return unavailable("reaching the task's shim", err)
}

// bootID tells one boot of the host from another.
func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}
