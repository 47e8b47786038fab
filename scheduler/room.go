package scheduler

import (
	"cmp"
	"slices"

	"github.com/berthd/berth/topology"
)

// room is what is left of a node while a group is fitted into it. Resources that the
// group's policy is about come from the cells given; the others from any, those first.
type room struct {
	u       *topology.Usage
	g       *Group
	lean    bool
	inside  []int // the cells given
	cells   []int // those, then the others
	milli   []uint64
	memory  []uint64
	pages   [][]uint64
	order   []int // of freeCores
	units   []topology.CPUSet
	taken   []topology.CPUSet // exclusive threads, what was granted before among them
	devices []uint32          // thousandths left
	tasks   []taskChoice
}

// try fits the whole group; the tasks' grants are in tasks then. lean takes the cores
// with the fewest threads first, where cores differ: it fits whenever anything does.
func (r *room) try(u *topology.Usage, g *Group, cells []int, lean bool) bool {
	r.reset(u, g, cells, lean)
	steps := []func(i int, t *taskNeed) bool{r.addDevices, r.addCores, r.addThreads, r.addShared, r.addMemory, r.addHugepages}
	for _, step := range steps {
		for i := range g.tasks {
			if !step(i, &g.tasks[i]) {
				return false
			}
		}
	}
	return true
}

func (r *room) reset(u *topology.Usage, g *Group, cells []int, lean bool) {
	m := u.Machine()
	n := len(m.Cells)
	r.u, r.g, r.inside, r.lean = u, g, cells, lean
	r.cells = append(r.cells[:0], cells...)
	r.milli, r.memory = r.milli[:0], r.memory[:0]
	for len(r.taken) < n {
		r.taken, r.pages = append(r.taken, topology.CPUSet{}), append(r.pages, nil)
	}
	for i := range n {
		if !slices.Contains(cells, i) {
			r.cells = append(r.cells, i)
		}
		r.milli, r.memory = append(r.milli, u.FreeMilli(i)), append(r.memory, u.FreeMemory(i))
		r.pages[i] = r.pages[i][:0]
		for size := range m.Cells[i].Hugepages {
			r.pages[i] = append(r.pages[i], u.FreeHugepages(i, size))
		}
		r.taken[i].Clear()
		r.taken[i].AddAll(u.Cell(i).Exclusive)
	}
	r.devices = r.devices[:0]
	for i := range m.Devices {
		r.devices = append(r.devices, u.FreeDevice(i))
	}
	r.tasks = make([]taskChoice, len(g.tasks))
}

// from are the cells that a resource may come from.
func (r *room) from(a align) []int {
	if r.g.align&a != 0 {
		return r.inside
	}
	return r.cells
}

// grantIn is the task's part of a cell, made when it is not there yet.
func (r *room) grantIn(task, cell int) *topology.CellGrant {
	id := r.u.Machine().Cells[cell].ID
	t := &r.tasks[task]
	for i := range t.cells {
		if t.cells[i].Cell == id {
			return &t.cells[i]
		}
	}
	t.cells = append(t.cells, topology.CellGrant{Cell: id})
	return &t.cells[len(t.cells)-1]
}

// homes are the cells in the order in which the task wants them: where it has something
// already, then the others.
func (r *room) homes(task int, from []int) []int {
	t := &r.tasks[task]
	if len(t.cells) == 0 {
		return from
	}
	at := func(cell int) bool {
		id := r.u.Machine().Cells[cell].ID
		return slices.ContainsFunc(t.cells, func(c topology.CellGrant) bool { return c.Cell == id })
	}
	ordered := slices.Clone(from)
	slices.SortStableFunc(ordered, func(a, b int) int {
		switch {
		case at(a) == at(b):
			return 0
		case at(a):
			return -1
		}
		return 1
	})
	return ordered
}

func (r *room) addCores(i int, t *taskNeed) bool {
	return r.exclusive(i, t.cores, r.freeCores)
}

func (r *room) addThreads(i int, t *taskNeed) bool {
	return r.exclusive(i, t.threads, r.freeThreads)
}

// exclusive grants n units, each a set of threads; all in one cell where one has them.
func (r *room) exclusive(task, n int, free func(cell, n int) []topology.CPUSet) bool {
	if n == 0 {
		return true
	}
	cells := r.homes(task, r.from(alignCPU))
	for _, c := range cells {
		if units := free(c, n); len(units) == n {
			r.takeUnits(task, c, units)
			return true
		}
	}
	for _, c := range cells {
		units := free(c, n)
		r.takeUnits(task, c, units)
		n -= len(units)
	}
	return n == 0
}

func (r *room) takeUnits(task, cell int, units []topology.CPUSet) {
	if len(units) == 0 {
		return
	}
	g := r.grantIn(task, cell)
	for _, u := range units {
		g.CPUs.AddAll(u)
		r.taken[cell].AddAll(u)
		r.milli[cell] -= 1000 * uint64(u.Count())
	}
}

// freeCores gives up to n whole free cores of a cell, the lowest first, that its CPU
// capacity has room for. The list is good until the next call.
func (r *room) freeCores(cell, n int) []topology.CPUSet {
	cores := r.u.Machine().Cells[cell].Cores
	order := r.order[:0]
	for i := range cores {
		if cores[i].Whole && !cores[i].Threads.Overlaps(r.taken[cell]) {
			order = append(order, i)
		}
	}
	if r.lean {
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(cores[a].Count, cores[b].Count) })
	}
	r.order = order
	units := r.units[:0]
	left := r.milli[cell]
	for _, i := range order {
		if cost := 1000 * uint64(cores[i].Count); len(units) < n && cost <= left {
			units = append(units, cores[i].Threads)
			left -= cost
		}
	}
	r.units = units
	return units
}

// freeThreads gives up to n single free threads of a cell: those of cores that are
// broken already first, so that whole cores stay whole.
func (r *room) freeThreads(cell, n int) []topology.CPUSet {
	c := &r.u.Machine().Cells[cell]
	n = min(n, int(r.milli[cell]/1000))
	var units []topology.CPUSet
	for _, broken := range []bool{true, false} {
		for i := range c.Cores {
			core := &c.Cores[i]
			if broken != (!core.Whole || core.Threads.Overlaps(r.taken[cell])) {
				continue
			}
			for cpu := range core.Threads.All() {
				if len(units) < n && c.Schedulable.Contains(cpu) && !r.taken[cell].Contains(cpu) {
					units = append(units, topology.NewCPUSet(cpu))
				}
			}
		}
	}
	return units
}

// addShared grants shared CPU: all in one cell that has it, and the memory too where
// one does.
func (r *room) addShared(i int, t *taskNeed) bool {
	if t.milli == 0 {
		return true
	}
	cells := r.homes(i, r.from(alignCPU))
	for _, memory := range []uint64{t.memory, 0} {
		for _, c := range cells {
			if r.milli[c] >= t.milli && r.memory[c] >= memory {
				r.grantIn(i, c).CPUMilli += uint32(t.milli)
				r.milli[c] -= t.milli
				return true
			}
		}
	}
	return r.fill(cells, t.milli, r.milli, func(c int, n uint64) { r.grantIn(i, c).CPUMilli += uint32(n) })
}

// addMemory grants memory where the task's CPUs are, as far as it goes.
func (r *room) addMemory(i int, t *taskNeed) bool {
	cells := r.homes(i, r.from(alignMemory))
	return r.fill(cells, t.memory, r.memory, func(c int, n uint64) { r.grantIn(i, c).MemoryMiB += n })
}

// fill takes n from the cells in order.
func (r *room) fill(cells []int, n uint64, left []uint64, grant func(cell int, n uint64)) bool {
	for _, c := range cells {
		if part := min(n, left[c]); part > 0 {
			left[c] -= part
			n -= part
			grant(c, part)
		}
	}
	return n == 0
}

func (r *room) addHugepages(i int, t *taskNeed) bool {
	for _, h := range t.hugepages {
		n := h.Count
		for _, c := range r.homes(i, r.from(alignHugepages)) {
			size := r.u.Machine().Cells[c].HugepageIndex(h.SizeKiB)
			if size < 0 || r.pages[c][size] == 0 || n == 0 {
				continue
			}
			part := min(n, r.pages[c][size])
			r.pages[c][size] -= part
			n -= part
			g := r.grantIn(i, c)
			g.Hugepages = append(g.Hugepages, topology.Hugepages{SizeKiB: h.SizeKiB, Count: part})
		}
		if n > 0 {
			return false
		}
	}
	return true
}
