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
	r := run{f: f, ask: &one, g: one.Group}
	r.prepare()
	r.domains.reset(f.scratch.candidates)
	own := f.groups[r.g.Key]
	for fits := 0; fits < most; {
		slot, more := next()
		if !more {
			break
		}
		if r.view.ok.has(slot) && r.may(slot) && f.fits(slot, r.g) {
			r.domains.add(r.candidate(slot, own[slot]))
			fits++
		}
	}
	r.domains.build(f, true)
	p, ok := r.placeOne()
	f.scratch.candidates = r.domains.recycle()
	return p, ok
}

// fits says whether a node has room for an instance now.
func (f *Fleet) fits(slot int32, g *Group) bool {
	usage := f.nodes[slot].usage
	choice, fits := f.scratch.fit.fit(usage, g)
	if fits {
		usage.Remove(&choice.grant)
	}
	return fits
}
