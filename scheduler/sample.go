package scheduler

// Sampler gives slots of nodes to look at.
type Sampler interface {
	// Start begins with a new instance, on a fleet of so many slots.
	Start(slots int)
	// Next is another slot; false: there are no more.
	Next() (slot int32, more bool)
}

// PlaceSampled is PlaceInto for one ask that places each instance on the best of the first
// most nodes that it fits on, of those that the sampler gives. It is how schedulers place
// that look at a part of the fleet only: Berth compares itself with them (sim bench), and
// never places that way. It asks no index, and gives no explanation. Quotas and Ask.Nodes
// are not looked at.
func PlaceSampled(res *Result, f *Fleet, ask *Ask, most int, from Sampler) {
	res.start(f)
	was := f.scans
	f.scans = true
	defer func() { f.scans = was }()
	for r := f.run(ask, 0); r.got < ask.Count; {
		slot := r.sample(most, from)
		if slot == none {
			return
		}
		node := &f.nodes[slot]
		used := node.usage.Used()
		choice, _ := f.scratch.fit.fit(node.usage, r.g)
		r.taken(slot, &choice.grant, used)
		res.take(r, slot, choice)
	}
}

// sample is the best of the first most nodes that an instance fits on; none: there is none.
func (r *run) sample(most int, from Sampler) int32 {
	best := rank{slot: none}
	from.Start(len(r.f.nodes))
	for fits := 0; fits < most; {
		slot, more := from.Next()
		if !more {
			break
		}
		if !r.view.ok.has(slot) || r.isExcluded(slot) || !r.f.fits(slot, r.g) {
			continue
		}
		fits++
		if at, ok := r.rank(slot); ok && (best.slot == none || r.f.better(&at, &best)) {
			best = at
		}
	}
	return best.slot
}
