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
	n.ModifyRevision, n.ModifyTime = a.Revision(), timestamp(a.Time())
	a.PutAlloc(n)
	return n
}

func (a *applier) plan(p *berthv1.Plan) error {
	for _, c := range p.GetChanges() {
		a.allocChanged(c)
	}
	placed := make([]*berthv1.Alloc, 0, len(p.GetPlacements()))
	for _, alloc := range p.GetPlacements() {
		if err := a.checkPlacement(alloc); err != nil {
			a.refused = append(a.refused, Refusal{AllocID: alloc.GetId(), Reason: err})
			continue
		}
		placed = append(placed, alloc)
	}
	if p.GetAtomic() && len(a.refused) > 0 {
		for _, alloc := range placed {
			a.grants.release(alloc)
			a.refused = append(a.refused, Refusal{AllocID: alloc.GetId(),
				Reason: problem.New(problem.Conflict, "", "another instance of its gang was refused")})
		}
		placed = nil
	}
	for _, alloc := range placed {
		a.place(alloc)
	}
	for _, eval := range p.GetEvaluations() {
		a.putEvaluation(eval)
	}
	for _, c := range p.GetJobs() {
		a.jobStatusChanged(c)
	}
	return nil
}

// checkPlacement says why an allocation cannot be placed; when it can, its grant is held.
func (a *applier) checkPlacement(alloc *berthv1.Alloc) error {
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
	if a.JobVersion(alloc.GetNamespace(), alloc.GetJob(), alloc.GetJobVersion()) == nil {
		return problem.New(problem.Conflict, "job "+alloc.GetJob(), "version %d is not kept", alloc.GetJobVersion())
	}
	node := a.Node(alloc.GetNodeId())
	if node == nil {
		return problem.New(problem.Conflict, "node "+alloc.GetNodeId(), "it is gone")
	}
	if node.GetStatus() != berthv1.Node_ready || node.GetEligibility() != berthv1.Node_eligible {
		return problem.New(problem.Conflict, "node "+node.GetName(), "it is %s and %s", node.GetStatus(), node.GetEligibility())
	}
	return a.grants.hold(alloc)
}

func (a *applier) place(alloc *berthv1.Alloc) {
	n := alloc.ShallowCopy()
	n.CreateRevision, n.ModifyRevision, n.AssignRevision = a.Revision(), a.Revision(), a.Revision()
	n.CreateTime = timestamp(a.Time())
	n.ModifyTime = n.CreateTime
	n.NodeName = a.Node(n.GetNodeId()).GetName()
	n.Desired, n.Status, n.StatusTime, n.Tasks = berthv1.Alloc_run, berthv1.Alloc_pending, nil, nil
	a.PutAlloc(n)
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
		}
		if c.Status != nil && !stored.Ended() {
			n.Status, n.StatusReason, n.StatusTime = c.GetStatus(), c.GetStatusReason(), timestamp(a.Time())
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
