package scheduler

import (
	"fmt"
	"slices"
	"strings"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// AllPools as a job's node pool means every pool.
const (
	AllPools    = "all"
	defaultPool = "default"
)

// staticChecks are what a node meets or not by itself, whatever is placed on it. Groups
// with the same key share one cached view of the fleet.
type staticChecks struct {
	pool        string
	archs       []string
	drivers     []string
	constraints []check
	affinities  []affinity
	tolerations []toleration
	weighted    []string // architectures with a weight; the others are avoided
	claim       claim
	key         string
}

type affinity struct {
	check
	weight int32
}

func newStaticChecks(job *berthv1.Job, drivers map[string]bool) staticChecks {
	s := staticChecks{pool: job.GetNodePool(), archs: slices.Sorted(slices.Values(job.GetArch())), claim: newClaim(job)}
	if s.pool == "" {
		s.pool = defaultPool
	}
	for d := range drivers {
		s.drivers = append(s.drivers, d)
	}
	slices.Sort(s.drivers)
	return s
}

// seal makes the key: everything that the checks depend on.
func (s *staticChecks) seal() {
	var b strings.Builder
	fmt.Fprintf(&b, "%q %q %q %q %q %q", s.pool, s.archs, s.drivers, s.weighted,
		[]string{s.claim.name, s.claim.namespace, s.claim.job}, s.tolerationKey())
	for _, c := range s.constraints {
		fmt.Fprintf(&b, " %q", c.text)
	}
	for _, a := range s.affinities {
		fmt.Fprintf(&b, " %q%+d", a.text, a.weight)
	}
	s.key = b.String()
}

// failures yields each check that a node fails, by its name and in words, in the order
// in which they count. reserved is the reservation that holds on it; nil: none.
func (s *staticChecks) failures(n *berthv1.Node, reserved *berthv1.Reservation, yield func(name, detail string) bool) {
	if n.GetStatus() != berthv1.Node_ready && !yield("status", "node is "+n.GetStatus().String()) {
		return
	}
	if n.GetEligibility() != berthv1.Node_eligible && !yield("eligibility", "node is not eligible") {
		return
	}
	if s.pool != AllPools && poolOf(n) != s.pool && !yield("pool", "node is not in pool "+s.pool) {
		return
	}
	if len(s.archs) > 0 && !slices.Contains(s.archs, n.GetArch()) &&
		!yield("arch", "architecture is not "+strings.Join(s.archs, " or ")) {
		return
	}
	for _, name := range s.drivers {
		if why := driverFailure(n, name); why != "" && !yield("driver", why) {
			return
		}
	}
	for i := range s.constraints {
		c := &s.constraints[i]
		if v, has := attributeOf(n, c.attribute); !c.ok(v, has) && !yield("constraint", "constraint "+c.text) {
			return
		}
	}
	for t := range s.intolerable(n, berthv1.Taint_keep_off) {
		if !yield("taint", taintDetail+taintWords(t)) {
			return
		}
	}
	if why := s.claim.refused(reserved); why != "" {
		yield("reservation", why)
	}
}

func (s *staticChecks) ok(n *berthv1.Node, reserved *berthv1.Reservation) bool {
	ok := true
	s.failures(n, reserved, func(string, string) bool {
		ok = false
		return false
	})
	return ok
}

func poolOf(n *berthv1.Node) string {
	if n.GetPool() == "" {
		return defaultPool
	}
	return n.GetPool()
}

func driverFailure(n *berthv1.Node, name string) string {
	for _, d := range n.GetDrivers() {
		if d.GetName() == name {
			if !d.GetHealthy() {
				return "driver " + name + " is not healthy"
			}
			return ""
		}
	}
	return "driver " + name + " is missing"
}

// affinity is from -1 to 1: the share of the weights that the node meets.
func (s *staticChecks) affinity(n *berthv1.Node) float32 {
	var met, all int32
	for i := range s.affinities {
		a := &s.affinities[i]
		if v, has := attributeOf(n, a.attribute); a.ok(v, has) {
			met += a.weight
		}
		all += max(a.weight, -a.weight)
	}
	if all == 0 {
		return 0
	}
	return float32(met) / float32(all)
}

// staticView is what a group's static checks say of each node of a fleet.
type staticView struct {
	checks   *staticChecks
	seen     uint64 // Fleet.changes that are in it
	ok       bitmap
	avoid    bitmap    // taken only where nothing else fits
	avoided  int       // nodes in avoid
	affinity []float32 // nil: no affinities
}

// bitmap is a set of slots.
type bitmap []uint64

func (b bitmap) has(i int32) bool { return int(i)>>6 < len(b) && b[i>>6]&(1<<(i&63)) != 0 }

func (b *bitmap) set(i int32, on bool) {
	for int(i)>>6 >= len(*b) {
		*b = append(*b, 0)
	}
	if on {
		(*b)[i>>6] |= 1 << (i & 63)
	} else {
		(*b)[i>>6] &^= 1 << (i & 63)
	}
}

// maxViews bounds what is cached; when there are more, all of it is forgotten.
const maxViews = 256

// static gives the cached view of the checks, caught up with the nodes that changed.
func (f *Fleet) static(s *staticChecks) *staticView {
	v := f.views[s.key]
	if v == nil {
		if len(f.views) >= maxViews {
			clear(f.views)
			clear(f.known.table)
		}
		v = &staticView{checks: s}
		f.views[s.key] = v
	}
	f.refresh(v)
	return v
}

// refresh takes the nodes in that have changed since.
func (f *Fleet) refresh(v *staticView) {
	if v.seen == f.changes {
		return
	}
	s := v.checks
	f.catchUp(&v.seen, func(slot int32) {
		n := f.nodes[slot].node
		v.ok.set(slot, n != nil && s.ok(n, f.reserved[n.GetId()]))
		if v.avoid.has(slot) {
			v.avoided--
		}
		if v.avoid.set(slot, n != nil && s.avoids(n)); v.avoid.has(slot) {
			v.avoided++
		}
		if len(s.affinities) > 0 {
			for int(slot) >= len(v.affinity) {
				v.affinity = append(v.affinity, 0)
			}
			v.affinity[slot] = s.affinity(n)
		}
	})
}

// term is what the affinities say of a node, or its being avoided.
func (v *staticView) term(slot int32) int64 {
	term := int64(0)
	if v.affinity != nil {
		term = fixed(float64(v.affinity[slot]))
	}
	if v.avoid.has(slot) {
		term -= penalty
	}
	return term
}

// graded says that the nodes of the view are not all alike.
func (v *staticView) graded() bool { return v.affinity != nil || v.avoided > 0 }

// column has every node's value of an attribute, as a number.
type column struct {
	seen   uint64
	values []string // by number; 0 is the absence of the attribute
	number map[string]int32
	ofSlot []int32
	// nodes has, by number, how many nodes have the value; some is how many values any has.
	nodes []int32
	some  int
}

func (f *Fleet) column(attribute string) *column {
	c := f.columns[attribute]
	if c == nil {
		if len(f.columns) >= maxViews {
			clear(f.columns)
			clear(f.domains) // they have the columns' numbers
		}
		c = &column{values: []string{""}, nodes: []int32{0}, number: map[string]int32{}}
		f.columns[attribute] = c
	}
	if c.seen == f.changes {
		return c
	}
	f.catchUp(&c.seen, func(slot int32) {
		for int(slot) >= len(c.ofSlot) {
			c.ofSlot = append(c.ofSlot, 0)
		}
		if old := c.ofSlot[slot]; old != 0 {
			if c.nodes[old]--; c.nodes[old] == 0 {
				c.some--
			}
		}
		if c.ofSlot[slot] = c.numberOf(f.nodes[slot].node, attribute); c.ofSlot[slot] != 0 {
			if c.nodes[c.ofSlot[slot]]++; c.nodes[c.ofSlot[slot]] == 1 {
				c.some++
			}
		}
	})
	return c
}

// numberOf gives the number of a node's value.
func (c *column) numberOf(node *berthv1.Node, attribute string) int32 {
	if node == nil {
		return 0
	}
	value, has := attributeOf(node, attribute)
	if !has {
		return 0
	}
	n, known := c.number[value]
	if !known {
		n = int32(len(c.values))
		c.values, c.nodes, c.number[value] = append(c.values, value), append(c.nodes, 0), n
	}
	return n
}

// distinct says that every node has a value, and none the same as another.
func (c *column) distinct(f *Fleet) bool { return c.some == f.Len() }

// catchUp calls fn for every slot that changed after the last call with the same seen:
// for all of them when that was too long ago.
func (f *Fleet) catchUp(seen *uint64, fn func(slot int32)) {
	oldest := f.changes - uint64(len(f.changeLog))
	if *seen < oldest || *seen == 0 {
		for slot := range f.nodes {
			fn(int32(slot))
		}
	} else {
		for _, slot := range f.changeLog[*seen-oldest:] {
			fn(slot)
		}
	}
	*seen = f.changes
}
