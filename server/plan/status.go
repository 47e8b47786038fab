package plan

import berthv1 "github.com/berthd/berth/proto/berth/v1"

// status is what the job has come to. It is running while anything may run, pending
// before anything was placed, and dead when nothing more will be.
func (r *reconciler) status() Status {
	stored := Status{r.Job.GetStatus(), r.Job.GetStatusReason()}
	switch {
	case r.Job == nil:
		return stored
	case r.Job.GetStopped() && r.live == 0:
		return Status{berthv1.Job_dead, reasonJobStopped}
	case r.Job.GetStopped():
		return stored
	case r.Job.IsParent():
		return Status{berthv1.Job_running, parentWaits(r.Job)}
	case r.ended():
		return stored
	case r.toCompletion() && r.live == 0 && r.waiting == 0 && r.failed > 0:
		return Status{berthv1.Job_dead, counted(r.failed, "instance") + " failed for good"}
	case r.toCompletion() && r.live == 0 && r.waiting == 0 && r.complete():
		return Status{berthv1.Job_dead, statusAllComplete}
	case r.live > 0:
		return Status{Status: berthv1.Job_running}
	}
	return Status{Status: max(stored.Status, berthv1.Job_pending)}
}

// parentWaits says what a job waits for that is run by its children.
func parentWaits(job *berthv1.Job) string {
	switch {
	case job.GetSchedule() == nil:
		return statusForm
	case job.GetSchedule().GetPaused():
		return statusPaused
	}
	return statusScheduled
}

// complete says that a job that runs to completion has anything that is complete: a
// sysbatch job that no node fits yet is not over.
func (r *reconciler) complete() bool {
	for _, g := range r.groups {
		if len(g.ended) > 0 {
			return true
		}
	}
	return !r.perNode()
}
