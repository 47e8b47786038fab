package scheduler

import (
	"iter"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// Fleet is all nodes and what is granted on them, laid out for placement. It is kept up
// to date by small changes: UpsertNode and RemoveNode as nodes come and go, ChangeAlloc
// as allocations do; Place adds what it places. It is not safe for concurrent use.
type Fleet struct {
	nodes  []fleetNode
	hashes []uint64 // of the nodes' ids, by slot: the stable order among equals
	slots  map[string]int32
	vacant []int32
	gpus   bitmap // nodes that have any, or slices of them
	groups map[GroupKey]*instances
	spare  []*instances // empty

	strategy berthv1.SchedulerConfig_Strategy
	// reserved has the nodes of the reservations that hold, by id; see Reserve.
	reserved map[string]*berthv1.Reservation
	quotas   Ledger

	// changes counts the changes of nodes' static side; changeLog has the slots of the
	// newest. Cached views and columns catch up from it.
	changes   uint64
	changeLog []int32
	views     map[string]*staticView
	known     knownGroups
	columns   map[string]*column
	domains   map[string]*domains
	// standings are those of the groups that asked last, in a ring that oldest goes round.
	standings []*standing
	oldest    int

	// moves counts the changes of what is left of nodes; moveLog has the newest. The
	// indexes catch up from it.
	moves   uint64
	moveLog []move
	indexes [3][2]*index // by ranking, of nodes and of cells; made when one is asked for

	demand  *gpuDemand        // nil: there is none
	rated   map[string]*index // of nodes, by shape; see ratedIndex
	ratings uint64            // how often any of them was asked for

	scans, verifies bool
	mismatches      int

	machines Machines
	usages   topology.Slab
	scratch  scratch
}

// fleetNode is a node's static side, and its exact usage.
type fleetNode struct {
	node  *berthv1.Node // nil: the slot is vacant
	usage *topology.Usage
}

// scratch is memory that is used again and again.
type scratch struct {
	grant topology.Grant
	fit   fitter
	run   run
	order []int32 // of asks
	// leaving are the nodes of an ask's instances that do not count, see leave.
	leaving []int32
	marks   []mark // by slot, good for the run with the same stamp
	stamp   uint64
}

// NewFleet makes a fleet without nodes that packs them full.
func NewFleet() *Fleet {
	return &Fleet{
		slots: map[string]int32{}, groups: map[GroupKey]*instances{}, changes: 1,
		views: map[string]*staticView{}, columns: map[string]*column{}, domains: map[string]*domains{}, moves: 1,
		rated: map[string]*index{},
	}
}

// SetStrategy says whether nodes are packed full or loaded evenly.
func (f *Fleet) SetStrategy(s berthv1.SchedulerConfig_Strategy) { f.strategy = s }

// Len is the number of nodes.
func (f *Fleet) Len() int { return len(f.slots) }

// UpsertNode takes in a new node, or what has changed about one. When it gives true, the
// node's hardware is new: what is granted on it must be told by Regrant. A node whose
// inventory makes no sense is taken in without hardware, so nothing fits on it, and the
// error says why.
func (f *Fleet) UpsertNode(n *berthv1.Node) (bool, error) {
	slot, known := f.slots[n.GetId()]
	if !known {
		slot = f.newSlot()
		f.slots[n.GetId()] = slot
	}
	old := &f.nodes[slot]
	defer f.touch(slot)
	if known && sameHardware(old.node, n) {
		old.node = n
		return false, nil
	}
	machine, err := f.machines.Of(n)
	if err != nil {
		machine, _ = topology.NewMachine(topology.Machine{})
	}
	if known {
		f.forget(slot)
	}
	f.nodes[slot] = fleetNode{node: n, usage: f.usages.NewUsage(machine)}
	f.hashes[slot] = hashString(n.GetId())
	f.gpus.set(slot, hasGPUs(machine))
	return true, err
}

func sameHardware(a, b *berthv1.Node) bool {
	if a.GetMinPort() != b.GetMinPort() || a.GetMaxPort() != b.GetMaxPort() || len(a.GetReservedPorts()) != len(b.GetReservedPorts()) {
		return false
	}
	for i, p := range a.GetReservedPorts() {
		if b.GetReservedPorts()[i] != p {
			return false
		}
	}
	return a.GetHardware() == b.GetHardware() || proto.Equal(a.GetHardware(), b.GetHardware())
}

func (f *Fleet) newSlot() int32 {
	if n := len(f.vacant); n > 0 {
		slot := f.vacant[n-1]
		f.vacant = f.vacant[:n-1]
		return slot
	}
	f.nodes = append(f.nodes, fleetNode{})
	f.hashes = append(f.hashes, 0)
	return int32(len(f.nodes) - 1)
}

// RemoveNode forgets a node and what is on it.
func (f *Fleet) RemoveNode(id string) {
	slot, known := f.slots[id]
	if !known {
		return
	}
	delete(f.slots, id)
	for key, all := range f.groups {
		if all.on.drop(slot); all.none() {
			delete(f.groups, key)
			all.key = noGroup
		}
	}
	f.forget(slot)
	f.quotas.DropNode(id)
	f.nodes[slot], f.hashes[slot] = fleetNode{}, 0
	f.gpus.set(slot, false)
	f.vacant = append(f.vacant, slot)
	f.touch(slot)
}

// maxChangeLog bounds the log of changed slots; it is halved when it is full.
const maxChangeLog = 4096

func (f *Fleet) touch(slot int32) {
	if len(f.changeLog) >= maxChangeLog {
		f.changeLog = append(f.changeLog[:0], f.changeLog[maxChangeLog/2:]...)
	}
	f.changeLog = append(f.changeLog, slot)
	f.changes++
	f.log(move{slot: slot, static: true, cells: everyCell})
}

// move is a change of what is left of a node.
type move struct {
	slot   int32
	static bool   // its static side has changed, too
	cells  uint64 // those concerned, by their index
}

// everyCell is all cells of a node.
const everyCell = ^uint64(0)

// moved notes that something was granted on a node or given back. wasUsed is whether
// anything was granted on it before.
func (f *Fleet) moved(slot int32, g *topology.Grant, wasUsed bool) {
	u, cells := f.nodes[slot].usage, uint64(0)
	m := u.Machine()
	for i := range g.Cells {
		if k := m.CellIndex(g.Cells[i].Cell); k >= 0 {
			cells |= 1 << k
		} else {
			cells = everyCell
		}
	}
	if g.WholeNode || len(g.Devices) > 0 || u.Used() != wasUsed {
		cells = everyCell
	}
	f.log(move{slot: slot, cells: cells})
}

func (f *Fleet) log(m move) {
	if most := max(maxChangeLog, len(f.nodes)); len(f.moveLog) >= most {
		f.moveLog = append(f.moveLog[:0], f.moveLog[len(f.moveLog)-most/2:]...)
	}
	f.moveLog = append(f.moveLog, m)
	f.moves++
}

// forget takes a node out of the indexes.
func (f *Fleet) forget(slot int32) {
	for _, byRank := range f.indexes {
		for _, x := range byRank {
			if x != nil {
				x.forget(slot)
			}
		}
	}
	for _, x := range f.rated {
		x.forget(slot)
	}
}

// indexFor is the index that has the nodes, or cells, in a group's order.
func (f *Fleet) indexFor(g *Group) *index {
	if f.rates(g) {
		return f.ratedIndex(g)
	}
	how, of := f.rankingOf(g), 0
	if g.inCell {
		of = 1
	}
	if f.indexes[how][of] == nil {
		f.indexes[how][of] = newIndex(f, g.inCell, how)
	}
	return f.indexes[how][of]
}

// Regrant says anew what is granted on a node, from the allocations on it, after its
// hardware changed.
func (f *Fleet) Regrant(nodeID string, allocs iter.Seq[*berthv1.Alloc]) {
	slot, known := f.slots[nodeID]
	if !known {
		return
	}
	n := &f.nodes[slot]
	n.usage = f.usages.NewUsage(n.usage.Machine())
	f.quotas.DropNode(nodeID)
	for a := range allocs {
		if a.HoldsGrant() {
			f.hold(slot, a.GetAssignment())
			f.quotas.Hold(a.GetNamespace(), nodeID, a.GetAssignment())
		}
	}
	f.log(move{slot: slot, cells: everyCell})
}

// ChangeAlloc takes in that an allocation was created (before nil), changed, or deleted
// (after nil). An allocation on a node that is not known changes nothing.
func (f *Fleet) ChangeAlloc(before, after *berthv1.Alloc) {
	either := after
	if either == nil {
		either = before
	}
	slot, known := f.slots[either.GetNodeId()]
	if !known {
		return
	}
	held, holds := before != nil && before.HoldsGrant(), after != nil && after.HoldsGrant()
	if held != holds || (held && before.GetAssignment() != after.GetAssignment()) {
		if held {
			f.release(slot, before.GetAssignment())
			f.quotas.Release(before.GetNamespace(), before.GetNodeId(), before.GetAssignment())
		}
		if holds {
			f.hold(slot, after.GetAssignment())
			f.quotas.Hold(after.GetNamespace(), after.GetNodeId(), after.GetAssignment())
		}
	}
	switch was, is := before != nil && counts(before), after != nil && counts(after); {
	case was && !is:
		f.count(groupOf(before), slot, -1)
	case is && !was:
		f.count(groupOf(after), slot, 1)
	}
}

// counts says whether an allocation is one of the instances that its group is spread by.
func counts(a *berthv1.Alloc) bool { return a.Wanted() && !a.Terminal() }

func groupOf(a *berthv1.Alloc) GroupKey {
	return GroupKey{a.GetNamespace(), a.GetJob(), a.GetGroup()}
}

// hold accounts for an assignment that exists. What cannot be read holds nothing: the
// FSM lets none in.
func (f *Fleet) hold(slot int32, a *berthv1.Assignment) {
	if grant := &f.scratch.grant; GrantInto(grant, a) == nil {
		u := f.nodes[slot].usage
		used := u.Used()
		u.Force(grant)
		f.moved(slot, grant, used)
	}
}

func (f *Fleet) release(slot int32, a *berthv1.Assignment) {
	if GrantInto(&f.scratch.grant, a) == nil {
		f.give(slot, &f.scratch.grant)
	}
}

func (f *Fleet) give(slot int32, grant *topology.Grant) {
	f.nodes[slot].usage.Remove(grant)
	f.moved(slot, grant, true)
}
