package scheduler

import "math"

// run places one ask. What it looks for is the best of three: the nodes at large, which
// the index has in order, those with the highest term first; those that it has to look at
// apart, because the ask says something of just them (penalised or named); and, before all
// others, the node that took the last instance, where nothing has come before it since.
type run struct {
	f     *Fleet
	ask   *Ask
	g     *Group
	index int

	view     *staticView
	terms    terms
	own      *instances   // the group's; nil: it has none
	hosts    []*instances // on whose nodes none may be
	only     map[int32]bool
	marks    []mark // by slot, see Fleet.scratch
	stamp    uint64
	rated    bool // the nodes are judged by their GPUs, see ratedIndex
	marked   bool // there are any
	atLarge  bool // there may be more nodes at large
	q        query
	entry    int32 // of the index: the node at large that was looked at last
	again    int32 // the node that is looked at first; none: there is none
	cell     int   // its cell that took the last instance
	apart    rankHeap
	gathered bool // apart has been filled
	passed   int  // nodes of its own that the last search has come by
	got      int  // instances that could be placed
	shared   assignments
}

// mark is what a run says of a node.
type mark struct {
	stamp               uint64
	excluded, penalised bool
}

// none is the slot of no node.
const none = -1

// run gives the run for an ask; its memory is used again.
func (f *Fleet) run(ask *Ask, index int) *run {
	r := &f.scratch.run
	r.f, r.ask, r.g, r.index, r.got = f, ask, ask.Group, index, 0
	r.prepare()
	return r
}

func (r *run) prepare() {
	f := r.f
	known := f.know(r.g)
	r.view = known.viewIn(f)
	f.scratch.stamp++
	for len(f.scratch.marks) < len(f.nodes) {
		f.scratch.marks = append(f.scratch.marks, mark{})
	}
	r.stamp, r.marks, r.marked = f.scratch.stamp, f.scratch.marks, false
	r.own = known.instancesIn(f)
	for _, id := range r.ask.Excluded {
		if m := r.markOf(id); m != nil {
			m.excluded = true
		}
	}
	for _, id := range r.ask.Penalised {
		if m := r.markOf(id); m != nil {
			m.penalised = true
		}
	}
	if r.only = nil; r.ask.Nodes != nil {
		r.only = f.slotSet(r.ask.Nodes)
	}
	r.hosts = r.hosts[:0]
	for key := range r.g.keys(r.g.hosts) {
		if i := f.groups[key]; i != nil {
			r.hosts = append(r.hosts, i)
		}
	}
	r.terms.start(f, known, r.view, r.own, r.ask.wanted())
	r.shared = assignments{g: r.g}
	r.apart, r.gathered, r.entry, r.again = r.apart[:0], false, none, none
	r.q.x, r.atLarge = nil, r.ask.Nodes == nil
	if r.rated = f.rates(r.g); r.atLarge && !f.scans {
		own, level := r.crowdedAt()
		r.q.ask(f.indexFor(r.g), known, r.view, own, level)
	}
}

// packs says that nodes are filled up one after the other, this one among them.
func (r *run) packs(slot int32) bool {
	how := r.f.rankingOf(r.g)
	if how != sparing {
		return how == packed
	}
	_, is := sparedKey(r.f.nodes[slot].usage)
	return !is
}

func (r *run) mark(slot int32) *mark {
	r.marked = true
	m := &r.marks[slot]
	if m.stamp != r.stamp {
		*m = mark{stamp: r.stamp}
	}
	return m
}

func (r *run) markOf(nodeID string) *mark {
	slot, known := r.f.slots[nodeID]
	if !known {
		return nil
	}
	return r.mark(slot)
}

// isExcluded says that a node may take no instance at all.
func (r *run) isExcluded(slot int32) bool {
	for _, i := range r.hosts {
		if i.on.at(slot) > 0 {
			return true
		}
	}
	return r.marked && r.marks[slot].stamp == r.stamp && r.marks[slot].excluded
}

func (r *run) isPenalised(slot int32) bool {
	return r.marked && r.marks[slot].stamp == r.stamp && r.marks[slot].penalised
}

// admits says whether a node is one of those at large, at the terms that are looked at.
func (r *run) admits(slot int32) bool {
	if r.isolated() && r.own.at(slot) > 0 {
		r.pass(slot)
		return false
	}
	if (r.marked || len(r.hosts) > 0) && (r.isExcluded(slot) || r.isPenalised(slot)) {
		return false
	}
	if r.terms.admits(slot) {
		return true
	}
	r.pass(slot)
	return false
}

// pass counts a node that the search comes by in vain, because of how many of the group's
// instances are on it.
func (r *run) pass(slot int32) {
	if level := r.level(); r.own == nil || r.own.crowded || level == mixed || r.own.at(slot) == level {
		return
	}
	if r.passed++; r.passed > crowd {
		r.own.crowded = true
	}
}

// crowdedAt gives the group's instances, and how many of them a node has that is looked
// for, where there are so many others that it matters.
func (r *run) crowdedAt() (own *instances, level int32) {
	if level = r.level(); r.own == nil || !r.own.crowded || level == mixed {
		return nil, 0
	}
	return r.own, level
}

// level is how many instances of the group a node has that is looked for; mixed: that is
// not known.
func (r *run) level() int32 {
	switch {
	case r.isolated():
		return 0
	case r.terms.s != nil && r.terms.s.counted:
		return r.terms.level
	}
	return mixed
}

// isolated says that nodes with instances of the group take no more.
func (r *run) isolated() bool { return r.g.hosts != nobody || r.g.sole }

// rank gives a node's place among all, as it is now; false: its domain takes no more.
func (r *run) rank(slot int32) (rank, bool) {
	term, ok := r.termOf(slot)
	key, tie := r.f.placeOf(slot, r.g)
	return rank{term, key, tie, slot}, ok
}

// termOf is what the group says of a node as it is now.
func (r *run) termOf(slot int32) (int64, bool) {
	term, ok := r.terms.of(slot)
	if r.isPenalised(slot) {
		term -= penalty
	}
	return term, ok
}

// placeOf is the key and the hash of a node for a group: of its best cell, where the group
// lies in one.
func (f *Fleet) placeOf(slot int32, g *Group) (key, tie uint64) {
	u, how := f.nodes[slot].usage, f.rankingOf(g)
	if f.rates(g) {
		return f.rate(slot, g), f.hashes[slot]
	}
	if !g.inCell {
		return how.key(u, -1), f.hashes[slot]
	}
	if cell := bestCell(u, &g.total); cell >= 0 {
		return how.key(u, cell), cellTie(f.hashes[slot], cell)
	}
	return math.MaxUint64, f.hashes[slot]
}

// next gives the best node that may take the next instance; none: there is none.
func (r *run) next() int32 {
	if r.f.scans {
		return r.scan()
	}
	if r.again != none {
		if r.cell < 0 || cellHolds(r.f.nodes[r.again].usage, r.cell, &r.g.total) {
			return r.again
		}
		r.again = none
	}
	r.entry = none
	for r.atLarge {
		term, ok := r.nextTerm()
		if !ok {
			r.atLarge = false
			break
		}
		at, found := r.nextAtLarge()
		if !found {
			r.exhaust()
			continue
		}
		at.term = term
		if term <= r.terms.peak-penalty {
			if best := r.apartBest(); best != nil && r.f.better(best, &at) {
				r.entry = none
				return best.slot
			}
		}
		return at.slot
	}
	if best := r.apartBest(); best != nil {
		return best.slot
	}
	return none
}

// nextTerm is the highest that nodes at large can have; false: there are none left.
func (r *run) nextTerm() (int64, bool) {
	if r.terms.s == nil {
		return 0, true
	}
	before, level := r.terms.top, r.terms.level
	term, ok := r.terms.best()
	if term != before && ok {
		r.q.from = bound{}
	}
	if r.terms.level != level && r.own != nil && r.own.crowded {
		own, level := r.crowdedAt()
		r.q.lane = r.f.know(r.g).laneIn(r.q.x, r.view, own, level)
	}
	return term, ok
}

func (r *run) exhaust() {
	if r.terms.s == nil {
		r.atLarge = false
		return
	}
	r.terms.exhaust()
}

// nextAtLarge is the first of the nodes at large.
func (r *run) nextAtLarge() (rank, bool) {
	x := r.q.x
	x.sync()
	for {
		r.passed = 0
		entry := x.find(r, &r.q)
		if entry < 0 {
			return rank{}, false
		}
		slot, cell := x.slotOf(entry)
		r.q.from = x.boundOf(entry, x.keyOf(entry))
		if cell >= 0 && !cellHolds(r.f.nodes[slot].usage, cell, &r.g.total) {
			x.refuse(entry, r.q.shape)
			continue
		}
		r.entry, r.cell = entry, cell
		return rank{key: r.q.from.key, tie: r.q.from.tie, slot: slot}, true
	}
}

// refuse notes that an instance does not fit on the node that next has given.
func (r *run) refuse(slot int32) {
	switch {
	case r.f.scans:
	case slot == r.again:
		r.again = none
	case r.entry != none:
		r.q.x.refuse(r.entry, r.q.shape)
	default:
		r.apart.pop(r.f)
	}
}

// apartBest is the best of the nodes that are looked at apart; nil: there is none.
func (r *run) apartBest() *rank {
	if !r.gathered {
		r.gather()
	}
	for len(r.apart) > 0 {
		top := &r.apart[0]
		now, ok := r.rank(top.slot)
		switch {
		case !ok || r.isExcluded(top.slot):
			r.apart.pop(r.f)
		case now == *top:
			return top
		default: // it has become worse since
			*top = now
			r.apart.sink(r.f)
		}
	}
	return nil
}

// gather finds the nodes that are looked at apart.
func (r *run) gather() {
	r.gathered = true
	if r.ask.Nodes != nil {
		for slot := range r.only {
			r.add(slot)
		}
		return
	}
	for _, id := range r.ask.Penalised {
		if slot, known := r.f.slots[id]; known {
			r.add(slot)
		}
	}
}

func (r *run) add(slot int32) {
	if !r.view.ok.has(slot) || r.isExcluded(slot) || r.lacks(slot) {
		return
	}
	if at, ok := r.rank(slot); ok {
		r.apart.push(r.f, at)
	}
}

// lacks says that a node has too little, at a glance. What the index has of it may be
// out of date by what this run placed: then more is left by it than there is.
func (r *run) lacks(slot int32) bool {
	x := r.q.x
	return x != nil && !x.cells && int(slot) < len(x.entries) && x.entries[slot].at != none && !x.entries[slot].left.covers(&r.g.floor)
}
