package topology

import (
	"math/bits"
	"slices"
)

// takeCPUs takes threads of a cell that are free.
func (u *Usage) takeCPUs(cell int, set *CPUSet) {
	for w, bitmap := range set.words {
		for ; bitmap != 0; bitmap &= bitmap - 1 {
			u.takeCPU(cell, w<<6+bits.TrailingZeros64(bitmap))
		}
	}
}

func (u *Usage) takeCPU(cell, cpu int) {
	u.words[cpu>>6] &^= 1 << (cpu & 63)
	u.cells[cell].threads--
	core := int(u.machine.layout.coreOf[cpu])
	word, bit := &u.words[u.machine.layout.cells[cell].cores+core>>6], uint64(1)<<(core&63)
	if *word&bit != 0 {
		*word &^= bit
		u.cells[cell].cores--
	}
}

// giveCPUs gives threads of a cell back, and says how many those were. A thread that is
// held twice stays held by the other; one that the cell does not have (any more) only
// counts.
func (u *Usage) giveCPUs(cell int, set *CPUSet) (n int) {
	schedulable := &u.machine.Cells[cell].Schedulable
	for w, bitmap := range set.words {
		n += bits.OnesCount64(bitmap)
		bitmap &= schedulable.word(w)
		for ; bitmap != 0; bitmap &= bitmap - 1 {
			if cpu := w<<6 + bits.TrailingZeros64(bitmap); u.twice == nil || !drop(&u.twice.cpus, cpu) {
				u.giveCPU(cell, cpu)
			}
		}
	}
	return n
}

func (u *Usage) giveCPU(cell, cpu int) {
	word, bit := &u.words[cpu>>6], uint64(1)<<(cpu&63)
	if *word&bit != 0 {
		return // nobody held it
	}
	*word |= bit
	u.cells[cell].threads++
	index := int(u.machine.layout.coreOf[cpu])
	core := &u.machine.Cells[cell].Cores[index]
	if core.Whole && u.coreFree(core) {
		u.words[u.machine.layout.cells[cell].cores+index>>6] |= 1 << (index & 63)
		u.cells[cell].cores++
	}
}

// coreFree says that none of the core's threads is taken.
func (u *Usage) coreFree(core *Core) bool {
	for _, cpu := range core.cpus {
		if u.words[cpu>>6]&(1<<(cpu&63)) == 0 {
			return false
		}
	}
	return true
}

// forceCPUs takes threads, also those that are held already.
func (u *Usage) forceCPUs(cell int, set *CPUSet) {
	schedulable := &u.machine.Cells[cell].Schedulable
	for w, bitmap := range set.words {
		bitmap &= schedulable.word(w)
		for ; bitmap != 0; bitmap &= bitmap - 1 {
			if cpu := w<<6 + bits.TrailingZeros64(bitmap); u.words[w]&(bitmap&-bitmap) != 0 {
				u.takeCPU(cell, cpu)
			} else {
				u.again().cpus = append(u.again().cpus, uint16(cpu))
			}
		}
	}
}

func (u *Usage) forcePort(port uint16) {
	if u.ports.Contains(port) {
		u.again().ports = append(u.again().ports, port)
	}
	u.ports.Add(port)
}

func (u *Usage) givePort(port uint16) {
	if u.twice == nil || !drop(&u.twice.ports, int(port)) {
		u.ports.Remove(port)
	}
}

func (u *Usage) again() *twice {
	if u.twice == nil {
		u.twice = &twice{}
	}
	return u.twice
}

// drop takes one x out of the list, where there is one.
func drop(list *[]uint16, x int) bool {
	i := slices.Index(*list, uint16(x))
	if i >= 0 {
		*list = slices.Delete(*list, i, i+1)
	}
	return i >= 0
}

// PickCores puts the threads of up to n whole cores of a cell that are free and not in
// skip, the lowest first, into both sets, and says how many cores and threads those are.
// Cores of more than most threads are left out.
func (u *Usage) PickCores(cell, n, most int, into, skip *CPUSet) (cores, threads int) {
	at := &u.machine.layout.cells[cell]
	all := u.machine.Cells[cell].Cores
	for w, free := range u.words[at.cores : at.cores+at.coreWords] {
		for ; free != 0 && cores < n; free &= free - 1 {
			core := &all[w<<6+bits.TrailingZeros64(free)]
			if core.Count > most || len(skip.words) > 0 && core.Threads.Overlaps(*skip) {
				continue
			}
			core.addTo(into)
			core.addTo(skip)
			cores++
			threads += core.Count
		}
	}
	return cores, threads
}

// CoreCost is how many threads the n smallest free whole cores of a cell have; false:
// there are fewer cores.
func (u *Usage) CoreCost(cell, n int) (threads int, ok bool) {
	c := &u.machine.Cells[cell]
	if n > int(u.cells[cell].cores) {
		return 0, false
	}
	if !c.Mixed {
		return n * c.CoreThreads, true
	}
	for size := c.CoreThreads; n > 0; size++ {
		cores := min(n, u.CoresOf(cell, size))
		threads, n = threads+cores*size, n-cores
	}
	return threads, true
}

// CoresOf is how many free whole cores of a cell have so many threads.
func (u *Usage) CoresOf(cell, threads int) (n int) {
	c := &u.machine.Cells[cell]
	if !c.Mixed {
		if c.CoreThreads == threads {
			n = int(u.cells[cell].cores)
		}
		return n
	}
	for k := range c.Cores {
		if core := &c.Cores[k]; core.Count == threads && core.Whole && u.coreFree(core) {
			n++
		}
	}
	return n
}

func (c *Core) addTo(s *CPUSet) {
	for _, cpu := range c.cpus {
		s.grow(int(cpu>>6) + 1)
		s.words[cpu>>6] |= 1 << (cpu & 63)
	}
}

// PickThreads puts up to n threads of a cell that are free and not in skip into both
// sets, and says how many: those of cores that are broken already first, so that whole
// cores stay whole, then the lowest.
func (u *Usage) PickThreads(cell, n int, into, skip *CPUSet) (threads int) {
	c := &u.machine.Cells[cell]
	for _, broken := range []bool{true, false} {
		for k := range c.Cores {
			core := &c.Cores[k]
			if threads == n {
				return threads
			}
			if broken == (core.Whole && u.coreFree(core) && !core.Threads.Overlaps(*skip)) {
				continue
			}
			for _, cpu := range core.cpus {
				if threads < n && u.words[cpu>>6]&(1<<(cpu&63)) != 0 && !skip.Contains(int(cpu)) {
					into.Add(int(cpu))
					skip.Add(int(cpu))
					threads++
				}
			}
		}
	}
	return threads
}
