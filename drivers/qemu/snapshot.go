package qemu

import (
	"context"
	"errors"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/qemu/machine"
	"github.com/berthd/berth/drivers/qemu/qmp"
	"github.com/berthd/berth/problem"
)

// A snapshot lies inside of the machine's qcow2 images, one in each under the same name,
// with the memory in the first. What is promised of it is in a file beside them
// (snapshotIndex): one that an agent's death has interrupted is taken back by the next.

// Snapshot implements drivers.Snapshotter.
func (d *Driver) Snapshot(ctx context.Context, id string, req *drivers.SnapshotRequest) (*drivers.Snapshot, error) {
	if !snapshotName.MatchString(req.Name) {
		return nil, problem.New(problem.Invalid, "name", "%q is no name of a snapshot", req.Name).
			WithRemedy("use at most 63 letters, digits, dots, hyphens and underscores, the first a letter or digit")
	}
	t, err := d.task(id)
	if err != nil {
		return nil, err
	}
	release, err := t.take(ctx)
	if err != nil {
		return nil, err
	}
	defer t.look()
	defer release()
	mon, err := t.monitor(ctx)
	if err != nil {
		return nil, err
	}
	disks, err := t.snapshotDisks()
	if err != nil {
		return nil, err
	}
	if err := t.mend(ctx, mon); err != nil {
		return nil, err
	}
	return t.snapshot(ctx, mon, disks, req)
}

// snapshot takes one; the caller has the turn.
func (t *task) snapshot(ctx context.Context, mon *qmp.Monitor, disks []snapshotDisk, req *drivers.SnapshotRequest) (*drivers.Snapshot, error) {
	index, err := t.snapshots()
	if err != nil {
		return nil, err
	}
	if index.find(req.Name) != nil {
		return nil, problem.New(problem.Conflict, "name", "there is a snapshot %q already", req.Name).WithRemedy("delete it, or use another name")
	}
	r, err := t.dir.record()
	if err != nil || r == nil {
		return nil, errors.Join(err, notFound(t.id))
	}
	e := &keptSnapshot{Snapshot: drivers.Snapshot{
		Name: req.Name, Description: req.Description, At: time.Now(), Memory: req.Memory, Consistent: req.Consistent,
	}}
	if r.Machine != nil {
		e.Type = r.Machine.Type
	}
	index.List = append(index.List, e)
	if err := t.keepSnapshots(index); err != nil {
		return nil, err
	}
	if err := t.make(ctx, mon, disks, e); err != nil {
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		return nil, errors.Join(asProblem(ctx, err), t.mend(after, mon))
	}
	if e.Bytes, err = stateSize(ctx, mon, disks, e.tag()); err != nil {
		t.d.log.Warn("the size of a snapshot", "task", t.id, "error", err)
	}
	e.Whole = true
	if err := t.keepSnapshots(index); err != nil {
		return nil, err
	}
	t.watch.tell("snapshot " + e.Name)
	s := e.Snapshot
	return &s, nil
}

// make has QEMU keep the state of all disks at one instant.
func (t *task) make(ctx context.Context, mon *qmp.Monitor, disks []snapshotDisk, e *keptSnapshot) error {
	if e.Memory {
		// What the guest has not written out yet is in the memory: nothing is to be frozen.
		return runJob(ctx, mon, "snapshot-save", map[string]any{
			"tag": e.tag(), "vmstate": disks[0].node, "devices": nodesOf(disks),
		})
	}
	var actions []any
	for _, d := range disks {
		actions = append(actions, map[string]any{
			"type": "blockdev-snapshot-internal-sync",
			"data": map[string]string{"device": d.node, "name": e.tag()},
		})
	}
	if e.Consistent {
		if err := t.freeze(ctx, drivers.ActionFreeze); err != nil {
			return err
		}
		defer t.thaw(ctx)
	}
	return mon.Run(ctx, "transaction", map[string]any{"actions": actions}, nil)
}

// thaw lets the guest's file systems go on, whatever has become of ctx.
func (t *task) thaw(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime)
	defer cancel()
	if err := t.freeze(ctx, drivers.ActionThaw); err != nil {
		t.d.log.Error("the guest's file systems stay frozen", "task", t.id, "error", err)
	}
}

// Snapshots implements drivers.Snapshotter.
func (d *Driver) Snapshots(_ context.Context, id string) ([]*drivers.Snapshot, error) {
	t, err := d.task(id)
	if err != nil {
		return nil, err
	}
	index, err := t.snapshots()
	if err != nil {
		return nil, err
	}
	var all []*drivers.Snapshot
	for _, e := range index.List {
		if e.Whole {
			all = append(all, &e.Snapshot)
		}
	}
	return all, nil
}

// DeleteSnapshot implements drivers.Snapshotter.
func (d *Driver) DeleteSnapshot(ctx context.Context, id string, name string) error {
	t, err := d.task(id)
	if err != nil {
		return err
	}
	release, err := t.take(ctx)
	if err != nil {
		return err
	}
	defer t.look()
	defer release()
	mon, err := t.monitor(ctx)
	if err != nil {
		return err
	}
	index, e, err := t.whole(name)
	if err != nil {
		return err
	}
	e.Whole = false
	if err := t.keepSnapshots(index); err != nil {
		return err
	}
	return t.mend(ctx, mon)
}

// Revert implements drivers.Snapshotter.
func (d *Driver) Revert(ctx context.Context, id string, name string) error {
	t, err := d.task(id)
	if err != nil {
		return err
	}
	release, err := t.take(ctx)
	if err != nil {
		return err
	}
	defer t.look()
	defer release()
	mon, err := t.monitor(ctx)
	if err != nil {
		return err
	}
	index, e, err := t.whole(name)
	if err != nil {
		return err
	}
	disks, err := t.snapshotDisks()
	if err != nil {
		return err
	}
	if !e.Memory {
		return t.startFrom(ctx, index, e)
	}
	r, err := t.update(func(r *record) { r.Paused, r.Why = false, "" })
	if err != nil {
		return err
	}
	if r.Machine != nil && e.Type != "" && r.Machine.Type != e.Type {
		return problem.New(problem.Conflict, "name", "the snapshot is of a machine %s, and this is a %s", e.Type, r.Machine.Type)
	}
	err = runJob(ctx, mon, "snapshot-load", map[string]any{"tag": e.tag(), "vmstate": disks[0].node, "devices": nodesOf(disks)})
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		// The machine is neither the one nor the other now; its disks are the snapshot's.
		err = problem.New(problem.Unavailable, "", "the snapshot's memory could not be loaded, so the machine was started anew from its disks: %w", err)
		return errors.Join(err, t.startFrom(ctx, index, e))
	}
	t.watch.become(stateRunning, "back at snapshot "+name)
	return nil
}

// startFrom starts the machine anew from a snapshot's disks; the caller has the turn. From
// when the index says so, whoever starts the machine next brings the disks back first.
func (t *task) startFrom(ctx context.Context, index *snapshotIndex, e *keptSnapshot) error {
	index.Revert = e.Name
	if err := t.keepSnapshots(index); err != nil {
		return err
	}
	r, err := t.dir.record()
	if err != nil || r == nil {
		return errors.Join(err, notFound(t.id))
	}
	if err := t.putAway(ctx); err != nil {
		t.keep(nil)
		return err
	}
	if err := t.d.bringDisksBack(ctx, t.spec); err != nil {
		t.keep(nil) // it finds that the machine has ended
		return err
	}
	r.Phase, r.Boot, r.Taps, r.Bound, r.Paused, r.Why = starting, bootID(), nil, nil, false, ""
	p, err := t.d.launch(ctx, t.spec, t.config, r, nil)
	t.keep(p)
	if err != nil {
		return asProblem(ctx, err)
	}
	t.watch.become(stateRunning, "started anew from snapshot "+e.Name)
	return nil
}

// snapshotDisk is a disk that snapshots are in.
type snapshotDisk struct {
	// node is the block node that a snapshot is asked of, format the one of the image.
	node, format string
	path         string
}

// snapshotDisks are the disks that can be written to, the first for the memory.
func (t *task) snapshotDisks() ([]snapshotDisk, error) { return snapshotDisksOf(t.spec) }

func snapshotDisksOf(spec *drivers.Task) ([]snapshotDisk, error) {
	c, err := decode(spec)
	if err != nil {
		return nil, err
	}
	p := &prepared{}
	if _, err := stateDir(spec.Dirs.State).read(preparedFile, p); err != nil {
		return nil, err
	}
	configs, err := disksOf(c)
	if err != nil {
		return nil, err
	}
	var disks []snapshotDisk
	for i, disk := range configs {
		if disk.GetReadOnly() || i >= len(p.Disks) {
			continue
		}
		if p.Disks[i].Format != "qcow2" {
			return nil, problem.New(problem.Unsupported, "config.disk", "the disk %q is %s, and has no snapshots", disk.GetName(), p.Disks[i].Format).
				WithRemedy(`use format = "qcow2"`)
		}
		id := machine.DiskID(disk.GetName())
		limited := disk.GetIops() != 0 || disk.GetBandwidthMib() != 0
		disks = append(disks, snapshotDisk{node: machine.NodeOf(id, limited), format: id, path: p.Disks[i].Path})
	}
	if len(disks) == 0 {
		return nil, problem.New(problem.Unsupported, "config.disk", "the machine has no disk that a snapshot could be kept in").
			WithRemedy("give it a disk of format qcow2")
	}
	return disks, nil
}

func nodesOf(disks []snapshotDisk) (nodes []string) {
	for _, d := range disks {
		nodes = append(nodes, d.node)
	}
	return nodes
}
