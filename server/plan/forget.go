package plan

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/fsm"
)

func cloneJob(j *berthv1.Job) *berthv1.Job { return proto.Clone(j).(*berthv1.Job) }

// forgetEvery is how often it is tried to forget a purged job.
const forgetEvery = 200 * time.Millisecond

// forget removes a purged job with all its allocations; what is lost on a node that may
// come back holds it up, and it is tried again when that node is heard or forgotten.
func (l *Loop) forget(ctx context.Context, j *job, now time.Time) {
	g := Garbage{Jobs: []*berthv1.JobRef{{Namespace: j.key.namespace, Job: j.key.name}}}
	for a := range l.view.AllocsByJob(j.key.namespace, j.key.name) {
		if !a.Collectable(l.nodes[a.GetNodeId()] != nil) {
			return
		}
		g.Allocs = append(g.Allocs, a.GetId())
	}
	l.throwAway(ctx, now, &flight{entry: &entry{}}, func() Garbage { return g })
	l.mark(j, now.Add(forgetEvery), berthv1.Evaluation_timer)
}

// collect forgets what is over. It looks for it beside the planning: there may be very
// much to look at.
func (l *Loop) collect(ctx context.Context, now time.Time) {
	if l.collecting {
		return
	}
	l.collecting = true
	view := l.view
	l.throwAway(ctx, now, &flight{entry: &entry{}, collects: true}, func() Garbage {
		return FindGarbage(view, now, l.cfg.Tuning.Keep)
	})
}

// throwAway proposes garbage, one entry after the other; f lands at the end.
func (l *Loop) throwAway(ctx context.Context, now time.Time, f *flight, find func() Garbage) {
	l.flying++
	go func() {
		for _, fact := range find().Facts() {
			result, err := l.cfg.Proposer.Propose(ctx, fsm.NewEntry(now, func(e *berthv1.LogEntry) {
				e.Fact = &berthv1.LogEntry_Collected{Collected: fact}
			}))
			if err == nil {
				err = result.Err
			}
			if err != nil {
				f.err = err
				break
			}
		}
		l.landed <- f
	}()
}
