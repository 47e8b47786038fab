package topology

import "strconv"

// Add grants g: all of it, or, with a *Shortfall that names the first thing that is
// missing, nothing.
func (u *Usage) Add(g *Grant) error {
	if s := u.add(g); s != nil {
		return s
	}
	return nil
}

func (u *Usage) add(g *Grant) *Shortfall {
	if u.stray > 0 {
		return &Shortfall{Resource: CellGone, Cell: NodeWide,
			What: "of earlier grants is no longer on the node; until those have ended nothing more"}
	}
	if free := u.FreeDisk(); g.DiskMiB > free {
		return &Shortfall{Resource: Disk, Cell: NodeWide, Wanted: g.DiskMiB, Free: free}
	}
	for i := range g.Cells {
		if s := u.addCell(&g.Cells[i]); s != nil {
			u.undo(g, i, 0, 0)
			return s
		}
	}
	for i := range g.Devices {
		if s := u.addDevice(&g.Devices[i]); s != nil {
			u.undo(g, len(g.Cells), i, 0)
			return s
		}
	}
	for i, p := range g.Ports {
		if !u.PortFree(p) {
			u.undo(g, len(g.Cells), len(g.Devices), i)
			return &Shortfall{Resource: Port, Cell: NodeWide, What: strconv.Itoa(int(p)), Wanted: 1}
		}
		u.ports.Add(p)
	}
	u.diskMiB += g.DiskMiB
	return nil
}

// undo takes the first cells, devices and ports of g back.
func (u *Usage) undo(g *Grant, cells, devices, ports int) {
	u.Remove(&Grant{Cells: g.Cells[:cells], Devices: g.Devices[:devices], Ports: g.Ports[:ports]})
}

func (u *Usage) addCell(g *CellGrant) *Shortfall {
	i := u.machine.CellIndex(g.Cell)
	if i < 0 {
		return &Shortfall{Resource: CellGone, Cell: int(g.Cell)}
	}
	cell, c := &u.machine.Cells[i], &u.cells[i]
	threads := 0
	if len(g.CPUs.words) > 0 {
		if s := exclusiveFree(cell, c, g); s != nil {
			return s
		}
		threads = g.CPUs.Count()
	}
	if wanted, free := uint64(threads)*1000+uint64(g.CPUMilli), u.FreeMilli(i); wanted > free {
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
			u.addHugepages(i, g.Hugepages[:k], false)
			return &Shortfall{Resource: HugePages, Cell: int(g.Cell), Wanted: h.Count, Free: free,
				What: "of " + strconv.FormatUint(h.SizeKiB, 10) + " KiB"}
		}
		u.addHugepages(i, g.Hugepages[k:k+1], true)
	}
	c.addCPUs(g, threads)
	c.SharedMilli += uint64(g.CPUMilli)
	c.MemoryMiB += g.MemoryMiB
	return nil
}

// exclusiveFree checks that each exclusive thread can be granted.
func exclusiveFree(cell *Cell, c *CellUsage, g *CellGrant) *Shortfall {
	for cpu := range g.CPUs.All() {
		if !cell.Schedulable.Contains(cpu) {
			return &Shortfall{Resource: Cores, Cell: int(g.Cell), What: "(CPU " + strconv.Itoa(cpu) + ")"}
		}
		if c.Exclusive.Contains(cpu) {
			return &Shortfall{Resource: Cores, Cell: int(g.Cell), What: "(CPU " + strconv.Itoa(cpu) + ")", Wanted: 1}
		}
	}
	return nil
}

func (c *CellUsage) addCPUs(g *CellGrant, threads int) {
	if threads > 0 {
		c.Exclusive.AddAll(g.CPUs)
		c.Threads += threads
	}
}

func (u *Usage) addHugepages(cell int, pages []Hugepages, add bool) {
	for _, h := range pages {
		size := u.machine.Cells[cell].HugepageIndex(h.SizeKiB)
		if size < 0 {
			continue
		}
		used := &u.cells[cell].Hugepages[size]
		if add {
			*used += h.Count
		} else {
			*used = left(*used, h.Count)
		}
	}
}

func (u *Usage) addDevice(g *DeviceGrant) *Shortfall {
	i := u.machine.DeviceIndex(g.ID)
	if i < 0 {
		return &Shortfall{Resource: DeviceID, Cell: NodeWide, What: g.ID}
	}
	d := &u.machine.Devices[i]
	free := u.FreeDevice(i)
	if g.ShareMilli == 0 || g.ShareMilli > free || (g.ShareMilli != WholeDevice && !d.Shareable) {
		return &Shortfall{Resource: d.Kind, Cell: NodeWide, What: g.ID, Wanted: uint64(g.ShareMilli), Free: uint64(free)}
	}
	u.devices[i] += uint16(g.ShareMilli)
	return nil
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
			c.addCPUs(cg, cg.CPUs.Count()-cg.CPUs.CountCommon(c.Exclusive))
		}
		c.SharedMilli += uint64(cg.CPUMilli)
		c.MemoryMiB += cg.MemoryMiB
		u.addHugepages(i, cg.Hugepages, true)
	}
	for _, d := range g.Devices {
		if i := u.machine.DeviceIndex(d.ID); i >= 0 {
			u.devices[i] += uint16(min(d.ShareMilli, WholeDevice))
		}
	}
	for _, p := range g.Ports {
		u.ports.Add(p)
	}
	u.diskMiB += g.DiskMiB
}

// Remove gives back what Add or Force has taken for the same grant.
func (u *Usage) Remove(g *Grant) {
	for k := range g.Cells {
		cg := &g.Cells[k]
		i := u.machine.CellIndex(cg.Cell)
		if i < 0 {
			u.stray = max(u.stray-1, 0)
			continue
		}
		c := &u.cells[i]
		if len(cg.CPUs.words) > 0 {
			c.Threads -= cg.CPUs.CountCommon(c.Exclusive)
			c.Exclusive.RemoveAll(cg.CPUs)
		}
		c.SharedMilli = left(c.SharedMilli, uint64(cg.CPUMilli))
		c.MemoryMiB = left(c.MemoryMiB, cg.MemoryMiB)
		u.addHugepages(i, cg.Hugepages, false)
	}
	for _, d := range g.Devices {
		if i := u.machine.DeviceIndex(d.ID); i >= 0 {
			u.devices[i] = uint16(left(uint64(u.devices[i]), uint64(min(d.ShareMilli, WholeDevice))))
		}
	}
	for _, p := range g.Ports {
		u.ports.Remove(p)
	}
	u.diskMiB = left(u.diskMiB, g.DiskMiB)
}
