package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/agent/disk"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// A sticky disk is alloc/data of a stateful group's instance: the directory "data" in what
// its tasks share. A successor takes it from the newest of its predecessors that has one:
// on the same node by renaming it, from another one by a copy that is renamed when it is
// whole. So the directory is there, in full, or nothing is; what is decided is never asked
// again. Until it is there no task of the successor is prepared. A successor begins with an
// empty disk only when there is none to be had, now or ever, and says so.

// progressPeriod is how often a copy says how far it is.
const progressPeriod = 10 * time.Second

// DataDir is an alloc's sticky disk.
func (l Layout) DataDir(alloc string) string {
	return filepath.Join(l.AllocDir(alloc), "shared", "data")
}

// partDir is where a sticky disk is made, on the same file system as it will be.
func (l Layout) partDir(alloc string) string { return filepath.Join(l.AllocDir(alloc), "data.part") }

// hasData says whether an alloc has its sticky disk.
func (l Layout) hasData(alloc string) bool {
	_, err := os.Lstat(l.DataDir(alloc))
	return err == nil
}

// sticky says that the alloc's group has a sticky disk; of an alloc of which nothing is
// known but its end, that it may.
func (a *alloc) sticky() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.past || a.group.GetStateful().GetStickyDisk()
}

// ran says that a task of it was ever started.
func (a *alloc) ran() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cur.Ran() || (&berthv1.Alloc{Tasks: a.orderedStates()}).Ran()
}

// keepsDisk says that an alloc that has ended has a disk that a successor may want. The
// servers forget it when none will.
func (a *alloc) keepsDisk() bool { return a.sticky() && a.m.cfg.Layout.hasData(a.id) }

// takeDisk has the alloc's sticky disk made, if it has one to be made; false: not yet. One
// task of the alloc does it, the others wait for it. An error comes from a failpoint alone.
func (t *task) takeDisk(ctx context.Context, wakes uint64) (bool, error) {
	a, l := t.alloc, t.m.cfg.Layout
	if !a.sticky() || l.hasData(a.id) {
		return true, nil
	}
	opCtx, release := t.interruptible(ctx, wakes, true)
	defer release()
	select {
	case a.disk <- struct{}{}:
		defer func() { <-a.disk }()
	case <-opCtx.Done():
		return false, nil
	}
	if l.hasData(a.id) {
		return true, nil
	}
	t.rec.State.Phase = berthv1.TaskState_preparing
	t.publish(false)
	err := t.findDisk(opCtx)
	var crash crashed
	switch {
	case err == nil:
		t.succeeded()
		t.publish(false)
		return true, nil
	case errors.As(err, &crash):
		return false, crash.error
	case stoppedBy(opCtx, err):
		return false, nil
	}
	t.tryAgain(ctx, "waiting for its disk", "taking the sticky disk", err)
	return false, nil
}

// crashed is the error of a failpoint among others.
type crashed struct{ error }

// fault is a failpoint in the making of a disk.
func (t *task) fault(point string) error {
	if err := t.m.fault(point); err != nil {
		return crashed{err}
	}
	return nil
}

// findDisk takes the disk of the newest predecessor that has one. One that never ran and
// has none never came to take it: the one before has it.
func (t *task) findDisk(ctx context.Context) error {
	a, l := t.alloc, t.m.cfg.Layout
	id := a.current().GetPreviousAlloc()
	if a.ran() {
		return t.emptyDisk("the one that it had is gone: its tasks took it away")
	}
	for id != "" {
		t.m.mu.Lock()
		p := t.m.allocs[id]
		t.m.mu.Unlock()
		switch {
		case p == nil:
			return t.fetchDisk(ctx)
		case !p.terminal():
			return problem.New(problem.Conflict, "", "alloc %s on this node, which has it, has not ended yet", id)
		case l.hasData(id) && p.sticky():
			return t.renameDisk(id)
		case p.ran():
			return t.emptyDisk("alloc " + id + " on this node left none")
		}
		id = p.current().GetPreviousAlloc()
	}
	return t.emptyDisk("")
}

// renameDisk takes the disk of an alloc that was on this node.
func (t *task) renameDisk(from string) error {
	l := t.m.cfg.Layout
	if err := l.placeDisk(l.DataDir(from), t.alloc.id); err != nil {
		return err
	}
	t.event("disk", "took over that of alloc "+from+", which was on this node")
	return t.fault("disk taken")
}

// emptyDisk makes an empty disk. why says what should have been there; "": nothing.
func (t *task) emptyDisk(why string) error {
	l := t.m.cfg.Layout
	if err := l.makePart(t.alloc.id, 0o777); err != nil { // tasks may run as any user
		return err
	}
	if err := t.fault("disk made"); err != nil {
		return err
	}
	if err := l.placeDisk(l.partDir(t.alloc.id), t.alloc.id); err != nil {
		return err
	}
	if why != "" {
		t.event("disk", "starts with an empty disk: "+why)
		t.log.Warn("a stateful instance starts with an empty disk", "why", why)
	}
	return t.fault("disk taken")
}

// fetchDisk copies the disk from another node.
func (t *task) fetchDisk(ctx context.Context) error {
	l, id := t.m.cfg.Layout, t.alloc.id
	stream, err := t.m.cfg.FetchDisk(ctx, id)
	if problem.Is(err, problem.NotFound) {
		return t.emptyDisk(problem.From(err).Reason)
	}
	if err != nil {
		return err
	}
	defer stream.Close()
	if err := l.makePart(id, 0o700); err != nil {
		return err
	}
	began := time.Now()
	e, said := t.event("disk", "is being copied from another node"), began
	t.publish(false)
	t.alloc.mu.Lock()
	limit := int64(min(t.alloc.group.GetDiskMib(), 1<<40)) << 20
	t.alloc.mu.Unlock()
	count, err := disk.Unpack(ctx, stream, l.partDir(id), limit, func(c disk.Count) {
		if now := time.Now(); now.Sub(said) >= progressPeriod {
			e.Message, said = fmt.Sprintf("is being copied from another node: %s, %d files", bytesWords(c.Bytes), c.Files), now
			t.publish(false)
		}
	})
	if err == nil {
		err = syncAll(l.partDir(id))
	}
	if err != nil {
		_ = os.RemoveAll(l.partDir(id)) // room for others; it is made anew in any case
		return err
	}
	if err := t.fault("disk fetched"); err != nil {
		return err
	}
	if err := l.placeDisk(l.partDir(id), id); err != nil {
		return err
	}
	e.Message = fmt.Sprintf("copied from another node: %s, %d files, in %s", bytesWords(count.Bytes), count.Files, time.Since(began).Round(10*time.Millisecond))
	t.log.Info("the sticky disk was copied", "bytes", count.Bytes, "files", count.Files, "took", time.Since(began))
	return t.fault("disk taken")
}

// makePart makes the directory in which a disk is made; what an earlier try has left there
// goes.
func (l Layout) makePart(alloc string, mode fs.FileMode) error {
	part := l.partDir(alloc)
	err := os.RemoveAll(part)
	if err == nil {
		err = os.Mkdir(part, 0o700)
	}
	if err == nil {
		err = os.Chmod(part, mode) // past the umask
	}
	if err != nil {
		return fmt.Errorf("making the sticky disk: %w", err)
	}
	return nil
}

// placeDisk makes a directory the alloc's sticky disk, at once and for good.
func (l Layout) placeDisk(from, alloc string) error {
	to := l.DataDir(alloc)
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("making the sticky disk: %w", err)
	}
	for _, dir := range []string{filepath.Dir(to), filepath.Dir(from)} {
		d, err := os.Open(dir)
		if err == nil {
			err = errors.Join(d.Sync(), d.Close())
		}
		if err != nil {
			return fmt.Errorf("making the sticky disk: %w", err)
		}
	}
	return nil
}

// syncAll makes everything durable on the file system of a directory.
func syncAll(dir string) error {
	d, err := os.Open(dir)
	if err == nil {
		err = errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
	}
	if err != nil {
		return fmt.Errorf("making the sticky disk durable: %w", err)
	}
	return nil
}

// bytesWords is a number of bytes for people.
func bytesWords(n int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}
