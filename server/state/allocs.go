package state

import (
	"iter"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Alloc gives an allocation; nil: there is none.
func (t *tables) Alloc(id string) *berthv1.Alloc { return t.allocs.get(&berthv1.Alloc{Id: id}) }

// Allocs iterates over all allocations by id, starting at the first not below start.
func (t *tables) Allocs(start string) iter.Seq[*berthv1.Alloc] {
	return t.allocs.from(&berthv1.Alloc{Id: start})
}

// AllocsByJob iterates over a job's allocations by id.
func (t *tables) AllocsByJob(namespace, job string) iter.Seq[*berthv1.Alloc] {
	return t.AllocsByJobFrom(namespace, job, "")
}

// AllocsByJobFrom is AllocsByJob, starting at the first id not below start.
func (t *tables) AllocsByJobFrom(namespace, job, start string) iter.Seq[*berthv1.Alloc] {
	return t.allocsByJob.from(&berthv1.Alloc{Namespace: namespace, Job: job, Id: start})
}

// AllocsByNode iterates over a node's allocations by id.
func (t *tables) AllocsByNode(nodeID string) iter.Seq[*berthv1.Alloc] {
	return t.allocsNode.from(&berthv1.Alloc{NodeId: nodeID})
}

// AllocsByEval iterates over the allocations that an evaluation placed.
func (t *tables) AllocsByEval(evalID string) iter.Seq[*berthv1.Alloc] {
	return func(yield func(*berthv1.Alloc) bool) {
		eval := t.Evaluation(evalID)
		if eval == nil {
			return
		}
		for a := range t.AllocsByJob(eval.GetNamespace(), eval.GetJob()) {
			if a.GetEvalId() == evalID && !yield(a) {
				return
			}
		}
	}
}

// AllocCount is the number of allocations.
func (t *tables) AllocCount() int { return t.allocs.len() }

// PutAlloc stores an allocation. Its job and node never change.
func (tx *Tx) PutAlloc(alloc *berthv1.Alloc) {
	before, replaced := tx.allocs.set(alloc)
	tx.allocsByJob.set(alloc)
	tx.allocsNode.set(alloc)
	tx.changed(change{
		table: TableAllocs, namespace: alloc.GetNamespace(), key: alloc.GetId(),
		job: alloc.GetJob(), node: alloc.GetNodeId(), after: alloc, before: orNil(before, replaced),
	})
}

// DeleteAlloc forgets an allocation.
func (tx *Tx) DeleteAlloc(id string) {
	before, ok := tx.allocs.remove(&berthv1.Alloc{Id: id})
	if !ok {
		return
	}
	tx.allocsByJob.remove(before)
	tx.allocsNode.remove(before)
	tx.changed(change{
		table: TableAllocs, namespace: before.GetNamespace(), key: id,
		job: before.GetJob(), node: before.GetNodeId(), before: before,
	})
}
