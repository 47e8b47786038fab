package fsm

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Jobs with a schedule or parameters run nothing themselves; what is run from them are
// jobs of their own, their children.

// scheduleRun runs a job for a time of its schedule, or by hand, or passes the time over.
// It runs nothing for a time that is not newer than the newest before, so that a leader
// that does not know what became of an entry may propose it again.
func (a *applier) scheduleRun(f *berthv1.ScheduleRun) error {
	parent := a.Job(f.GetNamespace(), f.GetJob())
	if parent == nil {
		return problem.New(problem.NotFound, "job", "there is no job %q in namespace %q", f.GetJob(), f.GetNamespace())
	}
	child := f.GetChild()
	if child != nil && (child.GetName() == "" || child.GetParent() != parent.GetName() || child.GetNamespace() != parent.GetNamespace() || child.GetVersion() != 1) {
		return problem.New(problem.Invalid, "child", "it is not a new job that is run from %q", parent.GetName())
	}
	taken := child != nil && a.Job(child.GetNamespace(), child.GetName()) != nil
	switch {
	case f.GetTime() != nil:
		if parent.GetSchedule() == nil || parent.GetSchedule().GetPaused() || parent.GetStopped() || !newer(f.GetTime(), parent.GetLastScheduled()) {
			return nil
		}
		a.PutJob(revised(parent, func(j *berthv1.Job) {
			j.LastScheduled, j.ModifyRevision = f.GetTime(), a.Revision()
			if child == nil && f.GetSkipped() != "" {
				j.LastSkipped = &berthv1.SkippedRun{Time: f.GetTime(), Reason: f.GetSkipped()}
			}
		}))
	case taken:
		return problem.New(problem.Exists, "child.name", "there is a job %q already", child.GetName()).WithRemedy("try again")
	case child != nil && parent.GetStopped():
		return problem.New(problem.Conflict, "job", "job %q is stopped", parent.GetName()).WithRemedy("submit it again to run it")
	}
	for i, name := range f.GetReplaced() {
		old := a.Job(f.GetNamespace(), name)
		if old.GetParent() != parent.GetName() || old.GetStopped() || old.GetStatus() == berthv1.Job_dead {
			continue
		}
		a.stopJob(old, false)
		if i < len(f.GetReplacedEvaluations()) {
			a.putEvaluation(f.GetReplacedEvaluations()[i])
		}
	}
	if child != nil && !taken {
		a.putVersion(child, nil)
		a.putEvaluation(f.GetEvaluation())
	}
	return nil
}

func newer(a, b *timestamppb.Timestamp) bool { return b == nil || a.AsTime().After(b.AsTime()) }

// orphaned says why a new job cannot be run from the one that it names.
func (a *applier) orphaned(f *berthv1.JobRegistered) error {
	job := f.GetJob()
	parent := a.Job(job.GetNamespace(), job.GetParent())
	switch {
	case job.GetParent() == "":
		return nil
	case parent == nil:
		return problem.New(problem.NotFound, "job", "there is no job %q in namespace %q", job.GetParent(), job.GetNamespace())
	case parent.GetStopped():
		return problem.New(problem.Conflict, "job", "job %q is stopped", job.GetParent()).WithRemedy("submit it again to run it")
	}
	if other := a.Dispatched(job.GetNamespace(), job.GetParent(), job.GetDispatchToken()); f.GetUniqueToken() && other != nil {
		return problem.New(problem.Exists, "token", "job %q was dispatched with this token", other.GetName())
	}
	return nil
}

// putVersion stores a new version of a job; stored is the one before, or nil. What a job
// was run from never changes, and its schedule goes on from where it was unless it was
// stopped.
func (a *applier) putVersion(job, stored *berthv1.Job) {
	a.PutJob(revised(job, func(j *berthv1.Job) {
		j.CreateRevision, j.Status = a.Revision(), berthv1.Job_pending
		if stored != nil {
			j.CreateRevision = stored.GetCreateRevision()
			j.Parent, j.ScheduledTime = stored.GetParent(), stored.GetScheduledTime()
			j.Payload, j.DispatchToken = stored.GetPayload(), stored.GetDispatchToken()
			if stored.GetStatus() != berthv1.Job_dead {
				j.Status = stored.GetStatus()
			}
		}
		last := stored.GetLastScheduled()
		j.LastSkipped = stored.GetLastSkipped()
		switch {
		case j.GetSchedule() == nil:
			j.LastScheduled, j.LastSkipped = nil, nil
		case !stored.GetStopped() && last != nil && (j.GetLastScheduled() == nil || newer(last, j.GetLastScheduled())):
			j.LastScheduled = last
		}
		j.Stopped, j.Purge, j.Stable = false, false, false
		j.ModifyRevision, j.SpecRevision = a.Revision(), a.Revision()
		j.SubmitTime = a.timestamp
	}))
}

// scaled keeps the event of a change of a count.
func (a *applier) scaled(job *berthv1.Job, event *berthv1.ScalingEvent) {
	if event == nil {
		return
	}
	a.AddScalingEvent(revised(event, func(e *berthv1.ScalingEvent) {
		e.Namespace, e.Job, e.JobVersion = job.GetNamespace(), job.GetName(), job.GetVersion()
		e.Time, e.CreateRevision = a.timestamp, a.Revision()
	}))
}
