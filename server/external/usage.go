package external

import (
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
	"github.com/berthd/berth/topology"
)

// Usage is a node and what the allocations on it leave free. Of a node whose inventory
// makes no sense nothing is free.
func Usage(node *berthv1.Node, held []*berthv1.Alloc) *berthv1.NodeUsage {
	out := &berthv1.NodeUsage{Node: node}
	m, err := scheduler.MachineOf(node)
	if err != nil {
		return out
	}
	u := topology.NewUsage(m)
	exclusive := make([]topology.CPUSet, len(m.Cells))
	for _, a := range held {
		grant, err := scheduler.GrantOf(a.GetAssignment())
		if err != nil {
			continue // the FSM lets none in
		}
		u.Force(&grant)
		for i := range grant.Cells {
			if at := m.CellIndex(grant.Cells[i].Cell); at >= 0 {
				exclusive[at].AddAll(grant.Cells[i].CPUs)
			}
		}
		for _, p := range grant.Ports {
			out.Ports = append(out.Ports, uint32(p))
		}
	}
	slices.Sort(out.Ports)
	if u.Stray() || u.Whole() {
		return out // nothing more can be had
	}
	out.DiskMib = u.FreeDisk()
	for i := range m.Cells {
		out.Cells = append(out.Cells, cellFree(u, i, exclusive[i]))
	}
	for i := range m.Devices {
		if free := u.FreeDevice(i); free > 0 {
			out.Devices = append(out.Devices, &berthv1.DeviceFree{Id: m.Devices[i].ID, ShareMilli: free})
		}
	}
	return out
}

func cellFree(u *topology.Usage, i int, exclusive topology.CPUSet) *berthv1.CellFree {
	cell := &u.Machine().Cells[i]
	free := &berthv1.CellFree{Cell: cell.ID, Cpus: cell.Schedulable.Minus(exclusive).String(), CpuMilli: u.FreeMilli(i), MemoryMib: u.FreeMemory(i)}
	for size := range cell.Hugepages {
		if n := u.FreeHugepages(i, size); n > 0 {
			free.Hugepages = append(free.Hugepages, &berthv1.Hugepages{SizeKib: cell.Hugepages[size].SizeKiB, Count: n})
		}
	}
	return free
}
