package plan

import (
	"context"
	"slices"
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
	"github.com/berthd/berth/server/fsm"
	"github.com/berthd/berth/server/state"
)

// Keep is how long what is over is kept. Zero values take the defaults.
type Keep struct {
	// Job: a dead job with all that is its own; 4 h.
	Job time.Duration
	// Alloc: an allocation that is over and was replaced; 1 h.
	Alloc time.Duration
	// Evaluation: an evaluation that is answered; 1 h.
	Evaluation time.Duration
	// Node: a node that is down and has nothing to come back for; 24 h.
	Node time.Duration
	// Versions of a job, besides those that allocations run and the newest that was rolled
	// out well; 10.
	Versions int
}

func (k Keep) withDefaults() Keep {
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{{&k.Job, 4 * time.Hour}, {&k.Alloc, time.Hour}, {&k.Evaluation, time.Hour}, {&k.Node, 24 * time.Hour}} {
		if *d.v == 0 {
			*d.v = d.d
		}
	}
	if k.Versions == 0 {
		k.Versions = 10
	}
	return k
}

// nothingKept is how long things are kept when somebody asks for collection by hand.
var nothingKept = Keep{Job: -1, Alloc: -1, Evaluation: -1, Node: -1, Versions: 10}

// Garbage is what is over, in the order in which it can be forgotten: allocations and
// evaluations before their jobs, those before the nodes.
type Garbage struct {
	Allocs, Evaluations, Nodes []string
	Jobs                       []*berthv1.JobRef
}

// FindGarbage chooses what has been over for longer than it is to be kept.
func FindGarbage(view *state.View, now time.Time, keep Keep) Garbage {
	f := finder{view: view, now: now, keep: keep}
	for j := range view.Jobs("", "") {
		f.job(j)
	}
	for e := range view.Evaluations("") {
		f.evaluation(e)
	}
	for a := range view.Allocs("") { // of jobs that are gone
		if view.Job(a.GetNamespace(), a.GetJob()) == nil && f.collectable(a) {
			f.out.Allocs = append(f.out.Allocs, a.GetId())
		}
	}
	for n := range view.Nodes("") {
		f.node(n)
	}
	return f.out
}

type finder struct {
	view *state.View
	now  time.Time
	keep Keep
	out  Garbage
	// dead are the jobs that are collected; families the children that are not kept, by
	// their parents.
	dead     map[[2]string]*berthv1.Job
	families map[[2]string]family
}

func (f *finder) old(at time.Time, keep time.Duration) bool { return f.now.Sub(at) > keep }

func (f *finder) collectable(a *berthv1.Alloc) bool {
	return a.Collectable(f.view.Node(a.GetNodeId()) != nil)
}

// job collects a dead job whole once nothing of it may come back; of others the
// allocations that were replaced and the versions that nobody runs.
func (f *finder) job(j *berthv1.Job) {
	var over, replaced []string
	all, newest := true, j.GetSubmitTime().AsTime()
	used := map[uint64]bool{}
	for a := range f.view.AllocsByJob(j.GetNamespace(), j.GetName()) {
		at := a.GetModifyTime().AsTime()
		if at.After(newest) {
			newest = at
		}
		collectable := f.collectable(a)
		all = all && collectable
		if !collectable {
			used[a.GetJobVersion()] = true
			continue
		}
		over = append(over, a.GetId())
		if (a.GetNextAlloc() != "" || !a.Wanted()) && !f.diskWanted(j, a) && f.old(at, f.keep.Alloc) {
			replaced = append(replaced, a.GetId())
		} else {
			used[a.GetJobVersion()] = true
		}
	}
	if j.GetStatus() == berthv1.Job_dead && all && f.overdue(j, newest) {
		f.out.Allocs = append(f.out.Allocs, over...)
		f.out.Jobs = append(f.out.Jobs, &berthv1.JobRef{Namespace: j.GetNamespace(), Job: j.GetName()})
		if f.dead == nil {
			f.dead = map[[2]string]*berthv1.Job{}
		}
		f.dead[[2]string{j.GetNamespace(), j.GetName()}] = j
		return
	}
	f.out.Allocs = append(f.out.Allocs, replaced...)
	stable := f.view.StableBelow(j.GetNamespace(), j.GetName(), j.GetVersion())
	for i, v := range f.view.JobVersions(j.GetNamespace(), j.GetName()) {
		if i >= f.keep.Versions && v.GetVersion() != stable.GetVersion() && !used[v.GetVersion()] && v.GetVersion() != j.GetVersion() {
			f.out.Jobs = append(f.out.Jobs, &berthv1.JobRef{Namespace: j.GetNamespace(), Job: j.GetName(), Version: v.GetVersion()})
		}
	}
}

// overdue says that a dead job is kept no longer; newest is when something of it last changed.
func (f *finder) overdue(j *berthv1.Job, newest time.Time) bool {
	if j.GetParent() != "" {
		return f.past(j)
	}
	return j.GetPurge() || f.old(newest, f.keep.Job)
}

func (f *finder) evaluation(e *berthv1.Evaluation) {
	job := f.dead[[2]string{e.GetNamespace(), e.GetJob()}]
	if job.GetParent() != "" { // there may be very many of them
		f.out.Evaluations = append(f.out.Evaluations, e.GetId())
		return
	}
	gone := job != nil || f.view.Job(e.GetNamespace(), e.GetJob()) == nil
	answered := e.GetStatus() == berthv1.Evaluation_complete || e.GetStatus() == berthv1.Evaluation_superseded
	if (gone || answered) && f.old(e.GetModifyTime().AsTime(), f.keep.Evaluation) {
		f.out.Evaluations = append(f.out.Evaluations, e.GetId())
	}
}

// diskWanted says that a successor is still to get an allocation's disk: none has run yet.
func (f *finder) diskWanted(j *berthv1.Job, a *berthv1.Alloc) bool {
	g := j.GroupNamed(a.GetGroup())
	if !g.GetStateful().GetStickyDisk() || int64(a.GetIndex()) >= int64(scheduler.GroupCount(g)) {
		return false
	}
	for a.GetNextAlloc() != "" {
		if a = f.view.Alloc(a.GetNextAlloc()); a == nil || a.Ran() {
			return false
		}
	}
	return true
}

// node collects a node that has been down for long, unless something on it may still run.
func (f *finder) node(n *berthv1.Node) {
	if n.GetStatus() != berthv1.Node_down || !f.old(n.GetStatusTime().AsTime(), f.keep.Node) {
		return
	}
	for a := range f.view.AllocsByNode(n.GetId()) {
		// An instance with an identity is waited for as long as its node is known.
		stateful := f.view.Job(a.GetNamespace(), a.GetJob()).GroupNamed(a.GetGroup()).GetStateful() != nil
		if !a.Terminal() || stateful && !a.Ended() {
			return
		}
	}
	f.out.Nodes = append(f.out.Nodes, n.GetId())
}

// collectedAtOnce is how many things one entry forgets: ids take 40 bytes, jobs up to
// a few hundred.
const collectedAtOnce = 200

// Facts gives the garbage as facts that each fit into an entry.
func (g Garbage) Facts() (facts []*berthv1.Collected) {
	for ids := range slices.Chunk(g.Allocs, collectedAtOnce) {
		facts = append(facts, &berthv1.Collected{AllocIds: ids})
	}
	for ids := range slices.Chunk(g.Evaluations, collectedAtOnce) {
		facts = append(facts, &berthv1.Collected{EvaluationIds: ids})
	}
	for refs := range slices.Chunk(g.Jobs, collectedAtOnce/4) {
		facts = append(facts, &berthv1.Collected{Jobs: refs})
	}
	for ids := range slices.Chunk(g.Nodes, collectedAtOnce) {
		facts = append(facts, &berthv1.Collected{NodeIds: ids})
	}
	return facts
}

// CollectGarbage forgets what is over. Keep{} keeps things for as long as by default.
func CollectGarbage(ctx context.Context, store *state.Store, p Proposer, keep Keep) (Garbage, error) {
	now := time.Now()
	garbage := FindGarbage(store.View(), now, keep.withDefaults())
	for _, fact := range garbage.Facts() {
		result, err := p.Propose(ctx, fsm.NewEntry(now, func(e *berthv1.LogEntry) {
			e.Fact = &berthv1.LogEntry_Collected{Collected: fact}
		}))
		if err == nil {
			err = result.Err
		}
		if err != nil {
			return Garbage{}, err
		}
	}
	return garbage, nil
}

// CollectGarbageNow forgets all that is over, however young.
func CollectGarbageNow(ctx context.Context, store *state.Store, p Proposer) (Garbage, error) {
	return CollectGarbage(ctx, store, p, nothingKept)
}
