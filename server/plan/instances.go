package plan

import (
	"fmt"
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
)

// instances reconciles a group of a service or batch job: instances 0 to count-1.
func (r *reconciler) instances(g *group) {
	count := scheduler.GroupCount(g.spec)
	r.canaries(g)
	if g.spec.GetStateful() != nil {
		r.stateful(g)
		return
	}
	places := places{taken: make([]bool, count)}
	live, unheard := r.returned(g)
	live = r.excess(g, live, unheard, &places)
	live = r.drain(g, live, count)
	r.goneAway(g, &places)
	r.over(g, &places)
	for index := range count {
		if !places.taken[index] {
			r.fresh(g, uint32(index))
		}
	}
	if g.rollout != nil {
		r.roll(g, live, count)
	} else {
		r.update(g, live, count) // last: what is missing counts against it
	}
}

// places are the indexes of a group that have an allocation, or wait for theirs.
type places struct{ taken []bool }

// take gives false when the place is taken already or beyond the count.
func (p *places) take(index uint32) bool {
	if int64(index) >= int64(len(p.taken)) || p.taken[index] {
		return false
	}
	p.taken[index] = true
	return true
}

func (p *places) free(index uint32) bool {
	return int64(index) < int64(len(p.taken)) && !p.taken[index]
}

// returned settles who stays when an allocation's node is back and it was replaced. Of
// unheard, by the id of its successor, the agent has yet to say what became of it.
func (r *reconciler) returned(g *group) (live []*berthv1.Alloc, unheard map[string]*berthv1.Alloc) {
	replaced := map[string]*berthv1.Alloc{}
	for _, a := range g.live {
		if a.GetNextAlloc() != "" {
			replaced[a.GetNextAlloc()] = a
		}
	}
	if len(replaced) == 0 {
		return g.live, nil
	}
	r.followSuccessors(g, replaced)
	drop, unheard := map[*berthv1.Alloc]bool{}, map[string]*berthv1.Alloc{}
	for _, successor := range g.live {
		old := replaced[successor.GetId()]
		switch {
		case old == nil || old.GetIndex() != successor.GetIndex() || drop[old] || drop[successor]:
		case old.GetStatus() == berthv1.Alloc_unknown:
			drop[old] = true
			unheard[successor.GetId()] = old
		case !r.draining(old) && keepsOld(g.spec.GetOnDisconnect().GetReconcile(), old, successor):
			drop[successor] = true
			r.stop(g, successor, reasonKeptOld)
		default:
			drop[old] = true
			r.stop(g, old, reasonReplaced)
		}
	}
	return slices.DeleteFunc(slices.Clone(g.live), func(a *berthv1.Alloc) bool { return drop[a] }), unheard
}

// followSuccessors finds, for those whose successor was replaced itself, the one of that
// line that is live now.
func (r *reconciler) followSuccessors(g *group, replaced map[string]*berthv1.Alloc) {
	live := map[string]*berthv1.Alloc{}
	for _, a := range g.live {
		live[a.GetId()] = a
	}
	var next map[string]string
	for _, old := range g.live {
		if id := old.GetNextAlloc(); id == "" || live[id] != nil {
			continue
		}
		if next == nil {
			next = map[string]string{}
			for a := range r.Allocs {
				next[a.GetId()] = a.GetNextAlloc()
			}
		}
		id := old.GetNextAlloc()
		for range len(next) {
			if live[id] != nil || id == "" {
				break
			}
			id = next[id]
		}
		if now := live[id]; now != nil && now != old && now.GetIndex() == old.GetIndex() && replaced[id] == nil {
			replaced[id] = old
		}
	}
}

// keepsOld decides by the policy; "best" keeps what runs, the older where both do.
func keepsOld(policy string, old, successor *berthv1.Alloc) bool {
	switch policy {
	case "keep_old":
		return true
	case "best":
		return old.GetStatus() == berthv1.Alloc_running || successor.GetStatus() != berthv1.Alloc_running
	}
	return false
}

// excess stops what has no place: beyond the count, or in a place that is taken. The
// first in a place by creation stays. What is unheard waits beside its successor, where
// that stays.
func (r *reconciler) excess(g *group, live []*berthv1.Alloc, unheard map[string]*berthv1.Alloc, places *places) []*berthv1.Alloc {
	kept := live[:0:0]
	seat := func(a *berthv1.Alloc) {
		switch {
		case places.take(a.GetIndex()):
			kept = append(kept, a)
		case int64(a.GetIndex()) >= int64(len(places.taken)):
			r.stop(g, a, reasonCount)
		default:
			r.stop(g, a, reasonDuplicate)
		}
	}
	for _, a := range live {
		seat(a)
	}
	if len(unheard) == 0 {
		return kept
	}
	for _, a := range slices.Clone(kept) {
		if unheard[a.GetId()] != nil {
			r.live++
			delete(unheard, a.GetId())
		}
	}
	for _, a := range g.live {
		for _, old := range unheard {
			if a == old {
				seat(a)
			}
		}
	}
	return kept
}

// goneAway deals with allocations whose node is not there: given up at once, or waited
// for (lost_after), with a stand-in where the group wants one.
func (r *reconciler) goneAway(g *group, places *places) {
	policy := g.spec.GetOnDisconnect()
	for _, a := range g.away {
		until := r.Node(a.GetNodeId()).GetStatusTime().AsTime().Add(policy.GetLostAfter().AsDuration())
		if int64(a.GetIndex()) >= int64(len(places.taken)) || r.Node(a.GetNodeId()) == nil || policy.GetLostAfter().AsDuration() <= 0 || !r.Now.Before(until) {
			r.lose(g, a)
			if places.take(a.GetIndex()) {
				r.ask(g, Ask{Index: a.GetIndex(), Previous: a, Reschedules: a.GetReschedules()})
			}
			continue
		}
		r.wake(until)
		r.live++
		if a.GetStatus() != berthv1.Alloc_unknown {
			r.change(a, &berthv1.AllocChange{Status: berthv1.Alloc_unknown.Enum(), StatusReason: reasonNodeAway})
		}
		if !places.take(a.GetIndex()) {
			continue // a stand-in is there
		}
		if policy == nil || policy.Replace == nil || policy.GetReplace() {
			r.ask(g, Ask{Index: a.GetIndex(), Previous: a, Reschedules: a.GetReschedules()})
		}
	}
}

// over deals with allocations that have ended by themselves and were not replaced.
func (r *reconciler) over(g *group, places *places) {
	for i := len(g.ended) - 1; i >= 0; i-- { // the newest speaks for its place
		a := g.ended[i]
		if !places.free(a.GetIndex()) || r.outdated(g, a) {
			continue // somebody has its place, or a new version makes a new start
		}
		switch verdict, at := r.reschedule(g, a); verdict {
		case isDone:
			places.take(a.GetIndex())
		case givenUp:
			places.take(a.GetIndex())
			r.failed++
			g.missing++
		case waits:
			places.take(a.GetIndex())
			r.waiting++
			g.missing++
			r.wake(at)
		case isDue:
			places.take(a.GetIndex())
			r.ask(g, Ask{Index: a.GetIndex(), Previous: a, Penalised: a.GetNodeId(), Reschedules: r.recorded(a)})
		}
	}
}

// update brings live allocations to the job's version: in place where that will do, else
// by replacement, a part of the group at a time.
func (r *reconciler) update(g *group, live []*berthv1.Alloc, count int) {
	budget := max(1, (count+rollingShare-1)/rollingShare)
	if r.toCompletion() || g.spec.GetGang() {
		budget = count // all together
	}
	for _, a := range live {
		r.live++
		if a.GetStatus() == berthv1.Alloc_pending && a.GetJobVersion() == r.Job.GetVersion() {
			budget--
		}
	}
	budget -= int(g.outcome.GetWanted()) + g.missing
	for _, a := range live {
		switch r.updateOf(g, a) {
		case upToDate:
		case inPlace:
			r.change(a, &berthv1.AllocChange{JobVersion: r.Job.GetVersion()})
			g.outcome.Updated++
		case resized, replaced:
			if _, has := r.seat(g, a); r.perNode() && !has {
				continue // nothing new may be placed there now
			}
			if budget <= 0 {
				r.result.Rolling = true
				continue
			}
			budget--
			r.ask(g, r.successor(g, a))
		}
	}
}

// rollingShare is the part of a service's instances that may be away at a time while a
// new version is rolled out: one in so many, at least one.
const rollingShare = 4

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
