package qemu_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/drivertest"
	"github.com/berthd/berth/drivers/qemu/qemutest"
	"github.com/berthd/berth/problem"
)

// counts is a guest that counts its boots on a disk, and then ticks.
func (f *fixture) counts() *drivers.Task {
	return f.task(qemutest.With(qemutest.Machine(f.g, "boots /dev/vda", "tick"), drivertest.Config{
		"disk": []any{map[string]any{"name": "data", "size": 16}, map[string]any{"name": "more", "size": 16, "iops": 10000}},
	}))
}

func (f *fixture) snapshot(t *drivers.Task, req drivers.SnapshotRequest) *drivers.Snapshot {
	f.Helper()
	s, err := f.d.Snapshot(f.ctx(), t.ID, &req)
	if err != nil {
		f.Fatalf("Snapshot: %v", err)
	}
	return s
}

func (f *fixture) names(t *drivers.Task) string {
	f.Helper()
	all, err := f.d.Snapshots(f.ctx(), t.ID)
	if err != nil {
		f.Fatal(err)
	}
	var names []string
	for _, s := range all {
		names = append(names, s.Name)
	}
	return strings.Join(names, " ")
}

// Disks go back to the instant of the snapshot, by a new start of the machine.
func TestSnapshotOfDisks(t *testing.T) {
	f := setUp(t)
	task := f.counts()
	f.start(task)
	f.shows(task, "boot 1 of /dev/vda")
	if s := f.snapshot(task, drivers.SnapshotRequest{Name: "first", Description: "of the first boot"}); s.Memory || s.Bytes != 0 || s.At.IsZero() {
		t.Errorf("%+v", s)
	}
	f.act(task, drivers.ActionReset)
	f.shows(task, "boot 2 of /dev/vda")
	f.snapshot(task, drivers.SnapshotRequest{Name: "1"})
	if got := f.names(task); got != "first 1" {
		t.Errorf("there are %q", got)
	}
	f.again()
	if err := f.d.Recover(f.ctx(), task, nil); err != nil {
		t.Fatal(err)
	}
	if got := f.names(task); got != "first 1" {
		t.Errorf("after the agent's death there are %q", got)
	}
	if err := f.d.Revert(f.ctx(), task.ID, "first"); err != nil {
		t.Fatal(err)
	}
	f.until("boot 2 again", func() bool { return strings.Count(output(task), "boot 2 of /dev/vda") == 2 })
	if err := f.d.DeleteSnapshot(f.ctx(), task.ID, "first"); err != nil {
		t.Fatal(err)
	}
	if got := f.names(task); got != "1" {
		t.Errorf("after the deletion there are %q", got)
	}
	if err := f.d.Revert(f.ctx(), task.ID, "first"); !problem.Is(err, problem.NotFound) {
		t.Errorf("back to what was deleted: %v", err)
	}
	f.snapshot(task, drivers.SnapshotRequest{Name: "first"}) // the name is free again
}

// With its memory the machine goes on from the instant of the snapshot.
func TestSnapshotOfMemory(t *testing.T) {
	f := setUp(t)
	task := f.counts()
	f.start(task)
	f.shows(task, "tick 3")
	s := f.snapshot(task, drivers.SnapshotRequest{Name: "m", Memory: true})
	if s.Bytes < 1<<20 {
		t.Errorf("the snapshot takes %d bytes", s.Bytes)
	}
	f.shows(task, "tick 12")
	if err := f.d.Revert(f.ctx(), task.ID, "m"); err != nil {
		t.Fatal(err)
	}
	f.until("tick 12 again", func() bool { return strings.Count(output(task), "tick 12\r\n") == 2 })
	if n := strings.Count(output(task), "boot 1 of"); n != 1 {
		t.Errorf("the guest has booted %d times", n)
	}
}

func TestSnapshotRefusals(t *testing.T) {
	f := setUp(t)
	task := f.counts()
	f.start(task)
	f.snapshot(task, drivers.SnapshotRequest{Name: "a"})
	for name, want := range map[string]problem.Kind{"a": problem.Conflict, "": problem.Invalid, "a b": problem.Invalid, "-a": problem.Invalid} {
		if _, err := f.d.Snapshot(f.ctx(), task.ID, &drivers.SnapshotRequest{Name: name}); !problem.Is(err, want) {
			t.Errorf("%q: %v, want %v", name, err, want)
		}
	}
	if _, err := f.d.Snapshot(f.ctx(), task.ID, &drivers.SnapshotRequest{Name: "c", Consistent: true}); !problem.Is(err, problem.Unavailable) {
		t.Errorf("consistent without an agent in the guest: %v", err)
	}
	if err := f.d.DeleteSnapshot(f.ctx(), task.ID, "none"); !problem.Is(err, problem.NotFound) {
		t.Errorf("deleting what is not there: %v", err)
	}
	if got := f.names(task); got != "a" {
		t.Errorf("there are %q", got)
	}
	bare := f.task(qemutest.Machine(f.g, "tick"))
	f.start(bare)
	if _, err := f.d.Snapshot(f.ctx(), bare.ID, &drivers.SnapshotRequest{Name: "a"}); !problem.Is(err, problem.Unsupported) {
		t.Errorf("without a disk: %v", err)
	}
}

func (f *fixture) act(t *drivers.Task, action drivers.Action) {
	f.Helper()
	if err := f.d.Control(f.ctx(), t.ID, action); err != nil {
		f.Fatalf("%s: %v", action, err)
	}
}

// rewrite changes what is written down of a machine's snapshots, to what an agent leaves
// that dies in between.
func rewrite(t *testing.T, task *drivers.Task, change func(index map[string]any)) {
	t.Helper()
	path := filepath.Join(task.Dirs.Task, "machine", "snapshots.json")
	b, err := os.ReadFile(path)
	index := map[string]any{}
	if err == nil {
		err = json.Unmarshal(b, &index)
	}
	if err == nil {
		change(index)
		b, err = json.Marshal(index)
	}
	if err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// inImage says whether a disk's image has a snapshot, whatever is written down of it.
func inImage(t *testing.T, task *drivers.Task, name string) bool {
	t.Helper()
	path := filepath.Join(task.Dirs.Task, "machine", "data.qcow2")
	out, err := exec.Command("qemu-img", "snapshot", "-U", "-l", path).CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-img: %v %s", err, out)
	}
	return strings.Contains(string(out), "berth-"+name)
}

// A snapshot that the agent's death has interrupted is not there, and not in the images.
func TestSnapshotIsTakenBack(t *testing.T) {
	f := setUp(t)
	task := f.counts()
	f.start(task)
	f.snapshot(task, drivers.SnapshotRequest{Name: "whole"})
	f.snapshot(task, drivers.SnapshotRequest{Name: "half"})
	f.again()
	rewrite(t, task, func(index map[string]any) {
		delete(index["list"].([]any)[1].(map[string]any), "whole")
	})
	if err := f.d.Recover(f.ctx(), task, nil); err != nil {
		t.Fatal(err)
	}
	if got := f.names(task); got != "whole" {
		t.Errorf("there are %q", got)
	}
	f.until("the half snapshot's end", func() bool { return !inImage(t, task, "half") })
	if !inImage(t, task, "whole") {
		t.Error("the whole snapshot is gone too")
	}
}

// A machine that was to start from a snapshot does so, whoever starts it.
func TestRevertIsFinished(t *testing.T) {
	f := setUp(t)
	task := f.counts()
	f.start(task)
	f.shows(task, "boot 1 of /dev/vda")
	f.snapshot(task, drivers.SnapshotRequest{Name: "first"})
	f.act(task, drivers.ActionReset)
	f.shows(task, "boot 2 of /dev/vda")
	rewrite(t, task, func(index map[string]any) { index["revert"] = "first" })
	if err := f.d.Stop(f.ctx(), task.ID, "", 0); err != nil {
		t.Fatal(err)
	}
	if err := f.d.Remove(f.ctx(), task, nil); err != nil {
		t.Fatal(err)
	}
	f.start(task)
	f.until("boot 2 again", func() bool { return strings.Count(output(task), "boot 2 of /dev/vda") == 2 })
}
