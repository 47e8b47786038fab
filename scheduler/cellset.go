package scheduler

import (
	"cmp"
	"slices"

	"github.com/berthd/berth/topology"
)

// cellSearch finds the cells that a group is put into: of all sets of a given size that
// have room for it, the closest together; among those where its devices cost least, then
// where the fewest cells are empty, then where least is left, then the lowest.
type cellSearch struct {
	x     *fitter
	u     *topology.Usage
	g     *Group
	size  int
	quick bool // any set will do
	sums  []sums
	most  sums // of any one cell

	chosen []int
	steps  int
	found  bool
	lowest setCost
	set    []int // of the lowest cost
	picks  []int32
}

// sums are what cells have left of what sums up.
type sums struct {
	milli, memory  uint64
	threads, cores int
}

func (s sums) plus(o sums) sums {
	return sums{s.milli + o.milli, s.memory + o.memory, s.threads + o.threads, s.cores + o.cores}
}

// setCost is what a set of cells costs, what weighs most first.
type setCost struct {
	span   uint32 // sum of the distances between the cells
	pick   pickCost
	empty  int
	weight uint64
}

func (c *setCost) compare(o *setCost) int {
	return cmp.Or(cmp.Compare(c.span, o.span), c.pick.compare(&o.pick), cmp.Compare(c.empty, o.empty), cmp.Compare(c.weight, o.weight))
}

// maxSets bounds how many sets, whole or begun, are looked at for one size. All sets of
// a node of 16 cells are fewer (12,870 of 8, and 26,332 begun). On larger nodes the sets
// around each cell come first, and when the bound is reached the best so far is taken.
const maxSets = 1 << 16

// begin notes what each cell has left.
func (s *cellSearch) begin(x *fitter, u *topology.Usage, g *Group) {
	s.x, s.u, s.g = x, u, g
	s.sums, s.most = s.sums[:0], sums{}
	for i := range u.Machine().Cells {
		left := u.Summary(i)
		s.sums = append(s.sums, sums{left.Milli, left.Memory, left.Threads, left.Cores})
		s.most.milli, s.most.memory = max(s.most.milli, left.Milli), max(s.most.memory, left.Memory)
		s.most.threads, s.most.cores = max(s.most.threads, left.Threads), max(s.most.cores, left.Cores)
	}
}

// find looks for the best set of so many cells.
func (s *cellSearch) find(size int) bool {
	s.size, s.found, s.steps, s.chosen = size, false, maxSets, s.chosen[:0]
	s.x.picker.budget = allPicks
	if n := len(s.sums); size > 1 && size < n && n > 16 {
		for seed := range n {
			s.around(seed)
		}
		s.chosen = s.chosen[:0]
	}
	s.grow(0, 0, sums{})
	return s.found
}

// grow adds one more cell, from the first on, to those chosen.
func (s *cellSearch) grow(first int, span uint32, have sums) {
	missing := s.size - len(s.chosen)
	if missing == 0 {
		s.look(span)
		return
	}
	if !s.promising(have, missing) {
		return
	}
	m := s.u.Machine()
	for c := first; c+missing <= len(s.sums) && (!s.found || !s.quick); c++ {
		if s.steps--; s.steps < 0 {
			return
		}
		wider := span
		for _, o := range s.chosen {
			wider += m.Distance(o, c)
		}
		if s.found && wider > s.lowest.span || s.g.cells > 0 && !cellHolds(s.u, c, &s.g.part) {
			continue
		}
		s.chosen = append(s.chosen, c)
		s.grow(c+1, wider, have.plus(s.sums[c]))
		s.chosen = s.chosen[:len(s.chosen)-1]
	}
}

// promising says whether so many more cells could have room enough, by the sums.
func (s *cellSearch) promising(have sums, missing int) bool {
	n, g := &s.g.total, s.g
	if g.align&alignMemory != 0 && have.memory+uint64(missing)*s.most.memory < n.memory {
		return false
	}
	return g.align&alignCPU == 0 || have.milli+uint64(missing)*s.most.milli >= g.least &&
		have.cores+missing*s.most.cores >= n.cores && have.threads+missing*s.most.threads >= n.cores+n.threads
}

// look tries the cells chosen, and keeps them where they are the best so far.
func (s *cellSearch) look(span uint32) {
	if !s.x.holds(s.chosen) {
		return
	}
	cost := setCost{span: span}
	var inside cells
	for _, c := range s.chosen {
		inside |= 1 << c
	}
	if len(s.g.wishes) > 0 {
		all := len(s.chosen) == len(s.sums) && s.g.policy == anywhere && s.g.cells == 0
		if !s.x.picker.pick(inside, all) {
			return
		}
		cost.pick = s.x.picker.lowest
	}
	for _, c := range s.chosen {
		if !s.u.CellUsed(c) {
			cost.empty++
		}
		cost.weight += cellWeight(s.u, c)
	}
	if s.found {
		if by := cost.compare(&s.lowest); by > 0 || by == 0 && slices.Compare(s.chosen, s.set) >= 0 {
			return
		}
	}
	s.found, s.lowest = true, cost
	s.set = append(s.set[:0], s.chosen...)
	s.picks = append(s.picks[:0], s.x.picker.best...)
}

// around looks at the cells that are closest to one.
func (s *cellSearch) around(seed int) {
	m := s.u.Machine()
	s.chosen = s.chosen[:0]
	for c := range s.sums {
		if s.g.cells == 0 || cellHolds(s.u, c, &s.g.part) {
			s.chosen = append(s.chosen, c)
		}
	}
	if len(s.chosen) < s.size {
		return
	}
	slices.SortStableFunc(s.chosen, func(a, b int) int { return cmp.Compare(m.Distance(seed, a), m.Distance(seed, b)) })
	s.chosen = s.chosen[:s.size]
	slices.Sort(s.chosen)
	span := uint32(0)
	for i, a := range s.chosen {
		for _, b := range s.chosen[i+1:] {
			span += m.Distance(a, b)
		}
	}
	s.look(span)
}

// fewestKey is what the fewest cells depend on.
type fewestKey struct {
	machine *topology.Machine
	shape   string
}

// maxFewest bounds what is remembered; when there is more, all of it is forgotten.
const maxFewest = 4096

// fewestCells is how many cells a group needs on an empty machine; 0 when it does not fit
// even then.
func fewestCells(m *topology.Machine, g *Group) int {
	var x fitter
	return x.fewest(m, g)
}

// fewest is fewestCells, remembered.
func (x *fitter) fewest(m *topology.Machine, g *Group) int {
	key := fewestKey{m, g.shape}
	if n, known := x.fewestCells[key]; known {
		return n
	}
	if x.fewestCells == nil || len(x.fewestCells) >= maxFewest {
		x.fewestCells = map[fewestKey]int{}
	}
	var fresh fitter
	empty, n := topology.NewUsage(m), 0
	if fresh.begin(empty, g) {
		fresh.search.quick = true
		for k := 1; k <= len(m.Cells) && n == 0; k++ {
			if fresh.search.find(k) {
				n = k
			}
		}
	}
	x.fewestCells[key] = n
	return n
}
