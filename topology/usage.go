package topology

// Usage is what is granted on one machine. Add refuses what is held already, so the sum
// of the grants never exceeds the machine; only Force, for a machine that shrank under
// its grants, can go beyond. Add, Remove and Force of a grant without ports allocate
// nothing. It is not safe for concurrent use.
type Usage struct {
	machine *Machine
	cells   []cellUsage
	words   []uint64 // see layout
	// devices has the thousandths granted, by the device's index, then how many whole
	// devices are free, by kind and cell.
	devices []uint16
	ports   PortSet
	diskMiB uint64
	grants  uint32 // how many there are
	whole   uint32 // how many of them hold the whole node
	// stray counts the cell grants on cells that the machine no longer has. Nobody
	// knows what they weigh on now, so nothing is added until they are gone.
	stray uint32
	twice *twice // nil as long as nothing is held twice
}

// cellUsage is what is granted of one cell, and what is left in numbers.
type cellUsage struct {
	memory  uint64 // MiB granted
	milli   uint64 // granted: shared, and 1000 for each exclusive thread
	things  uint64 // hugepages and parts of devices granted
	threads uint16 // free
	cores   uint16 // free and whole
}

// twice is what forced grants hold of what others hold too.
type twice struct {
	cpus, ports []uint16
}

// NewUsage gives the usage of a machine on which nothing is granted.
func NewUsage(m *Machine) *Usage {
	u := &Usage{
		machine: m,
		cells:   make([]cellUsage, len(m.Cells)),
		words:   make([]uint64, len(m.layout.initial)),
		devices: make([]uint16, m.classOf(len(m.Kinds), -1)),
	}
	u.clear()
	return u
}

// clear takes everything back.
func (u *Usage) clear() {
	m := u.machine
	u.ports.words, u.twice = u.ports.words[:0], nil
	u.diskMiB, u.grants, u.whole, u.stray = 0, 0, 0, 0
	copy(u.words, m.layout.initial)
	clear(u.devices)
	for i := range m.Cells {
		u.cells[i] = cellUsage{threads: uint16(m.Cells[i].Threads), cores: uint16(m.Cells[i].WholeCores)}
	}
	for i := range m.Devices {
		if d := &m.Devices[i]; d.Healthy {
			u.devices[m.classOf(d.kind, d.Cell)]++
		}
	}
}

// Machine is what the usage is of.
func (u *Usage) Machine() *Machine { return u.machine }

// Summary is what is left of a cell, at a glance.
type Summary struct {
	// Milli of CPU and MiB of memory.
	Milli, Memory uint64
	// Threads that can be granted exclusively, and whole cores: exact, but where cores
	// of one cell differ in their threads, no fewer than there are.
	Threads, Cores int
}

// Summary sums a cell up, by its index. It has no branch that depends on what is left:
// that nobody can foretell.
func (u *Usage) Summary(i int) Summary {
	c, of := &u.cells[i], &u.machine.layout.cells[i]
	milli := left(of.milli, c.milli)
	return Summary{
		Milli: milli, Memory: left(of.memory, c.memory),
		Threads: int(min(uint32(c.threads), uint32(milli)/1000)),
		Cores:   int(min(uint32(c.cores), uint32(milli)/of.coreMilli)),
	}
}

// CellUsed says that something is granted in a cell, by its index.
func (u *Usage) CellUsed(i int) bool {
	c := &u.cells[i]
	return c.memory|c.milli|c.things != 0
}

// Warm reads what Summary reads of all cells, so that it is near when it is needed. What
// it gives means nothing.
func (u *Usage) Warm() (sum int) {
	for i := 0; i < len(u.cells); i += 2 { // two to a line of memory
		sum += int(u.cells[i].threads)
	}
	return sum + int(u.grants)
}

// Used says that something is granted on the node.
func (u *Usage) Used() bool { return u.grants > 0 }

// Whole says that one grant holds the whole node: nothing more fits.
func (u *Usage) Whole() bool { return u.whole > 0 }

// Stray says that grants weigh on cells that are no longer there: nothing more fits.
func (u *Usage) Stray() bool { return u.stray > 0 }

// FreeMilli is the CPU left in a cell, by its index.
func (u *Usage) FreeMilli(i int) uint64 {
	return left(u.machine.layout.cells[i].milli, u.cells[i].milli)
}

// FreeMemory is the MiB left in a cell, by its index.
func (u *Usage) FreeMemory(i int) uint64 {
	return left(u.machine.layout.cells[i].memory, u.cells[i].memory)
}

// FreeHugepages is the pages left of one size in a cell, by their indexes.
func (u *Usage) FreeHugepages(i, size int) uint64 {
	return left(u.machine.Cells[i].Hugepages[size].Count, u.words[u.machine.layout.cells[i].pages+size])
}

// FreeThreads is the set of a cell's threads that nobody holds exclusively, by the
// cell's index. It is a copy.
func (u *Usage) FreeThreads(i int) CPUSet {
	free := u.machine.Cells[i].Schedulable.Clone()
	for w := range free.words {
		free.words[w] &= u.words[w]
	}
	return free
}

// FreeDevice is the thousandths left of a device, by its index; 0 when it is unhealthy.
func (u *Usage) FreeDevice(i int) uint32 {
	if !u.machine.Devices[i].Healthy {
		return 0
	}
	return uint32(left(WholeDevice, uint64(u.devices[i])))
}

// FreeDevices is how many devices of a kind (see Machine.Kind) are wholly free in a
// cell; cell -1: of those whose cell is not known.
func (u *Usage) FreeDevices(kind, cell int) int {
	return int(u.devices[u.machine.classOf(kind, cell)])
}

// LargestShare is the most thousandths that are left of one device of a kind that can be
// shared, on the whole node.
func (u *Usage) LargestShare(kind int) (most uint32) {
	for i := range u.machine.Devices {
		if d := &u.machine.Devices[i]; d.kind == kind && d.Shareable {
			most = max(most, u.FreeDevice(i))
		}
	}
	return most
}

// FreeDisk is the MiB of disk left.
func (u *Usage) FreeDisk() uint64 { return left(u.machine.DiskMiB, u.diskMiB) }

// PortFree says whether a port can be granted.
func (u *Usage) PortFree(port uint16) bool {
	return port != 0 && !u.ports.Contains(port) && !u.machine.Reserved.Contains(port)
}

// NextPort is the lowest free port of the machine's dynamic range from first on; 0: none.
func (u *Usage) NextPort(first uint16) uint16 {
	if u.machine.MaxPort == 0 || first > u.machine.MaxPort {
		return 0
	}
	return u.ports.NextFree(&u.machine.Reserved, max(first, u.machine.MinPort), u.machine.MaxPort)
}

// left is what remains of a capacity; 0 when more is used than there is.
func left(capacity, used uint64) uint64 {
	return capacity - min(used, capacity)
}
