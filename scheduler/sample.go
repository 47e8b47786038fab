package scheduler

// Slots bounds the numbers by which a fleet knows its nodes; some may be vacant.
func (f *Fleet) Slots() int { return len(f.nodes) }

// PlaceSampled places one instance on the best of the first most nodes that it fits on,
// of the slots that next gives until it says false. It is how schedulers place that look
// at a part of the fleet only: Berth compares itself with them (sim bench), and never
// places that way. Ask.Count and Ask.Nodes are not looked at.
func PlaceSampled(f *Fleet, ask *Ask, most int, next func() (slot int32, more bool)) (Placement, bool) {
	one := *ask
	one.Count, one.Nodes = 1, nil
	r := f.run(&one, 0)
	best := rank{slot: none}
	for fits := 0; fits < most; {
		slot, more := next()
		if !more {
			break
		}
		if !r.view.ok.has(slot) || r.isExcluded(slot) || !f.fits(slot, r.g) {
			continue
		}
		fits++
		if at, ok := r.rank(slot); ok && (best.slot == none || f.better(&at, &best)) {
			best = at
		}
	}
	if best.slot == none {
		return Placement{}, false
	}
	node := &f.nodes[best.slot]
	used := node.usage.Used()
	choice, _ := f.scratch.fit.fit(node.usage, r.g)
	r.taken(best.slot, &choice.grant, used)
	return Placement{NodeID: node.node.GetId(), NodeName: node.node.GetName(), Assignment: r.shared.of(choice, node)}, true
}
