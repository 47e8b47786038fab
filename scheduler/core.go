package scheduler

import (
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// Result is what PlaceInto answers. Its memory is used again by the next PlaceInto into
// the same Result; what was read from it is good until then. The zero value is ready.
type Result struct {
	Placed   []Placed
	Unplaced []Unplaced

	f      *Fleet
	grants []topology.Grant // of Placed, and memory for more
	parts  []part           // of all placements, by task
}

// Placed is one instance on its node.
type Placed struct {
	// Ask is the index of the ask that it answers.
	Ask int
	// Slot is the fleet's number of the node, see Fleet.NodeAt.
	Slot int32
	// Cell is the index of the only cell that anything lies in, where the group needs
	// nothing but shared CPU, memory, disk and ports: each task has there just what it
	// asks for. Else it is -1.
	Cell int32

	group *Group
	parts int32 // the first in Result.parts
}

// part is how many of a grant's cells and devices, in their order, are one task's.
type part struct{ cells, devices uint16 }

// PlaceInto is Place without messages: with a Result that is used again it allocates
// nothing for common asks. It adds what it placed to the fleet; Release takes it back.
func PlaceInto(res *Result, f *Fleet, asks []*Ask) {
	res.start(f)
	res.Unplaced = f.place(asks, res, res.Unplaced)
}

func (res *Result) start(f *Fleet) {
	res.f, res.Placed, res.parts, res.Unplaced = f, res.Placed[:0], res.parts[:0], res.Unplaced[:0]
}

// Grant is what a placement holds, by its index in Placed. It is not to be changed.
func (res *Result) Grant(i int) *topology.Grant { return &res.grants[i] }

// Assignment gives a placement as a message that shares no memory with the result.
func (res *Result) Assignment(i int) *berthv1.Assignment {
	p, node := &res.Placed[i], &res.f.nodes[res.Placed[i].Slot]
	grant := res.grants[i].Clone()
	c := choice{cell: int(p.Cell), ports: grant.Ports}
	cells, devices := grant.Cells, grant.Devices
	for k := range p.group.tasks {
		if c.cell >= 0 {
			break
		}
		n := res.parts[int(p.parts)+k]
		t := taskChoice{cells: cells[:n.cells]}
		for _, d := range devices[:n.devices] {
			dev := &node.usage.Machine().Devices[node.usage.Machine().DeviceIndex(d.ID)]
			t.devices = append(t.devices, grantedDevice{kind: dev.Kind, id: d.ID, share: d.ShareMilli})
		}
		c.tasks = append(c.tasks, t)
		cells, devices = cells[n.cells:], devices[n.devices:]
	}
	shared := assignments{g: p.group}
	return shared.of(&c, node)
}

// NodeAt is the node with that number; nil: there is none. The number is good until the
// node is removed.
func (f *Fleet) NodeAt(slot int32) *berthv1.Node { return f.nodes[slot].node }

// SlotOf is the number of a node; false: it is not known.
func (f *Fleet) SlotOf(nodeID string) (int32, bool) {
	slot, known := f.slots[nodeID]
	return slot, known
}

// Release takes an instance of a group out of the fleet: what PlaceInto has granted.
func (f *Fleet) Release(g *Group, slot int32, grant *topology.Grant) {
	if f.quotas.Counts(g.Key.Namespace) {
		use := useOfGrant(f.nodes[slot].usage.Machine(), grant)
		f.quotas.release(g.Key.Namespace, f.nodes[slot].node.GetId(), &use)
	}
	f.give(slot, grant)
	if own := f.know(g).instancesIn(f); own != nil {
		f.countIn(own, slot, -1)
	}
}

// Hold adds an instance of a group to the fleet that has the grant already: what Release
// takes out.
func (f *Fleet) Hold(g *Group, slot int32, grant *topology.Grant) {
	u := f.nodes[slot].usage
	if f.quotas.Counts(g.Key.Namespace) {
		use := useOfGrant(u.Machine(), grant)
		f.quotas.HoldUse(g.Key.Namespace, f.nodes[slot].node.GetId(), &use)
	}
	used := u.Used()
	u.Force(grant)
	f.moved(slot, grant, used)
	f.count(g.Key, slot, 1)
}

func (res *Result) take(r *run, slot int32, c *choice) {
	n := len(res.Placed)
	res.Placed = append(res.Placed, Placed{Ask: r.index, Slot: slot, Cell: int32(c.cell), group: r.g, parts: int32(len(res.parts))})
	if n == len(res.grants) {
		res.grants = append(res.grants, topology.Grant{})
	}
	copyGrant(&res.grants[n], &c.grant)
	if c.cell < 0 {
		for i := range c.tasks {
			res.parts = append(res.parts, part{uint16(len(c.tasks[i].cells)), uint16(len(c.tasks[i].devices))})
		}
	}
}

// copyGrant copies into memory that is used again.
func copyGrant(to, from *topology.Grant) {
	to.Reset()
	to.DiskMiB, to.WholeNode = from.DiskMiB, from.WholeNode
	for i := range from.Cells {
		c := &from.Cells[i]
		n := to.NextCell(c.Cell)
		n.CPUs.AddAll(c.CPUs)
		n.CPUMilli, n.MemoryMiB = c.CPUMilli, c.MemoryMiB
		n.Hugepages = append(n.Hugepages, c.Hugepages...)
	}
	to.Devices, to.Ports = append(to.Devices, from.Devices...), append(to.Ports, from.Ports...)
}

func (res *Result) size() int { return len(res.Placed) }

func (res *Result) back(g *Group, n int) {
	for i := n; i < len(res.Placed); i++ {
		res.f.Release(g, res.Placed[i].Slot, &res.grants[i])
	}
	res.Placed = res.Placed[:n]
}

func (res *Result) has(first int, nodeID string) bool {
	slot, known := res.f.slots[nodeID]
	for i := first; known && i < len(res.Placed); i++ {
		if res.Placed[i].Slot == slot {
			return true
		}
	}
	return false
}
