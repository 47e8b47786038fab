package qemu

import (
	"bytes"
	"context"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/cloudinit"
	"github.com/berthd/berth/drivers/qemu/machine"
	"github.com/berthd/berth/drivers/qemu/qga"
)

// watchers keeps a machine's condition and tells it.
type watchers struct {
	mu  sync.Mutex
	now drivers.Condition
	all map[*watcher]bool
}

// watcher is one who observes.
type watcher struct {
	news []drivers.Condition // not told yet
	more chan struct{}
}

// maxNews is how much news waits for an observer; the oldest is dropped.
const maxNews = 64

// newWatchers begins with what is recorded; ready says that a machine is as soon as it runs.
func newWatchers(r *record, ready bool) *watchers {
	w := &watchers{all: map[*watcher]bool{}}
	w.now.Ready = ready
	w.now.State = stateRunning
	switch {
	case r.Phase == suspended:
		w.now.State = stateSuspended
	case r.Paused:
		w.now.State = statePaused
	}
	return w
}

// change changes the condition; it is told if it has changed or something has happened.
func (w *watchers) change(event string, change func(*drivers.Condition)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.now
	change(&w.now)
	n := w.now
	if event == "" && before.State == n.State && before.Ready == n.Ready && before.Hostname == n.Hostname &&
		before.OS == n.OS && slices.Equal(before.Addresses, n.Addresses) {
		return
	}
	n.Event = event
	for one := range w.all {
		one.news = append(one.news, n)
		one.news = one.news[max(0, len(one.news)-maxNews):]
		select {
		case one.more <- struct{}{}:
		default:
		}
	}
}

func (w *watchers) become(state, event string) {
	w.change(event, func(c *drivers.Condition) {
		// A panicked or failing machine is also one that stands still.
		if !(state == statePaused && c.State == statePanicked) {
			c.State = state
		}
	})
}

func (w *watchers) tell(event string) { w.change(event, func(*drivers.Condition) {}) }

// Observe implements drivers.Observer.
func (d *Driver) Observe(ctx context.Context, id string, told func(drivers.Condition)) error {
	t, err := d.task(id)
	if err != nil {
		return err
	}
	if err := t.hasEnded(); err != nil {
		return err
	}
	w, one := t.watch, &watcher{more: make(chan struct{}, 1)}
	w.mu.Lock()
	now := w.now
	w.all[one] = true
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.all, one)
	}()
	told(now)
	for {
		w.mu.Lock()
		news := one.news
		one.news = nil
		w.mu.Unlock()
		for _, c := range news {
			told(c)
		}
		select {
		case <-one.more:
		case <-t.ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// inquire finds out whether the guest is ready, and what it says of itself.
func (k *keeper) inquire(ctx context.Context) {
	t := k.t
	const soon, later, rarely = time.Second, 10 * time.Second, time.Minute
	late := time.AfterFunc(t.phoneTime(), func() { t.watch.tell("cloud-init has not said in time that it is through") })
	defer late.Stop()
	heard := t.config.GetReady() != "phone-home" // there is nothing to hear
	for wait := soon; ; wait = min(2*wait, later) {
		pause(ctx, wait)
		if ctx.Err() != nil {
			return
		}
		if heard = heard || t.phoned(); heard {
			late.Stop()
		}
		if t.config.GuestAgent != nil && !t.config.GetGuestAgent() {
			continue
		}
		if about, err := t.askAbout(ctx); err == nil {
			wait = rarely
			t.watch.change("", func(c *drivers.Condition) {
				c.Hostname, c.OS, c.Addresses = about.Hostname, about.OS, about.Addresses
				c.Ready = c.Ready || t.config.GetReady() == "guest-agent"
			})
		}
	}
}

// phoneTime is how long cloud-init may take from now on.
func (t *task) phoneTime() time.Duration {
	const standard = 10 * time.Minute
	if d := t.config.GetCloudInit().GetTimeout(); d != nil {
		return d.AsDuration()
	}
	return standard
}

// phoned looks whether cloud-init has said that it is through, well or not.
func (t *task) phoned() bool {
	said, err := os.ReadFile(t.dir.path(machine.ReadyLog))
	if err != nil || len(said) == 0 {
		return false
	}
	ready := bytes.Contains(said, []byte(cloudinit.ReadyLine))
	event := ""
	if !ready && bytes.Contains(said, []byte(cloudinit.FailedLine)) {
		event = "cloud-init has failed in the guest"
	}
	t.watch.mu.Lock()
	known := t.watch.now.Ready == ready
	t.watch.mu.Unlock()
	if ready && !known || event != "" {
		t.watch.change(event, func(c *drivers.Condition) { c.Ready = ready })
	}
	return ready || event != ""
}

func (t *task) askAbout(ctx context.Context) (about *qga.About, err error) {
	err = t.ask(ctx, func(ctx context.Context, a *qga.Agent) error {
		about, err = a.About(ctx)
		return err
	})
	return about, err
}
