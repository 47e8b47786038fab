package scheduler

import "slices"

// even divides what is aligned over the cells of a group that wants so many: what each
// of them is still to hold, by the cell's place in the set. Of what does not divide by
// their number the first cells hold one more.
type even struct {
	milli, memory, cores, threads []uint64
	pages                         [][]uint64 // by the size's place in the group's sum
	order                         []int
}

func (e *even) reset(g *Group) {
	if g.cells == 0 {
		return
	}
	n := &g.total
	e.milli, e.memory = divide(e.milli, n.milli, g.cells), divide(e.memory, n.memory, g.cells)
	e.cores, e.threads = divide(e.cores, uint64(n.cores), g.cells), divide(e.threads, uint64(n.threads), g.cells)
	for len(e.pages) < len(n.hugepages) {
		e.pages = append(e.pages, nil)
	}
	for i, h := range n.hugepages {
		e.pages[i] = divide(e.pages[i], h.Count, g.cells)
	}
}

func divide(into []uint64, total uint64, cells int) []uint64 {
	into = into[:0]
	for i := range uint64(cells) {
		part := total / uint64(cells)
		if i < total%uint64(cells) {
			part++
		}
		into = append(into, part)
	}
	return into
}

// share gives a task n of what is left, as evenly as it goes: what does not divide comes
// from the cells that have most left. So no cell ever has two more left than another.
func (e *even) share(left []uint64, n uint64, take func(k int, n uint64) bool) bool {
	cells := uint64(len(left))
	each, more := n/cells, n%cells
	e.order = e.order[:0]
	for k := range left {
		e.order = append(e.order, k)
	}
	slices.SortStableFunc(e.order, func(a, b int) int {
		switch {
		case left[a] > left[b]:
			return -1
		case left[a] < left[b]:
			return 1
		}
		return 0
	})
	for i, k := range e.order {
		part := each
		if uint64(i) < more {
			part++
		}
		if part > 0 && (part > left[k] || !take(k, part)) {
			return false
		}
		left[k] -= part
	}
	return true
}
