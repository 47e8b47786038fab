package scheduler

// rated are the keys of all nodes for one shape that asks for GPUs. They depend on the
// shape, so no common order serves; they are kept up to date from the fleet's log of
// moves, and a run looks through them.
type rated struct {
	keys []uint64 // by slot
	seen uint64   // Fleet.moves that are in it
	used uint64   // when it was asked for last
}

// maxRated bounds for how many shapes keys are kept; the least recently used gives way.
const maxRated = 64

// rates says whether a group's nodes are judged by what is left of their GPUs: where
// there is a demand for GPUs, the group has its part in it, and nodes are to be packed.
func (f *Fleet) rates(g *Group) bool {
	return f.demand != nil && rankingOf(g.strategy.of(f.strategy)) == packed && g.asksGPU()
}

func (g *Group) asksGPU() bool {
	device, _ := g.gpuWish()
	return device != nil
}

// ratedFor gives the keys for a group, up to date.
func (f *Fleet) ratedFor(g *Group) *rated {
	x := f.rated[g.shape]
	if x == nil {
		if len(f.rated) >= maxRated {
			f.dropRated()
		}
		x = &rated{}
		f.rated[g.shape] = x
	}
	f.ratings++
	x.used = f.ratings
	for len(x.keys) < len(f.nodes) {
		x.keys = append(x.keys, unrated)
	}
	if oldest := f.moves - uint64(len(f.moveLog)); x.seen == 0 || x.seen < oldest {
		for slot := range x.keys {
			x.keys[slot] = f.rate(int32(slot), g)
		}
	} else {
		for _, m := range f.moveLog[x.seen-oldest:] {
			x.keys[m.slot] = f.rate(m.slot, g)
		}
	}
	x.seen = f.moves
	return x
}

func (f *Fleet) dropRated() {
	var oldest string
	for shape, x := range f.rated {
		if o := f.rated[oldest]; o == nil || x.used < o.used {
			oldest = shape
		}
	}
	delete(f.rated, oldest)
}

// rate is a node's key for a group.
func (f *Fleet) rate(slot int32, g *Group) uint64 {
	if f.nodes[slot].node == nil {
		return unrated
	}
	return f.demand.rate(f.nodes[slot].usage, g)
}

// nextRated is the best node by the keys; none: an instance fits nowhere.
func (r *run) nextRated() int32 {
	x := r.f.ratedFor(r.g)
	best := rank{slot: none}
	for slot := range int32(len(r.f.nodes)) {
		key := x.keys[slot]
		if key == unrated || !r.view.ok.has(slot) || r.isExcluded(slot) || r.only != nil && !r.only[slot] {
			continue
		}
		term, ok := r.termOf(slot)
		if !ok || best.slot != none && (term < best.term || term == best.term && key > best.key) {
			continue
		}
		at := rank{term, key, r.f.hashes[slot], slot}
		if best.slot == none || r.f.better(&at, &best) {
			best = at
		}
	}
	return best.slot
}

// refuseRated notes that an instance does not fit on a node, whatever its key says:
// nobody tries again before something changes there.
func (f *Fleet) refuseRated(slot int32, g *Group) { f.rated[g.shape].keys[slot] = unrated }
