package topology

// Usage is what is granted on one machine. Add refuses what is held already, so the sum
// of the grants never exceeds the machine; only Force, for a machine that shrank under
// its grants, can go beyond. It is not safe for concurrent use.
type Usage struct {
	machine *Machine
	cells   []CellUsage
	// devices has the thousandths granted, by the device's index.
	devices []uint16
	ports   PortSet
	diskMiB uint64
	// stray counts the cell grants on cells that the machine no longer has. Nobody
	// knows what they weigh on now, so nothing is added until they are gone.
	stray int
}

// CellUsage is what is granted of one cell.
type CellUsage struct {
	// Exclusive threads, and how many those are.
	Exclusive CPUSet
	Threads   int
	// SharedMilli is shared CPU.
	SharedMilli uint64
	MemoryMiB   uint64
	// Hugepages in pages, by the index of the size in Cell.Hugepages.
	Hugepages []uint64
}

// NewUsage gives the usage of a machine on which nothing is granted.
func NewUsage(m *Machine) *Usage {
	u := &Usage{machine: m, cells: make([]CellUsage, len(m.Cells))}
	for i := range m.Cells {
		if n := len(m.Cells[i].Hugepages); n > 0 {
			u.cells[i].Hugepages = make([]uint64, n)
		}
	}
	if n := len(m.Devices); n > 0 {
		u.devices = make([]uint16, n)
	}
	return u
}

// Machine is what the usage is of.
func (u *Usage) Machine() *Machine { return u.machine }

// Cell is what is granted of a cell, by its index; to be read only.
func (u *Usage) Cell(i int) *CellUsage { return &u.cells[i] }

// Stray says that grants weigh on cells that are no longer there: nothing more fits.
func (u *Usage) Stray() bool { return u.stray > 0 }

// FreeMilli is the CPU left in a cell, by its index.
func (u *Usage) FreeMilli(i int) uint64 {
	c := &u.cells[i]
	return left(uint64(u.machine.Cells[i].Threads)*1000, uint64(c.Threads)*1000+c.SharedMilli)
}

// FreeMemory is the MiB left in a cell, by its index.
func (u *Usage) FreeMemory(i int) uint64 {
	return left(u.machine.Cells[i].MemoryMiB, u.cells[i].MemoryMiB)
}

// FreeHugepages is the pages left of one size in a cell, by their indexes.
func (u *Usage) FreeHugepages(i, size int) uint64 {
	return left(u.machine.Cells[i].Hugepages[size].Count, u.cells[i].Hugepages[size])
}

// FreeDevice is the thousandths left of a device, by its index; 0 when it is unhealthy.
func (u *Usage) FreeDevice(i int) uint32 {
	if !u.machine.Devices[i].Healthy {
		return 0
	}
	return uint32(left(WholeDevice, uint64(u.devices[i])))
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
	return u.ports.NextFree(&u.machine.Reserved, max(first, u.machine.MinPort, 1), u.machine.MaxPort)
}

// left is what remains of a capacity; 0 when more is used than there is.
func left(capacity, used uint64) uint64 {
	if used >= capacity {
		return 0
	}
	return capacity - used
}
