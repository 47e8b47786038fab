package scheduler

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/berthd/berth/topology"
)

// cost is what a set of victims costs; see Trial for the order.
type cost struct {
	last    bool   // the node is rather not taken at all
	highest uint32 // of the victims' priorities
	sum     uint64 // of the priorities of all that is lost
	lost    int    // allocations, those of broken gangs too
	taken   int
	freed   uint64 // weight of what they hold
	// oldest is the revision at which the oldest was created: the younger the better.
	oldest uint64
}

func (c *cost) compare(o *cost) int {
	if c.last != o.last {
		if o.last {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(c.highest, o.highest), cmp.Compare(c.sum, o.sum), cmp.Compare(c.lost, o.lost),
		cmp.Compare(c.taken, o.taken), cmp.Compare(c.freed, o.freed), cmp.Compare(o.oldest, c.oldest))
}

// nodeSearch finds the cheapest victims on one node. Its memory is used again.
type nodeSearch struct {
	t        *Trial
	g        *Group
	priority uint32 // what is below it may be taken away
	replaces bool   // what is of the same job may go as well

	u      *topology.Usage
	ending []Holder
	cands  []Holder // those that may be taken, cheapest first
	grants []topology.Grant
	useful []uint64 // thousandths of devices of the kinds asked for, by candidate
	lack   [3]uint64
}

// Bounds of the exact search. Beyond them a set is made greedily and then thinned out:
// still none in it is for nothing, but another one may be cheaper.
const (
	exactCandidates = 10
	exactTries      = 256
)

// gather sorts the holders of a node into those that end anyway and those that may be
// taken away.
func (s *nodeSearch) gather(slot int32) bool {
	s.u = s.t.f.nodes[slot].usage
	s.ending, s.cands = s.ending[:0], s.cands[:0]
	if s.u == nil || s.u.Stray() {
		return false
	}
	bounded := false
	for _, h := range s.t.on(s.t.f.nodes[slot].node.GetId()) {
		switch {
		case s.t.gone[h.Alloc.GetId()]:
		case h.Ending:
			s.ending = append(s.ending, h)
		case s.own(&h):
			if s.replaces {
				s.cands = append(s.cands, h)
			}
		case h.Priority < s.priority && !h.Fixed && (!h.Bounded || s.mayLose(&h)):
			s.cands = append(s.cands, h)
			bounded = bounded || h.Bounded
		}
	}
	if bounded {
		s.ration()
	}
	return true
}

// ration leaves no more candidates of a bounded group than may be taken, the youngest.
func (s *nodeSearch) ration() {
	slices.SortFunc(s.cands, func(a, b Holder) int {
		return cmp.Or(cmp.Compare(b.Alloc.GetCreateRevision(), a.Alloc.GetCreateRevision()), cmp.Compare(a.Alloc.GetId(), b.Alloc.GetId()))
	})
	up := map[GroupKey]int{}
	s.cands = slices.DeleteFunc(s.cands, func(h Holder) bool {
		if !h.Bounded || !h.Up {
			return false
		}
		key := groupOf(h.Alloc)
		up[key]++
		return up[key] > s.t.left(key)
	})
}

func (s *nodeSearch) own(h *Holder) bool {
	return h.Alloc.GetNamespace() == s.g.Key.Namespace && h.Alloc.GetJob() == s.g.Key.Job
}

// mayLose says whether the budget of a bounded group allows for it. One that is not up
// counts as missing already.
func (s *nodeSearch) mayLose(h *Holder) bool { return !h.Up || s.t.left(groupOf(h.Alloc)) > 0 }

// tierBySums is the lowest priority up to which everything must go for the sums to be
// enough; 0 with true: nothing needs to.
func (s *nodeSearch) tierBySums(slot int32) (uint32, bool) {
	if !s.gather(slot) {
		return 0, false
	}
	milli, memory := s.free()
	if milli >= s.g.least && memory >= s.g.total.memory && len(s.ending) > 0 {
		return 0, true
	}
	var milliAt, memoryAt [101]uint64
	any := [2]uint64{}
	for i := range s.cands {
		p := min(s.cands[i].Priority, 100)
		milliAt[p] += s.cands[i].milli
		memoryAt[p] += s.cands[i].memory
		any[p>>6] |= 1 << (p & 63)
	}
	for w, word := range any {
		for ; word != 0; word &= word - 1 {
			p := w<<6 + bits.TrailingZeros64(word)
			milli, memory = milli+milliAt[p], memory+memoryAt[p]
			if milli >= s.g.least && memory >= s.g.total.memory {
				return uint32(p), true
			}
		}
	}
	return 0, false
}

// free is the CPU and memory that are left when what is ending has ended.
func (s *nodeSearch) free() (milli, memory uint64) {
	for i := range s.u.Machine().Cells {
		milli, memory = milli+s.u.FreeMilli(i), memory+s.u.FreeMemory(i)
	}
	for i := range s.ending {
		milli, memory = milli+s.ending[i].milli, memory+s.ending[i].memory
	}
	return milli, memory
}

// look gives the cheapest offer of a node; false: it cannot do.
func (s *nodeSearch) look(slot int32) (offer, bool) {
	if !s.gather(slot) {
		return offer{}, false
	}
	for i := range s.ending {
		if g, err := GrantOf(s.ending[i].Alloc.GetAssignment()); err == nil {
			s.u.Remove(&g)
			defer s.u.Force(&g)
		}
	}
	if s.fits() {
		return offer{slot: slot, ending: slices.Clone(s.ending)}, len(s.ending) > 0
	}
	if len(s.cands) == 0 || !s.tier() {
		return offer{}, false
	}
	set := s.cheapest()
	o := offer{slot: slot, cost: s.costOf(set), ending: slices.Clone(s.ending)}
	for _, i := range set {
		o.victims = append(o.victims, s.cands[i])
	}
	return o, true
}

// fits says whether the group fits on the node as it is now.
func (s *nodeSearch) fits() bool {
	choice, ok := s.t.f.scratch.fit.fit(s.u, s.g)
	if ok {
		s.u.Remove(&choice.grant)
	}
	return ok
}

// tier leaves only the candidates up to the lowest priority that must give way; false:
// not all of them together are enough.
func (s *nodeSearch) tier() bool {
	slices.SortFunc(s.cands, func(a, b Holder) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(s.losses(&a), s.losses(&b)),
			cmp.Compare(b.Alloc.GetCreateRevision(), a.Alloc.GetCreateRevision()), cmp.Compare(a.Alloc.GetId(), b.Alloc.GetId()))
	})
	s.parse()
	n, enough := 0, false
	for n < len(s.cands) && !enough {
		for p := s.cands[n].Priority; n < len(s.cands) && s.cands[n].Priority == p; n++ {
			s.u.Remove(&s.grants[n])
		}
		enough = s.fits()
	}
	for i := range n {
		s.u.Force(&s.grants[i])
	}
	s.cands = s.cands[:n]
	return enough
}

// parse reads the candidates' grants, and what is lacking by sums.
func (s *nodeSearch) parse() {
	for len(s.grants) < len(s.cands) {
		s.grants = append(s.grants, topology.Grant{})
	}
	s.useful = s.useful[:0]
	asked := map[string]bool{}
	s.lack = [3]uint64{s.g.least, s.g.total.memory, 0}
	for i := range s.g.total.devices {
		d := &s.g.total.devices[i]
		asked[d.kind] = true
		s.lack[2] += uint64(d.count) * uint64(d.share)
	}
	m := s.u.Machine()
	for i := range s.cands {
		if GrantInto(&s.grants[i], s.cands[i].Alloc.GetAssignment()) != nil {
			s.grants[i].Reset()
		}
		n := uint64(0)
		for _, d := range s.grants[i].Devices {
			if k := m.DeviceIndex(d.ID); k >= 0 && asked[m.Devices[k].Kind] {
				n += uint64(d.ShareMilli)
			}
		}
		s.useful = append(s.useful, n)
	}
	var milli, memory, devices uint64
	for i := range m.Cells {
		milli, memory = milli+s.u.FreeMilli(i), memory+s.u.FreeMemory(i)
	}
	for i := range m.Devices {
		if asked[m.Devices[i].Kind] {
			devices += uint64(s.u.FreeDevice(i))
		}
	}
	for i, free := range []uint64{milli, memory, devices} {
		s.lack[i] -= min(s.lack[i], free)
	}
}

// losses is how many allocations are lost with one.
func (s *nodeSearch) losses(h *Holder) int {
	if h.Gang == "" || s.t.broken[h.Gang] {
		return 1
	}
	return max(h.GangSize, 1)
}

// cheapest gives the candidates, by index, of the cheapest set that is enough.
func (s *nodeSearch) cheapest() []int {
	if set := s.one(); set != nil {
		return set
	}
	if len(s.cands) <= exactCandidates {
		if set := s.exact(); set != nil {
			return set
		}
	}
	set := s.greedy(func(a, b int) int { return cmp.Compare(a, b) })
	large := s.greedy(func(a, b int) int { return cmp.Compare(s.weight(b), s.weight(a)) })
	if a, b := s.costOf(set), s.costOf(large); b.compare(&a) < 0 {
		return large
	}
	return set
}

// one tries single candidates of the highest priority that must give way: where one
// does and nothing else breaks with it, no set is cheaper than the best of them.
func (s *nodeSearch) one() []int {
	var sets [][]int
	for i := range s.cands {
		if h := &s.cands[i]; h.Priority == s.cands[len(s.cands)-1].Priority && s.losses(h) == 1 && s.enough([]int{i}) {
			sets = append(sets, []int{i})
		}
	}
	return s.first(sets)
}

// exact tries all sets. nil: too many tries.
func (s *nodeSearch) exact() []int {
	var sets [][]int
	for mask := uint(1); mask < 1<<len(s.cands); mask++ {
		var set []int
		for rest := mask; rest != 0; rest &= rest - 1 {
			set = append(set, bits.TrailingZeros(rest))
		}
		if s.enough(set) {
			sets = append(sets, set)
		}
	}
	return s.first(sets)
}

// first is the cheapest of the sets that really fits.
func (s *nodeSearch) first(sets [][]int) []int {
	costs := make([]cost, len(sets))
	order := make([]int, len(sets))
	for i := range sets {
		costs[i], order[i] = s.costOf(sets[i]), i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(costs[a].compare(&costs[b]), slices.Compare(sets[a], sets[b])) })
	for _, i := range order[:min(len(order), exactTries)] {
		if s.fitsWithout(sets[i]) {
			return sets[i]
		}
	}
	return nil
}

// enough looks at the sums only.
func (s *nodeSearch) enough(set []int) bool {
	var milli, memory, devices uint64
	for _, i := range set {
		milli, memory, devices = milli+s.cands[i].milli, memory+s.cands[i].memory, devices+s.useful[i]
	}
	return milli >= s.lack[0] && memory >= s.lack[1] && devices >= s.lack[2]
}

func (s *nodeSearch) fitsWithout(set []int) bool {
	for _, i := range set {
		s.u.Remove(&s.grants[i])
	}
	ok := s.fits()
	for _, i := range set {
		s.u.Force(&s.grants[i])
	}
	return ok
}

// greedy takes candidates in an order until they are enough, then leaves out each
// without which they still are, the costliest first.
func (s *nodeSearch) greedy(compare func(a, b int) int) []int {
	order := make([]int, len(s.cands))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, compare)
	n := 1 // the least prefix that is enough
	for n < len(order) && !(s.enough(order[:n]) && s.fitsWithout(order[:n])) {
		n++
	}
	set := slices.Clone(order[:n])
	slices.Sort(set)
	for k := len(set) - 1; k >= 0; k-- {
		if rest := slices.Delete(slices.Clone(set), k, k+1); s.enough(rest) && s.fitsWithout(rest) {
			set = rest
		}
	}
	return set
}

// weight makes what a candidate holds one number: a core is as much as 4 GiB, a device
// as 16 cores.
func (s *nodeSearch) weight(i int) uint64 {
	w := s.cands[i].milli*4 + s.cands[i].memory
	for _, d := range s.grants[i].Devices {
		w += 64 * uint64(d.ShareMilli)
	}
	return w
}

func (s *nodeSearch) costOf(set []int) cost {
	c := cost{oldest: ^uint64(0)}
	for k, i := range set {
		h := &s.cands[i]
		c.highest, c.oldest = max(c.highest, h.Priority), min(c.oldest, h.Alloc.GetCreateRevision())
		c.taken++
		c.freed += s.weight(i)
		if h.Gang != "" && slices.ContainsFunc(set[:k], func(o int) bool { return s.cands[o].Gang == h.Gang }) {
			continue // its gang is counted
		}
		lost := s.losses(h)
		c.lost += lost
		c.sum += uint64(lost) * uint64(h.Priority)
	}
	return c
}
