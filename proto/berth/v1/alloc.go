package berthv1

import (
	"fmt"
	"slices"
)

// Ended says whether every task of the allocation is over, by its agent's word. What it
// was granted is free then.
func (a *Alloc) Ended() bool {
	return a.GetStatus() == Alloc_complete || a.GetStatus() == Alloc_failed
}

// HoldsGrant says whether what the allocation was granted is still its own: until its
// agent says that it is over. A lost allocation holds it: should its node come back, it
// may still run there.
func (a *Alloc) HoldsGrant() bool { return !a.Ended() }

// Terminal says whether nothing more is expected of the allocation: it is over, or lost
// with its node.
func (a *Alloc) Terminal() bool { return a.Ended() || a.GetStatus() == Alloc_lost }

// Wanted says whether the allocation is to run.
func (a *Alloc) Wanted() bool { return a.GetDesired() == Alloc_run }

// Ran says whether any task of the allocation was ever started, as far as is known.
func (a *Alloc) Ran() bool {
	return slices.ContainsFunc(a.GetTasks(), func(t *TaskState) bool { return t.GetStartTime() != nil })
}

// Collectable says whether the allocation may be forgotten: it is over, or lost on a
// node that is gone.
func (a *Alloc) Collectable(nodeExists bool) bool {
	return a.Ended() || (a.GetStatus() == Alloc_lost && !nodeExists)
}

// Name is how people call the allocation: "web.server[2]".
func (a *Alloc) Name() string {
	return fmt.Sprintf("%s.%s[%d]", a.GetJob(), a.GetGroup(), a.GetIndex())
}

// ShallowCopy gives a copy that shares what the fields point to; those are immutable, so
// the copy's fields may be replaced but not changed in place.
func (a *Alloc) ShallowCopy() *Alloc {
	return &Alloc{
		Id: a.GetId(), Namespace: a.GetNamespace(), Job: a.GetJob(), JobVersion: a.GetJobVersion(),
		Group: a.GetGroup(), Index: a.GetIndex(), NodeId: a.GetNodeId(), NodeName: a.GetNodeName(),
		EvalId: a.GetEvalId(), Assignment: a.GetAssignment(),
		Desired: a.GetDesired(), DesiredReason: a.GetDesiredReason(), PreemptedBy: a.GetPreemptedBy(),
		Status: a.GetStatus(), StatusReason: a.GetStatusReason(), StatusTime: a.GetStatusTime(), Tasks: a.GetTasks(),
		PreviousAlloc: a.GetPreviousAlloc(), NextAlloc: a.GetNextAlloc(),
		Reschedules: a.GetReschedules(), RescheduleAfter: a.GetRescheduleAfter(),
		Canary: a.GetCanary(), Health: a.GetHealth(), HealthTime: a.GetHealthTime(), Moved: a.GetMoved(),
		CreateTime: a.GetCreateTime(), ModifyTime: a.GetModifyTime(),
		CreateRevision: a.GetCreateRevision(), ModifyRevision: a.GetModifyRevision(), AssignRevision: a.GetAssignRevision(),
	}
}
