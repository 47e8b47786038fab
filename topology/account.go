package topology

import (
	"math/bits"
	"strconv"
)

// Add grants g: all of it, or, with a *Shortfall that names the first thing that is
// missing, nothing.
func (u *Usage) Add(g *Grant) error {
	if s := u.add(g); s != nil {
		return s
	}
	return nil
}

func (u *Usage) add(g *Grant) *Shortfall {
	if s := u.closed(g); s != nil {
		return s
	}
	if free := u.FreeDisk(); g.DiskMiB > free {
		return &Shortfall{Resource: Disk, Cell: NodeWide, Wanted: g.DiskMiB, Free: free}
	}
	for i := range g.Cells {
		if s := u.addCell(&g.Cells[i]); s != nil {
			u.give(g, i, 0, 0)
			return s
		}
	}
	for i := range g.Devices {
		if s := u.addDevice(&g.Devices[i]); s != nil {
			u.give(g, len(g.Cells), i, 0)
			return s
		}
	}
	for i, p := range g.Ports {
		if !u.PortFree(p) {
			u.give(g, len(g.Cells), len(g.Devices), i)
			return &Shortfall{Resource: Port, Cell: NodeWide, What: strconv.Itoa(int(p)), Wanted: 1}
		}
		u.ports.Add(p)
	}
	u.diskMiB += g.DiskMiB
	u.count(g)
	return nil
}

func (u *Usage) count(g *Grant) {
	u.grants++
	if g.WholeNode {
		u.whole++
	}
}

// closed says why nothing can be added, whatever it is.
func (u *Usage) closed(g *Grant) *Shortfall {
	switch {
	case u.stray > 0:
		return &Shortfall{Resource: CellGone, Cell: NodeWide,
			What: "of earlier grants is no longer on the node; until those have ended nothing more"}
	case u.whole > 0:
		return &Shortfall{Resource: Node, Cell: NodeWide, Wanted: 1, What: "(held as a whole)"}
	case g.WholeNode && u.grants > 0:
		return &Shortfall{Resource: Node, Cell: NodeWide, Wanted: 1, What: "(as a whole)"}
	}
	return nil
}

func (u *Usage) addCell(g *CellGrant) *Shortfall {
	i := u.machine.CellIndex(g.Cell)
	if i < 0 {
		return &Shortfall{Resource: CellGone, Cell: int(g.Cell)}
	}
	cell, c := &u.machine.Cells[i], &u.cells[i]
	threads := 0
	for w, bitmap := range g.CPUs.words {
		if bitmap != 0 && bitmap&^(cell.Schedulable.word(w)&u.freeWord(w)) != 0 {
			return u.missingCPU(i, g)
		}
		threads += bits.OnesCount64(bitmap)
	}
	wanted := uint64(threads)*1000 + uint64(g.CPUMilli)
	if free := u.FreeMilli(i); wanted > free {
		return &Shortfall{Resource: CPU, Cell: int(g.Cell), Wanted: wanted, Free: free}
	}
	if free := u.FreeMemory(i); g.MemoryMiB > free {
		return &Shortfall{Resource: Memory, Cell: int(g.Cell), Wanted: g.MemoryMiB, Free: free}
	}
	for k, h := range g.Hugepages {
		free, size := uint64(0), cell.HugepageIndex(h.SizeKiB)
		if size >= 0 {
			free = u.FreeHugepages(i, size)
		}
		if h.Count > free {
			u.giveHugepages(i, g.Hugepages[:k])
			return &Shortfall{Resource: HugePages, Cell: int(g.Cell), Wanted: h.Count, Free: free,
				What: "of " + strconv.FormatUint(h.SizeKiB, 10) + " KiB"}
		}
		u.takeHugepages(i, g.Hugepages[k:k+1])
	}
	if threads > 0 {
		u.takeCPUs(i, &g.CPUs)
	}
	c.milli += wanted
	c.memory += g.MemoryMiB
	return nil
}

func (u *Usage) freeWord(w int) uint64 {
	if w < u.machine.layout.cpuWords {
		return u.words[w]
	}
	return 0
}

// missingCPU names the first exclusive thread that cannot be granted.
func (u *Usage) missingCPU(i int, g *CellGrant) *Shortfall {
	cell := &u.machine.Cells[i]
	for cpu := range g.CPUs.All() {
		s := &Shortfall{Resource: Cores, Cell: int(g.Cell), What: "(CPU " + strconv.Itoa(cpu) + ")"}
		if !cell.Schedulable.Contains(cpu) {
			return s
		}
		if u.freeWord(cpu>>6)&(1<<(cpu&63)) == 0 {
			s.Wanted = 1
			return s
		}
	}
	return nil
}

// takeHugepages counts pages as granted; sizes that the cell does not have are let go of.
func (u *Usage) takeHugepages(cell int, pages []Hugepages) {
	for _, h := range pages {
		if size := u.machine.Cells[cell].HugepageIndex(h.SizeKiB); size >= 0 {
			u.words[u.machine.layout.cells[cell].pages+size] += h.Count
			u.cells[cell].things += h.Count
		}
	}
}

func (u *Usage) giveHugepages(cell int, pages []Hugepages) {
	for _, h := range pages {
		if size := u.machine.Cells[cell].HugepageIndex(h.SizeKiB); size >= 0 {
			used := &u.words[u.machine.layout.cells[cell].pages+size]
			*used = left(*used, h.Count)
			u.cells[cell].things = left(u.cells[cell].things, h.Count)
		}
	}
}

func (u *Usage) addDevice(g *DeviceGrant) *Shortfall {
	i := u.machine.deviceOf(g)
	if i < 0 {
		return &Shortfall{Resource: DeviceID, Cell: NodeWide, What: g.ID}
	}
	d := &u.machine.Devices[i]
	free := u.FreeDevice(i)
	if g.ShareMilli == 0 || g.ShareMilli > free || (g.ShareMilli != WholeDevice && !d.Shareable) {
		return &Shortfall{Resource: d.Kind, Cell: NodeWide, What: g.ID, Wanted: uint64(g.ShareMilli), Free: uint64(free)}
	}
	u.takeDevice(i, g.ShareMilli)
	return nil
}

// takeDevice counts a share of a device as granted.
func (u *Usage) takeDevice(i int, share uint32) {
	d := &u.machine.Devices[i]
	if u.devices[i] == 0 && d.Healthy && share > 0 {
		u.devices[u.machine.classOf(d.kind, d.Cell)]--
	}
	u.devices[i] = uint16(min(uint32(u.devices[i])+min(share, WholeDevice), 1<<16-1))
	if d.Cell >= 0 {
		u.cells[d.Cell].things++
	}
}

func (u *Usage) giveDevice(i int, share uint32) {
	d := &u.machine.Devices[i]
	was := u.devices[i]
	u.devices[i] = uint16(left(uint64(was), uint64(min(share, WholeDevice))))
	if was > 0 && u.devices[i] == 0 && d.Healthy {
		u.devices[u.machine.classOf(d.kind, d.Cell)]++
	}
	if d.Cell >= 0 {
		u.cells[d.Cell].things = left(u.cells[d.Cell].things, 1)
	}
}

// Force accounts for a grant that exists already, without refusing it: for a machine
// whose inventory has changed under its allocations. What is over-committed by it has
// nothing free until it drains. What was granted of things that are gone is let go of.
func (u *Usage) Force(g *Grant) {
	for k := range g.Cells {
		cg := &g.Cells[k]
		i := u.machine.CellIndex(cg.Cell)
		if i < 0 {
			u.stray++
			continue
		}
		c := &u.cells[i]
		if len(cg.CPUs.words) > 0 {
			u.forceCPUs(i, &cg.CPUs)
			c.milli += 1000 * uint64(cg.CPUs.Count())
		}
		c.milli += uint64(cg.CPUMilli)
		c.memory += cg.MemoryMiB
		u.takeHugepages(i, cg.Hugepages)
	}
	for k := range g.Devices {
		if i := u.machine.deviceOf(&g.Devices[k]); i >= 0 {
			u.takeDevice(i, g.Devices[k].ShareMilli)
		}
	}
	for _, p := range g.Ports {
		u.forcePort(p)
	}
	u.diskMiB += g.DiskMiB
	u.count(g)
}

// Remove gives back what Add or Force has taken for the same grant.
func (u *Usage) Remove(g *Grant) {
	u.give(g, len(g.Cells), len(g.Devices), len(g.Ports))
	u.diskMiB = left(u.diskMiB, g.DiskMiB)
	u.grants = uint32(left(uint64(u.grants), 1))
	if g.WholeNode {
		u.whole = uint32(left(uint64(u.whole), 1))
	}
}

// give takes the first cells, devices and ports of g back.
func (u *Usage) give(g *Grant, cells, devices, ports int) {
	for k := range g.Cells[:cells] {
		cg := &g.Cells[k]
		i := u.machine.CellIndex(cg.Cell)
		if i < 0 {
			u.stray = uint32(left(uint64(u.stray), 1))
			continue
		}
		c := &u.cells[i]
		milli := uint64(cg.CPUMilli)
		if len(cg.CPUs.words) > 0 {
			milli += 1000 * uint64(u.giveCPUs(i, &cg.CPUs))
		}
		c.milli = left(c.milli, milli)
		c.memory = left(c.memory, cg.MemoryMiB)
		u.giveHugepages(i, cg.Hugepages)
	}
	for k := range g.Devices[:devices] {
		if i := u.machine.deviceOf(&g.Devices[k]); i >= 0 {
			u.giveDevice(i, g.Devices[k].ShareMilli)
		}
	}
	for _, p := range g.Ports[:ports] {
		u.givePort(p)
	}
}
