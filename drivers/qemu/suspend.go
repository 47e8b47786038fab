package qemu

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/berthd/berth/drivers/qemu/qmp"
	"github.com/berthd/berth/problem"
)

// suspend writes the memory and the devices to a file and ends QEMU; the caller has the
// turn. Until the file is whole the machine is QEMU, and from then on the file: an agent
// that dies in between leaves one or the other (settle, stateDir.find).
func (t *task) suspend(ctx context.Context) error {
	r, err := t.dir.record()
	if err != nil {
		return err
	}
	if r == nil {
		return notFound(t.id)
	}
	if r.Phase == suspended {
		return nil
	}
	mon, err := t.monitor(ctx)
	if err != nil {
		return err
	}
	if _, err := t.update(func(r *record) { r.Phase = suspending }); err != nil {
		return err
	}
	if err := t.writeOut(ctx, mon); err != nil {
		t.takeBack(mon)
		return asProblem(ctx, err)
	}
	if _, err = t.update(func(r *record) { r.Phase, r.PID = suspended, 0 }); err != nil {
		t.takeBack(mon)
		return err
	}
	t.watch.become(stateSuspended, "")
	return t.putAway(ctx)
}

// putAway ends the QEMU of a machine that is in its file, and frees what it used.
func (t *task) putAway(ctx context.Context) error {
	t.letGo()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*killTime)
	defer cancel()
	r, err := t.dir.record()
	if err != nil {
		return err
	}
	return t.d.free(ctx, t.dir, t.group, r)
}

// writeOut writes the machine to its file, which is whole when it returns.
func (t *task) writeOut(ctx context.Context, mon *qmp.Monitor) error {
	f, err := os.OpenFile(t.dir.path(suspendFile+partSuffix), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return unavailable("making the file for the machine's memory", err)
	}
	defer f.Close()
	if err := mon.Stop(ctx); err != nil {
		return err
	}
	if err := mon.RunWithFile(ctx, "getfd", map[string]string{"fdname": "suspend"}, f, nil); err != nil {
		return err
	}
	// As fast as the disk takes it: nobody else waits for it.
	if err := mon.Run(ctx, "migrate-set-parameters", map[string]int64{"max-bandwidth": 1 << 40}, nil); err != nil {
		return err
	}
	if err := mon.Run(ctx, "migrate", map[string]string{"uri": "fd:suspend"}, nil); err != nil {
		return err
	}
	if err := migrated(ctx, mon, "writing the machine's memory"); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return unavailable("writing the machine's memory", err)
	}
	return os.Rename(f.Name(), t.dir.path(suspendFile))
}

// takeBack lets a machine go on that could not be suspended.
func (t *task) takeBack(mon *qmp.Monitor) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = mon.Run(ctx, "migrate_cancel", nil, nil)
	_, err := t.settle()
	if err != nil {
		t.d.log.Error("taking back a suspension", "task", t.id, "error", err)
	}
	// The keeper sees to the rest: it finds the CPUs standing still.
}

// migrated waits for the end of a migration.
func migrated(ctx context.Context, mon *qmp.Monitor, doing string) error {
	for {
		var m struct {
			Status string `json:"status"`
			Reason string `json:"error-desc"`
		}
		if err := mon.Run(ctx, "query-migrate", nil, &m); err != nil {
			return err
		}
		switch m.Status {
		case "completed":
			return nil
		case "failed", "cancelled":
			if m.Reason == "" {
				m.Reason = "QEMU does not say why (is the disk full?)"
			}
			return problem.New(problem.Unavailable, "", "%s failed: %s", doing, m.Reason)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// bringBack starts a QEMU from the file of a suspended machine; the caller has the turn.
// No CPU runs before the record says that QEMU is the machine (settle).
func (t *task) bringBack(ctx context.Context, r *record) error {
	if err := t.putAway(ctx); err != nil { // of an agent that died as it suspended
		return err
	}
	if r.Machine == nil {
		return problem.New(problem.Internal, "", "nothing is recorded of how the machine was started")
	}
	memory, err := os.Open(t.dir.path(suspendFile))
	if err != nil {
		return unavailable("opening the machine's memory", err)
	}
	defer memory.Close()
	r.Phase, r.Boot, r.Taps, r.Bound = resuming, bootID(), nil, nil
	p, err := t.d.launch(ctx, t.spec, t.config, r, memory)
	if err != nil {
		return t.stayAway(err)
	}
	t.keep(p)
	mon, err := t.monitor(ctx)
	if err == nil {
		if err = migrated(ctx, mon, "reading the machine's memory"); err == nil {
			_, err = t.settle()
		}
	}
	if err != nil {
		return t.stayAway(asProblem(ctx, err))
	}
	return nil
}

// stayAway leaves a machine suspended that could not be brought back.
func (t *task) stayAway(cause error) error {
	_, err := t.update(func(r *record) { r.Phase, r.PID = suspended, 0 })
	return errors.Join(cause, err, t.putAway(context.Background()))
}
