package scheduler

// Keys by what is left of GPUs depend on the shape, so no common order serves: each shape
// has an index of its own, of the nodes that it may fit on. What it costs is that every
// change is taken in once for each of them.

// maxRated bounds for how many shapes there are such indexes; the least recently used
// gives way.
const maxRated = 32

// rates says whether a group's nodes are judged by what is left of their GPUs: where
// there is a demand for GPUs, the group has its part in it, and nodes are to be packed.
func (f *Fleet) rates(g *Group) bool {
	return f.demand != nil && rankingOf(g.strategy.of(f.strategy)) == packed && g.asksGPU()
}

func (g *Group) asksGPU() bool {
	device, _ := g.gpuWish()
	return device != nil
}

// ratedIndex is the index that has the nodes in the order of a group's shape.
func (f *Fleet) ratedIndex(g *Group) *index {
	x := f.rated[g.shape]
	if x == nil {
		if len(f.rated) >= maxRated {
			f.dropRated()
		}
		x = newIndex(f, false, packed)
		x.rates = func(slot int32) uint64 { return f.rate(slot, g) }
		f.rated[g.shape] = x
	}
	f.ratings++
	x.asked = f.ratings
	return x
}

func (f *Fleet) dropRated() {
	var oldest string
	for shape, x := range f.rated {
		if o := f.rated[oldest]; o == nil || x.asked < o.asked {
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
