package topology

// layout says where the parts of a Usage lie in its words. It follows from the machine.
//
//	words: the free schedulable threads, a bit a CPU number
//	       for each cell the free whole cores, a bit a core of the cell
//	       for each cell and page size the pages used
type layout struct {
	cpuWords int
	cells    []cellLayout
	initial  []uint64 // the words of an empty usage
	coreOf   []uint16 // by CPU number: the index of its core in its cell
}

// cellLayout has what is read of a cell again and again, too: its CPU and memory, and the
// CPU of its smallest whole core.
type cellLayout struct {
	cores, pages  int // first word of each
	coreWords     int
	milli, memory uint64
	coreMilli     uint32
}

func (l *layout) derive(m *Machine) {
	*l = layout{cells: make([]cellLayout, len(m.Cells))}
	highest := -1
	for i := range m.Cells {
		for k := range m.Cells[i].Cores {
			for cpu := range m.Cells[i].Cores[k].Threads.All() {
				highest = max(highest, cpu)
			}
		}
	}
	l.coreOf = make([]uint16, highest+1)
	l.cpuWords = (highest + 64) / 64
	next := l.cpuWords
	for i := range m.Cells {
		c := &l.cells[i]
		c.cores, c.coreWords = next, (len(m.Cells[i].Cores)+63)/64
		c.pages = next + c.coreWords
		next = c.pages + len(m.Cells[i].Hugepages)
		c.milli, c.memory = uint64(m.Cells[i].Threads)*1000, m.Cells[i].MemoryMiB
		c.coreMilli = 1000 * uint32(max(m.Cells[i].CoreThreads, 1))
	}
	l.initial = make([]uint64, next)
	for i := range m.Cells {
		l.fill(&m.Cells[i], &l.cells[i])
	}
}

// fill makes the initial words of one cell, with everything free.
func (l *layout) fill(cell *Cell, at *cellLayout) {
	for w, bits := range cell.Schedulable.words {
		l.initial[w] |= bits
	}
	for k := range cell.Cores {
		core := &cell.Cores[k]
		core.cpus = make([]uint16, 0, core.Count)
		for cpu := range core.Threads.All() {
			core.cpus = append(core.cpus, uint16(cpu))
			l.coreOf[cpu] = uint16(k)
		}
		if core.Whole {
			l.initial[at.cores+k>>6] |= 1 << (k & 63)
		}
	}
}

// classOf gives the place of the count of whole free devices of a kind in a cell; cell
// -1: of those whose cell is not known. They lie behind the devices themselves.
func (m *Machine) classOf(kind, cell int) int {
	return len(m.Devices) + kind*(len(m.Cells)+1) + cell + 1
}
