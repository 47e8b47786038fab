package api

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/jobspec"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/fsm"
	"github.com/berthd/berth/server/schedule"
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
	resp, err := s.register(ctx, q.GetCheck(), q.GetCheckRevision(), func(view *state.View) (registration, error) {
		stored := view.Job(job.GetNamespace(), job.GetName())
		if err := admit(view, job); err != nil {
			return registration{}, err
		}
		resolved, err := resolveImages(view, job)
		return registration{job: keepCounts(resolved, q.GetJob(), stored), stored: stored}, err
	})
	if err != nil {
		return nil, err
	}
	resp.Warnings = append(jobspec.Warnings(job), resp.GetWarnings()...)
	return resp, nil
}

// admit refuses a job that may not be submitted as the cluster is.
func admit(view *state.View, job *berthv1.Job) error {
	for _, check := range []func(*state.View, *berthv1.Job) error{checkNamespace, checkDrivers, checkClaim} {
		if err := check(view, job); err != nil {
			return err
		}
	}
	return nil
}

// registration is a job to be written.
type registration struct {
	job *berthv1.Job
	// stored is the version before; nil: there is none.
	stored *berthv1.Job
	// scaling is set where only a count is changed.
	scaling *berthv1.ScalingEvent
	// revertedTo is the older version whose spec the job is; 0: none.
	revertedTo uint64
}

// register writes a job as a new version, or only an evaluation where its spec is what
// is stored already. choose is asked again when somebody else was faster.
func (s jobService) register(ctx context.Context, check bool, checkRevision uint64,
	choose func(*state.View) (registration, error),
) (*berthv1.RegisterJobResponse, error) {
	for try := 1; ; try++ {
		r, err := choose(s.a.store.View())
		if err != nil {
			return nil, err
		}
		job, stored := r.job, r.stored
		if check && stored.GetSpecRevision() != checkRevision {
			return nil, checkFailed(job.GetName(), checkRevision, stored.GetSpecRevision())
		}
		if stored != nil && !stored.GetStopped() && sameSpec(job, stored) {
			eval, err := s.a.evaluate(ctx, stored, berthv1.Evaluation_job_changed)
			return &berthv1.RegisterJobResponse{
				EvaluationId: eval.GetId(), Version: stored.GetVersion(), SpecRevision: stored.GetSpecRevision(), Unchanged: true,
			}, err
		}
		resp, err := s.proposeJob(ctx, r, check, checkRevision)
		if !problem.Is(err, problem.Conflict) || check || try == registerTries {
			return resp, err
		}
	}
}

func (s jobService) proposeJob(ctx context.Context, r registration, check bool, checkRevision uint64) (*berthv1.RegisterJobResponse, error) {
	job, now := proto.CloneOf(r.job), time.Now()
	clearServerSet(job)
	job.Source = r.job.GetSource()
	job.Version, job.RevertedTo = r.stored.GetVersion()+1, r.revertedTo
	job.SubmitTime = timestamppb.New(now)
	if job.GetSchedule() != nil {
		job.LastScheduled = timestamppb.New(schedule.Begin(job, r.stored, now))
	}
	resp := &berthv1.RegisterJobResponse{Version: job.GetVersion()}
	if proto.Size(job) > fsm.MaxEntry*15/16 && job.GetSource() != nil {
		job.Source = nil
		resp.Warnings = append(resp.Warnings, "the spec's text is too long to be kept beside the job; only the job itself is")
	}
	eval := newEvaluation(job, berthv1.Evaluation_job_changed)
	result, err := s.a.propose(ctx, func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_JobRegistered{JobRegistered: &berthv1.JobRegistered{
			Job: job, Check: check, CheckRevision: checkRevision, Evaluation: eval, Scaling: r.scaling,
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
	if stored.GetStopped() && !q.GetPurge() && !q.GetChildren() {
		eval, err := s.a.evaluate(ctx, stored, berthv1.Evaluation_job_changed)
		return &berthv1.StopJobResponse{EvaluationId: eval.GetId()}, err
	}
	f := &berthv1.JobStopped{Namespace: ns, Job: q.GetJob(), Purge: q.GetPurge(), Check: q.GetCheck(), CheckRevision: q.GetCheckRevision()}
	if q.GetChildren() { // before it is forgotten, and after it can have no more of them
		err := s.a.stop(ctx, &berthv1.JobStopped{Namespace: ns, Job: f.GetJob(), Check: f.GetCheck(), CheckRevision: f.GetCheckRevision()})
		if err == nil {
			err = s.a.stopChildren(ctx, stored)
		}
		if err != nil {
			return nil, err
		}
		f.Check = false
	}
	f.Evaluation = newEvaluation(stored, berthv1.Evaluation_job_changed)
	return &berthv1.StopJobResponse{EvaluationId: f.GetEvaluation().GetId()}, s.a.stop(ctx, f)
}

func (a *API) stop(ctx context.Context, f *berthv1.JobStopped) error {
	_, err := a.propose(ctx, func(e *berthv1.LogEntry) { e.Fact = &berthv1.LogEntry_JobStopped{JobStopped: f} })
	return err
}

func (s jobService) EvaluateJob(ctx context.Context, q *berthv1.EvaluateJobRequest) (*berthv1.EvaluateJobResponse, error) {
	job, err := findJob(s.a.store.View(), namespaceOf(q), q.GetJob())
	if err != nil {
		return nil, err
	}
	eval, err := s.a.evaluate(ctx, job, berthv1.Evaluation_requested)
	return &berthv1.EvaluateJobResponse{EvaluationId: eval.GetId()}, err
}

func checkNamespace(view *state.View, job *berthv1.Job) error {
	if view.Namespace(job.GetNamespace()) != nil {
		return nil
	}
	return problem.New(problem.NotFound, "job.namespace", "there is no namespace %q", job.GetNamespace()).
		WithRemedy("berth namespace apply %s", job.GetNamespace())
}

// checkDrivers refuses a job with a driver that its namespace does not allow.
func checkDrivers(view *state.View, job *berthv1.Job) error {
	allowed := view.Namespace(job.GetNamespace()).GetAllowedDrivers()
	if len(allowed) == 0 {
		return nil
	}
	for _, g := range job.GetGroups() {
		for _, t := range g.GetTasks() {
			if !slices.Contains(allowed, t.GetDriver()) {
				return problem.New(problem.Denied, "job.groups["+g.GetName()+"].tasks["+t.GetName()+"].driver",
					"driver %q is not allowed in namespace %q", t.GetDriver(), job.GetNamespace()).
					WithRemedy("use %s, or another namespace", orList(allowed))
			}
		}
	}
	return nil
}

func checkFailed(job string, wanted, stored uint64) error {
	if stored == 0 {
		return problem.New(problem.Conflict, "check_revision", "job %q is to be at revision %d, and does not exist", job, wanted).
			WithRemedy("check for revision 0 to register a new job")
	}
	return problem.New(problem.Conflict, "check_revision", "job %q is to be at revision %d, and is at %d", job, wanted, stored).
		WithRemedy("somebody has changed it: plan again and decide anew")
}
