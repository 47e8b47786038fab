package fsm

import (
	"github.com/google/uuid"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// allocsReported writes what agents say of their allocations. An allocation that is
// over stays over, whatever comes late or twice.
func (a *applier) allocsReported(f *berthv1.AllocsReported) {
	for _, u := range f.GetUpdates() {
		stored := a.Alloc(u.GetAllocId())
		if stored == nil || (stored.Ended() && !ended(u.GetStatus())) {
			continue
		}
		alloc := a.amend(stored, func(n *berthv1.Alloc) {
			n.Status, n.StatusReason, n.StatusTime = u.GetStatus(), u.GetStatusReason(), u.GetStatusTime()
			n.Tasks = u.GetTasks()
		})
		if alloc.Ended() && !stored.Ended() {
			a.grants.release(alloc)
		}
	}
}

func ended(s berthv1.Alloc_Status) bool {
	return s == berthv1.Alloc_complete || s == berthv1.Alloc_failed
}

// amend stores a changed copy of an allocation.
func (a *applier) amend(stored *berthv1.Alloc, set func(*berthv1.Alloc)) *berthv1.Alloc {
	n := stored.ShallowCopy()
	set(n)
	n.ModifyRevision, n.ModifyTime = a.Revision(), a.timestamp
	a.PutAlloc(n)
	return n
}

func (a *applier) plan(p *berthv1.Plan) error {
	for _, c := range p.GetChanges() {
		a.allocChanged(c)
	}
	if p.GetAtomic() {
		a.placeAtomically(p.GetPlacements())
	} else {
		for _, alloc := range p.GetPlacements() {
			if err := a.settle(alloc); err != nil {
				a.refuse(alloc, err)
				continue
			}
			a.place(alloc)
		}
	}
	for _, eval := range p.GetEvaluations() {
		a.putEvaluation(eval)
	}
	for _, c := range p.GetJobs() {
		a.jobStatusChanged(c)
	}
	return nil
}

// placeAtomically places all of them or none.
func (a *applier) placeAtomically(allocs []*berthv1.Alloc) {
	var settled []*berthv1.Alloc
	twice := map[string]bool{}
	for _, alloc := range allocs {
		err := a.settle(alloc)
		switch {
		case err != nil:
			a.refuse(alloc, err)
		case twice[alloc.GetId()]:
			a.grants.release(alloc)
			a.refuse(alloc, problem.New(problem.Exists, "alloc "+alloc.GetId(), "it is in the plan twice"))
		default:
			twice[alloc.GetId()] = true
			settled = append(settled, alloc)
		}
	}
	if len(a.refused) == 0 {
		for _, alloc := range settled {
			a.place(alloc)
		}
		return
	}
	for _, alloc := range settled {
		a.grants.release(alloc)
		a.refuse(alloc, problem.New(problem.Conflict, "", "another instance of its gang was refused"))
	}
}

func (a *applier) refuse(alloc *berthv1.Alloc, err error) {
	a.refused = append(a.refused, Refusal{AllocID: alloc.GetId(), Reason: err})
}

// settle says why an allocation cannot be placed; when it can, its grant is held and it
// shares its names with its job and node.
func (a *applier) settle(alloc *berthv1.Alloc) error {
	if uuid.Validate(alloc.GetId()) != nil {
		return problem.New(problem.Invalid, "alloc", "%q is no allocation id", alloc.GetId())
	}
	if a.Alloc(alloc.GetId()) != nil {
		return problem.New(problem.Exists, "alloc "+alloc.GetId(), "it is there already")
	}
	job := a.Job(alloc.GetNamespace(), alloc.GetJob())
	if job == nil || job.GetStopped() {
		return problem.New(problem.Conflict, "job "+alloc.GetJob(), "it is gone or stopped")
	}
	if v := alloc.GetJobVersion(); v != job.GetVersion() && a.JobVersion(alloc.GetNamespace(), alloc.GetJob(), v) == nil {
		return problem.New(problem.Conflict, "job "+alloc.GetJob(), "version %d is not kept", v)
	}
	node := a.Node(alloc.GetNodeId())
	if node == nil {
		return problem.New(problem.Conflict, "node "+alloc.GetNodeId(), "it is gone")
	}
	if node.GetStatus() != berthv1.Node_ready || node.GetEligibility() != berthv1.Node_eligible {
		return problem.New(problem.Conflict, "node "+node.GetName(), "it is %s and %s", node.GetStatus(), node.GetEligibility())
	}
	alloc.Namespace, alloc.Job = job.GetNamespace(), job.GetName()
	alloc.NodeId, alloc.NodeName = node.GetId(), node.GetName()
	return a.grants.hold(alloc)
}

// place writes an allocation that was settled. It came with the entry and belongs to
// nobody else, so it is not copied.
func (a *applier) place(n *berthv1.Alloc) {
	n.CreateRevision, n.ModifyRevision, n.AssignRevision = a.Revision(), a.Revision(), a.Revision()
	n.CreateTime = a.timestamp
	n.ModifyTime = a.timestamp
	n.Desired, n.Status, n.StatusTime, n.Tasks = berthv1.Alloc_run, berthv1.Alloc_pending, nil, nil
	a.PutAlloc(n)
	if n.GetPreviousAlloc() == "" {
		return
	}
	if previous := a.Alloc(n.GetPreviousAlloc()); previous != nil {
		a.amend(previous, func(p *berthv1.Alloc) { p.NextAlloc = n.GetId() })
	}
}

// allocChanged changes what is wanted of an allocation; one that is gone is passed over.
func (a *applier) allocChanged(c *berthv1.AllocChange) {
	stored := a.Alloc(c.GetAllocId())
	if stored == nil {
		return
	}
	a.amend(stored, func(n *berthv1.Alloc) {
		// What is to stop stays so: nothing starts it again.
		if c.Desired != nil && stored.GetDesired() == berthv1.Alloc_run {
			n.Desired, n.DesiredReason, n.AssignRevision = c.GetDesired(), c.GetDesiredReason(), a.Revision()
			n.PreemptedBy = c.GetPreemptedBy()
		}
		if c.Status != nil && !stored.Ended() {
			n.Status, n.StatusReason, n.StatusTime = c.GetStatus(), c.GetStatusReason(), a.timestamp
		}
		if v := c.GetJobVersion(); v != 0 && a.JobVersion(n.GetNamespace(), n.GetJob(), v) != nil {
			n.JobVersion, n.AssignRevision = v, a.Revision()
		}
		if c.GetNextAlloc() != "" {
			n.NextAlloc = c.GetNextAlloc()
		}
		if c.GetRescheduleAfter() != nil {
			n.RescheduleAfter = c.GetRescheduleAfter()
		}
	})
	if after := a.Alloc(c.GetAllocId()); after.Ended() && !stored.Ended() {
		a.grants.release(after)
	}
}

// collected forgets what is over. What still matters is kept, whoever asked.
func (a *applier) collected(f *berthv1.Collected) {
	for _, id := range f.GetAllocIds() {
		if alloc := a.Alloc(id); alloc != nil && alloc.Collectable(a.Node(alloc.GetNodeId()) != nil) {
			a.DeleteAlloc(id)
		}
	}
	for _, id := range f.GetEvaluationIds() {
		a.DeleteEvaluation(id)
	}
	for _, ref := range f.GetJobs() {
		a.jobCollected(ref)
	}
	for _, id := range f.GetNodeIds() {
		if node := a.Node(id); node.GetStatus() == berthv1.Node_down {
			_ = a.nodesRemoved([]string{id}) // kept while allocations are on it
		}
	}
}

func (a *applier) jobCollected(ref *berthv1.JobRef) {
	for alloc := range a.AllocsByJob(ref.GetNamespace(), ref.GetJob()) {
		if ref.GetVersion() == 0 || alloc.GetJobVersion() == ref.GetVersion() {
			return // something of it is left
		}
	}
	job := a.Job(ref.GetNamespace(), ref.GetJob())
	switch {
	case job == nil:
	case ref.GetVersion() == 0:
		if job.GetStopped() || job.GetStatus() == berthv1.Job_dead {
			a.DeleteJob(ref.GetNamespace(), ref.GetJob())
		}
	case ref.GetVersion() != job.GetVersion():
		a.DeleteJobVersion(ref.GetNamespace(), ref.GetJob(), ref.GetVersion())
	}
}
