package exec

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/cgroup"
	"github.com/berthd/berth/drivers/exec/shim"
	"github.com/berthd/berth/problem"
)

// Start implements drivers.Driver.
func (d *Driver) Start(ctx context.Context, t *drivers.Task) (*drivers.Handle, error) {
	dir := stateDir(t.Dirs.State)
	if r, ok, err := dir.settled(ctx); err != nil {
		return nil, err
	} else if ok {
		if _, err := d.remember(t, func() {}); err != nil {
			return nil, err
		}
		return r.handle(), nil
	}
	spec, err := d.resolve(t)
	if err != nil {
		return nil, err
	}
	// What is in the directory is of another boot, or of a start that failed half-way.
	if err := d.undo(ctx, t); err != nil {
		return nil, err
	}
	reap, err := d.launch(ctx, t, spec)
	if err != nil {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTime)
		defer cancel()
		if cerr := d.Remove(cleanup, t, nil); cerr != nil {
			d.log.Error("clearing up after a failed start", "task", t.ID, "error", cerr)
		}
		return nil, err
	}
	if _, err := d.remember(t, reap); err != nil {
		return nil, err
	}
	r, ok := dir.find()
	if !ok {
		return nil, problem.New(problem.Internal, "", "the shim says that it started the task and has recorded nothing")
	}
	return r.handle(), nil
}

// settled gives what is recorded of a task that was started before, once a shim that is
// only beginning has got so far.
func (s stateDir) settled(ctx context.Context) (*record, bool, error) {
	for {
		if r, ok := s.find(); ok {
			return r, true, nil
		}
		if !s.alive() {
			r, ok := s.find()
			return r, ok, nil
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
}

// launch makes the task's cgroup and starts its shim. What it leaves when it fails,
// Remove removes.
func (d *Driver) launch(ctx context.Context, t *drivers.Task, spec *shim.Spec) (func(), error) {
	dir := stateDir(t.Dirs.State)
	lock, ok, err := dir.lock()
	if err != nil {
		return nil, unavailable("locking the task's state directory", err)
	} else if !ok {
		return nil, problem.New(problem.Conflict, "task", "somebody else is starting the task")
	}
	defer lock.Close()
	host, err := d.cgroups()
	if err != nil {
		return nil, unavailable("finding the cgroups", err)
	}
	defer host.Hold()()
	if err := d.makeGroup(t, spec); err != nil {
		return nil, err
	}
	if err := makeDirs(t, spec); err != nil {
		return nil, unavailable("making the task's directories ready", err)
	}
	return startShim(ctx, dir, spec, lock)
}

func (d *Driver) makeGroup(t *drivers.Task, spec *shim.Spec) error {
	host, err := d.cgroups()
	if err != nil {
		return problem.New(problem.Unavailable, "", "%w", err)
	}
	c, err := decode(t)
	if err != nil {
		return err
	}
	group, shims := host.Group(t.ID), host.Group(shimGroup)
	if err := errors.Join(shims.Make(), group.Make()); err != nil {
		return unavailable("making the task's cgroup", err)
	}
	if err := group.Set(limits(t, c)); err != nil {
		return problem.New(problem.Unavailable, "resources", "limiting the task: %w", err)
	}
	spec.ShimProcs, spec.TaskProcs = shims.Procs(), group.Procs()
	spec.Killer, spec.OOMFile = group.Killer(), group.OOMFile()
	return nil
}

// makeDirs makes what the task writes to its own.
func makeDirs(t *drivers.Task, spec *shim.Spec) error {
	tmp := filepath.Join(t.Dirs.Task, "tmp")
	if err := os.MkdirAll(tmp, 0o777); err != nil {
		return err
	}
	if err := os.Chmod(tmp, 0o777|os.ModeSticky); err != nil {
		return err
	}
	if err := os.MkdirAll(stateDir(t.Dirs.State).path(shim.RootDir), 0o700); err != nil {
		return err
	}
	if spec.UID == 0 {
		return nil
	}
	for _, dir := range []string{t.Dirs.Task, t.Dirs.Secrets} {
		if dir == "" {
			continue
		}
		if err := os.Chown(dir, spec.UID, spec.GID); err != nil {
			return err
		}
	}
	if t.Dirs.Shared == "" {
		return nil
	}
	// Tasks of several users share it.
	return os.Chmod(t.Dirs.Shared, 0o777|os.ModeSticky)
}

// shimEnv keeps the Go runtime of a shim small: one processor, a heap that is collected
// before it grows.
var shimEnv = []string{"GOMAXPROCS=1", "GOGC=25"}

// startShim executes this binary as a shim and returns when the task runs, with a
// function that waits for the shim's end.
func startShim(ctx context.Context, dir stateDir, spec *shim.Spec, lock *os.File) (func(), error) {
	memory, err := memoryFile(spec.Encode())
	if err != nil {
		return nil, unavailable("passing the specification to the shim", err)
	}
	defer memory.Close()
	status, statusW, err := os.Pipe()
	if err != nil {
		return nil, unavailable("starting the shim", err)
	}
	defer status.Close()
	defer statusW.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, unavailable("starting the shim", err)
	}
	defer null.Close()
	log, err := os.OpenFile(dir.path(shim.LogFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, unavailable("starting the shim", err)
	}
	defer log.Close()
	attr := &syscall.SysProcAttr{Setsid: true}
	if spec.PIDPrivate {
		attr.Cloneflags = unix.CLONE_NEWPID
	}
	process, err := os.StartProcess("/proc/self/exe", []string{shim.ShimName}, &os.ProcAttr{
		Dir: string(dir), Env: shimEnv, Sys: attr,
		Files: []*os.File{null, log, log, memory, statusW, lock},
	})
	if err != nil {
		return nil, unavailable("starting the shim", err)
	}
	statusW.Close()
	reap := sync.OnceFunc(func() { _, _ = process.Wait() })
	if err := awaitStart(ctx, status, process, dir); err != nil {
		reap()
		return nil, err
	}
	return reap, nil
}

// awaitStart reads the shim's word on how the start went. When ctx ends first it kills the shim.
func awaitStart(ctx context.Context, status *os.File, process *os.Process, dir stateDir) error {
	defer context.AfterFunc(ctx, func() { _ = process.Kill() })()
	_, err := readFrame(status)
	switch {
	case err == nil && ctx.Err() == nil:
		return nil
	case ctx.Err() != nil:
		_ = process.Kill()
		return ctx.Err()
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return err
	}
	_ = process.Kill()
	said, _ := os.ReadFile(dir.path(shim.LogFile))
	words := strings.TrimSpace(string(said))
	if len(words) > 500 {
		words = words[:500] + "..."
	}
	return problem.New(problem.Unavailable, "", "the shim died as it started: %s", words)
}

// readFrame reads an answer; AnswerFailure is the problem in it.
func readFrame(r io.Reader) ([]byte, error) {
	header := make([]byte, shim.HeaderSize)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, err
	}
	n := int(header[1]) | int(header[2])<<8 | int(header[3])<<16 | int(header[4])<<24
	if n < 0 || n > shim.MaxOrder {
		return nil, problem.New(problem.Internal, "", "the shim's answer has %d bytes", n)
	}
	content := make([]byte, n)
	if _, err := io.ReadFull(r, content); err != nil {
		return nil, err
	}
	switch header[0] {
	case shim.AnswerOK:
		return content, nil
	case shim.AnswerFailure:
		if f, ok := shim.DecodeFailure(content); ok {
			return nil, asProblem(f)
		}
	}
	return nil, problem.New(problem.Internal, "", "the shim's answer is no answer")
}

// memoryFile gives a file in memory that holds b and cannot be changed.
func memoryFile(b []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("berth-spec", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "berth-spec")
	if _, err := f.Write(b); err != nil {
		f.Close()
		return nil, err
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// limits are what the task's cgroup gets.
func limits(t *drivers.Task, c *execConfig) cgroup.Limits {
	r := t.Resources
	l := cgroup.Limits{
		CPUMilli: uint64(r.GetCpuMilli()), CPUHard: c.GetCpuHardLimit(), CPUs: t.SharedCPUs,
		PIDs: uint64(r.GetPids()), IOWeight: uint64(r.GetIoWeight()), Hugepages: map[uint64]uint64{},
		MemoryBytes: max(r.GetMemoryMib(), r.GetMemoryMaxMib()) << 20,
	}
	var exclusive, mems []string
	for _, cell := range t.Grant.GetCells() {
		if cell.GetCpus() != "" {
			exclusive = append(exclusive, cell.GetCpus())
		}
		if cell.GetMemoryMib() > 0 || len(cell.GetHugepages()) > 0 {
			mems = append(mems, itoa(cell.GetCell()))
		}
		for _, h := range cell.GetHugepages() {
			l.Hugepages[h.GetSizeKib()] += h.GetCount() * h.GetSizeKib() << 10
		}
	}
	if len(exclusive) > 0 {
		l.CPUs = strings.Join(exclusive, ",")
		l.CPUHard = false
		if l.CPUMilli == 0 {
			l.CPUMilli = 1000 * uint64(max(r.GetCores(), 1))
		}
	}
	l.Mems = strings.Join(mems, ",")
	return l
}
