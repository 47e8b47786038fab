package qemu

import (
	"context"
	"os"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/qemu/machine"
	"github.com/berthd/berth/drivers/qemu/qmp"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Start implements drivers.Driver.
func (d *Driver) Start(ctx context.Context, t *drivers.Task) (*drivers.Handle, error) {
	r, err := stateDir(t.Dirs.State).find()
	if err != nil {
		return nil, err
	}
	if r != nil {
		if err := d.find(ctx, t, r); err != nil {
			return nil, err
		}
		return r.handle(), nil
	}
	// What is in the directory is of another boot, or of a start that failed half-way.
	if err := d.undo(ctx, t, preparedFile); err != nil {
		return nil, err
	}
	handle, err := d.start(ctx, t)
	if err != nil {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*killTime)
		defer cancel()
		if cerr := d.undo(cleanup, t); cerr != nil {
			d.log.Error("clearing up after a failed start", "task", t.ID, "error", cerr)
		}
		return nil, err
	}
	return handle, nil
}

func (d *Driver) start(ctx context.Context, t *drivers.Task) (*drivers.Handle, error) {
	c, err := decode(t)
	if err != nil {
		return nil, err
	}
	p := &prepared{}
	if ok, err := stateDir(t.Dirs.State).read(preparedFile, p); err != nil {
		return nil, err
	} else if !ok {
		if p, err = d.prepare(ctx, t, nil); err != nil {
			return nil, err
		}
	}
	if err := d.bringDisksBack(ctx, t); err != nil {
		return nil, err
	}
	in, err := d.input(ctx, t, c, p)
	if err != nil {
		return nil, err
	}
	m, err := machine.Build(*in)
	if err != nil {
		return nil, err
	}
	r := &record{Version: handleVersion, Phase: starting, Boot: bootID(), Started: time.Now(), Machine: m}
	process, err := d.launch(ctx, t, c, r, nil)
	if err != nil {
		return nil, err
	}
	if _, err := d.takeUp(t, r, process); err != nil {
		return nil, err
	}
	return r.handle(), nil
}

// launch starts the QEMU of a record, whose CPUs stand still until the record says that
// it runs. memory, may be nil, is what a suspended machine is brought back from. What it
// leaves when it fails, free removes.
func (d *Driver) launch(ctx context.Context, t *drivers.Task, c *berthv1.QemuConfig, r *record, memory *os.File) (*process, error) {
	dir := stateDir(t.Dirs.State)
	lock, err := dir.lock()
	if err != nil {
		return nil, err
	}
	// QEMU inherits it. Until this one is closed QEMU seems to be alive.
	defer lock.Close()
	host, err := d.cgroups()
	if err != nil {
		return nil, unavailable("finding the cgroups", err)
	}
	defer host.Hold()()
	group := host.Group(t.ID)
	if err := d.equip(t, c, r, group); err != nil {
		return nil, err
	}
	if err := d.startTPM(ctx, t, c, group); err != nil {
		return nil, err
	}
	process, err := spawn(dir, r.Machine, group, lock, memory)
	if err != nil {
		return nil, unavailable("starting QEMU", err)
	}
	mon, err := process.monitor(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer mon.Close()
	if err := placeThreads(ctx, mon, process.pid, r.Machine); err != nil {
		return nil, err
	}
	r.PID = process.pid
	if r.Phase == starting {
		r.Phase = running
	}
	if err := dir.write(recordFile, r); err != nil {
		return nil, err
	}
	if r.Phase == running {
		if err := mon.Continue(ctx); err != nil {
			return nil, asProblem(ctx, err)
		}
	}
	return process, nil
}

// monitor waits until QEMU answers, or has ended.
func (p *process) monitor(ctx context.Context, dir stateDir) (*qmp.Monitor, error) {
	for {
		if exists(dir.path(machine.QMPSocket)) {
			mon, err := qmp.Dial(ctx, string(dir), machine.QMPSocket)
			if err == nil {
				return mon, nil
			}
		}
		select {
		case <-p.done:
			words := dir.lastWords()
			if words == "" {
				words = p.how()
			}
			return nil, problem.New(problem.Unavailable, "", "QEMU does not start: %s", words)
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
	}
}
