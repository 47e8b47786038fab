package runner

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/berthd/berth/drivers"
)

// update tells the driver what a running task may use from now on. What the servers have
// given it less of belongs to others from then on: a task that cannot be brought to its new
// limits while it runs is started again with them.
func (t *task) update(ctx context.Context) error {
	t.mu.Lock()
	t.outdated = false
	t.mu.Unlock()
	d, err := t.driver()
	if err != nil {
		return nil
	}
	dt, _ := t.build()
	words := limitWords(dt)
	err = errors.New("its driver cannot do that")
	u, can := d.(drivers.Updater)
	if can {
		err = u.Update(ctx, dt)
	}
	changed := t.rec.Limits != "" && t.rec.Limits != words
	switch {
	case ctx.Err() != nil:
		return nil
	case err == nil && changed:
		t.event("limits changed", fmt.Sprintf("from %s to %s", t.rec.Limits, words))
	case err == nil && t.rec.Limits == words:
		return nil // its shared CPUs may be others
	case err == nil:
	case changed:
		t.rec.Restart = "its limits could not be changed while it ran"
		t.event("driver error", fmt.Sprintf("changing its limits from %s to %s failed, so it is started again: %v", t.rec.Limits, words, err))
	case can:
		t.log.Warn("a running task's limits could not be changed", "error", err)
		t.event("driver error", "changing its limits failed: "+err.Error())
		t.publish(false)
		return nil
	default:
		return nil
	}
	t.rec.Limits = words
	return t.settle("limits changed")
}

// limitWords says what of a task's limits can change while it runs, in words that are the
// same for the same limits.
func limitWords(t *drivers.Task) string {
	var words []string
	var memory uint64
	for _, c := range t.Grant.GetCells() {
		memory += c.GetMemoryMib()
		if c.GetCpus() != "" {
			words = append(words, "CPUs "+c.GetCpus())
		}
	}
	if n := t.Resources.GetCpuMilli(); n > 0 {
		words = append(words, fmt.Sprintf("%dm of CPU", n))
	}
	if memory == 0 {
		memory = t.Resources.GetMemoryMib()
	}
	words = append(words, fmt.Sprintf("%d MiB", memory))
	if most := t.Resources.GetMemoryMaxMib(); most > 0 {
		words = append(words, fmt.Sprintf("up to %d MiB", most))
	}
	if n := t.Resources.GetPids(); n > 0 {
		words = append(words, fmt.Sprintf("%d processes", n))
	}
	return strings.Join(words, ", ")
}
