package scheduler

import "github.com/berthd/berth/topology"

// holds says whether some cells have room for all that must lie in them, and the node for
// the rest, devices left out: exactly, for all of it can be divided over the cells at will.
func (x *fitter) holds(set []int) bool {
	return x.holdsCPU(x.among(set, alignCPU)) && x.holdsMemory(x.among(set, alignMemory)) && x.holdsPages(x.among(set, alignHugepages))
}

// among are the cells that a resource may come from.
func (x *fitter) among(set []int, a align) []int {
	if x.search.g.align&a != 0 {
		return set
	}
	return x.all
}

func (x *fitter) holdsMemory(set []int) bool {
	sum := uint64(0)
	for _, c := range set {
		sum += x.search.sums[c].memory
	}
	return sum >= x.search.g.total.memory
}

func (x *fitter) holdsPages(set []int) bool {
	u := x.search.u
	for _, h := range x.search.g.total.hugepages {
		sum := uint64(0)
		for _, c := range set {
			if size := u.Machine().Cells[c].HugepageIndex(h.SizeKiB); size >= 0 {
				sum += u.FreeHugepages(c, size)
			}
		}
		if sum < h.Count {
			return false
		}
	}
	return true
}

// holdsCPU counts the smallest whole cores of all cells as taken, each cell's as far as
// its capacity goes; single threads and shared CPU get what is left.
func (x *fitter) holdsCPU(set []int) bool {
	n, u := &x.search.g.total, x.search.u
	var have sums
	smallest, largest := topology.MaxCPU, 0
	for _, c := range set {
		have = have.plus(x.search.sums[c])
		if cell := &u.Machine().Cells[c]; cell.WholeCores > 0 {
			smallest, largest = min(smallest, cell.CoreThreads), max(largest, cell.MostCoreThreads)
		}
	}
	exclusive := n.threads
	switch {
	case have.cores < n.cores:
		return false
	case smallest >= largest:
		exclusive += n.cores * largest
	case n.cores > 0:
		cost, enough := x.coreCost(set, n.cores, smallest, largest)
		if !enough {
			return false
		}
		exclusive += cost
	}
	return exclusive <= have.threads && n.milli+1000*uint64(exclusive) <= have.milli
}

// coreCost is how many threads the n smallest cores have, taken from cells whose cores
// differ. What a cell's next core costs never falls, so taking the cheapest each time is
// the cheapest in all.
func (x *fitter) coreCost(set []int, n, smallest, largest int) (threads int, ok bool) {
	u := x.search.u
	x.taken = x.taken[:0]
	for range x.search.sums {
		x.taken = append(x.taken, 0)
	}
	for size := smallest; size <= largest && n > 0; size++ {
		for _, c := range set {
			room := (x.search.sums[c].threads - x.taken[c]) / size
			if room == 0 || n == 0 {
				continue
			}
			cores := min(n, room, u.CoresOf(c, size))
			x.taken[c] += cores * size
			threads, n = threads+cores*size, n-cores
		}
	}
	return threads, n == 0
}
