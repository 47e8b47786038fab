package whatif

import (
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
	"github.com/berthd/berth/scheduler/sim/draw"
	"github.com/berthd/berth/topology"
)

// Load is how full a fleet is. Nodes whose inventory makes no sense have nothing.
type Load struct {
	Nodes      int     `json:"nodes"`
	EmptyNodes int     `json:"empty_nodes"`
	Allocs     int     `json:"allocs"`
	Milli      uint64  `json:"cpu_milli"`
	MilliUsed  uint64  `json:"cpu_milli_used"`
	MemoryMiB  uint64  `json:"memory_mib"`
	MemoryUsed uint64  `json:"memory_mib_used"`
	Devices    int     `json:"devices"`
	DevicesUse float64 `json:"devices_used"`
}

func loadOf(nodes []*berthv1.Node, allocs []*berthv1.Alloc) Load {
	usage := map[string]*topology.Usage{}
	var machines scheduler.Machines // nodes that report the same share one
	var usages topology.Slab
	var l Load
	for _, n := range nodes {
		l.Nodes++
		machine, err := machines.Of(n)
		if err != nil {
			machine, _ = topology.NewMachine(topology.Machine{})
		}
		usage[n.GetId()] = usages.NewUsage(machine)
	}
	var grant topology.Grant
	for _, a := range allocs {
		if u := usage[a.GetNodeId()]; u != nil && a.HoldsGrant() && scheduler.GrantInto(&grant, a.GetAssignment()) == nil {
			u.Force(&grant)
			l.Allocs++
		}
	}
	for _, n := range nodes {
		u := usage[n.GetId()]
		if !u.Used() {
			l.EmptyNodes++
		}
		m := u.Machine()
		for i := range m.Cells {
			milli := uint64(m.Cells[i].Threads) * 1000
			l.Milli, l.MilliUsed = l.Milli+milli, l.MilliUsed+milli-min(u.FreeMilli(i), milli)
			l.MemoryMiB, l.MemoryUsed = l.MemoryMiB+m.Cells[i].MemoryMiB, l.MemoryUsed+m.Cells[i].MemoryMiB-u.FreeMemory(i)
		}
		for i := range m.Devices {
			if m.Devices[i].Healthy {
				l.Devices++
				l.DevicesUse += 1 - float64(u.FreeDevice(i))/topology.WholeDevice
			}
		}
	}
	return l
}

// Picture is the fleet as it would be: new nodes and instances are marked, and the nodes
// that are drained, which are shown empty of what moves away.
func (a *Answer) Picture(s *State, title string, byPriority bool) *draw.Fleet {
	f := &draw.Fleet{Title: title, ByPriority: byPriority}
	marks := map[string]draw.Mark{}
	for _, n := range a.Added {
		marks[n.GetId()] = draw.Added
	}
	for _, n := range a.Drained {
		marks[n.GetId()] = draw.Leaving
	}
	for _, n := range a.nodes {
		f.Nodes = append(f.Nodes, draw.Node{Node: n, Mark: marks[n.GetId()]})
	}
	priority := map[string]uint32{}
	for _, j := range s.Jobs {
		priority[j.GetNamespace()+"/"+j.GetName()] = j.GetPriority()
	}
	leaving := map[string]bool{}
	for _, u := range a.Unplaced {
		for _, w := range u.Ways {
			for _, v := range w.Victims {
				leaving[v.Alloc.GetId()] = true
			}
		}
	}
	first := len(a.allocs) - len(a.Placements)
	for i, alloc := range a.allocs {
		mark := draw.Unmarked
		switch {
		case i >= first:
			mark = draw.Added
		case leaving[alloc.GetId()]:
			mark = draw.Leaving
		}
		f.Allocs = append(f.Allocs, draw.Alloc{Alloc: alloc, Priority: priority[alloc.GetNamespace()+"/"+alloc.GetJob()], Mark: mark})
	}
	return f
}
