package api

import (
	"context"
	"fmt"
	"iter"
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/state"
)

// evaluationService is about evaluations.
type evaluationService struct {
	berthv1.UnimplementedEvaluationServiceServer
	a *API
}

func (s evaluationService) ListEvaluations(ctx context.Context, q *berthv1.ListEvaluationsRequest) (*berthv1.ListEvaluationsResponse, error) {
	p, err := newPager(q, &berthv1.Evaluation{})
	if err != nil {
		return nil, err
	}
	ns := namespaceOf(q)
	topic, key := state.Topic{Table: state.TableEvaluations}, (*berthv1.Evaluation).GetId
	ofJob := q.GetJob() != "" && ns != anyNamespace
	if ofJob {
		topic.Key, key = state.JobKey(ns, q.GetJob()), ageKey
	}
	return read(ctx, s.a, q, []state.Topic{topic}, func(view *state.View) (*berthv1.ListEvaluationsResponse, error) {
		var items iter.Seq[*berthv1.Evaluation]
		if ofJob {
			items = newestFirst(view, ns, q.GetJob(), p.from)
		} else {
			items = only(view.Evaluations(p.start()), func(e *berthv1.Evaluation) bool {
				return (ns == anyNamespace || e.GetNamespace() == ns) && (q.GetJob() == "" || e.GetJob() == q.GetJob())
			})
		}
		items = within(items, p.prefix, (*berthv1.Evaluation).GetId, !ofJob)
		page, next, err := p.page(ctx, items, key)
		return &berthv1.ListEvaluationsResponse{Evaluations: page, NextPageToken: next}, err
	})
}

// ageKey orders a job's evaluations by age.
func ageKey(e *berthv1.Evaluation) string {
	return fmt.Sprintf("%020d/%s", e.GetCreateRevision(), e.GetId())
}

// newestFirst is a job's evaluations from a key on; all of them when it is empty.
func newestFirst(view *state.View, namespace, job, from string) iter.Seq[*berthv1.Evaluation] {
	all := slices.Collect(view.EvaluationsByJob(namespace, job))
	slices.Reverse(all)
	return only(slices.Values(all), func(e *berthv1.Evaluation) bool { return from == "" || ageKey(e) <= from })
}

func (s evaluationService) GetEvaluation(ctx context.Context, q *berthv1.GetEvaluationRequest) (*berthv1.Evaluation, error) {
	eval, err := evaluations.find(s.a.store.View(), q.GetEvaluationId())
	if err != nil {
		return nil, err
	}
	topics := []state.Topic{{Table: state.TableEvaluations, Key: eval.GetId()}}
	return read(ctx, s.a, q, topics, func(view *state.View) (*berthv1.Evaluation, error) {
		return evaluations.find(view, eval.GetId())
	})
}
