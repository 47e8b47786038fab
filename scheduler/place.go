package scheduler

import (
	"cmp"
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// Ask is a number of identical instances of a group to be placed.
type Ask struct {
	Group *Group
	Count int
	// Nodes, where it is not nil, asks for one instance on each of these (Count is not
	// looked at): what system jobs want.
	Nodes []string
	// Penalised nodes are taken only where no other fits: an instance failed there.
	Penalised []string
	// Excluded nodes are never taken.
	Excluded []string
	// Leaving are the nodes of instances of the group, once for each, that are stopped when
	// these are placed: those that follow them are spread as if they were gone.
	Leaving []string
	// Silent asks for no explanation: it looks at every node and costs far more than a
	// placement.
	Silent bool
}

// wanted is how many instances are asked for.
func (a *Ask) wanted() int {
	if a.Nodes != nil {
		return len(a.Nodes)
	}
	return a.Count
}

// Placement is one instance on its node, with its exact grant. Assignments may share
// messages with each other: they are not to be changed.
type Placement struct {
	// Ask is the index of the ask that it answers.
	Ask              int
	NodeID, NodeName string
	Assignment       *berthv1.Assignment
}

// Unplaced is what is left of an ask, and why.
type Unplaced struct {
	Ask   int
	Count int
	// Nodes are those of Ask.Nodes that got none.
	Nodes       []string
	Explanation *berthv1.Explanation
	// OverQuota says that the namespace's quota keeps it from being placed, whatever is
	// free on nodes.
	OverQuota bool
}

// Place places the asks, each instance on the best node of the whole fleet, and adds
// what it placed to the fleet; Undo takes it back. The higher priority goes first. The
// answer depends on the fleet and on the set of asks, never on any order.
func Place(f *Fleet, asks []*Ask) ([]Placement, []Unplaced) {
	m := messages{f: f, list: make([]Placement, 0, len(asks))}
	unplaced := f.place(asks, &m, nil)
	return m.list, unplaced
}

// taker takes what is placed of one ask after the other.
type taker interface {
	// take notes an instance; the choice is good until the next one.
	take(r *run, slot int32, c *choice)
	// size is how many there are; back takes all but the first n out of the fleet again.
	size() int
	back(g *Group, n int)
	// has says whether one of those from the first-th on is on a node.
	has(first int, nodeID string) bool
}

// place places the asks, and appends what could not be to unplaced.
func (f *Fleet) place(asks []*Ask, to taker, unplaced []Unplaced) []Unplaced {
	order := f.scratch.order[:0]
	for i := range asks {
		order = append(order, int32(i))
	}
	if f.scratch.order = order; len(asks) > 1 {
		slices.SortStableFunc(order, func(a, b int32) int { return compareAsks(asks[a], asks[b]) })
	}
	for _, i := range order {
		ask := asks[i]
		if ask.wanted() == 0 {
			continue
		}
		room, over := f.quotaRoom(ask)
		f.leave(ask)
		r := f.run(ask, int(i))
		first := to.size()
		for r.got < room {
			choice, slot := r.placeOne()
			if slot == none {
				break
			}
			to.take(r, slot, choice)
			if why := f.charge(ask.Group, slot, &choice.grant); why != "" {
				to.back(ask.Group, to.size()-1)
				r.got--
				room, over = r.got, why
			}
		}
		f.stay(ask)
		left := ask.wanted() - r.got
		if left == 0 {
			continue
		}
		if ask.Group.Gang {
			to.back(ask.Group, first)
			left = ask.wanted()
			r.prepare()
		}
		u := Unplaced{Ask: int(i), Count: left, Nodes: missed(ask, func(id string) bool { return to.has(first, id) })}
		switch u.OverQuota = over != "" && r.got >= room; {
		case ask.Silent:
		case u.OverQuota:
			u.Explanation = f.overQuota(ask.Group, left, over)
		default:
			u.Explanation = r.explain()
		}
		unplaced = append(unplaced, u)
	}
	return unplaced
}

// missed are the nodes of the ask that got no instance.
func missed(ask *Ask, got func(nodeID string) bool) (nodes []string) {
	for _, id := range ask.Nodes {
		if !got(id) {
			nodes = append(nodes, id)
		}
	}
	return nodes
}

// messages answers with assignments.
type messages struct {
	f    *Fleet
	list []Placement
	on   map[string]bool // of the ask that has was asked about last
	of   int
}

func (m *messages) take(r *run, slot int32, c *choice) {
	node := &m.f.nodes[slot]
	m.list = append(m.list, Placement{Ask: r.index, NodeID: node.node.GetId(), NodeName: node.node.GetName(), Assignment: r.shared.of(c, node)})
}

func (m *messages) size() int { return len(m.list) }

func (m *messages) back(g *Group, n int) {
	for _, p := range m.list[n:] {
		m.f.Undo(g, p)
	}
	m.list = m.list[:n]
}

func (m *messages) has(first int, nodeID string) bool {
	if m.on == nil || m.of != first {
		m.on, m.of = map[string]bool{}, first
		for i := range m.list[first:] {
			m.on[m.list[first+i].NodeID] = true
		}
	}
	return m.on[nodeID]
}

func compareAsks(a, b *Ask) int {
	x, y := a.Group, b.Group
	return cmp.Or(
		cmp.Compare(y.Priority, x.Priority),
		cmp.Compare(x.Key.Namespace, y.Key.Namespace),
		cmp.Compare(x.Key.Job, y.Key.Job),
		cmp.Compare(x.Key.Group, y.Key.Group),
		slices.Compare(a.Penalised, b.Penalised),
		slices.Compare(a.Excluded, b.Excluded),
		slices.Compare(a.Nodes, b.Nodes),
		slices.Compare(a.Leaving, b.Leaving),
		cmp.Compare(a.Count, b.Count))
}

// Undo takes a placement of the group back out of the fleet.
func (f *Fleet) Undo(g *Group, p Placement) {
	slot, known := f.slots[p.NodeID]
	if !known {
		return
	}
	f.release(slot, p.Assignment)
	f.quotas.Release(g.Key.Namespace, p.NodeID, p.Assignment)
	f.count(g.Key, slot, -1)
}

// placeOne places one instance on the best node that it fits on, and adds it to the
// fleet; none: it fits on no node. The choice is good until the next fit.
func (r *run) placeOne() (*choice, int32) {
	for {
		slot := r.next()
		if slot == none {
			r.check(none)
			return nil, none
		}
		node := &r.f.nodes[slot]
		used := node.usage.Used()
		shadow := r.shadow()
		choice, fits := r.fit(node.usage)
		if !fits {
			r.refuse(slot)
			continue
		}
		r.compare(slot, shadow)
		r.taken(slot, &choice.grant, used)
		return choice, slot
	}
}

// fit grants an instance on the node that next has given.
func (r *run) fit(u *topology.Usage) (*choice, bool) {
	if r.cell >= 0 && (r.entry != none || r.again != none) {
		return r.f.scratch.fit.fitIn(u, r.g, r.cell)
	}
	return r.f.scratch.fit.fit(u, r.g)
}

// taken counts an instance on a node, and decides whether that is looked at again.
func (r *run) taken(slot int32, g *topology.Grant, used bool) {
	r.got++
	r.f.moved(slot, g, used)
	if r.own == nil {
		r.own = r.f.instancesOf(r.g.Key)
		r.terms.owned(r.f, r.g, r.own)
	}
	r.own.add(r.f, slot, 1)
	if r.terms.seeded() { // that was the first, and has decided
		r.terms.start(r.f, r.f.know(r.g), r.view, r.own, r.ask.wanted()-r.got)
		r.q.from = bound{}
	}
	delete(r.only, slot)
	if r.g.hosts != nobody || r.ask.Nodes != nil {
		r.mark(slot).excluded = true
	}
	atLarge := r.entry != none || r.again != none
	switch r.again = none; {
	case r.f.scans:
	case !atLarge || r.isExcluded(slot):
	case !r.rated && r.packs(slot) && !r.terms.moving():
		// With less left it still comes before all others.
		r.again = slot
		if !used { // its other cells come sooner now, too
			r.q.from = bound{}
		}
	case r.rated || r.packs(slot):
		// It may, too, where its domain's term is still the highest.
		if term, ok := r.terms.of(slot); ok && (r.terms.s == nil || term == r.terms.top) {
			r.q.from = bound{}
		}
	}
}

// slotSet gives the slots of the nodes that are known; nil for none.
func (f *Fleet) slotSet(ids []string) map[int32]bool {
	if len(ids) == 0 {
		return nil
	}
	set := make(map[int32]bool, len(ids))
	for _, id := range ids {
		if slot, known := f.slots[id]; known {
			set[slot] = true
		}
	}
	return set
}
