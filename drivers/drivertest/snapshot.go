package drivertest

import (
	"slices"
	"testing"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
)

// disked starts a task that snapshots can be made of.
func (b *bench) disked() (drivers.Snapshotter, *drivers.Task, *drivers.Handle) {
	b.t.Helper()
	p := power[drivers.Snapshotter](b, drivers.CapSnapshot)
	b.need(b.f.Disked != nil, "Disked")
	task := b.task(b.f.Disked)
	return p, task, b.start(task)
}

func testSnapshots(t *testing.T, b *bench) {
	p, task, h := b.disked()
	for i, name := range []string{"one", "two"} {
		req := &drivers.SnapshotRequest{Name: name, Description: "number " + name, Memory: i == 1}
		s, err := p.Snapshot(b.ctx(), task.ID, req)
		if err != nil {
			t.Fatalf("Snapshot: %v", err)
		}
		if s.Name != name || s.Description != req.Description || s.Memory != req.Memory || s.At.IsZero() {
			t.Errorf("Snapshot = %+v", s)
		}
	}
	b.running(task)
	b.crash()
	if err := b.d.Recover(b.ctx(), task, h); err != nil {
		t.Fatalf("Recover: %v", err)
	}
	p = b.d.(drivers.Snapshotter)
	b.snapshots(p, task, "one", "two")
	for _, name := range []string{"two", "one"} {
		if err := p.Revert(b.ctx(), task.ID, name); err != nil {
			t.Fatalf("Revert to %s: %v", name, err)
		}
		b.running(task)
	}
	if err := p.DeleteSnapshot(b.ctx(), task.ID, "one"); err != nil {
		t.Fatalf("DeleteSnapshot: %v", err)
	}
	b.snapshots(p, task, "two")
	b.running(task)
}

func (b *bench) snapshots(p drivers.Snapshotter, task *drivers.Task, want ...string) {
	b.t.Helper()
	all, err := p.Snapshots(b.ctx(), task.ID)
	var names []string
	for _, s := range all {
		names = append(names, s.Name)
	}
	if err != nil || !slices.Equal(names, want) {
		b.t.Errorf("Snapshots = %v, %v, want %v", names, err, want)
	}
}

func testSnapshotErrors(t *testing.T, b *bench) {
	p, task, _ := b.disked()
	if _, err := p.Snapshot(b.ctx(), task.ID, &drivers.SnapshotRequest{Name: "one"}); err != nil {
		t.Fatalf("Snapshot: %v", err)
	}
	if _, err := p.Snapshot(b.ctx(), task.ID, &drivers.SnapshotRequest{Name: "one"}); !problem.Is(err, problem.Conflict) {
		t.Errorf("a second snapshot of the name: %v, want a Conflict", err)
	}
	if _, err := p.Snapshot(b.ctx(), task.ID, &drivers.SnapshotRequest{}); !problem.Is(err, problem.Invalid) {
		t.Errorf("a snapshot without a name: %v, want an Invalid problem", err)
	}
	if err := p.Revert(b.ctx(), task.ID, "two"); !problem.Is(err, problem.NotFound) {
		t.Errorf("Revert to what is not there: %v, want NotFound", err)
	}
	if err := p.DeleteSnapshot(b.ctx(), task.ID, "two"); !problem.Is(err, problem.NotFound) {
		t.Errorf("DeleteSnapshot of what is not there: %v, want NotFound", err)
	}
	b.running(task)
}
