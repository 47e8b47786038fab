package scheduler

import (
	"math/bits"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// An index keeps the nodes of a fleet, or their cells, in the order in which the
// strategy wants them filled, and finds the first that a shape fits on without a look at
// the others. It is exact: what it skips cannot be the answer.
//
// The entries lie in blocks of up to 32. Blocks are ordered, the entries of one block
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

	// entries are numbered by their node's slot, or, for cells, in runs of a node's.
	entries []entry
	// By slot, for cells: the first of its entries, and how many they are.
	first []int32
	owns  []uint8
	// Runs of entries are used again by their length.
	spare map[uint8][]int32
	// Nodes on whose cells something did not fit though the sums said so.
	refused bitmap

	blocks  []block
	idle    []int32 // blocks without a row
	rows    []*row
	rowLow  lows
	rowFits [][]uint64 // by lane, then row

	lanes  []lane
	levels int // how many of them are by a group's instances
	shapes shapes
	clock  uint64 // of lanes and shapes: the least recently used gives way
	seen   uint64 // Fleet.moves that are in it
	// changes is Fleet.changes that the lanes' views have.
	changes uint64

	looked looks
	warmth int    // see takeIn: means nothing
	kept   []move // for concerning
}

// looks counts what was looked at: the price of an answer, free of noise.
type looks struct{ rows, blocks, entries uint64 }

// entry is a node or a cell: what an index knows of it, in one line of memory.
type entry struct {
	tie  uint64 // the stable hash; the cells of one node follow each other
	in   uint64 // a bit for each lane that the node is in
	left vector
	slot int32
	at   int32 // block * depth + place in it, or none or outside
}

// outside is where an entry is that has no room for any of the known shapes, none where it
// is while there is no such node or cell. Most of a full fleet is outside: what does not
// fit need not be put in order.
const outside = -2

// depth is how many entries a block has at most, fan how many blocks a row has.
const (
	depth = 32
	fan   = 64
	// full is block.taken of a block that has no place left.
	full = 1<<depth - 1
)

// block is some entries in no order. Places without an entry fit no shape.
type block struct {
	taken uint32 // a bit for each place that has an entry
	valid uint64 // shapes for which the entries' bits are made
	ids   [depth]int32
	fits  [depth]uint64
	in    [depth]uint64 // as the entry's
	keys  [depth]uint64
}

func (b *block) len() int { return bits.OnesCount32(b.taken) }

// row is up to 64 blocks in ascending order. low is where each begins.
type row struct {
	blocks []int32
	low    lows
	fits   [][fan]uint64 // by lane
}

func newIndex(f *Fleet, cells bool, rank ranking) *index {
	x := &index{f: f, cells: cells, rank: rank, spare: map[uint8][]int32{}}
	x.clear()
	return x
}

// clear takes all entries out.
func (x *index) clear() {
	for i := range x.entries {
		x.entries[i].at = none
	}
	x.blocks, x.idle, x.rows = x.blocks[:0], x.idle[:0], append(x.rows[:0], x.newRow())
	x.rowLow.clear()
	x.rowLow.insert(0, bound{})
	for l := range x.rowFits {
		x.rowFits[l] = append(x.rowFits[l][:0], 0)
	}
	x.rows[0].insert(0, x.newBlock(), bound{})
}

func (x *index) newRow() *row {
	return &row{blocks: make([]int32, 0, fan), fits: make([][fan]uint64, len(x.lanes))}
}

func (x *index) newBlock() int32 {
	if n := len(x.idle); n > 0 {
		b := x.idle[n-1]
		x.idle = x.idle[:n-1]
		x.blocks[b].valid = ^uint64(0)
		return b
	}
	x.blocks = append(x.blocks, block{valid: ^uint64(0)})
	return int32(len(x.blocks) - 1)
}

// slotOf is the node that an entry belongs to, and the cell: none where entries are nodes.
func (x *index) slotOf(id int32) (slot int32, cell int) {
	if !x.cells {
		return id, none
	}
	slot = x.entries[id].slot
	return slot, int(id - x.first[slot])
}

func cellTie(hash uint64, cell int) uint64 { return hash&^(topology.MaxCells-1) | uint64(cell) }

func (x *index) boundOf(id int32, key uint64) bound {
	e := &x.entries[id]
	return bound{order{key, e.tie}, x.f.nodes[e.slot].node}
}

// keyOf is the key of an entry that is in the index.
func (x *index) keyOf(id int32) uint64 {
	at := x.entries[id].at
	return x.blocks[at/depth].keys[at%depth]
}

// locate gives the row and the block that a place in the order belongs to: the last that
// begins before it or there. The first of all counts as beginning before everything.
func (x *index) locate(o order, node *berthv1.Node) (r, k int) {
	r = x.rowLow.upTo(o, node)
	return r, x.rows[r].low.upTo(o, node)
}

// set puts an entry where it belongs now: key is its place in the order, v what is left.
func (x *index) set(id int32, key uint64, v *vector) {
	e := &x.entries[id]
	word, at := x.shapes.fitting(v), e.at
	if at >= 0 && e.left[dimMilli] == v[dimMilli] && e.left[dimMemory] == v[dimMemory] && e.left == *v {
		if b := &x.blocks[at/depth]; b.keys[at%depth] == key && b.fits[at%depth] == word {
			return // and nothing was refused since, that may fit now
		}
	}
	if e.left = *v; at == none {
		e.in = x.lanesOf(e.slot)
	}
	if word == 0 {
		x.leave(e, outside)
		return
	}
	if at >= 0 {
		x.vacate(at)
	}
	o, node := order{key, e.tie}, x.f.nodes[e.slot].node
	r, k := x.locate(o, node)
	if x.blocks[x.rows[r].blocks[k]].taken == full {
		x.split(r, k)
		r, k = x.locate(o, node)
	}
	x.put(x.rows[r].blocks[k], id, key, word)
	x.unite(r, k, word, e.in)
	if at >= 0 && e.at/depth != at/depth {
		x.tidy(at)
	}
}

func (x *index) put(into, id int32, key, word uint64) {
	b, e := &x.blocks[into], &x.entries[id]
	i := bits.TrailingZeros32(^b.taken) % depth
	b.taken |= 1 << i
	b.ids[i], b.fits[i], b.in[i], b.keys[i] = id, word, e.in, key
	e.at = into*depth + int32(i)
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

// drop takes an entry out whose node is gone.
func (x *index) drop(id int32) {
	if int(id) < len(x.entries) {
		x.leave(&x.entries[id], none)
	}
}

// leave takes an entry out of its block, where it is in one, to none or outside.
func (x *index) leave(e *entry, to int32) {
	if e.at >= 0 {
		x.vacate(e.at)
		x.tidy(e.at)
	}
	e.at = to
}

// vacate takes an entry out of its block.
func (x *index) vacate(at int32) {
	b := &x.blocks[at/depth]
	b.taken &^= 1 << (at % depth)
	b.fits[at%depth] = 0
}

// tidy puts a block that is nearly empty, since an entry was taken out of it, into a
// neighbour.
func (x *index) tidy(at int32) {
	b, i := &x.blocks[at/depth], at%depth
	if b.len() > depth/8 || len(x.blocks)-len(x.idle) == 1 {
		return
	}
	was := x.boundOf(b.ids[i], b.keys[i]) // it is still there to be read
	x.merge(x.locate(was.order, was.node))
}
