package qemu

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/qemu/qmp"
)

// States of a Condition.
const (
	stateRunning   = "running"
	statePaused    = "paused"
	stateSuspended = "suspended"
	statePanicked  = "panicked"
	stateFailing   = "failing"
)

// react does what follows from QEMU's state; the caller has the turn. It gives how the
// task ended if it has.
func (k *keeper) react(ctx context.Context, status string) (*drivers.Exit, error) {
	t := k.t
	switch status {
	case "shutdown":
		return k.finish(&drivers.Exit{}), nil
	case "guest-panicked":
		return k.panicked(ctx)
	case "watchdog":
		return k.bitten(ctx)
	case "internal-error":
		return k.finish(&drivers.Exit{Code: 1, Err: "QEMU: internal error (the CPU cannot go on): " + t.dir.lastWords()}), nil
	case "io-error":
		t.watch.become(stateFailing, "")
		return nil, nil
	case "inmigrate", "finish-migrate", "save-vm", "restore-vm", "colo", "debug", "suspended":
		return nil, nil
	}
	// "running", or one of the ways to stand still: "prelaunch", "paused", "postmigrate".
	r, err := t.settle()
	if err != nil {
		return nil, err
	}
	switch {
	case status == "running" && r.Paused:
		err = k.mon.Stop(ctx)
	case status != "running" && !r.Paused:
		err = k.mon.Continue(ctx)
	}
	if err != nil {
		return nil, err
	}
	if r.Paused {
		t.watch.become(statePaused, "")
	} else {
		t.watch.become(stateRunning, "")
	}
	return nil, nil
}

// settle takes back a suspension that the agent's death has interrupted, and finishes a
// resumption: QEMU is there, so it is the machine.
func (t *task) settle() (*record, error) {
	r, err := t.dir.record()
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, notFound(t.id)
	}
	if r.Phase == running {
		return r, nil
	}
	if r, err = t.update(func(r *record) { r.Phase = running }); err != nil {
		return nil, err
	}
	_ = os.Remove(t.dir.path(suspendFile + partSuffix))
	_ = os.Remove(t.dir.path(suspendFile))
	return r, nil
}

// finish writes down that the task has ended by itself, while QEMU is still there.
func (k *keeper) finish(e *drivers.Exit) *drivers.Exit {
	e.At = time.Now()
	k.t.end(e)
	return e
}

// panicked does what the config says about a guest whose kernel has panicked.
func (k *keeper) panicked(ctx context.Context) (*drivers.Exit, error) {
	switch k.t.config.GetOnPanic() {
	case "reset":
		k.t.watch.become(stateRunning, "the guest's kernel panicked: reset")
		if err := k.mon.Reset(ctx); err != nil {
			return nil, err
		}
		return nil, k.mon.Continue(ctx)
	case "pause":
		return nil, k.stand(statePanicked, "the guest's kernel panicked")
	}
	return k.finish(&drivers.Exit{Code: 1, Err: "the guest's kernel panicked"}), nil
}

// bitten does what the config says about a guest that has not fed its watchdog.
func (k *keeper) bitten(context.Context) (*drivers.Exit, error) {
	if k.t.config.GetWatchdog() == "pause" {
		return nil, k.stand(statePaused, "the guest's watchdog was not fed")
	}
	return k.finish(&drivers.Exit{Code: 1, Err: "the guest's watchdog was not fed"}), nil
}

// stand leaves a machine standing still until somebody resumes it.
func (k *keeper) stand(state, why string) error {
	r, err := k.t.dir.record()
	if err != nil || r == nil {
		return err
	}
	if r.Paused && r.Why == why {
		k.t.watch.become(state, "")
		return nil
	}
	_, err = k.t.update(func(r *record) { r.Paused, r.Why = true, why })
	k.t.watch.become(state, why)
	return err
}

// hear tells observers of an event; the state that it leads to is looked at afterwards.
func (k *keeper) hear(e qmp.Event) {
	switch e.Name {
	case "RESET":
		if e.Data["guest"] == true {
			k.t.watch.tell("the guest has rebooted")
		}
	case "WATCHDOG":
		k.t.watch.tell("watchdog: " + e.Text("action"))
	case "GUEST_PANICKED":
		k.t.watch.tell("the guest's kernel panicked")
	case "BLOCK_IO_ERROR":
		words := fmt.Sprintf("the disk %s fails: %s", e.Text("device"), e.Text("reason"))
		if e.Data["nospace"] == true {
			words = "the host's disk is full"
		}
		if e.Text("action") == "stop" {
			words += "; the machine stands still until it is resumed"
		}
		k.t.watch.tell(words)
	case "MEMORY_FAILURE":
		k.t.watch.tell("the host's memory fails")
	case qmp.Missed:
		k.t.d.log.Warn("events of a machine were missed", "task", k.t.id)
	}
}
