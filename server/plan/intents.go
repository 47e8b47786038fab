package plan

import (
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// change records a change of an allocation.
func (r *reconciler) change(a *berthv1.Alloc, c *berthv1.AllocChange) {
	c.AllocId = a.GetId()
	r.result.Changes = append(r.result.Changes, c)
}

// lost is that an allocation is given up: should it come back, it is stopped.
func lost(reason string) *berthv1.AllocChange {
	return &berthv1.AllocChange{
		Desired: berthv1.Alloc_stop.Enum(), DesiredReason: reason,
		Status: berthv1.Alloc_lost.Enum(), StatusReason: reason,
	}
}

// stop asks an allocation to end.
func (r *reconciler) stop(g *group, a *berthv1.Alloc, reason string) {
	r.change(a, &berthv1.AllocChange{Desired: berthv1.Alloc_stop.Enum(), DesiredReason: reason})
	g.outcome.Stopped++
	r.live++ // until its agent says that it has ended
}

// lose gives an allocation up.
func (r *reconciler) lose(g *group, a *berthv1.Alloc) {
	r.change(a, lost(r.whereabouts(a)))
	g.outcome.Stopped++
}

// fresh asks for an instance of an index that has none, as the successor of one that was
// told to stop, if there is. A million fresh ones in a row are one Ask.
func (r *reconciler) fresh(g *group, index uint32) {
	if stopped := g.told[index]; stopped != nil {
		ask := Ask{Index: index, Previous: stopped}
		if stopped.GetMoved() {
			ask.Penalised = stopped.GetNodeId()
		}
		r.ask(g, ask)
		return
	}
	if n := len(r.result.Asks); n > 0 {
		if last := &r.result.Asks[n-1]; last.Group == g.placed() && !last.Canary && last.Previous == nil && last.Node == "" && last.Index+uint32(last.Count) == index {
			last.Count++
			g.outcome.Wanted++
			r.waiting++
			return
		}
	}
	r.ask(g, Ask{Index: index})
}

// placed is what ordinary instances are placed of.
func (g *group) placed() *berthv1.Group {
	if g.base != nil {
		return g.base.GroupNamed(g.spec.GetName())
	}
	return g.spec
}

// ask records an instance to be placed.
func (r *reconciler) ask(g *group, ask Ask) {
	ask.Group, ask.Count = g.spec, 1
	if g.base != nil && !ask.Canary {
		ask.Group, ask.Job = g.placed(), g.base
	}
	r.result.Asks = append(r.result.Asks, ask)
	g.outcome.Wanted++
	if !ask.Replaces {
		r.waiting++
	}
}

// wake asks for another look at that time.
func (r *reconciler) wake(at time.Time) {
	if r.result.Wake.IsZero() || at.Before(r.result.Wake) {
		r.result.Wake = at
	}
}
