// Package exec is the driver that runs processes on the host, each with a file system,
// processes, users' powers and resources of its own: namespaces, a root made of mounts,
// capabilities, seccomp, rlimits and cgroups v1 or v2.
//
// A task is supervised by a shim (package shim), one process a task, that outlives the
// agent. The driver itself keeps nothing that matters: what it knows of a task is in the
// task's state directory, where any later driver finds it, and no goroutine waits for
// anything unless a caller does.
//
// Importing the package is all that a main function needs to do: shim's init takes over
// when the binary is executed again as a shim.
//
// # Beside systemd
//
// The agent's unit needs KillMode=process, so that stopping it leaves shims and tasks
// alone; they are in cgroups of their own besides (package cgroup).
package exec

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/cgroup"
	"github.com/berthd/berth/drivers/exec/shim"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

const (
	name    = "exec"
	version = "1"
	// handleVersion is the version of Handle.State and of what is in a state directory.
	handleVersion = 1
	// shimGroup is the cgroup of all shims, beside those of the tasks and without limits.
	shimGroup = "shims"
)

// Config is what the agent's configuration says about the driver.
type Config struct {
	// CgroupParent is the cgroup that tasks live under; "" is cgroup.DefaultParent.
	CgroupParent string
	// Log gets what goes wrong beside the way; nil: nobody does.
	Log *slog.Logger
}

// Driver implements drivers.Driver and all its powers.
type Driver struct {
	log     *slog.Logger
	cgroups func() (*cgroup.Host, error)

	mu    sync.Mutex
	tasks map[string]*task // started or recovered by this instance
}

var (
	_ drivers.Driver      = (*Driver)(nil)
	_ drivers.Signaler    = (*Driver)(nil)
	_ drivers.Execer      = (*Driver)(nil)
	_ drivers.StatsReader = (*Driver)(nil)
	_ drivers.Updater     = (*Driver)(nil)
)

// New makes the driver; it starts nothing.
func New(cfg Config) *Driver {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Driver{
		log:     cfg.Log,
		cgroups: sync.OnceValues(func() (*cgroup.Host, error) { return cgroup.Probe(cfg.CgroupParent) }),
		tasks:   map[string]*task{},
	}
}

// task is what this instance knows of a task.
type task struct {
	id    string
	dir   stateDir
	env   []string // of the task; commands inside it get it too
	group *cgroup.Group
	// reap waits for the shim if it is a child of this process. It returns when the shim is gone.
	reap func()
}

// Info implements drivers.Driver.
func (d *Driver) Info() drivers.Info {
	return drivers.Info{Name: name, Version: version, Capabilities: []drivers.Capability{
		drivers.CapSignal, drivers.CapExec, drivers.CapStats, drivers.CapUpdate,
	}}
}

// Probe implements drivers.Driver. What the kernel lacks beside the necessary is told
// in the message; tasks run without it.
func (d *Driver) Probe(context.Context) (*berthv1.DriverInfo, error) {
	info := &berthv1.DriverInfo{Name: name, Version: version, Attributes: map[string]string{}}
	for _, c := range d.Info().Capabilities {
		info.Capabilities = append(info.Capabilities, string(c))
	}
	if os.Geteuid() != 0 {
		info.Message = "the agent does not run as root, which namespaces and cgroups need"
		return info, nil
	}
	for _, ns := range []string{"mnt", "pid", "ipc", "uts"} {
		if _, err := os.Stat("/proc/self/ns/" + ns); err != nil {
			info.Message = "the kernel has no " + ns + " namespaces"
			return info, nil
		}
	}
	host, err := d.cgroups()
	if err != nil {
		info.Message = err.Error()
		return info, nil
	}
	// Only with the parent there can be seen what it may hand down.
	if err := host.Group(shimGroup).Make(); err != nil {
		info.Message = "cgroups cannot be made: " + err.Error()
		return info, nil
	}
	info.Healthy = true
	info.Attributes["cgroup"] = host.Version()
	info.Attributes["controllers"] = strings.Join(host.Controllers(), ",")
	words := []string{"cgroup " + host.Version()}
	if missing := host.Missing(); len(missing) > 0 {
		words = append(words, "no limits of "+strings.Join(missing, ", ")+" (cgroup controllers that the host does not offer)")
	}
	info.Attributes["seccomp"] = "true"
	if !seccompAvailable() {
		info.Attributes["seccomp"] = "false"
		words = append(words, "no seccomp filter (the kernel or architecture lacks it)")
	}
	info.Message = strings.Join(words, "; ")
	return info, nil
}

// Prepare implements drivers.Driver: it looks whether the config can work at all.
func (d *Driver) Prepare(_ context.Context, t *drivers.Task, _ func(string)) error {
	_, err := d.resolve(t)
	return err
}

// Recover implements drivers.Driver.
func (d *Driver) Recover(_ context.Context, t *drivers.Task, h *drivers.Handle) error {
	if h != nil && h.Version > handleVersion {
		return problem.New(problem.Unsupported, "handle", "the task was started by a newer exec driver (its record is version %d)", h.Version).
			WithRemedy("upgrade the agent")
	}
	if _, ok := stateDir(t.Dirs.State).find(); !ok {
		return notFound(t.ID)
	}
	_, err := d.remember(t, func() {})
	return err
}

// remember makes a task known to this instance.
func (d *Driver) remember(t *drivers.Task, reap func()) (*task, error) {
	host, err := d.cgroups()
	if err != nil {
		return nil, problem.New(problem.Unavailable, "", "%w", err)
	}
	known := &task{id: t.ID, dir: stateDir(t.Dirs.State), env: environment(t), group: host.Group(t.ID), reap: reap}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tasks[t.ID] = known
	return known, nil
}

func (d *Driver) task(id string) (*task, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t := d.tasks[id]; t != nil {
		return t, nil
	}
	return nil, notFound(id)
}

func notFound(id string) error {
	return problem.New(problem.NotFound, "task", "the exec driver knows no task %q", id)
}

// Wait implements drivers.Driver.
func (d *Driver) Wait(ctx context.Context, id string) (*drivers.Exit, error) {
	t, err := d.task(id)
	if err != nil {
		return nil, err
	}
	exit, err := t.wait(ctx)
	if err != nil {
		return nil, err
	}
	t.reap()
	return exit, nil
}

// Signal implements drivers.Signaler.
func (d *Driver) Signal(ctx context.Context, id, signal string) error {
	t, err := d.task(id)
	if err != nil {
		return err
	}
	sig, err := drivers.ParseSignal(signal)
	if err != nil {
		return err
	}
	return t.signal(ctx, sig)
}

// killTime is how long a shim may take to end a task that was killed, before the shim
// itself is killed, which takes everything with it.
const killTime = 10 * time.Second

// Stop implements drivers.Driver.
func (d *Driver) Stop(ctx context.Context, id, signal string, timeout time.Duration) error {
	t, err := d.task(id)
	if err != nil {
		return err
	}
	sig, err := drivers.ParseSignal(signal)
	if err != nil {
		return err
	}
	if timeout > 0 {
		if err := t.signal(ctx, sig); err != nil {
			return err
		}
		if ended, err := t.endsWithin(ctx, timeout); ended || err != nil {
			return err
		}
	}
	if err := t.signal(ctx, syscall.SIGKILL); err != nil {
		d.log.Warn("killing a task through its shim", "task", id, "error", err)
	}
	ended, err := t.endsWithin(ctx, killTime)
	if ended || err != nil {
		return err
	}
	d.log.Warn("a shim does not end its task and is killed", "task", id)
	if err := t.dir.kill(ctx, t.group); err != nil {
		return err
	}
	_, err = t.wait(ctx)
	return err
}

// endsWithin waits for the task's end, but not longer than limit.
func (t *task) endsWithin(ctx context.Context, limit time.Duration) (bool, error) {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err := t.wait(limited)
	if err == nil {
		t.reap()
		return true, nil
	}
	if ctx.Err() == nil && limited.Err() != nil {
		return false, nil
	}
	return false, err
}

// Remove implements drivers.Driver.
func (d *Driver) Remove(ctx context.Context, t *drivers.Task, _ *drivers.Handle) error {
	if err := d.undo(ctx, t); err != nil {
		return err
	}
	d.mu.Lock()
	last := len(d.tasks) == 0
	d.mu.Unlock()
	if last {
		if host, err := d.cgroups(); err == nil {
			host.Tidy(shimGroup)
		}
	}
	return nil
}

// undo kills a task and removes all that was made for it alone.
func (d *Driver) undo(ctx context.Context, t *drivers.Task) error {
	host, err := d.cgroups()
	if err != nil {
		return problem.New(problem.Unavailable, "", "%w", err)
	}
	group := host.Group(t.ID)
	if err := stateDir(t.Dirs.State).kill(ctx, group); err != nil {
		return err
	}
	d.mu.Lock()
	known := d.tasks[t.ID]
	delete(d.tasks, t.ID)
	d.mu.Unlock()
	if known != nil {
		known.reap()
	}
	if err := group.Remove(); err != nil {
		return problem.New(problem.Unavailable, "", "removing the task's cgroup: %w", err)
	}
	return stateDir(t.Dirs.State).clear()
}

// Stats implements drivers.StatsReader.
func (d *Driver) Stats(_ context.Context, id string) (*drivers.Stats, error) {
	t, err := d.task(id)
	if err != nil {
		return nil, err
	}
	s, err := t.group.Stats()
	if err != nil {
		return nil, problem.New(problem.Unavailable, "", "measuring the task: %w", err)
	}
	return &drivers.Stats{Time: time.Now(), CPUTime: s.CPUTime, MemoryBytes: s.MemoryBytes, PIDs: s.PIDs}, nil
}

// Update implements drivers.Updater.
func (d *Driver) Update(_ context.Context, t *drivers.Task) error {
	known, err := d.task(t.ID)
	if err != nil {
		return err
	}
	c, err := decode(t)
	if err != nil {
		return err
	}
	if err := known.group.Set(limits(t, c)); err != nil {
		return problem.New(problem.Unavailable, "resources", "changing the task's limits: %w", err)
	}
	return nil
}

// asProblem makes a problem of what a shim said.
func asProblem(f *shim.Failure) error {
	return &problem.Error{Kind: problem.Kind(f.Kind), Field: f.Field, Reason: f.Reason}
}

func unavailable(doing string, err error) error {
	return problem.New(problem.Unavailable, "", "%w", fmt.Errorf("%s: %w", doing, err))
}
