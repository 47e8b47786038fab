package topology

// Grant is what one allocation holds on its node. It is a plain value: the same Grant
// goes into Usage.Add and, when the allocation is over, into Usage.Remove. A cell may be
// there more than once (once for each task).
type Grant struct {
	Cells   []CellGrant
	Devices []DeviceGrant
	Ports   []uint16
	DiskMiB uint64
	// WholeNode: nothing else may be granted on the node.
	WholeNode bool
}

// CellGrant is what is held of one cell.
type CellGrant struct {
	// Cell is the kernel's number of the cell.
	Cell uint32
	// CPUs are exclusive.
	CPUs CPUSet
	// CPUMilli is shared.
	CPUMilli  uint32
	MemoryMiB uint64
	Hugepages []Hugepages
}

// DeviceGrant is one device, or a share of it.
type DeviceGrant struct {
	ID string
	// ShareMilli is in thousandths; WholeDevice: all of it.
	ShareMilli uint32

	index int32 // where the device probably is; any number will do
}

// Device gives a grant of a device of the machine, by its index.
func (m *Machine) Device(i int, shareMilli uint32) DeviceGrant {
	return DeviceGrant{ID: m.Devices[i].ID, ShareMilli: shareMilli, index: int32(i)}
}

// Reset empties the grant and keeps its memory for the next one.
func (g *Grant) Reset() {
	g.Cells, g.Devices, g.Ports, g.DiskMiB, g.WholeNode = g.Cells[:0], g.Devices[:0], g.Ports[:0], 0, false
}

// NextCell appends a cell to the grant, empty but with the memory that an earlier use
// of the grant left there.
func (g *Grant) NextCell(id uint32) *CellGrant {
	n := len(g.Cells)
	if n < cap(g.Cells) {
		g.Cells = g.Cells[:n+1]
	} else {
		g.Cells = append(g.Cells, CellGrant{})
	}
	c := &g.Cells[n]
	c.CPUs.Clear()
	c.Cell, c.CPUMilli, c.MemoryMiB, c.Hugepages = id, 0, 0, c.Hugepages[:0]
	return c
}

// Clone gives a grant that shares no memory with g.
func (g *Grant) Clone() Grant {
	c := Grant{
		Cells:   append([]CellGrant(nil), g.Cells...),
		Devices: append([]DeviceGrant(nil), g.Devices...),
		Ports:   append([]uint16(nil), g.Ports...),
		DiskMiB: g.DiskMiB, WholeNode: g.WholeNode,
	}
	for i := range c.Cells {
		c.Cells[i].CPUs = c.Cells[i].CPUs.Clone()
		c.Cells[i].Hugepages = append([]Hugepages(nil), c.Cells[i].Hugepages...)
	}
	return c
}
