package topology

import (
	"fmt"
	"slices"
)

// Bounds of what a machine may have. Inventories beyond them are refused.
const (
	MaxCells   = 64
	MaxDevices = 4096
	MaxKinds   = 64 // of devices
)

// WholeDevice is a whole device in thousandths.
const WholeDevice = 1000

// Machine is what a node has. It is made by NewMachine and never changes: every Usage of
// the same node shares it.
type Machine struct {
	Cells   []Cell
	Devices []Device
	DiskMiB uint64
	// MinPort and MaxPort bound the dynamic ports, inclusive; 0, 0: there are none.
	MinPort, MaxPort uint16
	// Reserved ports are never granted.
	Reserved PortSet
	// Kinds of its devices, each once; NewMachine finds them.
	Kinds []string
	// Sets of devices that are worth more together; NewMachine finds them. At most 256
	// of one kind are linked sets.
	Sets []Together
	// Mixed says that not all whole cores have the same number of threads; NewMachine
	// finds out.
	Mixed bool
	// Paged says that some cell has hugepages; NewMachine finds out.
	Paged bool

	deviceByID map[string]int
	layout     layout
}

// Cell is one NUMA node. NewMachine fills in Schedulable and Whole.
type Cell struct {
	// ID is the kernel's number; ids may have gaps.
	ID     uint32
	Socket uint32
	// Cores by their lowest thread, ascending. A cell may have none.
	Cores []Core
	// ReservedCPUs are never granted.
	ReservedCPUs CPUSet
	// MemoryMiB is what can be granted: without what is reserved and without hugepages.
	MemoryMiB uint64
	// Hugepages that exist, one entry a size, ascending.
	Hugepages []Hugepages
	// Distances to every cell, in the order of Machine.Cells; empty: not known.
	Distances []uint32

	// Schedulable are the threads that can be granted.
	Schedulable CPUSet
	// Threads is how many those are; the cell's CPU capacity is 1000 milli each.
	Threads int
	// WholeCores is how many cores have no reserved thread.
	WholeCores int
	// CoreThreads and MostCoreThreads are the numbers of threads of the smallest and the
	// largest whole core; 0: there is none.
	CoreThreads, MostCoreThreads int
	// Mixed says that whole cores differ in their number of threads.
	Mixed bool
}

// Core is one physical core: its online threads.
type Core struct {
	Threads CPUSet
	// Count is the number of threads.
	Count int
	// Whole says that none of them is reserved, so the core can be granted as one.
	Whole bool

	cpus []uint16 // the threads again
}

// Hugepages is a number of pages of one size.
type Hugepages struct {
	SizeKiB uint64
	Count   uint64
}

// Device is something that is granted by its id.
type Device struct {
	ID, Kind, Model, Vendor string
	// Cell is the index in Machine.Cells; -1: not known.
	Cell       int
	PCIRoot    string
	MemoryMiB  uint64
	Healthy    bool
	Attributes map[string]string
	// Shareable says that it may be divided in thousandths.
	Shareable bool
	// Links to other devices of the machine.
	Links []Link

	kind             int     // index in Machine.Kinds
	twin, strictTwin int32   // see Machine.Twin
	lanes            []uint8 // by the other device's index, as far as there are links
}

// KindIndex is the place of the device's kind in Machine.Kinds.
func (d *Device) KindIndex() int { return d.kind }

// NewMachine checks what a machine is made of and derives what placement needs. Cells
// and Devices become the machine's own.
func NewMachine(m Machine) (*Machine, error) {
	if len(m.Cells) > MaxCells {
		return nil, fmt.Errorf("%d cells are more than %d", len(m.Cells), MaxCells)
	}
	if len(m.Devices) > MaxDevices {
		return nil, fmt.Errorf("%d devices are more than %d", len(m.Devices), MaxDevices)
	}
	if m.MinPort > m.MaxPort {
		return nil, fmt.Errorf("dynamic ports %d-%d run backwards", m.MinPort, m.MaxPort)
	}
	var seen CPUSet
	for i := range m.Cells {
		if i > 0 && m.Cells[i].ID <= m.Cells[i-1].ID {
			return nil, fmt.Errorf("cell %d follows cell %d: cells must ascend", m.Cells[i].ID, m.Cells[i-1].ID)
		}
		if err := m.Cells[i].derive(&seen, len(m.Cells)); err != nil {
			return nil, fmt.Errorf("cell %d: %w", m.Cells[i].ID, err)
		}
	}
	m.Mixed, m.Paged = mixed(m.Cells), false
	for i := range m.Cells {
		m.Paged = m.Paged || len(m.Cells[i].Hugepages) > 0
	}
	m.deviceByID = make(map[string]int, len(m.Devices))
	m.Kinds = nil
	for i, d := range m.Devices {
		if d.ID == "" || d.Kind == "" {
			return nil, fmt.Errorf("device %d has no id or no kind", i)
		}
		if _, twice := m.deviceByID[d.ID]; twice {
			return nil, fmt.Errorf("device %q is there twice", d.ID)
		}
		if d.Cell >= len(m.Cells) || d.Cell < -1 {
			return nil, fmt.Errorf("device %q is on a cell that is not there", d.ID)
		}
		m.deviceByID[d.ID] = i
		m.addKind(&m.Devices[i])
	}
	if len(m.Kinds) > MaxKinds {
		return nil, fmt.Errorf("%d kinds of devices are more than %d", len(m.Kinds), MaxKinds)
	}
	m.link()
	m.layout.derive(&m)
	return &m, nil
}

func (m *Machine) addKind(d *Device) {
	if d.kind = m.Kind(d.Kind); d.kind < 0 {
		d.kind = len(m.Kinds)
		m.Kinds = append(m.Kinds, d.Kind)
	}
}

// Kind is the place of a kind of device in Kinds; -1: the machine has none.
func (m *Machine) Kind(name string) int { return slices.Index(m.Kinds, name) }

func mixed(cells []Cell) bool {
	count := 0
	for i := range cells {
		for k := range cells[i].Cores {
			core := &cells[i].Cores[k]
			if core.Whole && count != 0 && core.Count != count {
				return true
			}
			if core.Whole {
				count = core.Count
			}
		}
	}
	return false
}

// derive fills in what follows from the cell's cores; seen are the CPUs of the cells
// and cores before.
func (c *Cell) derive(seen *CPUSet, cells int) error {
	if len(c.Distances) != 0 && len(c.Distances) != cells {
		return fmt.Errorf("%d distances for %d cells", len(c.Distances), cells)
	}
	c.Schedulable, c.WholeCores, c.CoreThreads, c.MostCoreThreads, c.Mixed = CPUSet{}, 0, 0, 0, false
	for i := range c.Cores {
		core := &c.Cores[i]
		if core.Threads.Empty() {
			return fmt.Errorf("core %d has no thread", i)
		}
		if i > 0 && core.Threads.First() < c.Cores[i-1].Threads.First() {
			return fmt.Errorf("core %d is out of order", i)
		}
		if core.Threads.Overlaps(*seen) {
			return fmt.Errorf("CPU %d is there twice", core.Threads.Intersect(*seen).First())
		}
		seen.AddAll(core.Threads)
		core.Count = core.Threads.Count()
		core.Whole = !core.Threads.Overlaps(c.ReservedCPUs)
		if core.Whole {
			c.Mixed = c.Mixed || c.WholeCores > 0 && core.Count != c.CoreThreads
			if c.WholeCores == 0 || core.Count < c.CoreThreads {
				c.CoreThreads = core.Count
			}
			c.MostCoreThreads = max(c.MostCoreThreads, core.Count)
			c.WholeCores++
		}
		c.Schedulable.AddAll(core.Threads)
	}
	c.Schedulable.RemoveAll(c.ReservedCPUs)
	c.Threads = c.Schedulable.Count()
	for i := range c.Hugepages {
		if i > 0 && c.Hugepages[i].SizeKiB <= c.Hugepages[i-1].SizeKiB {
			return fmt.Errorf("hugepage sizes must ascend")
		}
	}
	return nil
}

// CellIndex is the place of the cell with that id in Cells; -1: there is none.
func (m *Machine) CellIndex(id uint32) int {
	if int(id) < len(m.Cells) && m.Cells[id].ID == id {
		return int(id)
	}
	for i := range m.Cells {
		if m.Cells[i].ID == id {
			return i
		}
	}
	return -1
}

// DeviceIndex is the place of the device with that id in Devices; -1: there is none.
func (m *Machine) DeviceIndex(id string) int {
	if i, ok := m.deviceByID[id]; ok {
		return i
	}
	return -1
}

// deviceOf is DeviceIndex for a grant: at once where the grant knows it.
func (m *Machine) deviceOf(g *DeviceGrant) int {
	if i := int(g.index); i < len(m.Devices) && m.Devices[i].ID == g.ID {
		return i
	}
	return m.DeviceIndex(g.ID)
}

// HugepageIndex is the place of the size in the cell's Hugepages; -1: there is none.
func (c *Cell) HugepageIndex(sizeKiB uint64) int {
	for i := range c.Hugepages {
		if c.Hugepages[i].SizeKiB == sizeKiB {
			return i
		}
	}
	return -1
}

// Distance between two cells by their index, as ACPI's SLIT has it: 10 is local. Not
// known: 10 to itself, 20 to another.
func (m *Machine) Distance(a, b int) uint32 {
	if d := m.Cells[a].Distances; b < len(d) {
		return d[b]
	}
	if a == b {
		return 10
	}
	return 20
}
