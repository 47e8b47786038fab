package scheduler

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// Bounds of what one assignment may name.
const (
	maxMilli  = topology.MaxCPU * 1000
	maxMemory = 1 << 40 // MiB
	maxPages  = 1 << 40
)

// GrantOf gives an assignment as a grant that shares no memory with it. An error names
// the part of the assignment that makes no sense.
func GrantOf(a *berthv1.Assignment) (topology.Grant, error) {
	var g topology.Grant
	err := GrantInto(&g, a)
	return g, err
}

// GrantInto is GrantOf into a grant whose memory is used again: with one grant kept
// for the purpose, shared CPU, memory and ports cost no allocation.
func GrantInto(g *topology.Grant, a *berthv1.Assignment) error {
	g.Reset()
	g.WholeNode = a.GetWholeNode()
	if g.DiskMiB = a.GetDiskMib(); g.DiskMiB > maxMemory {
		return invalid("disk_mib", "%d MiB is too much", g.DiskMiB)
	}
	for _, task := range a.GetTasks() {
		for _, c := range task.GetCells() {
			if err := cellInto(g, c); err != nil {
				return fmt.Errorf("task %q: cell %d: %w", task.GetTask(), c.GetCell(), err)
			}
		}
		for _, d := range task.GetDevices() {
			if d.GetShareMilli() == 0 || d.GetShareMilli() > topology.WholeDevice {
				return invalid("devices", "task %q: device %q: a share of %d is not from 1 to %d",
					task.GetTask(), d.GetId(), d.GetShareMilli(), topology.WholeDevice)
			}
			g.Devices = append(g.Devices, topology.DeviceGrant{ID: d.GetId(), ShareMilli: d.GetShareMilli()})
		}
	}
	for _, p := range a.GetPorts() {
		if p.GetPort() == 0 || p.GetPort() > 65535 {
			return invalid("ports", "port %q: %d is not a port", p.GetName(), p.GetPort())
		}
		g.Ports = append(g.Ports, uint16(p.GetPort()))
	}
	return nil
}

func cellInto(g *topology.Grant, c *berthv1.CellGrant) error {
	cell := g.NextCell(c.GetCell())
	if c.GetCpus() != "" {
		if err := cell.CPUs.Parse(c.GetCpus()); err != nil {
			return problem.New(problem.Invalid, "cpus", "%w", err)
		}
	}
	if c.GetCpuMilli() > maxMilli || c.GetMemoryMib() > maxMemory {
		return invalid("cells", "%d milli and %d MiB are too much", c.GetCpuMilli(), c.GetMemoryMib())
	}
	cell.CPUMilli, cell.MemoryMiB = c.GetCpuMilli(), c.GetMemoryMib()
	for _, h := range c.GetHugepages() {
		if h.GetCount() > maxPages {
			return invalid("hugepages", "%d pages are too many", h.GetCount())
		}
		cell.Hugepages = append(cell.Hugepages, topology.Hugepages{SizeKiB: h.GetSizeKib(), Count: h.GetCount()})
	}
	return nil
}

// MachineOf gives what a node reports of itself as a machine. An error names the part of
// the inventory that makes no sense.
func MachineOf(n *berthv1.Node) (*topology.Machine, error) {
	hw := n.GetHardware()
	m := topology.Machine{DiskMiB: hw.GetDiskMib()}
	if n.GetMinPort() > 65535 || n.GetMaxPort() > 65535 || m.DiskMiB > maxMemory {
		return nil, invalid("node "+n.GetName(), "ports %d-%d or %d MiB of disk are out of bounds", n.GetMinPort(), n.GetMaxPort(), m.DiskMiB)
	}
	m.MinPort, m.MaxPort = uint16(n.GetMinPort()), uint16(n.GetMaxPort())
	for _, p := range n.GetReservedPorts() {
		if p <= 65535 {
			m.Reserved.Add(uint16(p))
		}
	}
	cells := slices.SortedFunc(slices.Values(hw.GetCells()), func(a, b *berthv1.Cell) int { return cmp.Compare(a.GetId(), b.GetId()) })
	for _, c := range cells {
		cell, err := cellOf(c)
		if err != nil {
			return nil, invalid("node "+n.GetName(), "cell %d: %w", c.GetId(), err)
		}
		m.Cells = append(m.Cells, cell)
	}
	for _, d := range hw.GetDevices() {
		m.Devices = append(m.Devices, deviceOf(d, cells))
	}
	machine, err := topology.NewMachine(m)
	if err != nil {
		return nil, invalid("node "+n.GetName(), "hardware: %w", err)
	}
	return machine, nil
}

func cellOf(c *berthv1.Cell) (topology.Cell, error) {
	cell := topology.Cell{ID: c.GetId(), Socket: c.GetSocket(), Distances: c.GetDistances()}
	if c.GetMemoryMib() > maxMemory {
		return cell, fmt.Errorf("%d MiB of memory are too much", c.GetMemoryMib())
	}
	if c.GetMemoryMib() > c.GetReservedMemoryMib() {
		cell.MemoryMiB = c.GetMemoryMib() - c.GetReservedMemoryMib()
	}
	var err error
	if cell.ReservedCPUs, err = topology.ParseCPUSet(c.GetReservedCpus()); err != nil {
		return cell, fmt.Errorf("reserved_cpus: %w", err)
	}
	for _, list := range c.GetCores() {
		threads, err := topology.ParseCPUSet(list)
		if err != nil {
			return cell, fmt.Errorf("cores: %w", err)
		}
		if !threads.Empty() { // a core with all its threads offline
			cell.Cores = append(cell.Cores, topology.Core{Threads: threads})
		}
	}
	slices.SortFunc(cell.Cores, func(a, b topology.Core) int { return cmp.Compare(a.Threads.First(), b.Threads.First()) })
	for _, h := range c.GetHugepages() {
		if h.GetCount() > maxPages {
			return cell, fmt.Errorf("%d hugepages are too many", h.GetCount())
		}
		cell.Hugepages = append(cell.Hugepages, topology.Hugepages{SizeKiB: h.GetSizeKib(), Count: h.GetCount()})
	}
	slices.SortFunc(cell.Hugepages, func(a, b topology.Hugepages) int { return cmp.Compare(a.SizeKiB, b.SizeKiB) })
	return cell, nil
}

// deviceOf gives a device; its cell becomes an index in the ascending cells, and a cell
// that is not there becomes one that is not known, or the only one that there is.
func deviceOf(d *berthv1.Device, cells []*berthv1.Cell) topology.Device {
	cell := slices.IndexFunc(cells, func(c *berthv1.Cell) bool { return int64(c.GetId()) == int64(d.GetCell()) })
	if len(cells) == 1 {
		cell = 0
	}
	out := topology.Device{
		ID: d.GetId(), Kind: d.GetKind(), Model: d.GetModel(), Vendor: d.GetVendor(),
		Cell: cell, PCIRoot: d.GetPciRoot(), MemoryMiB: d.GetMemoryMib(), Healthy: d.GetHealthy(),
		Attributes: d.GetAttributes(),
		Shareable:  d.GetShareableMilli() > 0 && d.GetShareableMilli() < topology.WholeDevice,
	}
	for _, l := range d.GetLinks() {
		out.Links = append(out.Links, topology.Link{Peer: l.GetPeer(), Type: l.GetType(), Lanes: l.GetLanes()})
	}
	return out
}

func invalid(field, format string, args ...any) error {
	return problem.New(problem.Invalid, field, format, args...)
}
