package scheduler

import (
	"slices"

	"github.com/berthd/berth/topology"
)

// room is what is left of a node while the grant of a group is written, task by task.
// What the group's policy is about comes from the cells chosen; the rest from any, those
// first. The cells have room for it: see fitter.holds.
type room struct {
	u     *topology.Usage
	g     *Group
	set   []int // the cells chosen
	cells []int // those, then the others
	// lean takes the cores with the fewest threads first, where cores differ.
	lean    bool
	milli   []uint64
	memory  []uint64
	threads []int
	cores   []int
	pages   [][]uint64
	skip    topology.CPUSet // exclusive threads chosen
	// parts are the tasks' grants, a row of all cells for each task.
	parts []topology.CellGrant
	home  []bool // of parts: the task has something there
	order []int
	even  even
}

// reset begins with everything that the usage has left.
func (r *room) reset(u *topology.Usage, g *Group, set []int, lean bool, parts []topology.CellGrant) {
	m := u.Machine()
	n := len(m.Cells)
	r.u, r.g, r.set, r.lean, r.parts = u, g, set, lean, parts
	r.cells = append(r.cells[:0], set...)
	r.milli, r.memory, r.threads, r.cores = r.milli[:0], r.memory[:0], r.threads[:0], r.cores[:0]
	for len(r.pages) < n {
		r.pages = append(r.pages, nil)
	}
	for i := range n {
		if !slices.Contains(set, i) {
			r.cells = append(r.cells, i)
		}
		left := u.Summary(i)
		r.milli, r.memory = append(r.milli, left.Milli), append(r.memory, left.Memory)
		r.threads, r.cores = append(r.threads, left.Threads), append(r.cores, left.Cores)
		r.pages[i] = r.pages[i][:0]
		for size := range m.Cells[i].Hugepages {
			r.pages[i] = append(r.pages[i], u.FreeHugepages(i, size))
		}
	}
	r.skip.Clear()
	r.home = slices.Grow(r.home[:0], len(parts))[:len(parts)]
	clear(r.home)
	r.even.reset(g)
}

// write grants everything but devices.
func (r *room) write() bool {
	steps := []func(i int, t *taskNeed) bool{r.addCores, r.addThreads, r.addShared, r.addMemory, r.addHugepages}
	for _, step := range steps {
		for i := range r.g.tasks {
			if !step(i, &r.g.tasks[i]) {
				return false
			}
		}
	}
	return true
}

// part is the task's grant in a cell.
func (r *room) part(task, cell int) *topology.CellGrant {
	at := task*len(r.milli) + cell
	r.home[at] = true
	return &r.parts[at]
}

// near makes the task want its CPU and memory in the cell of its device.
func (r *room) near(task, cell int) {
	if cell >= 0 {
		r.home[task*len(r.milli)+cell] = true
	}
}

// from are the cells that a resource of a task may come from, in the order in which the
// task wants them: those chosen before others, in both those where it has something
// already before the rest, and that by its distance from the first of those.
func (r *room) from(task int, a align) []int {
	cells := r.cells
	if r.g.align&a != 0 {
		cells = r.set
	}
	home := r.home[task*len(r.milli):][:len(r.milli)]
	first := slices.Index(home, true)
	if first < 0 || len(cells) == 1 {
		return cells
	}
	m := r.u.Machine()
	rank := func(c int) uint32 {
		if home[c] {
			return 0
		}
		return 1 + m.Distance(first, c)
	}
	r.order = append(r.order[:0], cells...)
	insertionSort(r.order[:len(r.set)], rank)
	insertionSort(r.order[len(r.set):], rank)
	return r.order
}

// insertionSort is stable, and quick for the few cells that a node has.
func insertionSort(list []int, rank func(int) uint32) {
	for i := 1; i < len(list); i++ {
		for k := i; k > 0 && rank(list[k]) < rank(list[k-1]); k-- {
			list[k], list[k-1] = list[k-1], list[k]
		}
	}
}

// divided says that the task's part of a resource is the same in each cell.
func (r *room) divided(a align) bool { return r.g.cells > 0 && r.g.align&a != 0 }

func (r *room) addCores(i int, t *taskNeed) bool {
	if r.divided(alignCPU) {
		return r.even.share(r.even.cores, uint64(t.cores), func(k int, n uint64) bool { return r.takeCores(i, r.set[k], int(n)) == int(n) })
	}
	if r.lean && t.cores > 0 {
		return r.leanCores(i, t.cores)
	}
	return r.exclusive(i, t.cores, r.cores, r.takeCores)
}

func (r *room) addThreads(i int, t *taskNeed) bool {
	if r.divided(alignCPU) {
		return r.even.share(r.even.threads, uint64(t.threads), func(k int, n uint64) bool { return r.takeThreads(i, r.set[k], int(n)) == int(n) })
	}
	return r.exclusive(i, t.threads, r.threads, r.takeThreads)
}

// exclusive grants n cores or threads; all in one cell where one has them.
func (r *room) exclusive(task, n int, left []int, take func(task, cell, n int) int) bool {
	if n == 0 {
		return true
	}
	cells := r.from(task, alignCPU)
	for _, c := range cells {
		if left[c] >= n {
			if n -= take(task, c, n); n == 0 {
				return true
			}
		}
	}
	for _, c := range cells {
		if n -= take(task, c, min(n, left[c])); n == 0 {
			return true
		}
	}
	return false
}

// takeCores grants up to n whole cores of a cell.
func (r *room) takeCores(task, cell, n int) int {
	if n == 0 {
		return 0
	}
	c := &r.u.Machine().Cells[cell]
	if c.Mixed && !r.lean {
		n = min(n, r.threads[cell]/c.MostCoreThreads)
	}
	cores, threads := pickCores(r.u, cell, n, !r.lean, &r.part(task, cell).CPUs, &r.skip)
	r.charge(cell, cores, threads)
	return cores
}

func (r *room) charge(cell, cores, threads int) {
	r.milli[cell] -= 1000 * uint64(threads)
	r.threads[cell] -= threads
	r.cores[cell] -= cores
	if size := r.u.Machine().Cells[cell].CoreThreads; size > 0 {
		r.cores[cell] = min(r.cores[cell], r.threads[cell]/size)
	}
}

// leanCores grants the smallest cores of all cells.
func (r *room) leanCores(task, n int) bool {
	most := 0
	for _, c := range r.cells {
		most = max(most, r.u.Machine().Cells[c].MostCoreThreads)
	}
	cells := r.from(task, alignCPU)
	for size := 1; size <= most; size++ {
		for _, c := range cells {
			if wanted := min(n, r.threads[c]/size); wanted > 0 {
				cores, threads := r.u.PickCores(c, wanted, size, &r.part(task, c).CPUs, &r.skip)
				r.charge(c, cores, threads)
				n -= cores
			}
		}
	}
	return n == 0
}

// takeThreads grants up to n single threads of a cell.
func (r *room) takeThreads(task, cell, n int) int {
	if n == 0 {
		return 0
	}
	threads := r.u.PickThreads(cell, n, &r.part(task, cell).CPUs, &r.skip)
	r.charge(cell, 0, threads)
	return threads
}

// addShared grants shared CPU: all in one cell that has it, and the memory too where
// one does.
func (r *room) addShared(i int, t *taskNeed) bool {
	grant := func(c int, n uint64) { r.part(i, c).CPUMilli += uint32(n) }
	if r.divided(alignCPU) {
		return r.even.share(r.even.milli, t.milli, func(k int, n uint64) bool { return r.take(r.set[k], n, r.milli, grant) })
	}
	if t.milli == 0 {
		return true
	}
	cells := r.from(i, alignCPU)
	for _, memory := range [2]uint64{t.memory, 0} {
		for _, c := range cells {
			if r.milli[c] >= t.milli && r.memory[c] >= memory {
				return r.take(c, t.milli, r.milli, grant)
			}
		}
	}
	return r.fill(cells, t.milli, r.milli, grant)
}

// addMemory grants memory where the task's CPUs are, as far as it goes.
func (r *room) addMemory(i int, t *taskNeed) bool {
	grant := func(c int, n uint64) { r.part(i, c).MemoryMiB += n }
	if r.divided(alignMemory) {
		return r.even.share(r.even.memory, t.memory, func(k int, n uint64) bool { return r.take(r.set[k], n, r.memory, grant) })
	}
	return r.fill(r.from(i, alignMemory), t.memory, r.memory, grant)
}

// take takes n from one cell.
func (r *room) take(cell int, n uint64, left []uint64, grant func(cell int, n uint64)) bool {
	if n == 0 {
		return true
	}
	if left[cell] < n {
		return false
	}
	left[cell] -= n
	grant(cell, n)
	return true
}

// fill takes n from the cells in order.
func (r *room) fill(cells []int, n uint64, left []uint64, grant func(cell int, n uint64)) bool {
	for _, c := range cells {
		part := min(n, left[c])
		r.take(c, part, left, grant)
		n -= part
	}
	return n == 0
}

func (r *room) addHugepages(i int, t *taskNeed) bool {
	for _, h := range t.hugepages {
		if r.divided(alignHugepages) {
			left := r.even.pages[r.g.total.pageIndex(h.SizeKiB)]
			if !r.even.share(left, h.Count, func(k int, n uint64) bool { return r.takePages(i, r.set[k], h.SizeKiB, n) == n }) {
				return false
			}
			continue
		}
		n := h.Count
		for _, c := range r.from(i, alignHugepages) {
			n -= r.takePages(i, c, h.SizeKiB, n)
		}
		if n > 0 {
			return false
		}
	}
	return true
}

// takePages grants up to n pages of a cell.
func (r *room) takePages(task, cell int, sizeKiB, n uint64) uint64 {
	size := r.u.Machine().Cells[cell].HugepageIndex(sizeKiB)
	if size < 0 {
		return 0
	}
	if n = min(n, r.pages[cell][size]); n > 0 {
		r.pages[cell][size] -= n
		part := r.part(task, cell)
		part.Hugepages = append(part.Hugepages, topology.Hugepages{SizeKiB: sizeKiB, Count: n})
	}
	return n
}
