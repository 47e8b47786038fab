package plan

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/fsm"
	"github.com/berthd/berth/server/rows"
)

// maxPlan bounds an entry's content in bytes, below fsm.MaxEntry by what surrounds it.
const maxPlan = fsm.MaxEntry - 2048

// entry is a plan in the making, for one or several jobs.
type entry struct {
	plan   berthv1.Plan
	size   int // of all but the rows
	jobs   map[jobKey]struct{}
	rows   *rows.PlacementWriter // nil: nothing is placed
	placed [][]placed
	landed bool   // it is written: the view will have it
	gang   *parts // that it is one of; nil: it stands for itself
	// request is who has proposed it, where an external scheduler has; nil: this loop.
	request *request
}

// bytes is about how large the entry is.
func (e *entry) bytes() int {
	if e.rows == nil {
		return e.size
	}
	return e.size + e.rows.Size()
}

// batch gathers what a round proposes into as few entries as it takes.
type batch struct {
	loop *Loop
	now  time.Time
	open *entry
	full []*entry
}

// room gives the entry that takes n more bytes of a job's.
func (b *batch) room(j *job, n int) *entry {
	if b.open != nil && b.open.bytes()+n > maxPlan {
		b.flush()
	}
	if b.open == nil {
		b.open = &entry{jobs: map[jobKey]struct{}{}}
	}
	b.open.size += n
	b.open.jobs[j.key] = struct{}{}
	if w := j.work; w != nil {
		w.spilled = w.spilled || w.open != nil && w.open != b.open
		w.open, w.did = b.open, true
	}
	return b.open
}

// flush closes the entry: what follows goes into another one.
func (b *batch) flush() {
	if b.open != nil {
		b.full = append(b.full, b.open)
		b.open = nil
	}
}

// has says that something of the job is in an entry that is not sent yet.
func (b *batch) has(j *job) bool {
	for _, e := range b.full {
		if _, ok := e.jobs[j.key]; ok {
			return true
		}
	}
	if b.open == nil {
		return false
	}
	_, ok := b.open.jobs[j.key]
	return ok
}

// framed is the size of a message inside another one.
func framed(m proto.Message) int { return proto.Size(m) + 5 }

func (b *batch) change(j *job, c *berthv1.AllocChange) *entry {
	e := b.room(j, framed(c))
	e.plan.Changes = append(e.plan.Changes, c)
	b.loop.crowd.tell(c)
	return e
}

func (b *batch) evaluation(j *job, eval *berthv1.Evaluation) {
	e := b.room(j, framed(eval))
	e.plan.Evaluations = append(e.plan.Evaluations, eval)
}

// deployment writes what has become of a deployment; nobody's question is answered by it.
func (b *batch) deployment(j *job, d *berthv1.Deployment) {
	did := j.work.did
	e := b.room(j, framed(d))
	e.plan.Deployments = append(e.plan.Deployments, d)
	j.work.did = did
}

func (b *batch) status(j *job, c *berthv1.JobStatusChange) {
	e := b.room(j, framed(c))
	e.plan.Jobs = append(e.plan.Jobs, c)
}

// flight is an entry on its way.
type flight struct {
	entry  *entry
	result fsm.Result
	err    error
	// drops are gangs that it gives up; it is no plan then.
	drops []string
	// collects says that it is not a plan but what Loop.collect has found.
	collects bool
	// empties is a drained node on which nothing is left; it is no plan then.
	empties string
}

// send proposes the entries; each lands in Loop.landed.
func (l *Loop) send(ctx context.Context, b *batch) {
	b.flush()
	for _, e := range b.full {
		for key := range e.jobs {
			if j := l.jobs[key]; j != nil {
				j.flying++
			}
		}
		l.flying++
		l.aloft += e.placements()
		if e.rows != nil {
			e.plan.Rows = e.rows.Bytes()
		}
		go func() {
			f := &flight{entry: e}
			f.result, f.err = l.cfg.Proposer.Propose(ctx, fsm.NewEntry(b.now, func(le *berthv1.LogEntry) {
				le.Fact = &berthv1.LogEntry_Plan{Plan: &e.plan}
			}))
			if f.err == nil && f.result.Err != nil {
				f.err = f.result.Err
			}
			l.landed <- f
		}()
	}
}

// land takes in what became of an entry. What was not written is taken back out of the
// fleet, and its jobs are looked at again.
func (l *Loop) land(f *flight) {
	l.flying--
	l.aloft -= f.entry.placements()
	l.crowd.landed(f.entry.plan.GetChanges())
	if r := f.entry.request; r != nil {
		r.landed(f)
	}
	if f.collects {
		l.collecting = false
	}
	if f.empties != "" && f.err != nil {
		l.drains.ended(f.empties) // tried again
	}
	entries, last := []*entry{f.entry}, true
	if g := f.entry.gang; g != nil {
		entries, last = g.entries, l.landPart(g, f)
	}
	failed := f.err != nil
	switch {
	case !last:
		failed = false
	case failed && f.drops != nil:
		l.drop = append(l.drop, f.drops...) // tried again
	case failed:
		l.notWritten(entries, f.err)
	default:
		l.written(entries, f.result.Refused)
	}
	for key := range f.entry.jobs {
		j := l.jobs[key]
		if j == nil {
			continue
		}
		j.flying--
		if last && (failed || len(f.result.Refused) > 0) {
			l.upset(j, failed)
		}
		l.settle(j)
	}
}

// retryFailed is how long a job waits after its plan was not written.
const retryFailed = 100 * time.Millisecond

// upset has a job looked at anew after something of its plan was not written.
func (l *Loop) upset(j *job, failed bool) {
	at := time.Now()
	if failed {
		at = at.Add(retryFailed)
	}
	if j.work != nil {
		j.work.drop()
	}
	if failed { // the answer to its evaluations may have been in the entry
		j.evals, j.blockedEval = nil, nil
		for e := range l.view.EvaluationsByJob(j.key.namespace, j.key.name) {
			l.evaluation(e, at)
		}
		if j.work != nil {
			j.work.evals = nil // they are among those
		}
	}
	l.mark(j, at, berthv1.Evaluation_alloc_changed)
}

// settle gives a job its turn when its last entry has landed and something is left to do.
func (l *Loop) settle(j *job) {
	switch {
	case j.flying > 0 || j.queued:
	case j.work != nil:
		l.push(j)
	case j.again:
		j.again = false
		l.push(j)
	}
}

// takeBack removes from the fleet what was not written of an allocation.
func (l *Loop) takeBack(id rows.ID) {
	l.keepSize(id.String())
	if p := l.pending[id]; p != nil {
		delete(l.pending, id)
		l.fleet.ChangeAlloc(p.alloc(), nil)
		l.freed(p.node)
		l.heldLess(p.alloc().GetNamespace(), time.Now())
	}
}

func updated(spec *berthv1.Job) string { return fmt.Sprintf(reasonUpdated, spec.GetVersion()) }
