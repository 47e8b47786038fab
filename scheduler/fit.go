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
	if !x.choosePorts(u, g) {
		return nil, false
	}
	x.choice.cell = -1
	if g.total.simple() {
		if cell := firstCell(u, &g.total); cell >= 0 {
			x.choice.cell = cell
			return x.take(u, g)
		}
		if g.policy == single {
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

// firstCell is the lowest cell that has room for shared CPU and memory; -1: none.
func firstCell(u *topology.Usage, n *need) int {
	for i := range u.Machine().Cells {
		if u.FreeMilli(i) >= n.milli && u.FreeMemory(i) >= n.memory {
			return i
		}
	}
	return -1
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
