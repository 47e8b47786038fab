package scheduler

import (
	"cmp"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// The best node is the one with the highest term; among those with the lowest key; then
// the lowest stable hash, then the lowest id.
//
// Terms are what a group says of nodes, in millionths: the share of the affinities that
// are met (-1 to 1), what its spreads still lack in the node's domain, and, for services,
// its own instances on the node. They come before the key whatever their size. Integers
// make the order total and the same on every machine.
//
// The key depends on nothing but what is granted on the node or the cell, and on the
// strategy: one order serves all shapes. See ranking.
const (
	unit = 1_000_000
	// selfWeight: a service's second instance on a node costs half of all affinities, the
	// n-th n/(n+1).
	selfWeight = unit
	// penalty is above all terms together: taken only where nothing else fits.
	penalty = int64(1) << 50
)

// rank is a node's place among those that an instance fits on.
type rank struct {
	term     int64
	key, tie uint64
	slot     int32
}

// better is the total order.
func (f *Fleet) better(a, b *rank) bool {
	switch {
	case a.term != b.term:
		return a.term > b.term
	case a.key != b.key:
		return a.key < b.key
	case a.tie != b.tie:
		return a.tie < b.tie
	}
	return cmp.Less(f.nodes[a.slot].node.GetId(), f.nodes[b.slot].node.GetId())
}

// selfTerm is what n own instances on a node take off its term.
func (g *Group) selfTerm(n int32) int64 {
	if n <= 0 || !g.avoidSelf {
		return 0
	}
	return -selfWeight * int64(n) / int64(n+1)
}

// apartTerm is the least that nodes that are looked at apart have less than others.
func (g *Group) apartTerm() int64 {
	if g.avoidSelf {
		return -g.selfTerm(1)
	}
	return penalty
}

// fixed gives millionths. The conversions around products keep a compiler from fusing
// them into one rounding on some machines and not on others.
func fixed(x float64) int64 { return int64(float64(x * unit)) }

// ranking is the order in which nodes are filled.
type ranking uint8

const (
	// packed: nodes in use before empty ones, in them cells in use before empty ones; then
	// the least that is left. It is weighed the same everywhere, see cellWeight.
	packed ranking = iota
	// evened: the node of which the smallest part is used.
	evened
)

func rankingOf(s berthv1.SchedulerConfig_Strategy) ranking {
	if s == berthv1.SchedulerConfig_binpack {
		return packed
	}
	return evened
}

// key is the place of a node, or of one of its cells: the lowest comes first. cell -1:
// the node as a whole.
func (k ranking) key(u *topology.Usage, cell int) uint64 {
	if k == evened {
		return usedPart(u)
	}
	const tier = 1 << 62
	var key uint64
	switch {
	case !u.Used():
		key = 2 * tier
	case cell >= 0 && !u.Summary(cell).Used:
		key = tier
	}
	if cell >= 0 {
		return key | min(cellWeight(u, cell), tier-1)
	}
	return key | min(nodeWeight(u), tier-1)
}

// nodeWeight is what is left of a node, weighed.
func nodeWeight(u *topology.Usage) (weight uint64) {
	m := u.Machine()
	for i := range m.Cells {
		weight += cellWeight(u, i)
	}
	for kind, name := range m.Kinds {
		if alignOf(name) == alignGPU {
			weight += uint64(u.FreeDevices(kind, -1)) * gpuWeight
		}
	}
	return weight
}

// usedPart is how much of a node's CPU and memory is used, both in 2^-20, added up.
func usedPart(u *topology.Usage) uint64 {
	var milli, memory, allMilli, allMemory uint64
	for i := range u.Machine().Cells {
		c := &u.Machine().Cells[i]
		milli, memory = milli+u.FreeMilli(i), memory+u.FreeMemory(i)
		allMilli, allMemory = allMilli+uint64(c.Threads)*1000, allMemory+c.MemoryMiB
	}
	part := func(free, all uint64) uint64 {
		if all == 0 {
			return 0
		}
		return (all - min(free, all)) << 20 / all
	}
	return part(milli, allMilli) + part(memory, allMemory)
}

// least is a key below that of every node that has room for a need.
func (k ranking) least(n *need) uint64 {
	weight := n.leastMilli() + n.memory*1000/milliPerCoreMemory
	if k == evened || weight <= topology.MaxCells {
		return 0
	}
	return weight - topology.MaxCells // what rounding takes in each cell
}
