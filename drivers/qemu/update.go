package qemu

import (
	"context"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
)

// Stats implements drivers.StatsReader. A suspended machine uses nothing.
func (d *Driver) Stats(_ context.Context, id string) (*drivers.Stats, error) {
	t, err := d.task(id)
	if err != nil {
		return nil, err
	}
	now := &drivers.Stats{Time: time.Now()}
	if !t.group.Exists() {
		return now, nil
	}
	s, err := t.group.Stats()
	if err != nil {
		return nil, unavailable("measuring the machine", err)
	}
	now.CPUTime, now.MemoryBytes, now.PIDs = s.CPUTime, s.MemoryBytes, s.PIDs
	return now, nil
}

// Update implements drivers.Updater: the limits of its cgroup, and the shared CPUs. What
// the guest sees (its CPUs, its memory) is not changed in place.
func (d *Driver) Update(ctx context.Context, t *drivers.Task) error {
	known, err := d.task(t.ID)
	if err != nil {
		return err
	}
	release, err := known.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	r, err := known.dir.record()
	if err != nil {
		return err
	}
	if r == nil || r.Machine == nil || r.Phase == suspended {
		return nil // the next start has them
	}
	before := r.Machine.Emulator
	if before != "" && known.config.GetEmulatorCores() != "granted" {
		r.Machine.Emulator = t.SharedCPUs
	}
	if err := known.group.Set(limits(t, r.Machine)); err != nil {
		return problem.New(problem.Unavailable, "resources", "changing the machine's limits: %w", err)
	}
	if r.Machine.Emulator == before {
		return nil
	}
	mon, err := known.monitor(ctx)
	if err != nil {
		return err
	}
	if err := placeThreads(ctx, mon, r.PID, r.Machine); err != nil {
		return err
	}
	return known.dir.write(recordFile, r)
}
