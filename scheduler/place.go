package scheduler

import (
	"cmp"
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
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
}

// Place places the asks, each instance on the best node of the whole fleet, and adds
// what it placed to the fleet; Undo takes it back. The higher priority goes first. The
// answer depends on the fleet and on the set of asks, never on any order.
func Place(f *Fleet, asks []*Ask) ([]Placement, []Unplaced) {
	order := make([]int, len(asks))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return compareAsks(asks[a], asks[b]) })
	placements := make([]Placement, 0, len(asks))
	var unplaced []Unplaced
	for _, i := range order {
		if asks[i].wanted() == 0 {
			continue
		}
		r := run{f: f, ask: asks[i], g: asks[i].Group, index: i}
		r.prepare()
		first := len(placements)
		placements = r.place(placements)
		left := asks[i].wanted() - r.got
		if left == 0 {
			continue
		}
		if asks[i].Group.Gang {
			for _, p := range placements[first:] {
				f.Undo(asks[i].Group, p)
			}
			left, placements = asks[i].wanted(), placements[:first]
			r.prepare()
		}
		u := Unplaced{Ask: i, Count: left, Nodes: r.missed(placements[first:])}
		if !asks[i].Silent {
			u.Explanation = r.explain()
		}
		unplaced = append(unplaced, u)
	}
	return placements, unplaced
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
		cmp.Compare(a.Count, b.Count))
}

// Undo takes a placement of the group back out of the fleet.
func (f *Fleet) Undo(g *Group, p Placement) {
	slot, known := f.slots[p.NodeID]
	if !known {
		return
	}
	f.release(slot, p.Assignment)
	f.recount(slot)
	f.count(g.Key, slot, -1)
}

// run places one ask.
type run struct {
	f     *Fleet
	ask   *Ask
	g     *Group
	index int

	view      *staticView
	only      map[int32]bool // slots of ask.Nodes; nil: any
	penalised map[int32]bool
	excluded  map[int32]bool
	domains   domains
	got       int // instances that could be placed
	shared    assignments
}

func (r *run) prepare() {
	r.view = r.f.static(&r.g.checks)
	r.penalised, r.excluded = r.f.slotSet(r.ask.Penalised), r.f.slotSet(r.ask.Excluded)
	if r.ask.Nodes != nil {
		r.only = r.f.slotSet(r.ask.Nodes)
	}
	r.excludeHosts()
	r.domains = newDomains(r.f, r.g, r.ask.wanted())
	r.shared = assignments{g: r.g}
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

// excludeHosts leaves out the nodes that have an instance already, where hosts must be
// distinct.
func (r *run) excludeHosts() {
	r.f.eachInstance(r.g, r.g.hosts, func(slot, _ int32) {
		if r.excluded == nil {
			r.excluded = map[int32]bool{}
		}
		r.excluded[slot] = true
	})
}

// eachInstance calls fn for every node with instances of the group, or of its whole job.
func (f *Fleet) eachInstance(g *Group, among scope, fn func(slot, n int32)) {
	switch among {
	case sameGroup:
		for slot, n := range f.groups[g.Key] {
			fn(slot, n)
		}
	case sameJob:
		for _, key := range g.siblings {
			for slot, n := range f.groups[key] {
				fn(slot, n)
			}
		}
	}
}

// place appends a placement for each instance that fits somewhere.
func (r *run) place(placements []Placement) []Placement {
	r.gather()
	for r.got < r.ask.wanted() {
		p, ok := r.placeOne()
		if !ok {
			break
		}
		placements = append(placements, p)
	}
	r.f.scratch.candidates = r.domains.recycle()
	return placements
}

// gather finds every node that may fit and scores it.
func (r *run) gather() {
	own := r.f.groups[r.g.Key]
	n := int32(0)
	r.domains.reset(r.f.scratch.candidates)
	for w, word := range r.view.ok {
		for ; word != 0; word &= word - 1 {
			slot := int32(w<<6 + trailingZeros(word))
			if !r.may(slot) {
				continue
			}
			if len(own) > 0 {
				n = own[slot]
			}
			r.domains.add(r.candidate(slot, n))
		}
	}
	r.domains.build(r.f, r.ask.wanted() == 1)
}

// may says whether a node that passed the static checks can fit, by the sums.
func (r *run) may(slot int32) bool {
	free := &r.f.free[slot]
	if free.milli < r.g.least || free.memory < r.g.total.memory || free.disk < r.g.diskMiB {
		return false
	}
	if r.excluded != nil && r.excluded[slot] || r.only != nil && !r.only[slot] {
		return false
	}
	for i := range r.g.ports {
		if p := r.g.ports[i].static; p != 0 && !r.f.nodes[slot].usage.PortFree(uint16(p)) {
			return false
		}
	}
	return true
}

// placeOne places one instance on the best node that it really fits on.
func (r *run) placeOne() (Placement, bool) {
	for {
		d := r.domains.best(r.f)
		if d == nil {
			return Placement{}, false
		}
		slot := d.heap[0].slot
		node := &r.f.nodes[slot]
		choice, fits := r.f.scratch.fit.fit(node.usage, r.g)
		if !fits {
			d.pop(r.f)
			continue
		}
		r.f.recount(slot)
		r.f.count(r.g.Key, slot, 1)
		r.domains.placed(d)
		r.taken(slot)
		if r.got++; r.got == r.ask.wanted() {
			// the last one: nobody looks at the candidates again
		} else if !r.may(slot) {
			d.pop(r.f)
		} else {
			d.heap[0] = r.candidate(slot, r.f.groups[r.g.Key][slot])
			d.fix(r.f)
		}
		return Placement{Ask: r.index, NodeID: node.node.GetId(), NodeName: node.node.GetName(),
			Assignment: r.shared.of(choice, node)}, true
	}
}

// taken leaves the node out from now on, where one instance on it is all there may be.
func (r *run) taken(slot int32) {
	delete(r.only, slot)
	if r.g.hosts != nobody {
		if r.excluded == nil {
			r.excluded = map[int32]bool{}
		}
		r.excluded[slot] = true
	}
}

// missed are the nodes of the ask that got no instance.
func (r *run) missed(placed []Placement) []string {
	if r.ask.Nodes == nil {
		return nil
	}
	got := make(map[string]bool, len(placed))
	for _, p := range placed {
		got[p.NodeID] = true
	}
	var missed []string
	for _, id := range r.ask.Nodes {
		if !got[id] {
			missed = append(missed, id)
		}
	}
	return missed
}
