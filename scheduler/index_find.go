package scheduler

import "math/bits"

// lane is the nodes that pass one group's static checks, by the group's view of the
// fleet: all of them, or those with so many instances of a crowded group, often none.
type lane struct {
	view  *staticView
	own   *instances // nil: all
	level int32
	used  uint64
}

func (l *lane) has(slot int32) bool { return l.view.ok.has(slot) && l.own.at(slot) == l.level }

func (l *lane) is(v *staticView, own *instances, level int32) bool {
	return l.view == v && l.own == own && l.level == level
}

// maxLanes bounds the lanes of an index; the least recently used gives way. maxLevels
// bounds those by the instances of a group, which give way only when nobody has asked for
// them for the last keepLevel queries: it costs a look at every entry to make one.
const (
	maxLanes  = 64
	maxLevels = 16
	keepLevel = 4096
)

// query is what a run asks of an index.
type query struct {
	x           *index
	shape, lane int
	// from is where to begin: nothing before it can be the answer.
	from bound
}

// ask prepares the query of a group, on the nodes of its view; where own is not nil, on
// those with so many of these instances.
func (q *query) ask(x *index, k *knownGroup, v *staticView, own *instances, level int32) {
	x.clock++
	q.x, q.shape = x, k.shapeIn(x)
	x.sync()
	q.lane, q.from = k.laneIn(x, v, own, level), bound{}
}

// shapeOf gives the number of a group's shape, and learns it first where it is new: all
// may fit then, until somebody looks. Entries come in from outside that have room for it;
// there are none where one of the known shapes needs no more in any dimension.
func (x *index) shapeOf(g *Group) int {
	if s, known := x.shapes.number[g.shape]; known {
		x.shapes.used[s] = x.clock
		return s
	}
	least := x.shapes.least(&g.floor)
	s := x.shapes.add(g.shape, &g.floor, x.clock)
	bit := uint64(1) << s
	for b := range x.blocks {
		x.blocks[b].valid &^= bit
	}
	for _, w := range x.rows {
		for l := range w.fits {
			for k := range w.blocks {
				w.fits[l][k] |= bit
			}
		}
	}
	for l := range x.rowFits {
		for r := range x.rowFits[l] {
			x.rowFits[l][r] |= bit
		}
	}
	for id := 0; least && id < len(x.entries); id++ {
		if e := &x.entries[id]; e.at == outside && e.left.covers(&g.floor) {
			x.enter(int32(id))
		}
	}
	return s
}

// laneOf gives the number of a lane, and makes it where it is new.
func (x *index) laneOf(v *staticView, own *instances, level int32) int {
	kind, oldest := 0, -1 // lanes of the same kind
	for l := range x.lanes {
		at := &x.lanes[l]
		if at.is(v, own, level) {
			at.used = x.clock
			return l
		}
		if (at.own == nil) == (own == nil) {
			if kind++; oldest < 0 || at.used < x.lanes[oldest].used {
				oldest = l
			}
		}
	}
	most := maxLanes - maxLevels
	if own != nil {
		if most = maxLevels; kind == most && x.clock-x.lanes[oldest].used < keepLevel {
			return x.laneOf(v, nil, 0)
		}
	}
	if kind < most {
		oldest = len(x.lanes)
		x.addLane()
		if own != nil {
			x.levels++
		}
	}
	x.makeLane(oldest, lane{v, own, level, x.clock})
	return oldest
}

func (x *index) addLane() {
	x.lanes = append(x.lanes, lane{})
	x.rowFits = append(x.rowFits, make([]uint64, len(x.rows)))
	for _, w := range x.rows {
		w.fits = append(w.fits, [fan]uint64{})
	}
}

// makeLane puts a lane in the l-th place: all may fit in it, until somebody looks.
func (x *index) makeLane(l int, is lane) {
	x.lanes[l] = is
	for i := range x.entries {
		e := &x.entries[i]
		if e.at == none {
			continue
		}
		if e.in &^= 1 << l; is.has(e.slot) {
			e.in |= 1 << l
		}
		if e.at >= 0 {
			x.blocks[e.at/depth].in[e.at%depth] = e.in
		}
	}
	for r, w := range x.rows {
		x.rowFits[l][r] = ^uint64(0)
		for k := range w.fits[l] {
			w.fits[l][k] = ^uint64(0)
		}
	}
}

// relist finds out anew which lanes an entry is in.
func (x *index) relist(id int32) {
	e := &x.entries[id]
	if e.at == none {
		return
	}
	was := e.in
	if e.in = x.lanesOf(e.slot); e.at < 0 {
		return
	}
	b, i := &x.blocks[e.at/depth], e.at%depth
	b.in[i] = e.in
	if gained := e.in &^ was; gained != 0 {
		r, k := x.locate(order{b.keys[i], e.tie}, x.f.nodes[e.slot].node)
		x.unite(r, k, b.fits[i], gained)
	}
}

// find gives the first entry from q.from on that the shape may fit on and the run
// admits; -1: there is none.
func (x *index) find(r *run, q *query) int32 {
	bit := uint64(1) << q.shape
	i, k := 0, 0
	if q.from.node != nil {
		i, k = x.locate(q.from.order, q.from.node)
	}
	rowFits := x.rowFits[q.lane]
	for ; ; i, k = i+1, 0 {
		first := i
		for i < len(rowFits) && rowFits[i]&bit == 0 {
			i, k = i+1, 0
		}
		if x.looked.rows += uint64(i - first); i == len(rowFits) {
			return -1
		}
		x.looked.rows++
		w := x.rows[i]
		fits, left := &w.fits[q.lane], k > 0
		for ; k < len(w.blocks); k++ {
			if fits[k]&bit == 0 {
				continue
			}
			entry, any := x.look(r, q, w.blocks[k])
			if entry >= 0 {
				return entry
			}
			if left = left || any; !any {
				x.sum(w, k)
			}
		}
		if !left {
			rowFits[i] = w.sum(q.lane)
		}
	}
}

// lanesOf gives a bit for each lane that a node is in.
func (x *index) lanesOf(slot int32) (in uint64) {
	for l := range x.lanes {
		if x.lanes[l].has(slot) {
			in |= 1 << l
		}
	}
	return in
}

// sum makes what is known of a block anew, for all lanes and shapes: where one bit was
// out of date others are.
func (x *index) sum(w *row, k int) {
	var union [maxLanes]uint64
	b := &x.blocks[w.blocks[k]]
	for i, word := range b.fits {
		in := b.in[i]
		union[0] |= word & -(in & 1)
		for in &^= 1; in != 0; in &= in - 1 {
			union[bits.TrailingZeros64(in)&(maxLanes-1)] |= word
		}
	}
	for l := range w.fits {
		w.fits[l][k] = union[l] | ^b.valid
	}
}

// sum is what is known of a row's blocks.
func (w *row) sum(l int) (union uint64) {
	for _, word := range w.fits[l][:len(w.blocks)] {
		union |= word
	}
	return union
}

// look gives the first entry of a block; any says that there are some that the run does
// not admit, or that lie before the beginning.
func (x *index) look(r *run, q *query, block int32) (best int32, any bool) {
	x.looked.blocks++
	b := &x.blocks[block]
	if b.valid>>q.shape&1 == 0 {
		x.validate(b, q.shape)
	}
	best = none
	var low uint64
	for fitting := b.fitting(q.shape); fitting != 0; fitting &= fitting - 1 {
		i := bits.TrailingZeros32(fitting) % depth
		if b.in[i]>>q.lane&1 == 0 {
			continue
		}
		x.looked.entries++
		any = true
		id := b.ids[i]
		switch key := b.keys[i]; {
		case key < q.from.key, best >= 0 && key > low, !r.admits(x.entries[id].slot):
		case key == q.from.key && x.before(id, key, &q.from):
		case best < 0 || key < low || x.precedes(id, best, key):
			best, low = id, key
		}
	}
	return best, any
}

// fitting gives a bit for each entry that a shape may fit on. Nobody can foretell which
// those are: so it has no branch.
func (b *block) fitting(shape int) (found uint32) {
	fits, s := &b.fits, uint64(1)<<(shape&63)
	for i := depth - 1; i >= 0; i-- {
		found = found<<1 | one(fits[i]&s != 0)
	}
	return found
}

// one is 1 for true.
func one(is bool) (n uint32) {
	if is {
		n = 1
	}
	return n
}

func (x *index) before(id int32, key uint64, b *bound) bool {
	own := x.boundOf(id, key)
	return own.compare(b) < 0
}

// precedes says which of two entries with the same key comes first.
func (x *index) precedes(a, b int32, key uint64) bool {
	if s, t := x.entries[a].tie, x.entries[b].tie; s != t {
		return s < t
	}
	low := x.boundOf(b, key)
	return x.before(a, key, &low)
}

// validate makes a block's bits for a shape that is new to it.
func (x *index) validate(b *block, shape int) {
	need := &x.shapes.needs[shape]
	for left := b.taken; left != 0; left &= left - 1 {
		i := bits.TrailingZeros32(left)
		if b.fits[i] &^= 1 << shape; x.entries[b.ids[i]].left.covers(need) {
			b.fits[i] |= 1 << shape
		}
	}
	b.valid |= 1 << shape
}

// refuse notes that the shape does not fit on an entry's node, whatever the sums say:
// nobody tries again before something changes there.
func (x *index) refuse(id int32, shape int) {
	if e := &x.entries[id]; e.at >= 0 {
		x.blocks[e.at/depth].fits[e.at%depth] &^= 1 << shape
		if x.cells {
			x.refused.set(e.slot, true)
		}
	}
}
