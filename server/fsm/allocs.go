package fsm

import (
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/rows"
)

// allocsReported writes what agents say of their allocations. An allocation that is
// over stays over, whatever comes late or twice.
func (a *applier) allocsReported(f *berthv1.AllocsReported) error {
	for _, u := range f.GetUpdates() {
		a.reported(u)
	}
	if len(f.GetRows()) == 0 {
		return nil
	}
	if err := rows.ReadReports(f.GetRows(), reporting{a}); err != nil {
		return problem.New(problem.Invalid, "rows", "%w", err)
	}
	return nil
}

// reported writes what an agent says of an allocation. A status that nobody knows is
// nobody's.
func (a *applier) reported(u *berthv1.AllocStatusUpdate) {
	row := a.AllocRow(u.GetAllocId())
	if !row.Exists() || (row.Ended() && !ended(u.GetStatus())) || berthv1.Alloc_Status_name[int32(u.GetStatus())] == "" {
		return
	}
	a.amend(row.Alloc(), func(n *berthv1.Alloc) {
		n.Status, n.StatusReason, n.StatusTime = u.GetStatus(), u.GetStatusReason(), u.GetStatusTime()
		n.Tasks = u.GetTasks()
		healthReported(n, u)
	})
	if u.GetHasServices() {
		a.offers(u.GetAllocId(), u.GetServices())
	}
	if ended(u.GetStatus()) && !row.Ended() {
		a.grants.release(&row)
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
	if err := checkRows(p.GetRows()); err != nil {
		return err
	}
	if p.GetAtomic() {
		if err := a.gang(p); err != nil {
			return err
		}
	} else {
		for _, c := range p.GetChanges() {
			a.allocChanged(c)
		}
		a.placeEach(p.GetPlacements())
		if err := a.placeRows(p.GetRows()); err != nil {
			return err
		}
	}
	for _, eval := range p.GetEvaluations() {
		a.putEvaluation(eval)
	}
	for _, c := range p.GetJobs() {
		a.jobStatusChanged(c)
	}
	for _, d := range p.GetDeployments() {
		a.deploymentPlanned(d)
	}
	return nil
}

// checkRows says what is wrong with rows, before anything of their plan is written.
func checkRows(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	if err := rows.CheckPlacements(data); err != nil {
		return problem.New(problem.Invalid, "plan.rows", "%w", err)
	}
	return nil
}

// placeEach places those that can be.
func (a *applier) placeEach(allocs []*berthv1.Alloc) {
	for _, alloc := range allocs {
		if err := a.settle(alloc); err != nil {
			a.refuse(alloc, err)
			continue
		}
		a.place(alloc)
	}
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
			a.grants.giveBack(alloc)
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
		a.grants.giveBack(alloc)
		a.refuse(alloc, problem.New(problem.Conflict, "", "another instance of its gang was refused"))
	}
}

func (a *applier) refuse(alloc *berthv1.Alloc, err error) {
	a.refused = append(a.refused, Refusal{AllocID: alloc.GetId(), Reason: err})
}

// settle says why an allocation cannot be placed; when it can, its grant is held and it
// shares its names with its job and node.
func (a *applier) settle(alloc *berthv1.Alloc) error {
	id, ok := rows.ParseID(alloc.GetId())
	if !ok {
		return problem.New(problem.Invalid, "alloc", "%q is no allocation id", alloc.GetId())
	}
	if there := a.AllocRowOf(id); there.Exists() {
		return alreadyThere(alloc.GetId())
	}
	job, err := a.jobTakes(alloc.GetNamespace(), alloc.GetJob(), alloc.GetJobVersion())
	if err != nil {
		return err
	}
	node, err := a.nodeTakes(alloc.GetNodeId())
	if err != nil {
		return err
	}
	if err := a.admitted(job, node.GetId(), node.GetName()); err != nil {
		return err
	}
	alloc.NodeName = node.GetName()
	return a.grants.hold(alloc)
}

func alreadyThere(id string) error {
	return problem.New(problem.Exists, "alloc "+id, "it is there already")
}

// jobTakes gives a version of a job, or says why nothing can be placed for it.
func (a *applier) jobTakes(namespace, name string, version uint64) (*berthv1.Job, error) {
	job := a.Job(namespace, name)
	if job == nil || job.GetStopped() {
		return nil, problem.New(problem.Conflict, "job "+name, "it is gone or stopped")
	}
	if version == job.GetVersion() {
		return job, nil
	}
	if job = a.JobVersion(namespace, name, version); job == nil {
		return nil, problem.New(problem.Conflict, "job "+name, "version %d is not kept", version)
	}
	return job, nil
}

// nodeTakes gives a node, or says why nothing can be placed on it.
func (a *applier) nodeTakes(id string) (*berthv1.Node, error) {
	node := a.Node(id)
	if node == nil {
		return nil, problem.New(problem.Conflict, "node "+id, "it is gone")
	}
	if node.GetStatus() != berthv1.Node_ready || node.GetEligibility() != berthv1.Node_eligible {
		return nil, problem.New(problem.Conflict, "node "+node.GetName(), "it is %s and %s", node.GetStatus(), node.GetEligibility())
	}
	return node, nil
}

// place writes an allocation that was settled. It came with the entry and belongs to
// nobody else, so it is not copied.
func (a *applier) place(n *berthv1.Alloc) {
	n.CreateRevision, n.ModifyRevision, n.AssignRevision = a.Revision(), a.Revision(), a.Revision()
	n.CreateTime = a.timestamp
	n.ModifyTime = a.timestamp
	n.Desired, n.Status, n.StatusTime, n.Tasks = berthv1.Alloc_run, berthv1.Alloc_pending, nil, nil
	n.Health, n.HealthTime, n.Moved = berthv1.Alloc_undecided, nil, false
	a.PutAlloc(n)
	a.succeeds(n.GetPreviousAlloc(), n.GetId)
}

// succeeds notes at an allocation ("": none) who took over from it.
func (a *applier) succeeds(previous string, id func() string) {
	if previous == "" {
		return
	}
	if stored := a.Alloc(previous); stored != nil {
		a.amend(stored, func(p *berthv1.Alloc) { p.NextAlloc = id() })
	}
}

// allocChanged changes what is wanted of an allocation; one that is gone is passed over,
// and one that cannot have another grant is refused as a whole.
func (a *applier) allocChanged(c *berthv1.AllocChange) {
	row := a.AllocRow(c.GetAllocId())
	if !row.Exists() {
		if c.GetAssignment() != nil {
			a.refused = append(a.refused, Refusal{AllocID: c.GetAllocId(), Reason: problem.New(problem.NotFound, "alloc "+c.GetAllocId(), "it is gone")})
		}
		return
	}
	stored := row.Alloc()
	if c.GetAssignment() != nil {
		if err := a.resize(stored, c); err != nil {
			a.refuse(stored, err)
			return
		}
	}
	after := a.amend(stored, func(n *berthv1.Alloc) {
		if c.GetAssignment() != nil {
			n.Assignment = c.GetAssignment()
		}
		// What is to stop stays so: nothing starts it again.
		if c.Desired != nil && stored.GetDesired() == berthv1.Alloc_run {
			n.Desired, n.DesiredReason, n.AssignRevision = c.GetDesired(), c.GetDesiredReason(), a.Revision()
			n.PreemptedBy, n.Moved = c.GetPreemptedBy(), c.GetMoved()
		}
		if c.Status != nil && !stored.Ended() {
			n.Status, n.StatusReason, n.StatusTime = c.GetStatus(), c.GetStatusReason(), a.timestamp
		}
		if v := c.GetJobVersion(); v != 0 && a.JobVersion(n.GetNamespace(), n.GetJob(), v) != nil {
			a.versionChanged(n, v)
		}
		if c.GetPromote() && n.GetCanary() {
			n.Canary, n.AssignRevision = false, a.Revision()
		}
		if c.GetNextAlloc() != "" {
			n.NextAlloc = c.GetNextAlloc()
		}
		if c.GetRescheduleAfter() != nil {
			n.RescheduleAfter = c.GetRescheduleAfter()
		}
	})
	if after.Ended() && !stored.Ended() {
		a.grants.release(&row)
	}
}

// collected forgets what is over. What still matters is kept, whoever asked.
func (a *applier) collected(f *berthv1.Collected) {
	for _, id := range f.GetAllocIds() {
		if alloc := a.AllocRow(id); alloc.Exists() && alloc.Collectable(func() bool { return a.Node(alloc.NodeID()) != nil }) {
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
	for alloc := range a.AllocRowsByJob(ref.GetNamespace(), ref.GetJob()) {
		if ref.GetVersion() == 0 || alloc.JobVersion() == ref.GetVersion() {
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
	case a.forgettable(job, ref.GetVersion()):
		a.DeleteJobVersion(ref.GetNamespace(), ref.GetJob(), ref.GetVersion())
	}
}
