package qemu

import (
	"context"
	"strconv"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
)

func itoa(n int) string { return strconv.Itoa(n) }

// Control implements drivers.Controller.
func (d *Driver) Control(ctx context.Context, id string, action drivers.Action) error {
	t, err := d.task(id)
	if err != nil {
		return err
	}
	if err := t.hasEnded(); err != nil {
		return err
	}
	switch action {
	case drivers.ActionFreeze, drivers.ActionThaw:
		if _, err := t.runs(); err != nil {
			return err
		}
		return t.freeze(ctx, action)
	case drivers.ActionPause, drivers.ActionResume, drivers.ActionReset, drivers.ActionPowerdown, drivers.ActionNMI, drivers.ActionSuspend:
	default:
		return problem.New(problem.Invalid, "action", "a machine has no action %q", action)
	}
	release, err := t.take(ctx)
	if err != nil {
		return err
	}
	defer t.look()
	defer release()
	switch action {
	case drivers.ActionPause:
		return t.pause(ctx)
	case drivers.ActionResume:
		return t.resume(ctx)
	case drivers.ActionSuspend:
		return t.suspend(ctx)
	}
	return t.press(ctx, action)
}

// runs gives the record of a machine whose CPUs run; Conflict: they do not.
func (t *task) runs() (*record, error) {
	r, err := t.dir.record()
	if err != nil {
		return nil, err
	}
	switch {
	case r == nil:
		return nil, notFound(t.id)
	case r.Phase == suspended:
		return nil, problem.New(problem.Conflict, "action", "the machine is suspended").WithRemedy("resume it first")
	case r.Paused:
		return nil, problem.New(problem.Conflict, "action", "the machine is paused").WithRemedy("resume it first")
	}
	return r, nil
}

// pause has the CPUs stand still. It is written down first: whoever finds them running sees to it.
func (t *task) pause(ctx context.Context) error {
	mon, err := t.monitor(ctx)
	if err != nil {
		return err
	}
	if _, err := t.update(func(r *record) { r.Paused, r.Why = true, "" }); err != nil {
		return err
	}
	if err := mon.Stop(ctx); err != nil {
		return asProblem(ctx, err)
	}
	t.watch.become(statePaused, "")
	return nil
}

// resume has the CPUs go on; those of a suspended machine are brought back first.
func (t *task) resume(ctx context.Context) error {
	r, err := t.update(func(r *record) { r.Paused, r.Why = false, "" })
	if err != nil {
		return err
	}
	if r.Phase == suspended {
		if err := t.bringBack(ctx, r); err != nil {
			return err
		}
	}
	mon, err := t.monitor(ctx)
	if err != nil {
		return err
	}
	if status, err := mon.Status(ctx); err != nil || status != "running" {
		if status == "guest-panicked" {
			// Only a reset gets it out of that.
			if err := mon.Reset(ctx); err != nil {
				return asProblem(ctx, err)
			}
		}
		if err := mon.Continue(ctx); err != nil {
			return asProblem(ctx, err)
		}
	}
	t.watch.become(stateRunning, "")
	return nil
}

// press does what needs a machine that runs.
func (t *task) press(ctx context.Context, action drivers.Action) error {
	if _, err := t.runs(); err != nil {
		return err
	}
	mon, err := t.monitor(ctx)
	if err != nil {
		return err
	}
	switch action {
	case drivers.ActionReset:
		err = mon.Reset(ctx)
		t.watch.tell("reset")
	case drivers.ActionPowerdown:
		err = mon.Powerdown(ctx)
	default:
		err = mon.NMI(ctx)
	}
	return asProblem(ctx, err)
}
