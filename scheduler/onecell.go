package scheduler

import "github.com/berthd/berth/topology"

// pickCores picks whole cores: the lowest, or the smallest where those are scarce.
func pickCores(u *topology.Usage, cell, n int, lowest bool, into, skip *topology.CPUSet) (cores, threads int) {
	c := &u.Machine().Cells[cell]
	size := c.CoreThreads
	if lowest {
		size = c.MostCoreThreads
	}
	for ; cores < n && size <= c.MostCoreThreads; size++ {
		more, taken := u.PickCores(cell, n-cores, size, into, skip)
		cores, threads = cores+more, threads+taken
	}
	return cores, threads
}

// bestCell is the cell with the least left of those that have room for everything,
// cells in use before empty ones; -1: none has.
func bestCell(u *topology.Usage, n *need) int {
	best, bestUsed, bestLeft := -1, false, uint64(0)
	for i := range u.Machine().Cells {
		if !cellHolds(u, i, n) {
			continue
		}
		if used, left := u.CellUsed(i), cellWeight(u, i); best < 0 || (used != bestUsed && used) || (used == bestUsed && left < bestLeft) {
			best, bestUsed, bestLeft = i, used, left
		}
	}
	return best
}

// cellHolds says whether a cell has room for all of a need but its devices: exactly.
func cellHolds(u *topology.Usage, cell int, n *need) bool {
	s := u.Summary(cell)
	if s.Milli < n.milli || s.Memory < n.memory {
		return false
	}
	if exclusive := n.threads; n.cores > 0 || exclusive > 0 {
		threads, enough := u.CoreCost(cell, n.cores)
		if exclusive += threads; !enough || exclusive > s.Threads || s.Milli < n.milli+uint64(exclusive)*1000 {
			return false
		}
	}
	for _, h := range n.hugepages {
		if size := u.Machine().Cells[cell].HugepageIndex(h.SizeKiB); size < 0 || u.FreeHugepages(cell, size) < h.Count {
			return false
		}
	}
	return true
}

// What is left of a cell or a node is weighed in thousandths of a core: a core weighs as
// much as 4 GiB, and a GPU so much that what needs none is kept away from it.
const (
	milliPerCoreMemory = 4096 // MiB that weigh 1000
	gpuWeight          = 64_000
)

// cellWeight is what is left of a cell, weighed. It depends on nothing but the cell.
func cellWeight(u *topology.Usage, cell int) uint64 {
	m := u.Machine()
	weight := u.FreeMilli(cell) + u.FreeMemory(cell)*1000/milliPerCoreMemory
	for kind, name := range m.Kinds {
		if alignOf(name) == alignGPU {
			weight += uint64(u.FreeDevices(kind, cell)) * gpuWeight
		}
	}
	return weight
}
