package scheduler

import "math/bits"

// lane is the nodes that pass one group's static checks, by the group's view of the fleet.
type lane struct {
	key  string
	view *staticView
	used uint64
}

// maxLanes bounds the lanes of an index; the least recently used gives way.
const maxLanes = 64

// query is what a run asks of an index.
type query struct {
	x           *index
	shape, lane int
	// from is where to begin: nothing before it can be the answer; start is so for any.
	from, start bound
}

// ask prepares a query for a group, on the nodes of its view.
func (x *index) ask(g *Group, v *staticView) query {
	x.clock++
	x.sync()
	start := bound{key: x.rank.least(&g.total)}
	return query{x: x, shape: x.shapeOf(g), lane: x.laneOf(g.checks.key, v), from: start, start: start}
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

// laneOf gives the number of a view's lane, and makes it where it is new.
func (x *index) laneOf(key string, v *staticView) int {
	oldest := 0
	for l := range x.lanes {
		if x.lanes[l].view == v {
			x.lanes[l].used = x.clock
			return l
		}
		if x.lanes[l].used < x.lanes[oldest].used {
			oldest = l
		}
	}
	l := len(x.lanes)
	if l == maxLanes {
		l = oldest
	} else {
		x.lanes = append(x.lanes, lane{})
		x.rowFits = append(x.rowFits, make([]uint64, len(x.rows)))
		for _, w := range x.rows {
			w.fits = append(w.fits, [fan]uint64{})
		}
	}
	x.lanes[l] = lane{key, v, x.clock}
	for entry, pos := range x.at {
		if pos < 0 {
			continue
		}
		if slot, _ := x.slotOf(int32(entry)); v.ok.has(slot) {
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
	return l
}

// find gives the first entry from q.from on that the shape may fit on and the run
// admits; -1: there is none.
func (x *index) find(r *run, q *query) int32 {
	bit := uint64(1) << q.shape
	i, k := x.locate(&q.from)
	for ; i < len(x.rows); i, k = i+1, 0 {
		x.looked.rows++
		if x.rowFits[q.lane][i]&bit == 0 {
			continue
		}
		w := x.rows[i]
		left := k > 0
		for ; k < w.n; k++ {
			if w.fits[q.lane][k]&bit == 0 {
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
			x.rowFits[q.lane][i] = w.sum(q.lane)
		}
	}
	return -1
}

// lanesOf gives a bit for each lane that an entry's node is in.
func (x *index) lanesOf(entry int32) (in uint64) {
	slot, _ := x.slotOf(entry)
	for l := range x.lanes {
		if x.lanes[l].view.ok.has(slot) {
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
	for pos := block << 6; pos < block<<6+int32(x.used[block]); pos++ {
		for in := x.in[pos]; in != 0; in &= in - 1 {
			union[bits.TrailingZeros64(in)] |= x.fits[pos]
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
	for i := range fits {
		if fits[i]>>q.shape&(in[i]>>q.lane)&1 == 0 {
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
