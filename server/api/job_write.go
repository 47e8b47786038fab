package api

import (
	"context"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/jobspec"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/fsm"
	"github.com/berthd/berth/server/state"
)

// registerTries is how often a registration without a check is tried when somebody else
// registers the same job at the same time.
const registerTries = 10

func (s jobService) RegisterJob(ctx context.Context, q *berthv1.RegisterJobRequest) (*berthv1.RegisterJobResponse, error) {
	job, err := canonical(q.GetJob())
	if err != nil {
		return nil, err
	}
	resp, err := s.register(ctx, q.GetCheck(), q.GetCheckRevision(), func(view *state.View) (*berthv1.Job, *berthv1.Job, error) {
		stored := view.Job(job.GetNamespace(), job.GetName())
		if err := checkNamespace(view, job.GetNamespace()); err != nil {
			return nil, nil, err
		}
		return job, stored, checkClaim(view, job)
	})
	if err != nil {
		return nil, err
	}
	resp.Warnings = append(jobspec.Warnings(job), resp.GetWarnings()...)
	return resp, nil
}

func (s jobService) ScaleJob(ctx context.Context, q *berthv1.ScaleJobRequest) (*berthv1.RegisterJobResponse, error) {
	return s.register(ctx, q.GetCheck(), q.GetCheckRevision(), func(view *state.View) (*berthv1.Job, *berthv1.Job, error) {
		stored, err := findJob(view, namespaceOf(q), q.GetJob())
		if err != nil {
			return nil, nil, err
		}
		scaled, err := scale(stored, q.GetGroup(), q.GetCount())
		return scaled, stored, err
	})
}

// scale gives the job with another count for a group.
func scale(stored *berthv1.Job, group string, count uint32) (*berthv1.Job, error) {
	switch stored.GetType() {
	case berthv1.Job_system, berthv1.Job_sysbatch:
		return nil, problem.New(problem.Invalid, "count", "a %s job runs once on every node that fits", stored.GetType()).
			WithRemedy("use constraints to choose the nodes")
	}
	if stored.GetStopped() {
		return nil, problem.New(problem.Conflict, "job", "job %q is stopped", stored.GetName()).WithRemedy("submit it again to run it")
	}
	scaled := proto.CloneOf(stored)
	if group == "" && len(scaled.GetGroups()) == 1 {
		group = scaled.GetGroups()[0].GetName()
	}
	var names []string
	for _, g := range scaled.GetGroups() {
		names = append(names, g.GetName())
		if g.GetName() == group {
			g.Count = proto.Uint32(count)
			return scaled, invalid(jobspec.Validate(scaled))
		}
	}
	if group == "" {
		return nil, problem.New(problem.Invalid, "group", "job %q has several groups", stored.GetName()).WithRemedy("name one: %s", orList(names))
	}
	return nil, problem.New(problem.NotFound, "group", "job %q has no group %q", stored.GetName(), group).WithRemedy("it has %s", orList(names))
}

// register writes a job as a new version, or only an evaluation where its spec is what
// is stored already. choose gives the job to write and what is stored (nil: nothing); it
// is asked again when somebody else was faster.
func (s jobService) register(ctx context.Context, check bool, checkRevision uint64,
	choose func(*state.View) (job, stored *berthv1.Job, err error),
) (*berthv1.RegisterJobResponse, error) {
	for try := 1; ; try++ {
		job, stored, err := choose(s.a.store.View())
		if err != nil {
			return nil, err
		}
		if check && stored.GetSpecRevision() != checkRevision {
			return nil, checkFailed(job.GetName(), checkRevision, stored.GetSpecRevision())
		}
		if stored != nil && !stored.GetStopped() && sameSpec(job, stored) {
			eval, err := s.a.evaluate(ctx, stored, berthv1.Evaluation_job_changed)
			return &berthv1.RegisterJobResponse{
				EvaluationId: eval.GetId(), Version: stored.GetVersion(), SpecRevision: stored.GetSpecRevision(), Unchanged: true,
			}, err
		}
		resp, err := s.proposeJob(ctx, job, stored, check, checkRevision)
		if !problem.Is(err, problem.Conflict) || check || try == registerTries {
			return resp, err
		}
	}
}

func (s jobService) proposeJob(ctx context.Context, job, stored *berthv1.Job, check bool, checkRevision uint64) (*berthv1.RegisterJobResponse, error) {
	source := job.GetSource()
	job = proto.CloneOf(job)
	clearServerSet(job)
	job.Source = source
	job.Version = stored.GetVersion() + 1
	job.SubmitTime = timestamppb.Now()
	resp := &berthv1.RegisterJobResponse{Version: job.GetVersion()}
	if proto.Size(job) > fsm.MaxEntry*15/16 && job.GetSource() != nil {
		job.Source = nil
		resp.Warnings = append(resp.Warnings, "the spec's text is too long to be kept beside the job; only the job itself is")
	}
	eval := newEvaluation(job, berthv1.Evaluation_job_changed)
	result, err := s.a.propose(ctx, func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_JobRegistered{JobRegistered: &berthv1.JobRegistered{
			Job: job, Check: check, CheckRevision: checkRevision, Evaluation: eval,
		}}
	})
	if err != nil {
		return nil, err
	}
	resp.EvaluationId, resp.SpecRevision = eval.GetId(), result.Revision
	return resp, nil
}

func (s jobService) StopJob(ctx context.Context, q *berthv1.StopJobRequest) (*berthv1.StopJobResponse, error) {
	ns := namespaceOf(q)
	stored, err := findJob(s.a.store.View(), ns, q.GetJob())
	if err != nil {
		return nil, err
	}
	if q.GetCheck() && stored.GetSpecRevision() != q.GetCheckRevision() {
		return nil, checkFailed(q.GetJob(), q.GetCheckRevision(), stored.GetSpecRevision())
	}
	if stored.GetStopped() && !q.GetPurge() {
		eval, err := s.a.evaluate(ctx, stored, berthv1.Evaluation_job_changed)
		return &berthv1.StopJobResponse{EvaluationId: eval.GetId()}, err
	}
	eval := newEvaluation(stored, berthv1.Evaluation_job_changed)
	_, err = s.a.propose(ctx, func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_JobStopped{JobStopped: &berthv1.JobStopped{
			Namespace: ns, Job: q.GetJob(), Purge: q.GetPurge(),
			Check: q.GetCheck(), CheckRevision: q.GetCheckRevision(), Evaluation: eval,
		}}
	})
	return &berthv1.StopJobResponse{EvaluationId: eval.GetId()}, err
}

func (s jobService) EvaluateJob(ctx context.Context, q *berthv1.EvaluateJobRequest) (*berthv1.EvaluateJobResponse, error) {
	job, err := findJob(s.a.store.View(), namespaceOf(q), q.GetJob())
	if err != nil {
		return nil, err
	}
	eval, err := s.a.evaluate(ctx, job, berthv1.Evaluation_requested)
	return &berthv1.EvaluateJobResponse{EvaluationId: eval.GetId()}, err
}

func checkNamespace(view *state.View, namespace string) error {
	if view.Namespace(namespace) != nil {
		return nil
	}
	return problem.New(problem.NotFound, "job.namespace", "there is no namespace %q", namespace).
		WithRemedy("berth namespace apply %s", namespace)
}

func checkFailed(job string, wanted, stored uint64) error {
	if stored == 0 {
		return problem.New(problem.Conflict, "check_revision", "job %q is to be at revision %d, and does not exist", job, wanted).
			WithRemedy("check for revision 0 to register a new job")
	}
	return problem.New(problem.Conflict, "check_revision", "job %q is to be at revision %d, and is at %d", job, wanted, stored).
		WithRemedy("somebody has changed it: plan again and decide anew")
}
