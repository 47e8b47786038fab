package api

import (
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/state"
)

func summaryOf(view *state.View, job *berthv1.Job) *berthv1.JobSummary {
	return &berthv1.JobSummary{
		Namespace:      job.GetNamespace(),
		Name:           job.GetName(),
		Type:           job.GetType(),
		Status:         job.GetStatus(),
		Priority:       job.GetPriority(),
		Version:        job.GetVersion(),
		Stopped:        job.GetStopped(),
		SubmitTime:     job.GetSubmitTime(),
		Groups:         groupsOf(view, job),
		Parent:         job.GetParent(),
		Scheduled:      job.GetSchedule() != nil,
		NextScheduled:  nextScheduled(job),
		Parameterized:  job.GetParameters() != nil,
		CreateRevision: job.GetCreateRevision(),
		ModifyRevision: job.GetModifyRevision(),
	}
}

// groupsOf counts the allocations of a job's groups, in the order of the spec.
func groupsOf(view *state.View, job *berthv1.Job) []*berthv1.GroupSummary {
	groups := make([]*berthv1.GroupSummary, 0, len(job.GetGroups()))
	byName := make(map[string]*berthv1.GroupSummary, len(job.GetGroups()))
	for _, g := range job.GetGroups() {
		sum := &berthv1.GroupSummary{Group: g.GetName(), Wanted: countOf(g)}
		groups = append(groups, sum)
		byName[g.GetName()] = sum
	}
	for alloc := range view.AllocsByJob(job.GetNamespace(), job.GetName()) {
		if sum := byName[alloc.GetGroup()]; sum != nil { // otherwise of a group that is no more
			count(sum, alloc)
		}
	}
	queue(view, job, byName)
	return groups
}

// countOf is how many instances of a group are wanted; 1 where it does not say.
func countOf(g *berthv1.Group) uint32 {
	if g.Count == nil {
		return 1
	}
	return g.GetCount()
}

// count adds an allocation to its group's numbers. One that is to stop counts as what it
// is, until it is over.
func count(sum *berthv1.GroupSummary, alloc *berthv1.Alloc) {
	switch alloc.GetStatus() {
	case berthv1.Alloc_pending:
		sum.Pending++
	case berthv1.Alloc_running:
		sum.Running++
	case berthv1.Alloc_complete:
		sum.Complete++
	case berthv1.Alloc_failed:
		sum.Failed++
	case berthv1.Alloc_lost:
		sum.Lost++
	case berthv1.Alloc_unknown:
		sum.Unknown++
	}
}

// queue says what waits: what the newest evaluation that has come to a result could not
// place. System jobs want as many instances as that evaluation wanted nodes.
func queue(view *state.View, job *berthv1.Job, byName map[string]*berthv1.GroupSummary) {
	everywhere := job.GetType() == berthv1.Job_system || job.GetType() == berthv1.Job_sysbatch
	if everywhere {
		for _, sum := range byName {
			sum.Wanted = sum.GetPending() + sum.GetRunning() + sum.GetUnknown()
		}
	}
	if job.GetStopped() || job.IsParent() {
		for _, sum := range byName {
			sum.Wanted = 0
		}
		return
	}
	for _, outcome := range newestResult(view, job).GetGroups() {
		sum := byName[outcome.GetGroup()]
		if sum == nil || outcome.GetWanted() <= outcome.GetPlaced() {
			continue
		}
		sum.Queued = outcome.GetWanted() - outcome.GetPlaced()
		if everywhere {
			sum.Wanted += sum.GetQueued()
		}
	}
}

// newestEvaluation is a job's newest evaluation that nothing has taken over; nil: none.
func newestEvaluation(view *state.View, job *berthv1.Job) *berthv1.Evaluation {
	var newest *berthv1.Evaluation
	for eval := range view.EvaluationsByJob(job.GetNamespace(), job.GetName()) {
		if eval.GetStatus() != berthv1.Evaluation_superseded {
			newest = eval
		}
	}
	return newest
}

// newestResult is a job's newest evaluation that was looked at; nil: none.
func newestResult(view *state.View, job *berthv1.Job) *berthv1.Evaluation {
	var newest *berthv1.Evaluation
	for eval := range view.EvaluationsByJob(job.GetNamespace(), job.GetName()) {
		if s := eval.GetStatus(); s == berthv1.Evaluation_complete || s == berthv1.Evaluation_blocked {
			newest = eval
		}
	}
	return newest
}
