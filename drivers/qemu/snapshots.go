package qemu

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/qemu/qmp"
	"github.com/berthd/berth/problem"
)

var snapshotName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// snapshotIndex is what is promised of a machine's snapshots. It lies beside the disks,
// and lives as long as they do.
type snapshotIndex struct {
	// List is in the order in which they were taken.
	List []*keptSnapshot `json:"list,omitempty"`
	// Revert is the snapshot whose disks are brought back before the machine starts again.
	Revert string `json:"revert,omitempty"`
}

// keptSnapshot is one of them.
type keptSnapshot struct {
	drivers.Snapshot
	// Type is the machine's.
	Type string `json:"type,omitempty"`
	// Whole: it is promised. Otherwise it is being taken or deleted, and to be removed.
	Whole bool `json:"whole,omitempty"`
}

// tag is the snapshot's name in the images; no number, which would be taken for an id.
func (e *keptSnapshot) tag() string { return "berth-" + e.Name }

const indexFile = "snapshots.json"

func (t *task) snapshots() (*snapshotIndex, error) { return snapshotsOf(t.spec) }

func snapshotsOf(spec *drivers.Task) (*snapshotIndex, error) {
	index := &snapshotIndex{}
	_, err := stateDir(place(spec)).read(indexFile, index)
	return index, err
}

func (t *task) keepSnapshots(index *snapshotIndex) error {
	return stateDir(place(t.spec)).write(indexFile, index)
}

func (i *snapshotIndex) find(name string) *keptSnapshot {
	at := slices.IndexFunc(i.List, func(e *keptSnapshot) bool { return e.Name == name })
	if at < 0 {
		return nil
	}
	return i.List[at]
}

// whole finds a snapshot that is promised.
func (t *task) whole(name string) (*snapshotIndex, *keptSnapshot, error) {
	index, err := t.snapshots()
	if err != nil {
		return nil, nil, err
	}
	e := index.find(name)
	if e == nil || !e.Whole {
		return nil, nil, problem.New(problem.NotFound, "name", "the machine has no snapshot %q", name)
	}
	return index, e, nil
}

// mend removes what is not promised; the caller has the turn.
func (t *task) mend(ctx context.Context, mon *qmp.Monitor) error {
	index, err := t.snapshots()
	if err != nil || !slices.ContainsFunc(index.List, func(e *keptSnapshot) bool { return !e.Whole }) {
		return err
	}
	if err := endJobs(ctx, mon); err != nil {
		return err
	}
	disks, err := t.snapshotDisks()
	if err != nil {
		return err
	}
	for _, e := range slices.Clone(index.List) {
		if e.Whole {
			continue
		}
		if err := remove(ctx, mon, disks, e.tag()); err != nil {
			return asProblem(ctx, err)
		}
		index.List = slices.DeleteFunc(index.List, func(other *keptSnapshot) bool { return other == e })
	}
	return t.keepSnapshots(index)
}

// mendAfterDeath takes back a snapshot that the agent's death has interrupted.
func (t *task) mendAfterDeath(ctx context.Context, mon *qmp.Monitor) {
	index, err := t.snapshots()
	if err != nil || !slices.ContainsFunc(index.List, func(e *keptSnapshot) bool { return !e.Whole }) {
		return
	}
	release, err := t.take(ctx)
	if err != nil {
		return
	}
	defer release()
	if slices.ContainsFunc(index.List, func(e *keptSnapshot) bool { return !e.Whole && e.Consistent && !e.Memory }) {
		t.thaw(ctx)
	}
	if err := t.mend(ctx, mon); err != nil && ctx.Err() == nil {
		t.d.log.Error("taking back a snapshot", "task", t.id, "error", err)
	}
}

// blockNode is as much of a block node as is looked at.
type blockNode struct {
	Name  string `json:"node-name"`
	Image struct {
		Snapshots []struct {
			Name string `json:"name"`
			Size uint64 `json:"vm-state-size"`
		} `json:"snapshots"`
	} `json:"image"`
}

func blockNodes(ctx context.Context, mon *qmp.Monitor) (nodes []blockNode, err error) {
	err = mon.Run(ctx, "query-named-block-nodes", map[string]bool{"flat": true}, &nodes)
	return nodes, err
}

// remove removes a snapshot from the disks that have it.
func remove(ctx context.Context, mon *qmp.Monitor, disks []snapshotDisk, tag string) error {
	nodes, err := blockNodes(ctx, mon)
	if err != nil {
		return err
	}
	for _, d := range disks {
		for _, n := range nodes {
			if n.Name != d.format {
				continue
			}
			for _, s := range n.Image.Snapshots {
				if s.Name != tag {
					continue
				}
				err := mon.Run(ctx, "blockdev-snapshot-delete-internal-sync", map[string]string{"device": d.node, "name": tag}, nil)
				if err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// stateSize is how much a snapshot takes by itself: its memory.
func stateSize(ctx context.Context, mon *qmp.Monitor, disks []snapshotDisk, tag string) (uint64, error) {
	nodes, err := blockNodes(ctx, mon)
	var size uint64
	for _, n := range nodes {
		for _, s := range n.Image.Snapshots {
			if n.Name == disks[0].format && s.Name == tag {
				size += s.Size
			}
		}
	}
	return size, err
}

// snapshotJob is the id of the job that writes or reads a snapshot's memory.
const snapshotJob = "berth-snapshot"

// runJob has QEMU do a job, and returns when it is done.
func runJob(ctx context.Context, mon *qmp.Monitor, command string, args map[string]any) error {
	if err := endJobs(ctx, mon); err != nil {
		return err
	}
	args["job-id"] = snapshotJob
	if err := mon.Run(ctx, command, args, nil); err != nil {
		return err
	}
	return endJobs(ctx, mon)
}

// job is one of QEMU's.
type job struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Error  string `json:"error"`
}

// endJobs waits for the end of the job, if there is one, and gives its error.
func endJobs(ctx context.Context, mon *qmp.Monitor) error {
	for {
		var jobs []job
		if err := mon.Run(ctx, "query-jobs", nil, &jobs); err != nil {
			return err
		}
		i := slices.IndexFunc(jobs, func(j job) bool { return j.ID == snapshotJob })
		if i < 0 {
			return nil
		}
		if jobs[i].Status == "concluded" {
			if err := mon.Run(ctx, "job-dismiss", map[string]string{"id": snapshotJob}, nil); err != nil {
				return err
			}
			if jobs[i].Error != "" {
				return problem.New(problem.Unavailable, "", "QEMU: %s", jobs[i].Error)
			}
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// bringDisksBack makes the disks those of the snapshot that the index says the machine is
// to start from. No QEMU has them open. Done twice it is done once.
func (d *Driver) bringDisksBack(ctx context.Context, spec *drivers.Task) error {
	index, err := snapshotsOf(spec)
	if err != nil || index.Revert == "" {
		return err
	}
	e := index.find(index.Revert)
	disks, err := snapshotDisksOf(spec)
	if err != nil {
		return err
	}
	for _, disk := range disks {
		if e == nil {
			break // it was deleted since
		}
		options := "driver=qcow2,file.driver=file,file.filename=" + strings.ReplaceAll(disk.path, ",", ",,")
		c := exec.CommandContext(ctx, "qemu-img", "snapshot", "--image-opts", "-a", e.tag(), options)
		if out, err := c.CombinedOutput(); err != nil {
			return problem.New(problem.Unavailable, "", "bringing back the disk %s: %w: %s", filepath.Base(disk.path), errors.Join(ctx.Err(), err), out)
		}
	}
	index.Revert = ""
	return stateDir(place(spec)).write(indexFile, index)
}
