package scheduler

import (
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// assignments makes the assignments of one ask. Instances that lie in the same cell of
// different nodes share the tasks' part, which never changes.
type assignments struct {
	g      *Group
	byCell map[int][]*berthv1.TaskGrant
	whole  map[int]*berthv1.Assignment
}

// of gives a choice as an assignment.
func (s *assignments) of(c *choice, n *fleetNode) *berthv1.Assignment {
	if c.cell < 0 {
		return &berthv1.Assignment{Tasks: s.exact(c), Ports: s.ports(c, n), DiskMib: s.g.diskMiB, WholeNode: s.g.wholeNode}
	}
	if len(s.g.ports) > 0 {
		return &berthv1.Assignment{Tasks: s.inCell(c.cell, n), Ports: s.ports(c, n), DiskMib: s.g.diskMiB, WholeNode: s.g.wholeNode}
	}
	id := int(n.usage.Machine().Cells[c.cell].ID)
	a := s.whole[id]
	if a == nil {
		if s.whole == nil {
			s.whole = map[int]*berthv1.Assignment{}
		}
		a = &berthv1.Assignment{Tasks: s.inCell(c.cell, n), DiskMib: s.g.diskMiB, WholeNode: s.g.wholeNode}
		s.whole[id] = a
	}
	return a
}

// inCell is the tasks' part of a simple group that lies in one cell.
func (s *assignments) inCell(cell int, n *fleetNode) []*berthv1.TaskGrant {
	id := n.usage.Machine().Cells[cell].ID
	if tasks, ok := s.byCell[int(id)]; ok {
		return tasks
	}
	tasks := make([]*berthv1.TaskGrant, len(s.g.tasks))
	for i := range s.g.tasks {
		t := &s.g.tasks[i]
		tasks[i] = &berthv1.TaskGrant{Task: t.name, Cells: []*berthv1.CellGrant{
			{Cell: id, CpuMilli: uint32(t.milli), MemoryMib: t.memory},
		}}
	}
	if s.byCell == nil {
		s.byCell = map[int][]*berthv1.TaskGrant{}
	}
	s.byCell[int(id)] = tasks
	return tasks
}

// exact is the tasks' part as it was chosen.
func (s *assignments) exact(c *choice) []*berthv1.TaskGrant {
	tasks := make([]*berthv1.TaskGrant, len(c.tasks))
	for i := range c.tasks {
		t := &berthv1.TaskGrant{Task: s.g.tasks[i].name}
		for k := range c.tasks[i].cells {
			if cell := cellGrant(&c.tasks[i].cells[k]); cell != nil {
				t.Cells = append(t.Cells, cell)
			}
		}
		for _, d := range c.tasks[i].devices {
			t.Devices = append(t.Devices, &berthv1.DeviceGrant{Kind: d.kind, Id: d.id, ShareMilli: d.share})
		}
		tasks[i] = t
	}
	return tasks
}

// cellGrant is one cell's part; nil when it is empty.
func cellGrant(g *topology.CellGrant) *berthv1.CellGrant {
	if g.CPUs.Empty() && g.CPUMilli == 0 && g.MemoryMiB == 0 && len(g.Hugepages) == 0 {
		return nil
	}
	out := &berthv1.CellGrant{Cell: g.Cell, Cpus: g.CPUs.String(), CpuMilli: g.CPUMilli, MemoryMib: g.MemoryMiB}
	for _, h := range g.Hugepages {
		out.Hugepages = append(out.Hugepages, &berthv1.Hugepages{SizeKib: h.SizeKiB, Count: h.Count})
	}
	return out
}

// ports are the group's ports on the node.
func (s *assignments) ports(c *choice, n *fleetNode) []*berthv1.PortGrant {
	if len(c.ports) == 0 {
		return nil
	}
	out := make([]*berthv1.PortGrant, len(c.ports))
	for i, p := range c.ports {
		out[i] = s.g.ports[i].granted(uint32(p), n.node.GetAddress())
	}
	return out
}
