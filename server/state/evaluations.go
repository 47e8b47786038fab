package state

import (
	"cmp"
	"iter"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func compareEvalsByJob(a, b *berthv1.Evaluation) int {
	return cmp.Or(
		cmp.Compare(a.GetNamespace(), b.GetNamespace()),
		cmp.Compare(a.GetJob(), b.GetJob()),
		cmp.Compare(a.GetCreateRevision(), b.GetCreateRevision()),
		cmp.Compare(a.GetId(), b.GetId()))
}

// Evaluation gives an evaluation; nil: there is none.
func (t *tables) Evaluation(id string) *berthv1.Evaluation {
	return t.evals.get(&berthv1.Evaluation{Id: id})
}

// Evaluations iterates over all evaluations by id, starting at the first not below start.
func (t *tables) Evaluations(start string) iter.Seq[*berthv1.Evaluation] {
	return t.evals.from(&berthv1.Evaluation{Id: start})
}

// EvaluationsByJob iterates over a job's evaluations, oldest first.
func (t *tables) EvaluationsByJob(namespace, job string) iter.Seq[*berthv1.Evaluation] {
	return from(t.evalsByJob, &berthv1.Evaluation{Namespace: namespace, Job: job}, func(e *berthv1.Evaluation) bool {
		return e.GetJob() == job && e.GetNamespace() == namespace
	})
}

// PutEvaluation stores an evaluation. Its job and create revision never change.
func (tx *Tx) PutEvaluation(eval *berthv1.Evaluation) {
	before, replaced := tx.evals.set(eval)
	tx.evalsByJob.Set(eval)
	tx.changed(change{
		table: TableEvaluations, namespace: eval.GetNamespace(), key: eval.GetId(),
		job: eval.GetJob(), after: eval, before: orNil(before, replaced),
	})
}

// DeleteEvaluation forgets an evaluation.
func (tx *Tx) DeleteEvaluation(id string) {
	before, ok := tx.evals.remove(&berthv1.Evaluation{Id: id})
	if !ok {
		return
	}
	tx.evalsByJob.Delete(before)
	tx.changed(change{table: TableEvaluations, namespace: before.GetNamespace(), key: id, job: before.GetJob(), before: before})
}
