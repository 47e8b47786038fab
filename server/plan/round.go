package plan

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/state"
)

// input is what Reconcile needs of a view; the questions about nodes are the caller's.
func input(view *state.View, key jobKey, spec *berthv1.Job, now time.Time) Input {
	return Input{
		Job:        spec,
		Deployment: view.DeploymentOf(key.namespace, key.name, spec.GetVersion()),
		Stable:     func() *berthv1.Job { return view.StableBelow(key.namespace, key.name, spec.GetVersion()) },
		Version:    func(v uint64) *berthv1.Job { return view.JobVersion(key.namespace, key.name, v) },
		Allocs:     view.AllocsByJob(key.namespace, key.name),
		Node:       view.Node,
		Now:        now,
	}
}

// round gives jobs their turns, until enough is placed or on the way, and proposes it.
func (l *Loop) round(ctx context.Context, now time.Time) {
	b := &batch{loop: l, now: now}
	l.dropGangs(ctx, now)
	for done := 0; done < l.cfg.Tuning.Round && l.flying+len(b.full) < l.cfg.Tuning.Flying; {
		j := l.next(done)
		if j == nil {
			break
		}
		done += 1 + l.turn(ctx, j, b, now)
	}
	l.serve(b, now)
	l.send(ctx, b)
	l.gauge()
}

// mayGoOn says that a round would find something to do.
func (l *Loop) mayGoOn() bool {
	if l.flying >= l.cfg.Tuning.Flying {
		return false
	}
	return l.testsLeft || len(l.ready.fresh) > 0 && l.firstTurns(0) || (l.ready.len() > 0 || len(l.survey) > 0) && l.moreTurns()
}

// moreTurns says whether jobs that had a turn before may go on: there is room for a whole
// round beside what is on the way.
func (l *Loop) moreTurns() bool { return l.aloft+l.cfg.Tuning.Round <= l.cfg.Tuning.Aloft }

// firstTurns says whether jobs may have their first turn after so much was done in a
// round. What they place is little, and they have a lane of their own beside the others.
func (l *Loop) firstTurns(done int) bool {
	return l.aloft+done < l.cfg.Tuning.Aloft+l.cfg.Tuning.Round
}

// next is whose turn it is after so much was done in a round; nil: nobody's.
func (l *Loop) next(done int) *job {
	more := l.moreTurns()
	if l.firstTurns(done) {
		if j := l.ready.next(more); j != nil {
			j.queued = false
			return j
		}
	}
	for more && len(l.survey) > 0 {
		j := l.survey[0]
		l.survey = l.survey[1:]
		if !j.busy() && !j.queued && l.jobs[j.key] == j { // others have had, or get, their look
			return j
		}
	}
	return nil
}

// turn works on a job and says how much was done.
func (l *Loop) turn(ctx context.Context, j *job, b *batch, now time.Time) int {
	if j.work == nil {
		if l.jobs[j.key] != j {
			return 0 // forgotten meanwhile
		}
		if j.flying > 0 || b.has(j) {
			j.again = true // its last plan is not in the view yet
			return 0
		}
		j.work = l.look(j, now)
	}
	w := j.work
	n := l.advance(j, b, l.cfg.Tuning.Slice)
	switch {
	case w.dropped:
		j.evals = append(w.evals, j.evals...) // they are still to be answered
		j.work, j.again = nil, true
		l.looked(j)
		l.onceMore(j, b)
		return n
	case len(w.changes)+len(w.asks) > 0:
		l.push(j) // behind the others
		return n
	case w.spilled && (j.flying > 0 || b.has(j)):
		return n // answered when all of it has landed: see settle
	}
	if !l.handOver(j, b) {
		l.answer(j, b, now)
	}
	j.work = nil
	l.looked(j)
	if l.unclaim(j, w.claims); w.left == 0 {
		j.since = 0
		j.spec, j.groups = nil, nil // soon compiled again; there may be very many jobs
	}
	if w.result.Over && w.spec.GetPurge() {
		l.forget(ctx, j, now)
	}
	if to := w.result.Revert; to != nil {
		l.revert(ctx, j, w.spec, to, now)
	}
	l.onceMore(j, b)
	return n
}

// onceMore gives a job another turn where it needs one and nothing of it is on the way;
// otherwise settle does.
func (l *Loop) onceMore(j *job, b *batch) {
	if j.again && j.flying == 0 && !b.has(j) {
		j.again = false
		l.push(j)
	}
}

// answer says what came of the work: to the evaluations that asked, to the one that is
// blocked, or, where it did anything unasked, in a new one.
func (l *Loop) answer(j *job, b *batch, now time.Time) {
	w := j.work
	l.jobStatus(j, b)
	wasBlocked := j.blockedEval
	asked := len(w.evals) > 0 || w.did || (w.left > 0) != (wasBlocked != nil) || w.left > 0 && !w.silent
	if !asked || w.spec == nil || w.evalID == "" {
		return
	}
	eval := &berthv1.Evaluation{Id: w.evalID, Namespace: j.key.namespace, Job: j.key.name, JobVersion: w.spec.GetVersion(),
		Trigger: w.trigger, Status: berthv1.Evaluation_complete, Groups: w.result.Groups}
	if n := len(w.evals); n > 0 {
		eval.Trigger = w.evals[n-1].GetTrigger()
	}
	if w.left > 0 {
		eval.Status, eval.StatusReason = berthv1.Evaluation_blocked, w.blockedWords()
		if !w.silent {
			j.told = now
		}
		w.keepExplanations(wasBlocked)
		l.queuePlace(j)
		if len(w.evals) == 0 && !w.did && sameAnswer(eval, wasBlocked) {
			return
		}
	}
	fitEvaluation(eval)
	b.evaluation(j, eval)
	l.supersede(j, b, eval)
	j.blockedEval = nil
	if w.left > 0 {
		j.blockedEval = eval
	}
}

// supersede closes the evaluations that the answer stands for too.
func (l *Loop) supersede(j *job, b *batch, answer *berthv1.Evaluation) {
	old := j.work.evals
	if j.blockedEval != nil {
		old = append([]*berthv1.Evaluation{j.blockedEval}, old...)
	}
	for _, e := range old {
		if e.GetId() == answer.GetId() {
			continue
		}
		c := proto.Clone(e).(*berthv1.Evaluation)
		c.Status, c.StatusReason = berthv1.Evaluation_superseded, "evaluation "+answer.GetId()+" took over"
		b.evaluation(j, c)
	}
}

// keepExplanations takes over what was explained before where that was not done again.
func (w *work) keepExplanations(old *berthv1.Evaluation) {
	for _, g := range old.GetGroups() {
		if o := w.outcomes[g.GetGroup()]; o != nil && o.Explanation == nil && o.GetPlaced() < o.GetWanted() {
			o.Explanation = g.GetExplanation()
		}
	}
}

// sameAnswer says that a blocked evaluation would only be told what it says already.
func sameAnswer(a, b *berthv1.Evaluation) bool {
	if b == nil || a.GetStatus() != b.GetStatus() || len(a.GetGroups()) != len(b.GetGroups()) {
		return false
	}
	for i, g := range a.GetGroups() {
		was := b.GetGroups()[i]
		if !sameExplanation(g.GetExplanation(), was.GetExplanation()) || len(g.GetPreemptions()) != len(was.GetPreemptions()) {
			return false
		}
	}
	return true
}

// sameExplanation says that two explanations differ in the place in the queue at most.
func sameExplanation(a, b *berthv1.Explanation) bool {
	if a == nil || b == nil {
		return a == b
	}
	c := proto.Clone(a).(*berthv1.Explanation)
	c.QueuePlace, c.QueueLength = b.GetQueuePlace(), b.GetQueueLength()
	return proto.Equal(c, b)
}

// queuePlace notes the job's place in the queue where it is said why it waits.
func (l *Loop) queuePlace(j *job) {
	place, length := l.blocked.place(j)
	for _, o := range j.work.outcomes {
		if e := o.GetExplanation(); e != nil {
			e = proto.Clone(e).(*berthv1.Explanation)
			e.QueuePlace, e.QueueLength = uint32(place), uint32(length)
			o.Explanation = e
		}
	}
}

// jobStatus proposes what the job has come to, where that is new.
func (l *Loop) jobStatus(j *job, b *batch) {
	w := j.work
	stored := l.view.Job(j.key.namespace, j.key.name)
	if w.spec == nil || stored == nil || stored.GetVersion() != w.spec.GetVersion() || stored.GetStopped() != w.spec.GetStopped() {
		return
	}
	s := w.result.Status
	if w.placed > 0 {
		s = Status{Status: berthv1.Job_running}
	}
	if s.Status == stored.GetStatus() && s.Reason == stored.GetStatusReason() {
		return
	}
	b.status(j, &berthv1.JobStatusChange{Namespace: j.key.namespace, Job: j.key.name, Status: s.Status, Reason: s.Reason})
}
