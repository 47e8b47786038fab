package scheduler

// Keys by what is left of GPUs depend on the shape, so no common order serves: each shape
// has an index of its own, of the nodes that it may fit on. What it costs is that every
// change is taken in once for each of them.

// maxRated bounds for how many shapes there are such indexes, maxRatedNodes how many nodes
// all of them have together; the least recently used gives way.
const (
	maxRated      = 256
	maxRatedNodes = 4 << 20
)

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
		if len(f.rated) >= min(maxRated, max(maxRatedNodes/len(f.nodes), 1)) {
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

// concerning gives those of the moves that an index has anything to do with: that of a
// shape with GPUs has no nodes without.
func (x *index) concerning(moves []move) []move {
	if x.rates == nil {
		return moves
	}
	x.kept = x.kept[:0]
	for i := range moves {
		if x.f.gpus.has(moves[i].slot) {
			x.kept = append(x.kept, moves[i])
		}
	}
	return x.kept
}

// rate is a node's key for a group.
func (f *Fleet) rate(slot int32, g *Group) uint64 {
	if f.nodes[slot].node == nil {
		return unrated
	}
	return f.demand.rate(f.nodes[slot].usage, g)
}
