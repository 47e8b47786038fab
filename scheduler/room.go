package scheduler

import (
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
	taken   topology.CPUSet // exclusive threads chosen
	devices []uint32        // thousandths left
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
	r.taken.Clear()
	for len(r.pages) < n {
		r.pages = append(r.pages, nil)
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

// exclusive grants n cores or threads; all in one cell where one has them.
func (r *room) exclusive(task, n int, pick func(cell, n int, into, skip *topology.CPUSet) (units, threads int)) bool {
	if n == 0 {
		return true
	}
	cells := r.homes(task, r.from(alignCPU))
	for _, whole := range []bool{true, false} {
		for _, c := range cells {
			if n == 0 {
				return true
			}
			if whole {
				if units, _ := pick(c, n, &topology.CPUSet{}, clone(&r.taken)); units < n {
					continue
				}
			}
			units, threads := pick(c, n, &r.grantIn(task, c).CPUs, &r.taken)
			r.milli[c] -= 1000 * uint64(threads)
			n -= units
		}
	}
	return n == 0
}

func clone(s *topology.CPUSet) *topology.CPUSet {
	c := s.Clone()
	return &c
}

// freeCores picks up to n whole free cores of a cell that its CPU capacity has room for.
func (r *room) freeCores(cell, n int, into, skip *topology.CPUSet) (cores, threads int) {
	if smallest := r.u.Machine().Cells[cell].CoreThreads; smallest > 0 {
		n = min(n, int(r.milli[cell]/1000)/smallest)
	}
	for ; n > 0; n-- {
		var set topology.CPUSet
		after := skip.Clone()
		if cores, threads = pickCores(r.u, cell, n, !r.lean, &set, &after); uint64(threads)*1000 <= r.milli[cell] {
			into.AddAll(set)
			skip.AddAll(set)
			return cores, threads
		}
	}
	return 0, 0
}

// freeThreads picks up to n single free threads of a cell.
func (r *room) freeThreads(cell, n int, into, skip *topology.CPUSet) (threads, same int) {
	threads = r.u.PickThreads(cell, min(n, int(r.milli[cell]/1000)), into, skip)
	return threads, threads
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
