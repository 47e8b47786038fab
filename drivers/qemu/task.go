package qemu

import (
	"context"
	"sync"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/cgroup"
	"github.com/berthd/berth/drivers/qemu/qmp"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// task is what this instance knows of a task.
type task struct {
	id     string
	d      *Driver
	dir    stateDir
	spec   *drivers.Task
	config *berthv1.QemuConfig
	group  *cgroup.Group
	watch  *watchers

	// ended is closed when exit is set, or the task was removed (exit stays nil).
	ended chan struct{}
	exit  *drivers.Exit
	once  sync.Once
	// turn is held by who changes the machine: Control, Stop, the keeper's decisions.
	turn chan struct{}
	// asking is held by who talks to the guest's agent, which hears one at a time.
	asking chan struct{}

	mu     sync.Mutex
	keeper *keeper // nil: none is there to keep (suspended, ended, let go)
}

// takeUp makes a started task known to this instance; process may be nil.
func (d *Driver) takeUp(t *drivers.Task, r *record, process *process) (*task, error) {
	c, err := decode(t)
	if err != nil {
		return nil, err
	}
	host, err := d.cgroups()
	if err != nil {
		return nil, unavailable("finding the cgroups", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, problem.New(problem.Unavailable, "", "the driver was closed")
	}
	if known := d.tasks[t.ID]; known != nil {
		return known, nil
	}
	known := &task{
		id: t.ID, d: d, dir: stateDir(t.Dirs.State), spec: t, config: c, group: host.Group(t.ID),
		watch: newWatchers(r, c.GetReady() == "" || c.GetReady() == "started"), ended: make(chan struct{}),
		turn: make(chan struct{}, 1), asking: make(chan struct{}, 1),
	}
	d.tasks[t.ID] = known
	if r.Phase != suspended || known.dir.exit() != nil {
		known.keep(process)
	}
	return known, nil
}

// Wait implements drivers.Driver.
func (d *Driver) Wait(ctx context.Context, id string) (*drivers.Exit, error) {
	t, err := d.task(id)
	if err != nil {
		return nil, err
	}
	select {
	case <-t.ended:
		if t.exit == nil {
			return nil, notFound(id)
		}
		exit := *t.exit
		return &exit, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// over makes known how the task ended.
func (t *task) over(exit *drivers.Exit) {
	t.once.Do(func() {
		t.exit = exit
		close(t.ended)
	})
}

// forgotten ends what waits for a task that was removed.
func (t *task) forgotten() { t.over(nil) }

// hasEnded is a NotFound problem when the task is over.
func (t *task) hasEnded() error {
	select {
	case <-t.ended:
		return problem.New(problem.NotFound, "task", "task %q has ended", t.id)
	default:
		return nil
	}
}

// take takes the turn to change the machine; release gives it back.
func (t *task) take(ctx context.Context) (release func(), err error) {
	return hold(ctx, t.turn)
}

// hold takes a place in a channel of one.
func hold(ctx context.Context, place chan struct{}) (release func(), err error) {
	select {
	case place <- struct{}{}:
		return func() { <-place }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// monitor gives the machine's monitor. Conflict: it is suspended.
func (t *task) monitor(ctx context.Context) (*qmp.Monitor, error) {
	t.mu.Lock()
	k := t.keeper
	t.mu.Unlock()
	if err := t.hasEnded(); err != nil {
		return nil, err
	}
	if k == nil {
		return nil, problem.New(problem.Conflict, "", "the machine is suspended").WithRemedy("resume it first")
	}
	select {
	case <-k.connected:
		return k.mon, nil
	case <-t.ended:
		return nil, t.hasEnded()
	case <-k.gone:
		return nil, problem.New(problem.Unavailable, "", "the driver lets go of the machine")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// update changes the record; the caller has the turn.
func (t *task) update(change func(*record)) (*record, error) {
	r, err := t.dir.record()
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, notFound(t.id)
	}
	change(r)
	return r, t.dir.write(recordFile, r)
}

// asProblem is an error of QEMU's as the driver's caller gets it.
func asProblem(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	if p := problem.From(err); p.Kind != problem.Internal {
		return err
	}
	return problem.New(problem.Unavailable, "", "%w", err)
}

// patience is how long QEMU may take for what takes it no time.
const patience = 30 * time.Second
