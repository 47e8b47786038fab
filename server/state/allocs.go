package state

import (
	"iter"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Allocations are stored as rows (AllocRow); messages are made of them when somebody
// asks. Whoever looks at many of them looks at rows.

// Alloc gives an allocation; nil: there is none.
func (t *tables) Alloc(id string) *berthv1.Alloc {
	r := t.AllocRow(id)
	return r.Alloc()
}

// AllocRow gives an allocation's row; it Exists or not.
func (t *tables) AllocRow(id string) (r AllocRow) {
	if key, ok := ParseAllocID(id); ok {
		r = t.allocs.find(keyOf(key))
	}
	return r
}

// AllocRowOf is AllocRow by the id's bytes.
func (t *tables) AllocRowOf(id AllocID) AllocRow { return t.allocs.find(keyOf(id)) }

// Allocs iterates over all allocations by id, starting at the first not below start.
func (t *tables) Allocs(start string) iter.Seq[*berthv1.Alloc] {
	return messages(start, t.rows(t.allocs.from(lowest(start))))
}

// AllocsByJob iterates over a job's allocations by id.
func (t *tables) AllocsByJob(namespace, job string) iter.Seq[*berthv1.Alloc] {
	return t.AllocsByJobFrom(namespace, job, "")
}

// AllocsByJobFrom is AllocsByJob, starting at the first id not below start.
func (t *tables) AllocsByJobFrom(namespace, job, start string) iter.Seq[*berthv1.Alloc] {
	return messages(start, t.rows(t.allocs.sorted(t.allocs.ofJob(namespace, job), lowest(start))))
}

// AllocsByNode iterates over a node's allocations by id.
func (t *tables) AllocsByNode(nodeID string) iter.Seq[*berthv1.Alloc] {
	return messages("", t.rows(t.allocs.sorted(t.allocs.ofNode(nodeID), allocKey{})))
}

// AllocsByEval iterates over the allocations that an evaluation placed.
func (t *tables) AllocsByEval(evalID string) iter.Seq[*berthv1.Alloc] {
	return func(yield func(*berthv1.Alloc) bool) {
		eval := t.Evaluation(evalID)
		if eval == nil {
			return
		}
		placed := func(yield func(uint32) bool) {
			for slot := range t.allocs.ofJob(eval.GetNamespace(), eval.GetJob()) {
				if (*t.allocs.cohorts.at(t.allocs.fixed.at(slot).cohort)).evalID == evalID && !yield(slot) {
					return
				}
			}
		}
		messages("", t.rows(t.allocs.sorted(placed, allocKey{})))(yield)
	}
}

// AllocRows iterates over all allocations by id.
func (t *tables) AllocRows() iter.Seq[*AllocRow] { return t.rows(t.allocs.from(allocKey{})) }

// AllocRowsByJob iterates over a job's allocations, in no order that means anything. The
// row is only valid until the next one.
func (t *tables) AllocRowsByJob(namespace, job string) iter.Seq[*AllocRow] {
	return t.rows(t.allocs.ofJob(namespace, job))
}

// AllocRowsByNode is AllocRowsByJob for a node.
func (t *tables) AllocRowsByNode(nodeID string) iter.Seq[*AllocRow] {
	return t.rows(t.allocs.ofNode(nodeID))
}

// AllocCount is the number of allocations.
func (t *tables) AllocCount() int { return t.allocs.len() }

// rows gives the rows of slots.
func (t *tables) rows(slots iter.Seq[uint32]) iter.Seq[*AllocRow] {
	return func(yield func(*AllocRow) bool) {
		for slot := range slots {
			r := t.allocs.row(slot)
			if !yield(&r) {
				return
			}
		}
	}
}

// messages makes messages of rows that come by id, from the first not below start.
func messages(start string, rows iter.Seq[*AllocRow]) iter.Seq[*berthv1.Alloc] {
	return func(yield func(*berthv1.Alloc) bool) {
		below := start != ""
		for r := range rows {
			if below && r.ID().String() < start {
				continue
			}
			below = false
			if !yield(r.Alloc()) {
				return
			}
		}
	}
}

// PutAlloc stores an allocation, whose id is a UUID in its canonical form.
func (tx *Tx) PutAlloc(alloc *berthv1.Alloc) {
	before, after := tx.allocs.put(alloc)
	tx.allocChanged(&before, &after)
}

// DeleteAlloc forgets an allocation.
func (tx *Tx) DeleteAlloc(id string) {
	if key, ok := ParseAllocID(id); ok {
		if before := tx.allocs.remove(keyOf(key)); before.Exists() {
			tx.allocChanged(&before, &AllocRow{})
		}
	}
}

func (tx *Tx) allocChanged(before, after *AllocRow) {
	either := after
	if !after.Exists() {
		either = before
	}
	tx.revisedBy(either)
	if before.Exists() && (before.cohort.job != either.cohort.job || before.node != either.node) {
		tx.revisedBy(before)
	}
	// In place: a change is large, and put together elsewhere it is copied twice.
	c := tx.store.history.next()
	c.Revision, c.Time, c.Table, c.Kind = tx.revision, tx.time, TableAllocs, kindOf(before.Exists(), after.Exists())
	c.Namespace, c.rowBefore, c.row = either.Namespace(), *before, *after
	c.key, c.item, c.before = "", nil, nil
	tx.store.watchers.allocChanged(either)
	tx.servicesFollow(before, after)
}

// revisedBy notes a change for Revised.
func (tx *Tx) revisedBy(r *AllocRow) {
	if job, node := &r.cohort.job.revised, &r.node.revised; job.Load() != tx.revision || node.Load() != tx.revision {
		job.Store(tx.revision)
		node.Store(tx.revision)
		tx.allocRevised()
	}
}
