package scheduler

import (
	"cmp"
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Mover is an allocation as rebalancing sees it.
type Mover struct {
	Alloc *berthv1.Alloc
	// Group is what it is an instance of; not looked at where it stays.
	Group *Group
	// Stays says why it cannot be moved; "" when it can.
	Stays string
}

// holdsGPU says whether it holds a GPU, or a part of one.
func (m *Mover) holdsGPU() bool {
	for _, t := range m.Alloc.GetAssignment().GetTasks() {
		for _, d := range t.GetDevices() {
			if d.GetKind() == gpuKind {
				return true
			}
		}
	}
	return false
}

const gpuKind = "gpu"

// Rebalance finds moves that free whole nodes on a fleet, which it changes: first the
// GPUs of nodes where few are granted, then nodes as a whole. It is greedy: the node that
// is emptied most easily first (the lowest priority, the fewest allocations, the least
// granted). Each move was placed by Place on the fleet as it is when the moves before it
// are done, with what it leaves still held, so each is possible in its turn; nothing is
// moved onto a node that is free. on gives what holds grants on a node; pool "": every
// pool. A node that cannot be emptied keeps all it has.
func Rebalance(f *Fleet, on func(nodeID string) []Mover, pool string, maxMoves int) *berthv1.RebalancePlan {
	b := rebalancing{f: f, plan: &berthv1.RebalancePlan{Kept: map[string]uint32{}}, left: maxMoves, on: map[int32][]Mover{}}
	for slot := range f.nodes {
		n := f.nodes[slot].node
		if n == nil {
			continue
		}
		movers := slices.Clone(on(n.GetId()))
		slices.SortFunc(movers, func(x, y Mover) int {
			return cmp.Or(cmp.Compare(x.priority(), y.priority()), cmp.Compare(x.Alloc.GetId(), y.Alloc.GetId()))
		})
		b.on[int32(slot)] = movers
	}
	b.plan.EmptyBefore, b.plan.FreeGpuNodesBefore = b.free()
	for _, gpus := range []bool{true, false} {
		for _, slot := range b.candidates(pool, gpus) {
			b.clear(slot, gpus)
		}
	}
	b.plan.EmptyAfter, b.plan.FreeGpuNodesAfter = b.free()
	return b.plan
}

type rebalancing struct {
	f    *Fleet
	plan *berthv1.RebalancePlan
	left int
	on   map[int32][]Mover // by slot, as moved
}

func (m *Mover) priority() uint32 {
	if m.Group == nil {
		return 101
	}
	return m.Group.Priority
}

// wanted are those of a node that must go.
func (b *rebalancing) wanted(slot int32, gpus bool) []Mover {
	if !gpus {
		return b.on[slot]
	}
	var out []Mover
	for _, m := range b.on[slot] {
		if m.holdsGPU() {
			out = append(out, m)
		}
	}
	return out
}

func (b *rebalancing) hasGPU(slot int32) bool {
	for _, d := range b.f.nodes[slot].node.GetHardware().GetDevices() {
		if d.GetKind() == gpuKind {
			return true
		}
	}
	return false
}

// free counts the nodes that have nothing on them, and those whose GPUs are all free.
func (b *rebalancing) free() (empty, gpus uint32) {
	for slot, movers := range b.on {
		if len(movers) == 0 {
			empty++
		}
		if b.hasGPU(slot) && len(b.wanted(slot, true)) == 0 {
			gpus++
		}
	}
	return empty, gpus
}

// candidates are the nodes to be freed, the easiest first.
func (b *rebalancing) candidates(pool string, gpus bool) []int32 {
	type candidate struct {
		slot     int32
		priority uint32
		moves    int
		milli    uint64
		name, id string
	}
	var list []candidate
	for slot := range b.f.nodes {
		n, movers := b.f.nodes[slot].node, b.wanted(int32(slot), gpus)
		if n == nil || len(movers) == 0 || pool != "" && pool != AllPools && poolOf(n) != pool {
			continue
		}
		c := candidate{slot: int32(slot), moves: len(movers), name: n.GetName(), id: n.GetId()}
		for i := range movers {
			use := UseOf(movers[i].Alloc.GetAssignment())
			c.priority, c.milli = max(c.priority, movers[i].priority()), c.milli+use.CPUMilli
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(x, y candidate) int {
		return cmp.Or(cmp.Compare(x.priority, y.priority), cmp.Compare(x.moves, y.moves), cmp.Compare(x.milli, y.milli), cmp.Compare(x.name, y.name), cmp.Compare(x.id, y.id))
	})
	slots := make([]int32, len(list))
	for i := range list {
		slots[i] = list[i].slot
	}
	return slots
}

// clear moves what must go off a node, all of it or nothing.
func (b *rebalancing) clear(slot int32, gpus bool) {
	movers := b.wanted(slot, gpus)
	if len(movers) == 0 || len(movers) > b.left {
		return
	}
	for i := range movers {
		if movers[i].Stays != "" {
			b.plan.Kept[movers[i].Stays]++
			return
		}
	}
	excluded := b.excluded(slot)
	var done []relocation
	for _, m := range movers {
		to, ok := b.move(m, excluded)
		if !ok {
			b.back(done)
			b.plan.Kept["no room elsewhere"]++
			return
		}
		done = append(done, to)
	}
	n := b.f.nodes[slot].node
	for _, m := range done {
		b.settle(slot, m)
	}
	b.left -= len(done)
	if gpus || b.hasGPU(slot) && !slices.Contains(b.plan.GpuNodesFreed, n.GetName()) && slices.ContainsFunc(movers, func(m Mover) bool { return m.holdsGPU() }) {
		b.plan.GpuNodesFreed = append(b.plan.GpuNodesFreed, n.GetName())
	}
	if len(b.on[slot]) == 0 {
		b.plan.Emptied = append(b.plan.Emptied, n.GetName())
	}
}

// excluded are the nodes that nothing is moved to from a node: itself, and those that
// are free, as a whole or of GPUs.
func (b *rebalancing) excluded(slot int32) (ids []string) {
	for other, movers := range b.on {
		if other == slot || len(movers) == 0 || b.hasGPU(other) && len(b.wanted(other, true)) == 0 {
			ids = append(ids, b.f.nodes[other].node.GetId())
		}
	}
	slices.Sort(ids)
	return ids
}

type relocation struct {
	mover Mover
	to    Placement
}

// move places an allocation anew while it still holds what it has, and takes the old one
// out then; false: nothing has changed.
func (b *rebalancing) move(m Mover, excluded []string) (relocation, bool) {
	g := *m.Group
	g.Gang = false
	// It is not an instance beside itself: only its grant stays until the new one is there.
	stays := &berthv1.Alloc{NodeId: m.Alloc.GetNodeId(), Desired: berthv1.Alloc_stop, Assignment: m.Alloc.GetAssignment()}
	b.f.ChangeAlloc(m.Alloc, nil)
	b.f.ChangeAlloc(nil, stays)
	placed, _ := Place(b.f, []*Ask{{Group: &g, Count: 1, Excluded: excluded, Silent: true}})
	b.f.ChangeAlloc(stays, nil)
	if len(placed) == 0 {
		b.f.ChangeAlloc(nil, m.Alloc)
		return relocation{}, false
	}
	return relocation{m, placed[0]}, true
}

func (b *rebalancing) back(done []relocation) {
	for _, m := range slices.Backward(done) {
		b.f.Undo(m.mover.Group, m.to)
		b.f.ChangeAlloc(nil, m.mover.Alloc)
	}
}

// settle records a move.
func (b *rebalancing) settle(from int32, m relocation) {
	a := m.mover.Alloc
	b.plan.Moves = append(b.plan.Moves, &berthv1.Move{
		AllocId: a.GetId(), Namespace: a.GetNamespace(), Job: a.GetJob(), Group: a.GetGroup(), Index: a.GetIndex(),
		FromNodeId: a.GetNodeId(), FromNode: b.f.nodes[from].node.GetName(),
		ToNodeId: m.to.NodeID, ToNode: m.to.NodeName, Assignment: m.to.Assignment,
	})
	b.on[from] = slices.DeleteFunc(slices.Clone(b.on[from]), func(o Mover) bool { return o.Alloc.GetId() == a.GetId() })
	moved := a.ShallowCopy()
	moved.NodeId, moved.NodeName, moved.Assignment = m.to.NodeID, m.to.NodeName, m.to.Assignment
	there := m.mover
	there.Alloc = moved
	there.Stays = "moved once already"
	to := b.f.slots[m.to.NodeID]
	b.on[to] = append(b.on[to], there)
}
