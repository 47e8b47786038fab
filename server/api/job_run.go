package api

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/jobspec"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/schedule"
	"github.com/berthd/berth/server/state"
)

// Limits of what a job is dispatched with, in bytes.
const (
	maxPayload = 16 << 10
	maxToken   = 128
)

// DispatchJob runs a job with parameters. With a token, the second of two calls gets what
// the first has made, whichever server they ask and however it ended for the caller.
func (s jobService) DispatchJob(ctx context.Context, q *berthv1.DispatchJobRequest) (*berthv1.DispatchJobResponse, error) {
	for try := 1; ; try++ {
		view := s.a.store.View()
		parent, err := findJob(view, namespaceOf(q), q.GetJob())
		if err != nil {
			return nil, err
		}
		if err := checkDispatch(view, parent, q); err != nil {
			return nil, err
		}
		if before := view.Dispatched(parent.GetNamespace(), parent.GetName(), q.GetToken()); q.GetToken() != "" && before != nil {
			return &berthv1.DispatchJobResponse{Job: before.GetName(), EvaluationId: newestEvaluation(view, before).GetId(), RepeatedToken: true}, nil
		}
		child := schedule.Dispatched(parent, uuid.NewString()[:8], q.GetPayload(), q.GetMeta(), q.GetToken())
		if err := invalid(jobspec.Validate(child)); err != nil {
			return nil, err
		}
		child.SubmitTime = timestamppb.Now()
		eval := newEvaluation(child, berthv1.Evaluation_job_changed)
		_, err = s.a.propose(ctx, func(e *berthv1.LogEntry) {
			e.Fact = &berthv1.LogEntry_JobRegistered{JobRegistered: &berthv1.JobRegistered{Job: child, Evaluation: eval, UniqueToken: q.GetToken() != ""}}
		})
		if err == nil {
			return &berthv1.DispatchJobResponse{Job: child.GetName(), EvaluationId: eval.GetId()}, nil
		}
		// Somebody was faster with the token, or has the name.
		if !problem.Is(err, problem.Exists) && !problem.Is(err, problem.Conflict) || try == registerTries {
			return nil, err
		}
	}
}

// checkDispatch says why a job cannot be dispatched so.
func checkDispatch(view *state.View, job *berthv1.Job, q *berthv1.DispatchJobRequest) error {
	p := job.GetParameters()
	switch {
	case p == nil:
		return problem.New(problem.Invalid, "job", "job %q has no parameters, so it cannot be dispatched", job.GetName()).
			WithRemedy("berth job run runs it; a block parameters {} makes it a job for dispatch")
	case job.GetStopped():
		return stoppedJob(job)
	case p.GetPayload() == "required" && len(q.GetPayload()) == 0:
		return problem.New(problem.Invalid, "payload", "job %q must be dispatched with a payload", job.GetName())
	case p.GetPayload() == "forbidden" && len(q.GetPayload()) > 0:
		return problem.New(problem.Invalid, "payload", "job %q takes no payload", job.GetName())
	case len(q.GetPayload()) > maxPayload:
		return problem.New(problem.Invalid, "payload", "the payload has %d bytes, and at most %d KiB are possible", len(q.GetPayload()), maxPayload>>10).
			WithRemedy("put it where the job can fetch it, and dispatch the address")
	case len(q.GetToken()) > maxToken:
		return problem.New(problem.Invalid, "token", "the token has %d bytes, and at most %d are possible", len(q.GetToken()), maxToken)
	}
	for _, key := range p.GetRequired() {
		if _, given := q.GetMeta()[key]; !given {
			return problem.New(problem.Invalid, "meta."+key, "job %q must be dispatched with the meta key %q", job.GetName(), key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(q.GetMeta())) {
		if !slices.Contains(p.GetRequired(), key) && !slices.Contains(p.GetOptional(), key) {
			return problem.New(problem.Invalid, "meta."+key, "job %q does not take the meta key %q", job.GetName(), key).
				WithRemedy("it takes %s", orNothing(slices.Concat(p.GetRequired(), p.GetOptional())))
		}
	}
	return checkDrivers(view, job)
}

func orNothing(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return orList(list)
}

func stoppedJob(job *berthv1.Job) error {
	return problem.New(problem.Conflict, "job", "job %q is stopped", job.GetName()).WithRemedy("submit it again to run it")
}

// ForceSchedule runs a job with a schedule now, as its rule for overlaps allows.
func (s jobService) ForceSchedule(ctx context.Context, q *berthv1.ForceScheduleRequest) (*berthv1.ForceScheduleResponse, error) {
	view, now := s.a.store.View(), time.Now()
	job, err := findJob(view, namespaceOf(q), q.GetJob())
	if err != nil {
		return nil, err
	}
	running := schedule.Running(view, job)
	switch {
	case job.GetSchedule() == nil:
		return nil, problem.New(problem.Invalid, "job", "job %q has no schedule", job.GetName()).WithRemedy("berth job eval has it looked at, berth job dispatch runs one with parameters")
	case job.GetStopped():
		return nil, stoppedJob(job)
	case job.GetSchedule().GetOverlap() == "skip" && len(running) > 0:
		return nil, problem.New(problem.Conflict, "job", "%q is not over, and two at a time are not allowed", running[0].GetName()).
			WithRemedy("wait for it, or berth job stop %s", running[0].GetName())
	}
	if err := checkDrivers(view, job); err != nil {
		return nil, err
	}
	child := schedule.Forced(job, uuid.NewString()[:8])
	eval := newEvaluation(child, berthv1.Evaluation_requested)
	facts := schedule.Replace(job, running, now)
	last := facts[len(facts)-1]
	last.Child, last.Evaluation = child, eval
	return &berthv1.ForceScheduleResponse{Job: child.GetName(), EvaluationId: eval.GetId()}, s.a.runSchedule(ctx, facts)
}

// runSchedule makes facts about children durable, one after the other.
func (a *API) runSchedule(ctx context.Context, facts []*berthv1.ScheduleRun) error {
	for _, fact := range facts {
		if _, err := a.propose(ctx, func(e *berthv1.LogEntry) { e.Fact = &berthv1.LogEntry_ScheduleRun{ScheduleRun: fact} }); err != nil {
			return err
		}
	}
	return nil
}

// stopChildren stops everything that was run from a job.
func (a *API) stopChildren(ctx context.Context, job *berthv1.Job) error {
	running := slices.DeleteFunc(schedule.Running(a.store.View(), job), (*berthv1.Job).GetStopped)
	return a.runSchedule(ctx, schedule.StopFacts(running, uuid.NewString, time.Now()))
}

// childrenShown is how many children are in a job's status.
const childrenShown = 20

// addChildren tells of what was run from a job, and when it is run next.
func addChildren(view *state.View, status *berthv1.JobStatus) {
	job := status.GetJob()
	status.NextScheduled = nextScheduled(job)
	for child := range view.Children(job.GetNamespace(), job.GetName()) {
		switch child.GetStatus() {
		case berthv1.Job_pending:
			status.ChildrenPending++
		case berthv1.Job_running:
			status.ChildrenRunning++
		case berthv1.Job_dead:
			status.ChildrenDead++
		}
		if len(status.GetChildren()) < childrenShown {
			status.Children = append(status.Children, summaryOf(view, child))
		}
	}
}

// nextScheduled is when a job is run next by its schedule; nil: never.
func nextScheduled(job *berthv1.Job) *timestamppb.Timestamp {
	if job.GetSchedule() == nil {
		return nil
	}
	if next := schedule.Next(job, time.Now()); !next.IsZero() {
		return timestamppb.New(next)
	}
	return nil
}

// plannedRuns is how many times of a schedule a plan tells.
const plannedRuns = 5

// nextRuns are the next times of a job that would be submitted now.
func nextRuns(job *berthv1.Job) (times []*timestamppb.Timestamp) {
	if job.GetSchedule() == nil {
		return nil
	}
	now := time.Now()
	for at := schedule.Next(job, now); !at.IsZero() && len(times) < plannedRuns; at = schedule.Next(job, at) {
		times = append(times, timestamppb.New(at))
	}
	return times
}
