package qemu

import (
	"context"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/qemu/qga"
)

const (
	// pressEvery is how often the power button is pressed: a guest that is still booting
	// does not feel it.
	pressEvery = 2 * time.Second
	// askAfter is when the guest's agent is asked as well.
	askAfter = 10 * time.Second
)

// Stop implements drivers.Driver: the power button, then the guest's agent, then the end
// of QEMU. The signal says nothing to a guest, but must be one.
func (d *Driver) Stop(ctx context.Context, id, signal string, timeout time.Duration) error {
	t, err := d.task(id)
	if err != nil {
		return err
	}
	if _, err := drivers.ParseSignal(signal); err != nil {
		return err
	}
	if t.hasEnded() != nil {
		return nil
	}
	if timeout > 0 {
		if ended, err := t.shutDown(ctx, timeout); ended || err != nil {
			return err
		}
	}
	return t.kill(ctx)
}

// shutDown asks the guest to end, and waits for that as long as it may take.
func (t *task) shutDown(ctx context.Context, timeout time.Duration) (ended bool, err error) {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	t.wakeUp(limited)
	asking := time.AfterFunc(min(askAfter, timeout/3), func() {
		// Whether there is an agent or not: the power button goes on being pressed.
		_ = t.ask(limited, func(ctx context.Context, a *qga.Agent) error { return a.Shutdown(ctx) })
	})
	defer asking.Stop()
	for {
		if mon, err := t.monitor(limited); err == nil {
			_ = mon.Powerdown(limited)
		}
		select {
		case <-t.ended:
			return true, nil
		case <-time.After(pressEvery):
		case <-limited.Done():
			return false, ctx.Err()
		}
	}
}

// wakeUp lets a machine run that stands still, so that its guest can end.
func (t *task) wakeUp(ctx context.Context) {
	release, err := t.take(ctx)
	if err != nil {
		return
	}
	defer t.look()
	defer release()
	if r, err := t.dir.record(); err == nil && r != nil && (r.Paused || r.Phase == suspended) {
		if err := t.resume(ctx); err != nil {
			t.d.log.Warn("resuming a machine that is to be stopped", "task", t.id, "error", err)
		}
	}
}

// kill ends QEMU at once.
func (t *task) kill(ctx context.Context) error {
	release, err := t.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	if t.hasEnded() != nil {
		return nil
	}
	r, err := t.update(func(r *record) { r.Killed = true })
	if err != nil {
		return err
	}
	if r.Phase == suspended {
		exit := &drivers.Exit{Signal: 9, At: time.Now()}
		if err := t.dir.write(exitFile, exit); err != nil {
			return err
		}
		t.over(exit)
		return nil
	}
	if err := t.dir.kill(ctx, t.group); err != nil {
		return err
	}
	select {
	case <-t.ended: // the keeper has seen it, and moved its last words
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
