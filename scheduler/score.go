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
	// sparing: packed, but for nodes with free GPUs, which come after all others: first
	// those with the most CPU for what is free of their GPUs. It is for fleets that have a
	// demand for GPUs: CPU that is taken from under them leaves them of no use.
	sparing
)

// rankingOf is the order of nodes for a group.
func (f *Fleet) rankingOf(g *Group) ranking {
	how := rankingOf(g.strategy.of(f.strategy))
	if how == packed && f.demand != nil {
		return sparing
	}
	return how
}

func rankingOf(s berthv1.SchedulerConfig_Strategy) ranking {
	if s == berthv1.SchedulerConfig_binpack {
		return packed
	}
	return evened
}

// Tiers of keys: of nodes in use, of the unused cells of such nodes, of empty nodes, of
// nodes whose GPUs are spared.
const (
	inUse     uint64 = iota << 62
	unused    uint64 = iota << 62
	emptyNode uint64 = iota << 62
	spared    uint64 = iota << 62
	tierMask  uint64 = 3 << 62
)

// key is the place of a node, or of one of its cells: the lowest comes first. cell none:
// the node as a whole.
func (k ranking) key(u *topology.Usage, cell int) uint64 {
	var v vector
	if cell < 0 {
		return k.ofNode(u, &v)
	}
	return k.ofCell(u, cell, &v)
}

// ofNode is the key of a node, and what is left of it. On a node that is held as a whole
// nothing is.
func (k ranking) ofNode(u *topology.Usage, v *vector) uint64 {
	*v = vector{}
	m := u.Machine()
	var milli, memory, weight, pages uint64
	var cores, threads int
	for i := range m.Cells {
		s := u.Summary(i)
		milli, memory, weight = milli+s.Milli, memory+s.Memory, weight+s.Milli+s.Memory*1000/milliPerCoreMemory
		cores, threads = cores+s.Cores, threads+s.Threads
		if m.Paged {
			pages += freePages(u, i)
		}
	}
	for kind, name := range m.Kinds {
		free := uint32(0)
		for i := -1; i < len(m.Cells); i++ {
			free += uint32(u.FreeDevices(kind, i))
		}
		if alignOf(name) == alignGPU {
			v[dimGPUs] += free
			weight += uint64(free) * gpuWeight
		} else {
			v[dimDevices] += free
		}
		v[dimShare] = max(v[dimShare], u.LargestShare(kind))
	}
	v[dimMilli], v[dimMemory], v[dimCores], v[dimThreads] = saturate(milli), saturate(memory), uint32(cores), uint32(threads)
	v[dimPages], v[dimDisk] = saturate(pages), saturate(u.FreeDisk())
	tier := inUse
	if !u.Used() {
		tier, v[dimVacant] = emptyNode, 1
	}
	if u.Stray() || u.Whole() {
		*v = vector{}
	}
	if k == evened {
		return usedPart(u)
	}
	if k == sparing {
		if key, is := sparedKey(u); is {
			return key
		}
	}
	return tier | min(weight, ^tierMask)
}

// ofCell is the key of a cell, and what is left in it.
func (k ranking) ofCell(u *topology.Usage, cell int, v *vector) uint64 {
	s := u.Summary(cell)
	*v = vector{dimMilli: saturate(s.Milli), dimMemory: saturate(s.Memory), dimCores: uint32(s.Cores), dimThreads: uint32(s.Threads)}
	if u.Machine().Paged {
		v[dimPages] = saturate(freePages(u, cell))
	}
	if u.Stray() || u.Whole() {
		*v = vector{}
	}
	if k == evened {
		return usedPart(u)
	}
	if k == sparing {
		if key, is := sparedKey(u); is { // the node's: its cells follow each other
			return key
		}
	}
	tier := inUse
	switch {
	case !u.Used():
		tier = emptyNode
	case !u.CellUsed(cell):
		tier = unused
	}
	return tier | min(cellWeight(u, cell), ^tierMask)
}

// sparedKey is the key of a node with free GPUs, and of its cells; false: it has none.
func sparedKey(u *topology.Usage) (uint64, bool) {
	m := u.Machine()
	if !hasGPUs(m) {
		return 0, false
	}
	var free, milli uint64
	for i := range m.Devices {
		if alignOf(m.Devices[i].Kind) == alignGPU {
			free += uint64(u.FreeDevice(i))
		}
	}
	for i := range m.Cells {
		milli += u.FreeMilli(i)
	}
	return spared | min(free<<20/max(milli, 1), ^tierMask), free > 0
}

func hasGPUs(m *topology.Machine) bool { return m.Kind("gpu") >= 0 || m.Kind("mig") >= 0 }

// freePages is the MiB of hugepages that are left in a cell.
func freePages(u *topology.Usage, cell int) (mib uint64) {
	for size, h := range u.Machine().Cells[cell].Hugepages {
		mib += u.FreeHugepages(cell, size) * h.SizeKiB / 1024
	}
	return mib
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
