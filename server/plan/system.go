package plan

import (
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// system reconciles a group that wants one instance on every node that passes its
// checks. An instance on a node that does no longer stays until it ends.
func (r *reconciler) system(g *group) {
	nodes := r.Feasible(g.spec)
	covered := make(map[string]bool, len(nodes))
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
	g.feasible = make(map[string]bool, len(nodes))
	for _, id := range nodes {
		g.feasible[id] = true
	}
	for i := len(g.ended) - 1; i >= 0; i-- {
		a := g.ended[i]
		if covered[a.GetNodeId()] || !g.feasible[a.GetNodeId()] || r.outdated(g, a) {
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
	for _, id := range nodes {
		if !covered[id] {
			r.ask(g, Ask{Node: id})
		}
	}
	r.updateSystem(g, r.drainSystem(g, kept), len(nodes))
}

func (r *reconciler) updateSystem(g *group, live []*berthv1.Alloc, nodes int) {
	first := len(r.result.Asks)
	r.update(g, live, nodes)
	for i := range r.result.Asks[first:] {
		ask := &r.result.Asks[first+i]
		ask.Node = ask.Previous.GetNodeId()
	}
}
