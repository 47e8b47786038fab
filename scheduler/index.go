package scheduler

import (
	"cmp"
	"math/bits"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// An index keeps the nodes of a fleet, or their cells, in the order in which the
// strategy wants them filled, and finds the first that a shape fits on without a look at
// the others. It is exact: what it skips cannot be the answer.
//
// The entries lie in blocks of up to 64. Blocks are ordered, the entries of one block
// are not: a block is small enough to be looked through, and an entry that moves within
// its block costs nothing. Up to 64 blocks are a row, and rows are in a list.
//
// A word of feasible bits belongs to each entry: bit s says that the sums leave room for
// shape s. Blocks and rows have the union of their entries' words, for each lane (the
// nodes that pass one group's static checks). A bit that is set in a union may be out of
// date: whoever finds nothing behind it clears it. A bit that is not set is always true.
type index struct {
	f *Fleet
	// cells: the entries are cells, else nodes.
	cells bool
	rank  ranking
	// rates gives the key of a node, or unrated for none, where that depends on a shape;
	// asked is when such an index was asked for last.
	rates func(slot int32) uint64
	asked uint64

	// By entry. An entry is a node's slot, or a cell's number.
	at   []int32 // position: block<<6 + place in it; -1: not in the index
	left []vector
	// By slot, for cells: the first of its entries, and how many they are.
	first []int32
	owns  []uint8
	// By cell entry: the slot. Runs of entries are used again by their length.
	owner []int32
	spare map[uint8][]int32
	// Nodes on whose cells something did not fit though the sums said so.
	refused bitmap

	// By position.
	ids  []int32
	keys []uint64
	fits []uint64
	in   []uint64 // a bit for each lane that the node is in
	// By block.
	used  []uint8
	valid []uint64 // shapes for which the entries' bits are made
	idle  []int32

	rows    []*row
	rowLow  []bound
	rowFits [][]uint64 // by lane, then row

	lanes  []lane
	shapes shapes
	clock  uint64 // of lanes and shapes: the least recently used gives way
	seen   uint64 // Fleet.moves that are in it
	// changes is Fleet.changes that the lanes' views have.
	changes uint64

	looked looks
	warmth int      // see takeIn: means nothing
	listed []placed // for rebuild
}

// looks counts what was looked at: the price of an answer, free of noise.
type looks struct{ rows, blocks, entries uint64 }

const fan = 64

// row is up to 64 blocks in ascending order. low is where each begins.
type row struct {
	n      int
	blocks [fan]int32
	low    [fan]bound
	fits   [][fan]uint64 // by lane
}

// bound is a place in the order: key, then the stable hash, then the node's id.
type bound struct {
	key, tie uint64
	node     *berthv1.Node
}

func (a *bound) compare(b *bound) int {
	switch {
	case a.key != b.key:
		return cmp.Compare(a.key, b.key)
	case a.tie != b.tie:
		return cmp.Compare(a.tie, b.tie)
	case a.node == b.node:
		return 0
	}
	return cmp.Compare(a.node.GetId(), b.node.GetId())
}

func newIndex(f *Fleet, cells bool, rank ranking) *index {
	x := &index{f: f, cells: cells, rank: rank, spare: map[uint8][]int32{}}
	x.clear()
	return x
}

// clear takes all entries out.
func (x *index) clear() {
	for i := range x.at {
		x.at[i] = -1
	}
	x.ids, x.keys, x.fits, x.in = x.ids[:0], x.keys[:0], x.fits[:0], x.in[:0]
	x.used, x.valid, x.idle = x.used[:0], x.valid[:0], x.idle[:0]
	x.rows, x.rowLow = append(x.rows[:0], x.newRow()), append(x.rowLow[:0], bound{})
	for l := range x.rowFits {
		x.rowFits[l] = append(x.rowFits[l][:0], 0)
	}
	x.rows[0].insert(0, x.newBlock(), bound{})
}

func (x *index) newRow() *row {
	return &row{fits: make([][fan]uint64, len(x.lanes))}
}

func (x *index) newBlock() int32 {
	if n := len(x.idle); n > 0 {
		b := x.idle[n-1]
		x.idle = x.idle[:n-1]
		x.used[b], x.valid[b] = 0, ^uint64(0)
		return b
	}
	x.ids = append(x.ids, make([]int32, fan)...)
	x.keys = append(x.keys, make([]uint64, fan)...)
	x.fits, x.in = append(x.fits, make([]uint64, fan)...), append(x.in, make([]uint64, fan)...)
	x.used, x.valid = append(x.used, 0), append(x.valid, ^uint64(0))
	return int32(len(x.used) - 1)
}

// slotOf is the node that an entry belongs to, and the cell: -1 where entries are nodes.
func (x *index) slotOf(entry int32) (slot int32, cell int) {
	if !x.cells {
		return entry, -1
	}
	slot = x.owner[entry]
	return slot, int(entry - x.first[slot])
}

// tieOf is the stable hash of an entry. The cells of one node follow each other.
func (x *index) tieOf(entry int32) uint64 {
	if !x.cells {
		return x.f.hashes[entry]
	}
	slot := x.owner[entry]
	return cellTie(x.f.hashes[slot], int(entry-x.first[slot]))
}

func cellTie(hash uint64, cell int) uint64 { return hash&^(fan-1) | uint64(cell) }

func (x *index) boundOf(entry int32, key uint64) bound {
	slot, _ := x.slotOf(entry)
	return bound{key, x.tieOf(entry), x.f.nodes[slot].node}
}

// locate gives the row and the block that a place in the order belongs to: the last that
// begins before it or there. The first of all counts as beginning before everything.
func (x *index) locate(b *bound) (r, k int) {
	r = lastUpTo(x.rowLow, b)
	w := x.rows[r]
	return r, lastUpTo(w.low[:w.n], b)
}

// lastUpTo is the last of the ascending bounds that is not beyond b. Nobody can foretell
// which way a search goes, so it has no branch that a processor would have to.
func lastUpTo(low []bound, b *bound) int {
	i, n := 0, len(low)
	for n > 1 {
		half := n / 2
		m := &low[i+half]
		_, before := bits.Sub64(b.tie, m.tie, 0)
		_, before = bits.Sub64(b.key, m.key, before)
		i += half & (int(before) - 1)
		n -= half
	}
	for i > 0 && low[i].key == b.key && low[i].tie == b.tie && low[i].compare(b) > 0 {
		i--
	}
	return i
}

// set puts an entry where it belongs now: key is its place in the order, v what is left.
func (x *index) set(entry int32, key uint64, v *vector) {
	x.grow(entry)
	pos, word := x.at[entry], x.shapes.fitting(v)
	if pos >= 0 && x.keys[pos] == key && x.left[entry] == *v && x.fits[pos] == word {
		return // and nothing was refused since, that may fit now
	}
	x.left[entry] = *v
	b := x.boundOf(entry, key)
	r, k := x.locate(&b)
	block := x.rows[r].blocks[k]
	if pos >= 0 && pos>>6 == block {
		x.keys[pos], x.fits[pos] = key, word
		x.unite(r, k, word, x.in[pos])
		return
	}
	var in uint64
	if pos >= 0 {
		in = x.in[pos]
	} else {
		in = x.lanesOf(entry)
	}
	if pos >= 0 && x.cut(pos) || x.used[block] == fan {
		if r, k = x.locate(&b); x.used[x.rows[r].blocks[k]] == fan {
			x.split(r, k)
			r, k = x.locate(&b)
		}
		block = x.rows[r].blocks[k]
	}
	x.put(block, entry, key, word, in)
	x.unite(r, k, word, in)
}

func (x *index) grow(entry int32) {
	for int(entry) >= len(x.at) {
		x.at, x.left = append(x.at, -1), append(x.left, vector{})
	}
}

func (x *index) put(block, entry int32, key, word, in uint64) {
	pos := block<<6 + int32(x.used[block])
	x.used[block]++
	x.ids[pos], x.keys[pos], x.fits[pos], x.in[pos], x.at[entry] = entry, key, word, in, pos
}

// unite adds the bits of an entry in some lanes to what is known of its block and row.
func (x *index) unite(r, k int, word, in uint64) {
	row := x.rows[r]
	for ; in != 0; in &= in - 1 {
		l := bits.TrailingZeros64(in)
		row.fits[l][k] |= word
		x.rowFits[l][r] |= word
	}
}

// drop takes an entry out.
func (x *index) drop(entry int32) {
	if int(entry) < len(x.at) && x.at[entry] >= 0 {
		x.cut(x.at[entry])
		x.at[entry] = -1
	}
}

// cut takes the entry at a position out of its block. A block that is nearly empty goes
// into a neighbour; then it gives true.
func (x *index) cut(pos int32) (merged bool) {
	block := pos >> 6
	x.used[block]--
	last := block<<6 + int32(x.used[block])
	if x.used[block] > fan/8 || len(x.used)-len(x.idle) == 1 {
		x.move(last, pos)
		return false
	}
	b := x.boundOf(x.ids[pos], x.keys[pos])
	x.move(last, pos)
	r, k := x.locate(&b)
	x.merge(r, k)
	return true
}

func (x *index) move(from, to int32) {
	if from != to {
		x.ids[to], x.keys[to], x.fits[to], x.in[to] = x.ids[from], x.keys[from], x.fits[from], x.in[from]
		x.at[x.ids[to]] = to
	}
}
