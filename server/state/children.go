package state

import (
	"cmp"
	"iter"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Children are jobs that were run from another one, by its schedule or by dispatch.

// compareChildren orders them by parent, and those of a parent by age.
func compareChildren(a, b *berthv1.Job) int {
	return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetParent(), b.GetParent()),
		cmp.Compare(a.GetCreateRevision(), b.GetCreateRevision()), cmp.Compare(a.GetName(), b.GetName()))
}

// compareDispatched orders children with a token by parent and token.
func compareDispatched(a, b *berthv1.Job) int {
	return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetParent(), b.GetParent()),
		cmp.Compare(a.GetDispatchToken(), b.GetDispatchToken()))
}

// Children iterates over the children of a job, newest first.
func (t *tables) Children(namespace, parent string) iter.Seq[*berthv1.Job] {
	return func(yield func(*berthv1.Job) bool) {
		last := &berthv1.Job{Namespace: namespace, Parent: parent, CreateRevision: ^uint64(0)}
		t.children.Descend(last, func(j *berthv1.Job) bool {
			return j.GetParent() == parent && j.GetNamespace() == namespace && yield(j)
		})
	}
}

// Dispatched gives the child of a job that was dispatched with a token; nil: none is kept.
func (t *tables) Dispatched(namespace, parent, token string) *berthv1.Job {
	return get(t.dispatched, &berthv1.Job{Namespace: namespace, Parent: parent, DispatchToken: token})
}

// ScheduledJobs iterates over all jobs with a schedule by namespace and name. Watch
// TableSchedules to hear of changes of them.
func (t *tables) ScheduledJobs() iter.Seq[*berthv1.Job] {
	return from(t.scheduled, &berthv1.Job{}, nil)
}

// indexJob replaces a job by another in the indexes of families; either may be nil.
func (tx *Tx) indexJob(before, after *berthv1.Job) {
	if before.GetParent() != "" {
		tx.children.Delete(before)
		if before.GetDispatchToken() != "" {
			tx.dispatched.Delete(before)
		}
	}
	if after.GetParent() != "" {
		tx.children.Set(after)
		if after.GetDispatchToken() != "" {
			tx.dispatched.Set(after)
		}
	}
	if before.GetSchedule() == nil && after.GetSchedule() == nil {
		return
	}
	if after.GetSchedule() == nil {
		tx.scheduled.Delete(before)
	} else {
		tx.scheduled.Set(after)
	}
	tx.store.watchers.markTable(TableSchedules)
}
