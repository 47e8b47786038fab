package api

import (
	"context"
	"regexp"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/fsm"
)

const defaultNamespace = fsm.DefaultNamespace

// propose makes a fact durable. What the state has against it is the error.
func (a *API) propose(ctx context.Context, set func(*berthv1.LogEntry)) (fsm.Result, error) {
	entry := fsm.NewEntry(time.Now(), set)
	if size := proto.Size(entry); size > fsm.MaxEntry {
		return fsm.Result{}, tooLarge(size)
	}
	result, err := a.proposer.Propose(ctx, entry)
	if err != nil {
		return result, err
	}
	return result, result.Err
}

// tooLarge is the problem of a change that does not fit into an entry of the log.
func tooLarge(size int) error {
	return problem.New(problem.Invalid, "", "this takes %d KiB in the servers' log, and at most %d KiB fit", (size+1023)>>10, fsm.MaxEntry>>10).
		WithRemedy("make it smaller: shorter env, meta and config values, or several jobs")
}

// newEvaluation is a reason to look at a job, not looked at yet.
func newEvaluation(job *berthv1.Job, trigger berthv1.Evaluation_Trigger) *berthv1.Evaluation {
	now := timestamppb.Now()
	return &berthv1.Evaluation{
		Id: uuid.NewString(), Namespace: job.GetNamespace(), Job: job.GetName(), JobVersion: job.GetVersion(),
		Trigger: trigger, Status: berthv1.Evaluation_pending, CreateTime: now, ModifyTime: now,
	}
}

// evaluate has a job looked at again.
func (a *API) evaluate(ctx context.Context, job *berthv1.Job, trigger berthv1.Evaluation_Trigger) (*berthv1.Evaluation, error) {
	eval := newEvaluation(job, trigger)
	_, err := a.propose(ctx, func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_EvaluationsCreated{EvaluationsCreated: &berthv1.EvaluationsCreated{
			Evaluations: []*berthv1.Evaluation{eval},
		}}
	})
	return eval, err
}

var namePattern = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

func checkNamespaceName(field, name string) error {
	if namePattern.MatchString(name) {
		return nil
	}
	return problem.New(problem.Invalid, field, "%q is not a name for a namespace", name).
		WithRemedy("use 1 to 64 lower-case letters, digits and hyphens")
}
