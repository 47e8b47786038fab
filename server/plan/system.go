package plan

import (
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
)

// system reconciles a group that wants one instance on every node that passes its
// checks. An instance on a node that does no longer stays until it ends.
func (r *reconciler) system(g *group) {
	r.size(g)
	covered := make(map[string]bool, len(g.nodes))
	kept := g.live[:0:0]
	for _, a := range g.live {
		if covered[a.GetNodeId()] {
			r.stop(g, a, reasonDuplicate)
			continue
		}
		covered[a.GetNodeId()] = true
		kept = append(kept, a)
	}
	for _, a := range g.away {
		r.lose(g, a) // nothing is wanted on a node that is not there
	}
	for i := len(g.ended) - 1; i >= 0; i-- {
		a := g.ended[i]
		if _, has := r.seat(g, a); !has || covered[a.GetNodeId()] || r.outdated(g, a) {
			continue
		}
		covered[a.GetNodeId()] = true
		switch verdict, at := r.reschedule(g, a); verdict {
		case givenUp:
			r.failed++
			g.missing++
		case waits:
			r.waiting++
			g.missing++
			r.wake(at)
		case isDue:
			r.ask(g, Ask{Node: a.GetNodeId(), Previous: a, Reschedules: r.recorded(a)})
		}
	}
	for _, id := range g.nodes {
		if !covered[id] {
			r.ask(g, Ask{Node: id})
		}
	}
	r.updateSystem(g, r.drainSystem(g, kept))
}

// updateSystem brings instances to the job's version, by the update strategy where there is
// one. On nodes that take nothing new they stay what they are.
func (r *reconciler) updateSystem(g *group, live []*berthv1.Alloc) {
	first := len(r.result.Asks)
	if g.rollout != nil {
		seated := part(&live, func(a *berthv1.Alloc) bool { _, has := r.seat(g, a); return has })
		r.live += len(live)
		r.roll(g, seated, len(g.nodes))
	} else {
		r.update(g, live, len(g.nodes))
	}
	for i := range r.result.Asks[first:] {
		ask := &r.result.Asks[first+i]
		ask.Node = ask.Previous.GetNodeId()
	}
}

// size is how many instances a group is to have.
func (r *reconciler) size(g *group) int {
	if !r.perNode() {
		return scheduler.GroupCount(g.spec)
	}
	if g.seats == nil {
		g.nodes = r.Feasible(g.spec)
		g.seats = make(map[string]int, len(g.nodes))
		for i, id := range g.nodes {
			g.seats[id] = i
		}
	}
	return len(g.nodes)
}

// seat is an instance's place among those, from 0; false: it has none.
func (r *reconciler) seat(g *group, a *berthv1.Alloc) (int, bool) {
	if r.perNode() {
		seat, has := g.seats[a.GetNodeId()]
		return seat, has
	}
	return int(a.GetIndex()), int64(a.GetIndex()) < int64(scheduler.GroupCount(g.spec))
}
