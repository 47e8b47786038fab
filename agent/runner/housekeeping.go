package runner

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/agent/store"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

const (
	// housekeepingPeriod is how often the disk is looked at when nothing happens.
	housekeepingPeriod = 5 * time.Minute
	refusedRetry       = 10 * time.Second
)

// housekeeping does what belongs to no single alloc, until ctx ends: assignments that
// could not be stored are tried again, allocs that may not go on without servers are
// stopped, and old directories are deleted.
func (m *Manager) housekeeping(ctx context.Context) {
	for {
		m.deleteOldDirs()
		d := min(housekeepingPeriod, m.retryRefused(), m.stopDisconnected())
		timer := time.NewTimer(d)
		select {
		case <-ctx.Done():
		case <-m.wake:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// retryRefused tries to store and run what was refused, and says when to try again.
func (m *Manager) retryRefused() time.Duration {
	m.mu.Lock()
	as := store.Assignments{Revision: m.revision}
	for _, p := range m.refused {
		as.Allocs = append(as.Allocs, p.alloc)
		if p.job != nil {
			as.Jobs = append(as.Jobs, p.job)
		}
	}
	m.mu.Unlock()
	if len(as.Allocs) == 0 {
		return housekeepingPeriod
	}
	if err := m.cfg.Store.Assign(as); err != nil {
		return refusedRetry
	}
	var added []*alloc
	m.mu.Lock()
	for _, def := range as.Allocs {
		if p, ok := m.refused[def.GetId()]; ok {
			m.log.Info("an alloc that had been refused can be stored now", "alloc", def.GetId())
			added = append(added, m.add(p))
		}
	}
	m.mu.Unlock()
	m.start(added)
	return housekeepingPeriod
}

// Disconnected tells when the servers were last heard; the zero time: they are heard now.
func (m *Manager) Disconnected(since time.Time) {
	m.mu.Lock()
	m.lostAt = since
	m.mu.Unlock()
	m.poke()
}

// stopDisconnected stops the allocs whose on_disconnect.stop_after has passed, and says
// when the next one's will.
func (m *Manager) stopDisconnected() time.Duration {
	m.mu.Lock()
	lostAt := m.lostAt
	all := make([]*alloc, 0, len(m.allocs))
	for _, a := range m.allocs {
		all = append(all, a)
	}
	m.mu.Unlock()
	soonest := housekeepingPeriod
	if lostAt.IsZero() {
		return soonest
	}
	away := time.Since(lostAt)
	for _, a := range all {
		after := a.stopAfter()
		switch {
		case after <= 0 || a.terminal():
		case away < after:
			soonest = min(soonest, after-away)
		default:
			m.log.Warn("no server was heard for as long as the group may go on without; it is stopped", "alloc", a.id, "stop_after", after)
			a.giveUp("no server was heard for " + after.String() + " (on_disconnect.stop_after)")
		}
	}
	return soonest
}

// allocEnded is called when an alloc's last task is over.
func (m *Manager) allocEnded(a *alloc) {
	m.log.Info("alloc ended", "alloc", a.id)
	m.mu.Lock()
	running := m.ctx != nil && m.ctx.Err() == nil
	if running && hasOwnCPUs(a.current().GetAssignment()) {
		m.wg.Go(m.spreadCPUs)
	}
	m.mu.Unlock()
	m.poke()
}

// maybeCleanUp deletes an alloc that the servers have forgotten, once all its tasks are
// over. A crash in between is followed by the same again.
func (a *alloc) maybeCleanUp() {
	m := a.m
	m.mu.Lock()
	ctx := m.ctx
	ready := a.removed && !a.cleaned
	for _, t := range a.tasks {
		select {
		case <-t.done:
			ready = ready && t.rec.Phase == store.Dead
		default:
			ready = false
		}
	}
	a.cleaned = a.cleaned || ready
	m.mu.Unlock()
	for wait := retryMin; ready; wait = min(2*wait, retryMax) {
		err := m.fault("before delete")
		if err != nil {
			return
		}
		if err = m.cfg.Layout.removeAlloc(a.id); err == nil {
			err = m.fault("deleted")
			if err != nil {
				return
			}
			err = m.cfg.Store.Forget(a.id)
		}
		if err == nil {
			break
		}
		m.log.Warn("an alloc that the servers have forgotten cannot be deleted yet", "alloc", a.id, "error", err)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
	if ready {
		m.forgotten(a)
	}
}

// forgotten drops an alloc that is gone from disk and store, and runs it anew when it
// was assigned again meanwhile.
func (m *Manager) forgotten(a *alloc) {
	a.halt()
	m.cfg.Reporter.Forget(a.id)
	m.mu.Lock()
	delete(m.allocs, a.id)
	if m.removing--; m.removing == 0 { // thousands go at a time, and this looks at all that stay
		m.forgetJobs(a.again)
	}
	if a.again != nil {
		m.refused[a.id] = *a.again
		m.poke()
	}
	m.mu.Unlock()
	m.log.Info("alloc deleted", "alloc", a.id)
}

// forgetJobs drops the jobs that no alloc runs any more, nor one that is to run again; mu is
// held.
func (m *Manager) forgetJobs(again *pending) {
	used := map[store.JobKey]bool{}
	for _, a := range m.allocs {
		used[store.KeyFor(a.current())] = true
	}
	for key := range m.jobs {
		if !used[key] && (again == nil || key != store.KeyFor(again.alloc)) {
			delete(m.jobs, key)
		}
	}
}

// deleteOldDirs deletes the directories of ended allocs, oldest first, as long as there
// are too many of them or the disk is too full; those with a disk that a successor may want
// are left. Their records stay until the servers forget them.
func (m *Manager) deleteOldDirs() {
	type deadAlloc struct {
		id    string
		at    time.Time
		alloc *alloc
	}
	var dead []deadAlloc
	m.mu.Lock()
	for _, a := range m.allocs {
		if a.terminal() && !a.removed {
			dead = append(dead, deadAlloc{a.id, a.endedAt(), a})
		}
	}
	m.mu.Unlock()
	dead = slices.DeleteFunc(dead, func(d deadAlloc) bool { return m.cfg.Layout.untouched(d.id) || d.alloc.keepsDisk() })
	slices.SortFunc(dead, func(a, b deadAlloc) int {
		if c := a.at.Compare(b.at); c != 0 {
			return c
		}
		return strings.Compare(a.id, b.id)
	})
	for i, d := range dead {
		if len(dead)-i <= m.cfg.MaxDead && diskPercent(m.cfg.Layout.Data) <= m.cfg.MaxDiskPercent {
			return
		}
		if err := m.cfg.Layout.removeAlloc(d.id); err != nil {
			m.log.Warn("the directory of an ended alloc cannot be deleted", "alloc", d.id, "error", err)
			return
		}
		m.log.Info("deleted the directory of an ended alloc to make room", "alloc", d.id)
	}
}

func (a *alloc) endedAt() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.status == berthv1.Alloc_pending {
		return time.Time{}
	}
	return a.since
}

// sweep deletes the directories that belong to no alloc: the store that knew them was
// lost, and the servers have forgotten them. Where a task may still run in one it stays.
func (m *Manager) sweep() {
	known := map[string]bool{}
	m.mu.Lock()
	for id := range m.allocs {
		known[id] = true
	}
	for id := range m.refused {
		known[id] = true
	}
	m.mu.Unlock()
	for _, top := range []string{"private", "allocs"} {
		entries, err := os.ReadDir(filepath.Join(m.cfg.Layout.Data, top))
		if err != nil {
			continue
		}
		for _, e := range entries {
			id := e.Name()
			if known[id] {
				continue
			}
			handles, _ := filepath.Glob(filepath.Join(m.cfg.Layout.privateDir(id), "*.handle"))
			if len(handles) > 0 {
				m.log.Warn("something may still run here that neither the agent's store nor the servers know; it is left alone", "alloc", id, "handles", handles)
				continue
			}
			if err := m.cfg.Layout.removeAlloc(id); err != nil {
				m.log.Warn("a directory that belongs to no alloc cannot be deleted", "alloc", id, "error", err)
			}
		}
	}
}

// untouched says that nothing of an alloc is on the disk.
func (l Layout) untouched(alloc string) bool {
	for _, dir := range []string{l.AllocDir(alloc), l.privateDir(alloc)} {
		if _, err := os.Lstat(filepath.Clean(dir)); err == nil {
			return false
		}
	}
	return true
}

// diskPercent is how full the disk of a directory is, as df counts it: what is used of
// what is used or can be had by us, whatever else the disk keeps back. 0 when that is not
// known.
func diskPercent(dir string) int {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return 0
	}
	used := st.Blocks - st.Bfree
	if used+st.Bavail == 0 {
		return 0
	}
	return int(used * 100 / (used + st.Bavail))
}
