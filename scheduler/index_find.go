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
	// from is where to begin: nothing before it can be the answer; start is so for any.
	from, start bound
}

// ask prepares a query for a group, on the nodes of its view; where own is not nil, on
// those with so many of these instances.
func (x *index) ask(k *knownGroup, v *staticView, own *instances, level int32) query {
	g := k.g
	x.clock++
	x.sync()
	var start bound
	if x.rates == nil {
		start.key = x.rank.least(&g.total)
	}
	return query{x: x, shape: k.shapeIn(x), lane: k.laneIn(x, v, own, level), from: start, start: start}
}

// shapeOf gives the number of a group's shape, and learns it first where it is new: all
// may fit then, until somebody looks.
func (x *index) shapeOf(g *Group) int {
	if s, known := x.shapes.number[g.shape]; known {
		x.shapes.used[s] = x.clock
		return s
	}
	s := x.shapes.add(g.shape, &g.floor, x.clock)
	bit := uint64(1) << s
	for b := range x.valid {
		x.valid[b] &^= bit
	}
	for _, w := range x.rows {
		for l := range w.fits {
			for k := range w.n {
				w.fits[l][k] |= bit
			}
		}
	}
	for l := range x.rowFits {
		for r := range x.rowFits[l] {
			x.rowFits[l][r] |= bit
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
	for entry, pos := range x.at {
		if pos < 0 {
			continue
		}
		if slot, _ := x.slotOf(int32(entry)); is.has(slot) {
			x.in[pos] |= 1 << l
		} else {
			x.in[pos] &^= 1 << l
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
func (x *index) relist(entry int32) {
	if int(entry) >= len(x.at) || x.at[entry] < 0 {
		return
	}
	pos, in := x.at[entry], x.lanesOf(entry)
	gained := in &^ x.in[pos]
	if x.in[pos] = in; gained != 0 {
		b := x.boundOf(entry, x.keys[pos])
		r, k := x.locate(&b)
		x.unite(r, k, x.fits[pos], gained)
	}
}

// find gives the first entry from q.from on that the shape may fit on and the run
// admits; -1: there is none.
func (x *index) find(r *run, q *query) int32 {
	bit := uint64(1) << q.shape
	i, k := x.locate(&q.from)
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
		for ; k < w.n; k++ {
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

// lanesOf gives a bit for each lane that an entry's node is in.
func (x *index) lanesOf(entry int32) (in uint64) {
	slot, _ := x.slotOf(entry)
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
	block := w.blocks[k]
	base, n := int(block)<<6, int(x.used[block])
	fits, all := x.fits[base:base+n], x.in[base:base+n]
	for i, word := range fits {
		in := all[i]
		union[0] |= word & -(in & 1)
		for in &^= 1; in != 0; in &= in - 1 {
			union[bits.TrailingZeros64(in)&(maxLanes-1)] |= word
		}
	}
	for l := range w.fits {
		w.fits[l][k] = union[l] | ^x.valid[block]
	}
}

// sum is what is known of a row's blocks.
func (w *row) sum(l int) (union uint64) {
	for _, word := range w.fits[l][:w.n] {
		union |= word
	}
	return union
}

// look gives the first entry of a block; any says that there are some that the run does
// not admit, or that lie before the beginning.
func (x *index) look(r *run, q *query, block int32) (best int32, any bool) {
	x.looked.blocks++
	if x.valid[block]>>q.shape&1 == 0 {
		x.validate(block, q.shape)
	}
	base, n := int(block)<<6, int(x.used[block])
	ids, keys, fits, in := x.ids[base:base+n], x.keys[base:base+n], x.fits[base:base+n], x.in[base:base+n]
	best = -1
	var low uint64
	shape, lane := uint64(1)<<q.shape, uint64(1)<<q.lane
	for i := range fits {
		if fits[i]&shape == 0 || in[i]&lane == 0 {
			continue
		}
		x.looked.entries++
		any = true
		slot, _ := x.slotOf(ids[i])
		switch key := keys[i]; {
		case key < q.from.key, best >= 0 && key > low, !r.admits(slot):
		case key == q.from.key && x.before(ids[i], key, &q.from):
		case best < 0 || key < low || x.precedes(ids[i], best, key):
			best, low = ids[i], key
		}
	}
	return best, any
}

func (x *index) before(entry int32, key uint64, b *bound) bool {
	own := x.boundOf(entry, key)
	return own.compare(b) < 0
}

// precedes says which of two entries with the same key comes first.
func (x *index) precedes(a, b int32, key uint64) bool {
	if s, t := x.tieOf(a), x.tieOf(b); s != t {
		return s < t
	}
	low := x.boundOf(b, key)
	return x.before(a, key, &low)
}

// validate makes a block's bits for a shape that is new to it.
func (x *index) validate(block int32, shape int) {
	need := &x.shapes.needs[shape]
	for pos := block << 6; pos < block<<6+int32(x.used[block]); pos++ {
		if x.left[x.ids[pos]].covers(need) {
			x.fits[pos] |= 1 << shape
		} else {
			x.fits[pos] &^= 1 << shape
		}
	}
	x.valid[block] |= 1 << shape
}

// refuse notes that the shape does not fit on an entry's node, whatever the sums say:
// nobody tries again before something changes there.
func (x *index) refuse(entry int32, shape int) {
	if pos := x.at[entry]; pos >= 0 {
		x.fits[pos] &^= 1 << shape
		if x.cells {
			x.refused.set(x.owner[entry], true)
		}
	}
}
