// Package qemu is the driver that runs virtual machines by QEMU.
//
// A machine is one QEMU process that belongs to nobody (docs/adr/0011): it outlives the
// agent, and whatever is known of it is in the task's state directory. Beside it the
// driver keeps one goroutine a machine (the keeper, keep.go) that holds the connections
// to its monitor and console, notes how the guest ends, and moves output into the task's
// logs. Close lets go of all machines as the agent's death does.
//
//	machine/  QEMU's arguments from all that is known (pure)
//	qmp/ qga/ sock/  how QEMU and the guest's agent are spoken to
//	image/    disks and the images they are made of
//
// A task's disks, UEFI variables and TPM lie in its own directory and outlive Remove: a
// task that is started again is the same machine. They go with the allocation.
package qemu

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/cgroup"
	"github.com/berthd/berth/drivers/config"
	"github.com/berthd/berth/drivers/qemu/image"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

const (
	name    = "qemu"
	version = "1"
	// handleVersion is the version of what is in a state directory.
	handleVersion = 1
)

// Config is what the agent's configuration says about the driver.
type Config struct {
	// CgroupParent is the cgroup that machines live under; "" is cgroup.DefaultParent.
	CgroupParent string
	// Images is of the store of images; its Dir is required.
	Images image.Config
	// User is who QEMU becomes when it has opened everything; "": it stays who the agent is.
	User string
	// Log gets what goes wrong beside the way; nil: nobody does.
	Log *slog.Logger
}

// Driver implements drivers.Driver and its powers.
type Driver struct {
	cfg     Config
	log     *slog.Logger
	cgroups func() (*cgroup.Host, error)
	store   func() (*image.Store, error)
	host    hostProbe

	mu     sync.Mutex
	tasks  map[string]*task // started or recovered by this instance
	closed bool
}

var (
	_ drivers.Driver        = (*Driver)(nil)
	_ drivers.Execer        = (*Driver)(nil)
	_ drivers.StatsReader   = (*Driver)(nil)
	_ drivers.Updater       = (*Driver)(nil)
	_ drivers.Attacher      = (*Driver)(nil)
	_ drivers.Controller    = (*Driver)(nil)
	_ drivers.Screenshotter = (*Driver)(nil)
	_ drivers.Snapshotter   = (*Driver)(nil)
	_ drivers.Observer      = (*Driver)(nil)
)

// New makes the driver; it starts nothing.
func New(cfg Config) *Driver {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cache := ""
	if cfg.Images.Dir != "" {
		cache = filepath.Join(cfg.Images.Dir, "kvm.json")
	}
	return &Driver{
		cfg: cfg, log: cfg.Log, tasks: map[string]*task{},
		host:    hostProbe{cache: cache},
		cgroups: sync.OnceValues(func() (*cgroup.Host, error) { return cgroup.Probe(cfg.CgroupParent) }),
		store:   sync.OnceValues(func() (*image.Store, error) { return image.New(cfg.Images) }),
	}
}

// Info implements drivers.Driver.
func (d *Driver) Info() drivers.Info {
	return drivers.Info{Name: name, Version: version, Capabilities: []drivers.Capability{
		drivers.CapExec, drivers.CapStats, drivers.CapUpdate,
		drivers.CapConsole, drivers.CapVNC, drivers.CapPause, drivers.CapReset, drivers.CapPowerdown, drivers.CapNMI,
		drivers.CapSuspend, drivers.CapFreeze, drivers.CapScreenshot, drivers.CapSnapshot, drivers.CapObserve,
	}}
}

// Close lets go of all machines, which go on: what the agent's death does.
func (d *Driver) Close() {
	d.mu.Lock()
	d.closed = true
	all := make([]*task, 0, len(d.tasks))
	for _, t := range d.tasks {
		all = append(all, t)
	}
	d.mu.Unlock()
	for _, t := range all {
		t.letGo()
	}
}

// Recover implements drivers.Driver.
func (d *Driver) Recover(ctx context.Context, t *drivers.Task, h *drivers.Handle) error {
	if h != nil && h.Version > handleVersion {
		return problem.New(problem.Unsupported, "handle", "the machine was started by a newer qemu driver (its record is version %d)", h.Version).
			WithRemedy("upgrade the agent")
	}
	r, err := stateDir(t.Dirs.State).find()
	if err != nil {
		return err
	}
	if r == nil {
		return notFound(t.ID)
	}
	return d.find(ctx, t, r)
}

// find takes up a task that was started before. An agent that died as it suspended the
// machine may have left a QEMU that is worth nothing.
func (d *Driver) find(ctx context.Context, t *drivers.Task, r *record) error {
	known, err := d.takeUp(t, r, nil)
	if err != nil || r.Phase != suspended {
		return err
	}
	release, err := known.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	if now, err := known.dir.find(); err != nil || now == nil || now.Phase != suspended || !known.dir.alive() {
		return err
	}
	return known.putAway(ctx)
}

// Remove implements drivers.Driver.
func (d *Driver) Remove(ctx context.Context, t *drivers.Task, _ *drivers.Handle) error {
	if err := d.undo(ctx, t); err != nil {
		return err
	}
	d.mu.Lock()
	last := len(d.tasks) == 0
	d.mu.Unlock()
	if host, err := d.cgroups(); err == nil && last {
		host.Tidy()
	}
	return nil
}

// undo kills a machine and undoes all that Start has done; keep are files that stay.
func (d *Driver) undo(ctx context.Context, t *drivers.Task, keep ...string) error {
	d.mu.Lock()
	known := d.tasks[t.ID]
	delete(d.tasks, t.ID)
	d.mu.Unlock()
	if known != nil {
		known.letGo()
	}
	host, err := d.cgroups()
	if err != nil {
		return unavailable("finding the cgroups", err)
	}
	dir := stateDir(t.Dirs.State)
	if _, err := os.Stat(string(dir)); err != nil {
		return host.Group(t.ID).Remove()
	}
	r, err := dir.record()
	if err != nil {
		return err
	}
	if err := d.free(ctx, dir, host.Group(t.ID), r); err != nil {
		return err
	}
	if known != nil {
		known.forgotten()
	}
	return dir.clear(keep...)
}

// free kills QEMU and gives back what it used of the host; r may be nil.
func (d *Driver) free(ctx context.Context, dir stateDir, group *cgroup.Group, r *record) error {
	if err := dir.kill(ctx, group); err != nil {
		return err
	}
	if err := group.Remove(); err != nil {
		return unavailable("removing the machine's cgroup", err)
	}
	if r == nil {
		return nil
	}
	if err := removeTaps(r.Taps); err != nil {
		return unavailable("removing the machine's network interfaces", err)
	}
	if err := unbind(r.Bound); err != nil {
		return unavailable("giving the machine's devices back", err)
	}
	return nil
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
	return problem.New(problem.NotFound, "task", "the qemu driver knows no task %q", id)
}

func decode(t *drivers.Task) (*berthv1.QemuConfig, error) {
	c := &berthv1.QemuConfig{}
	if err := config.Decode(t.Config, c); err != nil {
		return nil, err
	}
	return c, nil
}
