package qemu

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/cgroup"
	"github.com/berthd/berth/drivers/qemu/machine"
	"github.com/berthd/berth/drivers/qemu/qmp"
)

// keeper holds the connections to one QEMU. It ends with QEMU, or when the driver lets go.
type keeper struct {
	t       *task
	console *console
	process *process // nil: QEMU is not this process's child
	cancel  context.CancelFunc
	gone    chan struct{} // closed when the keeper has ended

	connected chan struct{} // closed when mon is set
	mon       *qmp.Monitor
	again     chan struct{} // holds one word when the keeper is to look again
}

// keep starts the keeper; the task has none.
func (t *task) keep(p *process) {
	ctx, cancel := context.WithCancel(context.Background())
	k := &keeper{
		t: t, console: newConsole(t.dir, t.spec), process: p, cancel: cancel, gone: make(chan struct{}),
		connected: make(chan struct{}), again: make(chan struct{}, 1),
	}
	t.mu.Lock()
	t.keeper = k
	t.mu.Unlock()
	go k.run(ctx)
}

// letGo ends the keeper, and returns when it has; QEMU goes on.
func (t *task) letGo() {
	t.mu.Lock()
	k := t.keeper
	t.keeper = nil
	t.mu.Unlock()
	if k != nil {
		k.cancel()
		<-k.gone
	}
}

// look has the keeper look at the machine again.
func (t *task) look() {
	t.mu.Lock()
	k := t.keeper
	t.mu.Unlock()
	if k == nil {
		return
	}
	select {
	case k.again <- struct{}{}:
	default:
	}
}

func (k *keeper) run(ctx context.Context) {
	defer close(k.gone)
	defer k.cancel()
	var helpers sync.WaitGroup
	helpers.Go(func() { k.console.run(ctx) })
	helpers.Go(func() { k.inquire(ctx) })
	exit := k.attend(ctx)
	if exit != nil {
		if err := k.t.dir.kill(ctx, k.t.group); err != nil && ctx.Err() == nil {
			k.t.d.log.Error("ending QEMU", "task", k.t.id, "error", err)
		}
		if k.process != nil {
			k.process.reap()
		}
	}
	// The console's last words are moved when the context ends.
	k.cancel()
	helpers.Wait()
	if k.mon != nil {
		k.mon.Close()
	}
	if exit != nil {
		k.t.over(exit)
	}
	k.t.mu.Lock()
	defer k.t.mu.Unlock()
	if k.t.keeper == k && exit == nil {
		k.t.keeper = nil
	}
}

// attend follows the machine until it has ended; nil: until ctx has.
func (k *keeper) attend(ctx context.Context) *drivers.Exit {
	if exit := k.t.dir.exit(); exit != nil {
		return exit
	}
	for k.mon == nil {
		dialing, cancel := context.WithTimeout(ctx, patience)
		mon, err := qmp.Dial(dialing, string(k.t.dir), machine.QMPSocket)
		cancel()
		switch {
		case err == nil:
			k.mon = mon
			close(k.connected)
		case ctx.Err() != nil:
			return nil
		case !k.t.dir.alive():
			return k.t.crashed(k.process)
		default:
			k.t.d.log.Debug("connecting to a machine's monitor", "task", k.t.id, "error", err)
			pause(ctx, 100*time.Millisecond)
		}
	}
	events, cancel := k.mon.Subscribe()
	defer cancel()
	heard := make(chan qmp.Event)
	var listener sync.WaitGroup
	listening, stop := context.WithCancel(ctx)
	listener.Go(func() {
		for e, err := events.Next(listening); err == nil; e, err = events.Next(listening) {
			select {
			case heard <- e:
			case <-listening.Done():
			}
		}
	})
	defer listener.Wait()
	defer stop()
	k.t.mendAfterDeath(ctx, k.mon)
	return k.follow(ctx, heard)
}

// follow looks at the machine after each event.
func (k *keeper) follow(ctx context.Context, heard <-chan qmp.Event) *drivers.Exit {
	// Looked at now and then beside the events, for what QEMU does not tell.
	const period = 10 * time.Second
	for {
		exit, err := k.see(ctx)
		wait := period
		switch {
		case ctx.Err() != nil:
			return nil
		case exit != nil:
			return exit
		case err != nil && !k.t.dir.alive():
			return k.t.crashed(k.process)
		case err != nil:
			wait = 50 * time.Millisecond
		}
		select {
		case e := <-heard:
			k.hear(e)
		case <-k.again:
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

// see asks QEMU how the machine is, and does what follows from that.
func (k *keeper) see(ctx context.Context) (*drivers.Exit, error) {
	status, err := k.mon.Status(ctx)
	if err != nil {
		return nil, err
	}
	select {
	case k.t.turn <- struct{}{}:
	default:
		return nil, nil // somebody is changing the machine, and has it looked at again
	}
	defer func() { <-k.t.turn }()
	return k.react(ctx, status)
}

// crashed writes down how a QEMU has ended that is gone; nil: the machine has not, it is
// suspended.
func (t *task) crashed(p *process) *drivers.Exit {
	if exit := t.dir.exit(); exit != nil {
		return exit
	}
	e := &drivers.Exit{At: time.Now()}
	r, err := t.dir.record()
	if err == nil && r != nil && (r.Phase == suspended || r.Phase == resuming) {
		return t.back()
	}
	switch {
	case err == nil && r != nil && r.Killed:
		e.Signal = 9
	case cgroup.OOMKills(t.group.OOMFile()) > 0:
		e.Signal, e.OOMKilled = 9, true
	default:
		e.Code, e.Err = 1, "QEMU ended by itself"
		if p != nil {
			p.reap()
			e.Err += " (" + p.how() + ")"
		}
		if words := t.dir.lastWords(); words != "" {
			e.Err += ": " + words
		}
	}
	t.end(e)
	return e
}

// back leaves a machine suspended whose QEMU has died before any of its CPUs ran.
func (t *task) back() *drivers.Exit {
	if _, err := t.update(func(r *record) { r.Phase, r.PID = suspended, 0 }); err != nil {
		t.d.log.Error("writing down that a machine is suspended", "task", t.id, "error", err)
	}
	t.watch.become(stateSuspended, "")
	return nil
}

// end writes down how the task ended. From then on QEMU is worth nothing.
func (t *task) end(e *drivers.Exit) {
	if _, err := os.Stat(string(t.dir)); err != nil {
		return // it was removed
	}
	if err := t.dir.write(exitFile, e); err != nil {
		// An agent that is started anew sees a QEMU that crashed.
		t.d.log.Error("writing down how a machine ended", "task", t.id, "error", fmt.Errorf("%w", err))
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
