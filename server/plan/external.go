package plan

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/consensus"
	"github.com/berthd/berth/server/state"
)

// Jobs that name a scheduler are reconciled like all others: what they have too much of
// is stopped, what is lost is given up. What they lack is not placed here but offered to
// that scheduler (External), and what it proposes (Submit) is checked, granted and
// written by this loop: it owns the fleet, so that nobody's placements can race with
// anybody else's.

// External is told what schedulers outside of Berth are to place. Its methods are called
// by the loop's goroutine, must not wait for it, and own what they are given.
type External interface {
	// Offer says what a job lacks; it takes the place of what was said of the job before.
	Offer(o Offer)
	// Withdraw says that nothing of a job is to be placed outside (any more), and why.
	Withdraw(namespace, job, reason string)
	// Stirred says that something was freed, or may fit now.
	Stirred()
	// Reset withdraws everything: all jobs are looked at anew.
	Reset()
}

// Offer is what a job lacks, for an external scheduler.
type Offer struct {
	Scheduler  string
	Evaluation *berthv1.ClaimedEvaluation // without what its claim says
	// Left counts the instances, those that Evaluation has no room for among them.
	Left int
}

// BuiltIn is what a job may call the scheduler of the servers; "" is the same.
const BuiltIn = "berth"

// IsExternal says that somebody else places a job.
func IsExternal(job *berthv1.Job) bool {
	return job.GetScheduler() != "" && job.GetScheduler() != BuiltIn
}

// maxWanted bounds the entries of an offer.
const maxWanted = 4096

// offered is what the loop remembers of an offer.
type offered struct {
	evalID  string
	spec    *berthv1.Job
	asks    []*identical
	groups  []*berthv1.GroupOutcome
	trigger berthv1.Evaluation_Trigger
}

// left counts the instances that are still to be placed.
func (o *offered) left() (n int) {
	for _, same := range o.asks {
		n += same.left
	}
	return n
}

// find gives the asks that an instance belongs to, and its place among them; of a system
// job's, the one of the node.
func (o *offered) find(p *berthv1.PlannedInstance) (*identical, int) {
	for _, same := range o.asks {
		if same.left == 0 || same.name() != p.GetGroup() {
			continue
		}
		for i, a := range same.asks {
			in := p.GetIndex() >= a.Index && int64(p.GetIndex()) < int64(a.Index)+int64(a.Count)
			if in && (a.Node == "" || a.Node == p.GetNodeId()) {
				return same, i
			}
		}
	}
	return nil, 0
}

// pull takes one instance out of the asks.
func (i *identical) pull(at int, index uint32) Ask {
	a := i.asks[at]
	one := a
	one.Index, one.Count = index, 1
	i.left--
	rest := i.asks[:at:at]
	if before := a; index > a.Index {
		before.Count = int(index - a.Index)
		rest = append(rest, before)
	}
	if after := a; int64(index)+1 < int64(a.Index)+int64(a.Count) {
		after.Index, after.Count = index+1, int(int64(a.Index)+int64(a.Count)-int64(index)-1)
		rest = append(rest, after)
	}
	i.asks = append(rest, i.asks[at+1:]...)
	return one
}

// wanted is what is still to be placed, as schedulers get it.
func (o *offered) wanted() (out []*berthv1.WantedInstances, more bool) {
	for _, same := range o.asks {
		for _, a := range same.asks {
			if len(out) == maxWanted {
				return out, true
			}
			w := &berthv1.WantedInstances{Group: a.Group.GetName(), Index: a.Index, Count: uint32(a.Count), NodeId: a.Node,
				PreviousAlloc: a.Previous.GetId(), PreviousNodeId: a.Previous.GetNodeId(), PenalisedNodeId: a.Penalised}
			switch {
			case a.Replaces:
				w.Reason = berthv1.WantedInstances_update
			case a.Previous != nil:
				w.Reason = berthv1.WantedInstances_replacement
			case a.Node != "":
				w.Reason = berthv1.WantedInstances_node
			}
			out = append(out, w)
		}
	}
	return out, false
}

// handOver offers what a job lacks to its scheduler, where it names one. It says whether
// anything is lacking: then the evaluations that ask stay as they are until it is placed.
func (l *Loop) handOver(j *job, b *batch) bool {
	w := j.work
	if j.offer != nil && (len(w.handed) == 0 || j.offer.evalID != w.evalID) {
		reason := "nothing of the job is to be placed now"
		if len(w.handed) > 0 {
			reason = "evaluation " + w.evalID + " took over"
		}
		l.cfg.External.Withdraw(j.key.namespace, j.key.name, reason)
		j.offer = nil
	}
	if len(w.handed) == 0 {
		return false
	}
	l.jobStatus(j, b)
	switch n := len(w.evals); {
	case n > 0: // the newest is still to be answered
		j.evals = append(slices.Clone(w.evals[n-1:]), j.evals...)
		l.supersede(j, b, w.evals[n-1])
		j.blockedEval = nil
	case j.blockedEval == nil:
		b.evaluation(j, &berthv1.Evaluation{Id: w.evalID, Namespace: j.key.namespace, Job: j.key.name,
			JobVersion: w.spec.GetVersion(), Trigger: w.trigger})
	}
	j.offer = &offered{evalID: w.evalID, spec: w.spec, asks: w.handed, groups: w.result.Groups, trigger: w.trigger}
	l.offer(j)
	return true
}

// offer tells what is left of a job's offer.
func (l *Loop) offer(j *job) {
	o := j.offer
	e := &berthv1.ClaimedEvaluation{EvaluationId: o.evalID, Job: o.spec, Revision: l.view.Revision()}
	e.Wanted, e.More = o.wanted()
	for _, g := range o.groups {
		e.Groups = append(e.Groups, proto.CloneOf(g))
	}
	l.cfg.External.Offer(Offer{Scheduler: o.spec.GetScheduler(), Evaluation: e, Left: o.left()})
}

// noticed tells external schedulers of changes that may make room.
func (l *Loop) noticed(c *state.Change) {
	switch c.Table {
	case state.TableNodes, state.TableConfig:
		l.stirs = true
	case state.TableAllocs:
		before, after := c.Allocs()
		l.stirs = l.stirs || before.Exists() && before.HoldsGrant() && !(after.Exists() && after.HoldsGrant())
	}
}

// request is something that somebody asks of the loop's goroutine about an offer.
type request struct {
	namespace, job string
	evalID         string
	plan           *Plan   // one of the two
	reason         *Reason //
	reply          chan error
	outcome        *Outcome
	entries        int // on the way
}

// Plan is what an external scheduler proposes for an evaluation that it has claimed.
type Plan struct {
	Scheduler  string
	Revision   uint64
	Placements []*berthv1.PlannedInstance
	Stops      []string
	Atomic     bool
}

// Outcome is what became of a plan.
type Outcome struct {
	Response *berthv1.SubmitPlanResponse
	// allocs are the placements on the way, by the id of their allocation.
	allocs map[string]int
}

// Reason is why an offer waits, as people see it.
type Reason struct {
	Text     string
	Remedies []string
}

// ErrNotOffered is that an evaluation is not, or not any more, to be placed by an
// external scheduler.
var ErrNotOffered = fmt.Errorf("the evaluation is not offered any more")

// Submit checks a plan, writes what fits of it and says what became of each part, when
// that is durable. It may be called from any goroutine while Run runs.
func (l *Loop) Submit(ctx context.Context, namespace, job, evalID string, p *Plan) (*berthv1.SubmitPlanResponse, error) {
	r := &request{namespace: namespace, job: job, evalID: evalID, plan: p}
	if err := l.ask(ctx, r); err != nil {
		return nil, err
	}
	return r.outcome.Response, nil
}

// Explain has people told why an offer waits.
func (l *Loop) Explain(ctx context.Context, namespace, job, evalID string, why *Reason) error {
	return l.ask(ctx, &request{namespace: namespace, job: job, evalID: evalID, reason: why})
}

func (l *Loop) ask(ctx context.Context, r *request) error {
	reply := make(chan error, 1)
	r.reply = reply
	select {
	case l.requests <- r:
	case <-l.ended:
		return fmt.Errorf("the term is over: %w", consensus.ErrNotLeader)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-reply:
		return err
	case <-l.ended:
		return problem.New(problem.Unavailable, "", "the leader was lost while it carried this out").
			WithRemedy("it may be done or not: register and claim again, what is still wanted tells")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// serve answers requests about jobs that nothing is on the way of.
func (l *Loop) serve(b *batch, now time.Time) {
	if l.stirs {
		l.stirs = false
		l.cfg.External.Stirred()
	}
	for more := true; more; {
		select {
		case r := <-l.requests:
			l.asked = append(l.asked, r)
		default:
			more = false
		}
	}
	waiting := l.asked[:0]
	for _, r := range l.asked {
		j := l.jobs[jobKey{r.namespace, r.job}]
		switch {
		case j != nil && (j.busy() || j.queued || b.has(j)) || l.flying+len(b.full) >= l.cfg.Tuning.Flying:
			waiting = append(waiting, r)
		case j == nil || j.offer == nil || j.offer.evalID != r.evalID:
			r.reply <- ErrNotOffered
		case r.reason != nil:
			l.explain(j, b, r)
		default:
			l.carryOut(j, b, r, now)
		}
	}
	clear(l.asked[len(waiting):])
	l.asked = waiting
}

// explain writes why an offer waits into its evaluation.
func (l *Loop) explain(j *job, b *batch, r *request) {
	o := j.offer
	eval := &berthv1.Evaluation{Id: o.evalID, Namespace: j.key.namespace, Job: j.key.name, JobVersion: o.spec.GetVersion(),
		Trigger: o.trigger, Status: berthv1.Evaluation_blocked, StatusReason: r.reason.Text}
	left := map[string]bool{}
	for _, same := range o.asks {
		left[same.name()] = left[same.name()] || same.left > 0
	}
	for _, g := range o.groups {
		g = proto.CloneOf(g)
		if left[g.GetGroup()] {
			g.Explanation = &berthv1.Explanation{Nodes: uint32(l.fleet.Len()), Remedies: r.reason.Remedies,
				Failed: []*berthv1.FailedCheck{{Check: "scheduler", Detail: r.reason.Text, Nodes: uint32(l.fleet.Len())}}}
		}
		eval.Groups = append(eval.Groups, g)
	}
	fitEvaluation(eval)
	j.evals = slices.DeleteFunc(j.evals, func(e *berthv1.Evaluation) bool { return e.GetId() == eval.GetId() })
	if j.blockedEval == nil || !sameAnswer(eval, j.blockedEval) || eval.GetStatusReason() != j.blockedEval.GetStatusReason() {
		b.evaluation(j, eval)
		j.blockedEval = eval
	}
	r.reply <- nil
}

// nobody is External where nobody is.
type nobody struct{}

func (nobody) Offer(Offer)                     {}
func (nobody) Withdraw(string, string, string) {}
func (nobody) Stirred()                        {}
func (nobody) Reset()                          {}

// gangOf is how many instances of an offer are placed together with one of an ask: all
// of a job that is a gang, all of a group that is; 0: it alone.
func (o *offered) gangOf(same *identical) (n int) {
	switch {
	case o.spec.GetGang():
		return o.left()
	case same.asks[0].Group.GetGang():
		for _, other := range o.asks {
			if other.name() == same.name() {
				n += other.left
			}
		}
	}
	return n
}

// handsOver says that asks are for the job's own scheduler to place, and keeps them for it.
func (w *work) handsOver(same *identical) bool {
	if !IsExternal(w.spec) || same.problem != nil {
		return false
	}
	w.handed, w.asks = append(w.handed, same), w.asks[1:]
	return true
}

// noticedJob withdraws what was offered of a job that is gone.
func (l *Loop) noticedJob(before, after *berthv1.Job) {
	if j := l.jobs[jobKey{before.GetNamespace(), before.GetName()}]; after == nil && j != nil && j.offer != nil {
		l.cfg.External.Withdraw(j.key.namespace, j.key.name, "the job is gone")
		j.offer = nil
	}
}
