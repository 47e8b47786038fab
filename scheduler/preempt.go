package scheduler

import (
	"cmp"
	"container/heap"
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Whoever fits nowhere may take the place of what has a strictly lower priority. The
// cheapest set of victims on any node is, in this order, the one
//
//   - whose highest priority is the lowest; then whose priorities' sum is the lowest,
//     all of a gang counted where one of it is taken;
//   - that loses the fewest allocations, those of broken gangs counted too, and then
//     takes away the fewest itself;
//   - that frees the least beyond what is needed;
//   - whose oldest member is the youngest;
//   - on the node that comes first by its stable hash, then its id.
//
// It never has a member without which the ask would fit as well. What is ending anyway
// costs nothing, so a second look at the same ask finds no second victims. Nodes where
// an instance failed lately (Ask.Penalised) come last. Affinity and spread do not
// choose between victims.

// Trial is a what-if on a fleet: what is placed and taken away in it is undone in the
// end. The fleet must not be used otherwise before Undo.
type Trial struct {
	f *Fleet
	// on gives what holds grants on a node, in any order; budget how many instances that
	// are up a bounded group may still lose.
	on     func(nodeID string) []Holder
	budget func(GroupKey) int

	steps   []step
	gone    map[string]bool // allocations taken out
	broken  map[string]bool // gangs
	budgets map[GroupKey]int
}

// step is one thing to be undone: a placement of a group, or an allocation taken out.
type step struct {
	group *Group
	p     Placement
	gone  *berthv1.Alloc
}

// Way is how one instance gets its place: on a node, when its victims have ended. One
// without victims waits for what is ending on the node.
type Way struct {
	NodeID, NodeName string
	Victims          []Holder
	// Ending are what ends on the node anyway, and is waited for.
	Ending []Holder
}

// NewTrial begins a what-if. See Holder for what on must give; budget is asked for
// groups of bounded holders only.
func NewTrial(f *Fleet, on func(nodeID string) []Holder, budget func(GroupKey) int) *Trial {
	return &Trial{f: f, on: on, budget: budget, gone: map[string]bool{}, broken: map[string]bool{}, budgets: map[GroupKey]int{}}
}

// Undo takes everything back.
func (t *Trial) Undo() { t.undoTo(0) }

func (t *Trial) undoTo(n int) {
	for i := len(t.steps) - 1; i >= n; i-- {
		if s := t.steps[i]; s.gone != nil {
			delete(t.gone, s.gone.GetId())
			t.f.ChangeAlloc(nil, s.gone)
		} else {
			t.f.Undo(s.group, s.p)
		}
	}
	t.steps = t.steps[:n]
}

// Place places what fits as it is, gang or not, and gives the placements.
func (t *Trial) Place(ask *Ask) []Placement {
	ask = ask.loose()
	placed, _ := Place(t.f, []*Ask{ask})
	for _, p := range placed {
		t.steps = append(t.steps, step{group: ask.Group, p: p})
	}
	return placed
}

// loose is the ask, silent and not as a gang.
func (a *Ask) loose() *Ask {
	g, ask := *a.Group, *a
	g.Gang = false
	ask.Group, ask.Silent = &g, true
	return &ask
}

// TakeOut takes an allocation out of the fleet, as if it had ended.
func (t *Trial) TakeOut(a *berthv1.Alloc) {
	if !t.gone[a.GetId()] {
		t.gone[a.GetId()] = true
		t.f.ChangeAlloc(a, nil)
		t.steps = append(t.steps, step{gone: a})
	}
}

// PutBack undoes a TakeOut.
func (t *Trial) PutBack(a *berthv1.Alloc) {
	if t.gone[a.GetId()] {
		delete(t.gone, a.GetId())
		t.f.ChangeAlloc(nil, a)
		t.steps = slices.DeleteFunc(t.steps, func(s step) bool { return s.gone.GetId() == a.GetId() && s.gone != nil })
	}
}

// Preempt finds ways for as many instances of the ask as it can, the cheapest first,
// taking away what has a lower priority than the given one. Each is placed in the trial.
func (t *Trial) Preempt(ask *Ask, priority uint32) []Way {
	room, _ := t.f.quotaRoom(ask) // nobody gives way to what a quota keeps from being placed
	s := t.search(ask.loose(), priority)
	var ways []Way
	for len(ways) < room {
		o, ok := s.next()
		if !ok {
			break
		}
		if way, ok := t.commit(s, o); ok {
			ways = append(ways, way)
		}
	}
	return ways
}

// offer is the cheapest set of victims on one node.
type offer struct {
	slot    int32
	cost    cost
	victims []Holder
	ending  []Holder
}

// search goes over the nodes in the order of what they would cost at least.
type search struct {
	t        *Trial
	ask      *Ask
	priority uint32
	node     nodeSearch
	buckets  [102][]int32 // slots by the highest priority that must give way at least
	bucket   int
	offers   offers
}

// lastBucket is for nodes that are rather not taken, whatever they cost.
const lastBucket = 101

// search sorts the nodes that can do into buckets, by sums alone.
func (t *Trial) search(ask *Ask, priority uint32) *search {
	s := &search{t: t, ask: ask, priority: priority}
	s.node = nodeSearch{t: t, g: ask.Group, priority: priority}
	excluded, penalised := t.f.slotSet(ask.Excluded), t.f.slotSet(ask.Penalised)
	var only map[int32]bool
	if ask.Nodes != nil {
		if only = t.f.slotSet(ask.Nodes); only == nil {
			return s
		}
	}
	view := t.f.static(&ask.Group.checks)
	for slot := range int32(len(t.f.nodes)) {
		if !view.ok.has(slot) || excluded[slot] || only != nil && !only[slot] {
			continue
		}
		tier, ok := s.node.tierBySums(slot)
		if !ok {
			continue
		}
		if penalised[slot] {
			tier = lastBucket
		}
		s.buckets[tier] = append(s.buckets[tier], slot)
	}
	return s
}

// next is the cheapest offer there is now.
func (s *search) next() (offer, bool) {
	for {
		for s.bucket < len(s.buckets) && (len(s.offers.list) == 0 || int(s.offers.list[0].cost.highest) >= s.bucket) {
			for _, slot := range s.buckets[s.bucket] {
				s.look(slot, s.bucket == lastBucket)
			}
			s.bucket++
		}
		if len(s.offers.list) == 0 {
			return offer{}, false
		}
		// What was taken since may have changed it: other gangs are broken, budgets used up.
		old := heap.Pop(&s.offers).(offer)
		now, ok := s.node.look(old.slot)
		if !ok {
			continue
		}
		now.cost.last = old.cost.last
		if len(s.offers.list) == 0 || !s.offers.before(&s.offers.list[0], &now) {
			return now, true
		}
		heap.Push(&s.offers, now)
	}
}

func (s *search) look(slot int32, last bool) {
	if o, ok := s.node.look(slot); ok {
		o.cost.last = last
		s.offers.f = s.t.f
		heap.Push(&s.offers, o)
	}
}

// commit takes an offer: its victims go, and the instance is placed. Where that does not
// do (hosts must be distinct, a value has enough instances), the node is out.
func (t *Trial) commit(s *search, o offer) (Way, bool) {
	mark := len(t.steps)
	for _, h := range slices.Concat(o.ending, o.victims) {
		t.TakeOut(h.Alloc)
	}
	node := t.f.nodes[o.slot].node
	placed := t.Place(&Ask{Group: s.ask.Group, Nodes: []string{node.GetId()}})
	if len(placed) == 0 {
		t.undoTo(mark)
		return Way{}, false
	}
	for _, h := range o.victims {
		if h.Gang != "" {
			t.broken[h.Gang] = true
		}
		if h.Bounded && h.Up {
			t.budgets[groupOf(h.Alloc)] = t.left(groupOf(h.Alloc)) - 1
		}
	}
	if s.ask.Nodes == nil {
		s.look(o.slot, o.cost.last)
	}
	return Way{NodeID: node.GetId(), NodeName: node.GetName(), Victims: o.victims, Ending: o.ending}, true
}

// Could says whether an instance of the group may fit on a node: as it is, or without
// what has a lower priority than the given one; with replaces, also without what is of
// the same job. It looks at nothing but this node.
func (t *Trial) Could(g *Group, nodeID string, priority uint32, replaces bool) bool {
	slot, known := t.f.slots[nodeID]
	if !known || !t.f.static(&g.checks).ok.has(slot) {
		return false
	}
	s := nodeSearch{t: t, g: g, priority: priority, replaces: replaces}
	fits := s.gather(slot) && (s.fits() || len(s.cands) > 0 && s.tier())
	if fits && (g.hosts != nobody || len(g.limits) > 0) {
		// Only a placement knows of the other instances: what may go is taken out.
		defer t.undoTo(len(t.steps))
		for i := range s.cands {
			t.TakeOut(s.cands[i].Alloc)
		}
		return len(t.Place(&Ask{Group: g, Nodes: []string{nodeID}})) > 0
	}
	return fits
}

// left is how many of a bounded group may still be taken.
func (t *Trial) left(key GroupKey) int {
	n, known := t.budgets[key]
	if !known {
		n = t.budget(key)
		t.budgets[key] = n
	}
	return n
}

// offers is a heap, the cheapest on top.
type offers struct {
	f    *Fleet
	list []offer
}

func (o *offers) before(a, b *offer) bool {
	if c := a.cost.compare(&b.cost); c != 0 {
		return c < 0
	}
	x, y := o.f.nodes[a.slot].node.GetId(), o.f.nodes[b.slot].node.GetId()
	return cmp.Or(cmp.Compare(hashString(x), hashString(y)), cmp.Compare(x, y)) < 0
}

func (o *offers) Len() int           { return len(o.list) }
func (o *offers) Less(i, j int) bool { return o.before(&o.list[i], &o.list[j]) }
func (o *offers) Swap(i, j int)      { o.list[i], o.list[j] = o.list[j], o.list[i] }
func (o *offers) Push(x any)         { o.list = append(o.list, x.(offer)) }
func (o *offers) Pop() any {
	last := len(o.list) - 1
	x := o.list[last]
	o.list = o.list[:last]
	return x
}
