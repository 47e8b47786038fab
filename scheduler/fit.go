package scheduler

import (
	"iter"

	"github.com/berthd/berth/topology"
)

// fitter finds the exact grant of a group on one node. Its memory is used again, so a
// choice is good until the next fit.
type fitter struct {
	choice choice
	room   room
	skip   topology.CPUSet // exclusive threads chosen already
}

// choice is an exact grant, by task.
type choice struct {
	tasks []taskChoice
	ports []uint16 // in the order of the group's ports
	grant topology.Grant
	// cell is the only one that anything lies in, where the group is simple; else -1.
	cell int
}

type taskChoice struct {
	cells   []topology.CellGrant
	devices []grantedDevice
}

// fit chooses and grants: after true the usage has it.
func (x *fitter) fit(u *topology.Usage, g *Group) (*choice, bool) {
	if u.Stray() || u.FreeDisk() < g.diskMiB || !x.choosePorts(u, g) {
		return nil, false
	}
	x.choice.cell = -1
	if len(g.total.devices) == 0 {
		if cell := bestCell(u, &g.total); cell >= 0 {
			return x.takeIn(u, g, cell)
		}
		if g.policy == single && g.alignsAll() {
			return nil, false
		}
	}
	for cells := range cellSets(u, g) {
		if x.room.try(u, g, cells, false) || u.Machine().Mixed && x.room.try(u, g, cells, true) {
			x.choice.tasks = x.room.tasks
			return x.take(u, g)
		}
	}
	return nil, false
}

// alignsAll says that the policy is about all that the group needs.
func (g *Group) alignsAll() bool {
	needs := alignCPU | alignMemory
	if len(g.total.hugepages) > 0 {
		needs |= alignHugepages
	}
	return g.align&needs == needs
}

// takeIn grants all of a group without devices in one cell that has room for it.
func (x *fitter) takeIn(u *topology.Usage, g *Group, cell int) (*choice, bool) {
	c, grant := &x.choice, &x.choice.grant
	grant.Reset()
	grant.DiskMiB = g.diskMiB
	grant.Ports = append(grant.Ports, c.ports...)
	id := u.Machine().Cells[cell].ID
	if g.total.simple() {
		part := grant.NextCell(id)
		part.CPUMilli, part.MemoryMiB = uint32(g.total.milli), g.total.memory
		c.cell = cell
		return c, u.Add(grant) == nil
	}
	x.skip.Clear()
	for i := range g.tasks {
		t := &g.tasks[i]
		part := grant.NextCell(id)
		part.CPUMilli, part.MemoryMiB = uint32(t.milli), t.memory
		part.Hugepages = append(part.Hugepages, t.hugepages...)
		pickCores(u, cell, t.cores, !u.Machine().Cells[cell].Mixed, &part.CPUs, &x.skip)
	}
	c.tasks = c.tasks[:0]
	for i := range g.tasks {
		if n := g.tasks[i].threads; n > 0 {
			u.PickThreads(cell, n, &grant.Cells[i].CPUs, &x.skip)
		}
		c.tasks = append(c.tasks, taskChoice{cells: grant.Cells[i : i+1 : i+1]})
	}
	return c, u.Add(grant) == nil
}

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
		if used, left := u.Summary(i).Used, cellWeight(u, i); best < 0 || (used != bestUsed && used) || (used == bestUsed && left < bestLeft) {
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

// cellSets gives the sets of cells to try, in order.
func cellSets(u *topology.Usage, g *Group) iter.Seq[[]int] {
	return func(yield func([]int) bool) {
		m := u.Machine()
		n := len(m.Cells)
		if n == 0 {
			return
		}
		for i, one := 0, make([]int, 1); i < n; i++ {
			one[0] = i
			if enough(u, g, one) && !yield(one) {
				return
			}
		}
		from, to := 2, 1
		switch g.policy {
		case anywhere:
			from, to = max(n, 2), n
		case restricted:
			to = fewestCells(m, g)
		case bestEffort:
			to = n
		}
		for k := from; k <= to; k++ {
			for _, set := range subsets(m, k) {
				if enough(u, g, set) && !yield(set) {
					return
				}
			}
		}
	}
}

// fewestCells is how many cells the group needs on the machine when it is empty; 0 when
// it does not fit even then.
func fewestCells(m *topology.Machine, g *Group) int {
	empty := topology.NewUsage(m)
	var r room
	for k := 1; k <= len(m.Cells); k++ {
		for _, set := range subsets(m, k) {
			if enough(empty, g, set) && (r.try(empty, g, set, false) || m.Mixed && r.try(empty, g, set, true)) {
				return k
			}
		}
	}
	return 0
}

// enough looks at the sums of the aligned resources only, to spare most tries.
func enough(u *topology.Usage, g *Group, cells []int) bool {
	var milli, memory uint64
	for _, c := range cells {
		milli += u.FreeMilli(c)
		memory += u.FreeMemory(c)
	}
	return (!g.inside(alignCPU) || milli >= g.total.leastMilli()) && (!g.inside(alignMemory) || memory >= g.total.memory)
}

// inside says that a resource must come from the cells that are tried. Where the policy
// is none, that is so for all: its last try is all cells.
func (g *Group) inside(a align) bool { return g.policy == anywhere || g.align&a != 0 }

// choosePorts takes the lowest free ones for the dynamic ports.
func (x *fitter) choosePorts(u *topology.Usage, g *Group) bool {
	x.choice.ports = x.choice.ports[:0]
	next := uint16(0)
	for i := range g.ports {
		if static := g.ports[i].static; static != 0 {
			x.choice.ports = append(x.choice.ports, uint16(static))
			continue
		}
		for {
			if next = u.NextPort(next); next == 0 {
				return false
			}
			if !g.staticPort(next) {
				break
			}
			if next++; next == 0 {
				return false
			}
		}
		x.choice.ports = append(x.choice.ports, next)
		next++ // after the last port the search starts over, and Usage.Add refuses what is taken twice
	}
	return true
}

func (g *Group) staticPort(port uint16) bool {
	for i := range g.ports {
		if g.ports[i].static == uint32(port) {
			return true
		}
	}
	return false
}

// take sums the choice up and grants it.
func (x *fitter) take(u *topology.Usage, g *Group) (*choice, bool) {
	c, grant := &x.choice, &x.choice.grant
	grant.Reset()
	grant.DiskMiB = g.diskMiB
	grant.Ports = append(grant.Ports, c.ports...)
	if c.cell >= 0 {
		part := grant.NextCell(u.Machine().Cells[c.cell].ID)
		part.CPUMilli, part.MemoryMiB = uint32(g.total.milli), g.total.memory
	} else {
		for i := range c.tasks {
			grant.Cells = append(grant.Cells, c.tasks[i].cells...)
			for _, d := range c.tasks[i].devices {
				grant.Devices = append(grant.Devices, topology.DeviceGrant{ID: d.id, ShareMilli: d.share})
			}
		}
	}
	return c, u.Add(grant) == nil
}
