package scheduler

import (
	"slices"

	"github.com/berthd/berth/topology"
)

// fitter finds the exact grant of a group on one node. Its memory is used again, so a
// choice is good until the next fit.
type fitter struct {
	choice      choice
	search      cellSearch
	picker      picker
	room        room
	all         []int           // the node's cells
	skip        topology.CPUSet // exclusive threads chosen already
	taken       []int           // see coreCost
	fewestCells map[fewestKey]int
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

type grantedDevice struct {
	kind, id string
	share    uint32
}

// fit chooses and grants: after true the usage has it.
func (x *fitter) fit(u *topology.Usage, g *Group) (*choice, bool) {
	if u.Stray() || u.Whole() || g.wholeNode && u.Used() || u.FreeDisk() < g.diskMiB || !x.choosePorts(u, g) {
		return nil, false
	}
	x.choice.cell = -1
	if len(g.wishes) == 0 && g.cells == 0 {
		if cell := bestCell(u, &g.total); cell >= 0 {
			return x.takeIn(u, g, cell)
		}
		if g.policy == single && g.alignsAll() {
			return nil, false
		}
	}
	if !x.begin(u, g) || !x.findCells() {
		return nil, false
	}
	return x.take(false)
}

// fitIn is fit for a group of which it is known that it lies in one cell, and in which.
func (x *fitter) fitIn(u *topology.Usage, g *Group, cell int) (*choice, bool) {
	if u.Stray() || u.Whole() || u.FreeDisk() < g.diskMiB || !x.choosePorts(u, g) {
		return nil, false
	}
	x.choice.cell = -1
	return x.takeIn(u, g, cell)
}

// begin notes what there is; false: the node has no cell, or too few of some device.
func (x *fitter) begin(u *topology.Usage, g *Group) bool {
	n := len(u.Machine().Cells)
	if n == 0 || len(g.wishes) > 0 && !x.picker.prepare(u, g) {
		return false
	}
	x.search.begin(x, u, g)
	x.all = x.all[:0]
	for i := range n {
		x.all = append(x.all, i)
	}
	return true
}

// findCells finds the cells that the group is put into, as its policy says.
func (x *fitter) findCells() bool {
	g, n := x.search.g, len(x.all)
	if g.cells > 0 {
		return g.cells <= n && x.search.find(g.cells)
	}
	if x.search.find(1) || g.policy == single || n == 1 {
		return x.search.found
	}
	from, to := 2, n
	switch g.policy {
	case anywhere:
		from = n
	case restricted:
		to = x.fewest(x.search.u.Machine(), g)
	}
	for k := from; k <= to; k++ {
		if x.search.find(k) {
			return true
		}
	}
	return false
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
	grant.WholeNode = g.wholeNode
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
	c.tasks = slices.Grow(c.tasks[:0], len(g.tasks))[:len(g.tasks)]
	for i := range g.tasks {
		if n := g.tasks[i].threads; n > 0 {
			u.PickThreads(cell, n, &grant.Cells[i].CPUs, &x.skip)
		}
		c.tasks[i] = taskChoice{cells: grant.Cells[i : i+1 : i+1], devices: c.tasks[i].devices[:0]}
	}
	return c, u.Add(grant) == nil
}

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

// take writes the grant into the cells and devices found, and adds it to the usage. Where
// cores differ, the smallest are taken when the lowest are too large together.
func (x *fitter) take(lean bool) (*choice, bool) {
	u, g, c := x.search.u, x.search.g, &x.choice
	grant, cells := &c.grant, len(x.all)
	grant.Reset()
	grant.DiskMiB, grant.WholeNode = g.diskMiB, g.wholeNode
	grant.Ports = append(grant.Ports, c.ports...)
	for range g.tasks {
		for _, cell := range u.Machine().Cells {
			grant.NextCell(cell.ID)
		}
	}
	x.room.reset(u, g, x.search.set, lean, grant.Cells)
	x.takeDevices()
	if !x.room.write() {
		if u.Machine().Mixed && !lean {
			return x.take(true)
		}
		return nil, false
	}
	c.gather(cells)
	return c, u.Add(grant) == nil
}

// gather leaves out the parts of cells that a task has nothing in.
func (c *choice) gather(cells int) {
	parts, kept := c.grant.Cells, 0
	for i := range c.tasks {
		first := kept
		for k := i * cells; k < (i+1)*cells; k++ {
			if p := &parts[k]; p.CPUMilli > 0 || p.MemoryMiB > 0 || len(p.Hugepages) > 0 || !p.CPUs.Empty() {
				parts[kept], parts[k] = parts[k], parts[kept]
				kept++
			}
		}
		c.tasks[i].cells = parts[first:kept:kept]
	}
	c.grant.Cells = parts[:kept]
}

// takeDevices writes the devices that were picked.
func (x *fitter) takeDevices() {
	m, c := x.search.u.Machine(), &x.choice
	c.tasks = slices.Grow(c.tasks[:0], len(x.search.g.tasks))[:len(x.search.g.tasks)]
	for i := range c.tasks {
		c.tasks[i].devices = c.tasks[i].devices[:0]
	}
	picks := x.search.picks
	for i := range x.search.g.wishes {
		w := &x.search.g.wishes[i]
		for _, d := range picks[:w.need.count] {
			dev, t := &m.Devices[d], &c.tasks[w.task]
			t.devices = append(t.devices, grantedDevice{dev.Kind, dev.ID, w.need.share})
			c.grant.Devices = append(c.grant.Devices, m.Device(int(d), w.need.share))
			if slices.Contains(x.search.set, dev.Cell) {
				x.room.near(w.task, dev.Cell)
			}
		}
		picks = picks[w.need.count:]
	}
}
