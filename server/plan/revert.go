package plan

import (
	"context"
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/fsm"
)

// turned says whether a deployment has taken a turn, by whoever's doing, after which the
// job must be looked at: counts alone are no such turn.
func turned(before, after *berthv1.Deployment) bool {
	if after == nil || before == nil {
		return false
	}
	for _, g := range after.GetGroups() {
		if g.GetPromoted() != before.GroupNamed(g.GetGroup()).GetPromoted() {
			return true
		}
	}
	return before.GetStatus() != after.GetStatus() || before.GetRevertedTo() != after.GetRevertedTo()
}

// revert submits an older version of a job anew, in place of the one whose roll-out failed.
// Should somebody have changed the job meanwhile, that is refused, and nothing happens.
func (l *Loop) revert(ctx context.Context, j *job, failed, to *berthv1.Job, now time.Time) {
	back := Revert(failed, to)
	fact := &berthv1.JobRegistered{Job: back, Check: true, CheckRevision: failed.GetSpecRevision(), Evaluation: &berthv1.Evaluation{
		Id: l.cfg.NewID(), Namespace: j.key.namespace, Job: j.key.name, JobVersion: back.GetVersion(), Trigger: berthv1.Evaluation_job_changed}}
	j.flying++
	l.flying++
	go func() {
		f := &flight{entry: &entry{jobs: map[jobKey]struct{}{j.key: {}}}}
		f.result, f.err = l.cfg.Proposer.Propose(ctx, fsm.NewEntry(now, func(e *berthv1.LogEntry) {
			e.Fact = &berthv1.LogEntry_JobRegistered{JobRegistered: fact}
		}))
		if f.err == nil {
			f.err = f.result.Err
		}
		l.landed <- f
	}()
}

// Revert is the version of a job that follows on another and runs what an older one did.
func Revert(newest, to *berthv1.Job) *berthv1.Job {
	back := cloneJob(to)
	back.Version, back.RevertedTo = newest.GetVersion()+1, to.GetVersion()
	back.Stable, back.Stopped, back.Purge, back.StatusReason = false, false, false, ""
	return back
}
