package state

import (
	"cmp"
	"iter"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func compareAllocsByJob(a, b *berthv1.Alloc) int {
	return cmp.Or(
		cmp.Compare(a.GetNamespace(), b.GetNamespace()),
		cmp.Compare(a.GetJob(), b.GetJob()),
		cmp.Compare(a.GetId(), b.GetId()))
}

func compareAllocsByNode(a, b *berthv1.Alloc) int {
	return cmp.Or(cmp.Compare(a.GetNodeId(), b.GetNodeId()), cmp.Compare(a.GetId(), b.GetId()))
}

// Alloc gives an allocation; nil: there is none.
func (t *tables) Alloc(id string) *berthv1.Alloc { return get(t.allocs, &berthv1.Alloc{Id: id}) }

// Allocs iterates over all allocations by id, starting at the first not below start.
func (t *tables) Allocs(start string) iter.Seq[*berthv1.Alloc] {
	return from(t.allocs, &berthv1.Alloc{Id: start}, nil)
}

// AllocsByJob iterates over a job's allocations by id.
func (t *tables) AllocsByJob(namespace, job string) iter.Seq[*berthv1.Alloc] {
	return t.AllocsByJobFrom(namespace, job, "")
}

// AllocsByJobFrom is AllocsByJob, starting at the first id not below start.
func (t *tables) AllocsByJobFrom(namespace, job, start string) iter.Seq[*berthv1.Alloc] {
	return from(t.allocsByJob, &berthv1.Alloc{Namespace: namespace, Job: job, Id: start}, func(a *berthv1.Alloc) bool {
		return a.GetJob() == job && a.GetNamespace() == namespace
	})
}

// AllocsByNode iterates over a node's allocations by id.
func (t *tables) AllocsByNode(nodeID string) iter.Seq[*berthv1.Alloc] {
	return from(t.allocsNode, &berthv1.Alloc{NodeId: nodeID}, func(a *berthv1.Alloc) bool {
		return a.GetNodeId() == nodeID
	})
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
func (t *tables) AllocCount() int { return t.allocs.Len() }

// PutAlloc stores an allocation. Its job and node never change.
func (tx *Tx) PutAlloc(alloc *berthv1.Alloc) {
	before, replaced := tx.allocs.Set(alloc)
	tx.allocsByJob.Set(alloc)
	tx.allocsNode.Set(alloc)
	tx.changed(change{
		table: TableAllocs, namespace: alloc.GetNamespace(), key: alloc.GetId(),
		job: alloc.GetJob(), node: alloc.GetNodeId(), after: alloc, before: orNil(before, replaced),
	})
}

// DeleteAlloc forgets an allocation.
func (tx *Tx) DeleteAlloc(id string) {
	before, ok := tx.allocs.Delete(&berthv1.Alloc{Id: id})
	if !ok {
		return
	}
	tx.allocsByJob.Delete(before)
	tx.allocsNode.Delete(before)
	tx.changed(change{
		table: TableAllocs, namespace: before.GetNamespace(), key: id,
		job: before.GetJob(), node: before.GetNodeId(), before: before,
	})
}
