package scheduler

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
)

// Nodes of a view that have the same affinity and the same values of every attribute
// that instances are counted by (spread, distinct_property) are a domain: a group's terms
// are the same for all of them, but for its own instances on a node.

// domains are those of a view's nodes by some attributes. Groups that share both share
// them, so they are kept.
type domains struct {
	seen    uint64
	names   []string
	columns []*column
	number  map[string]int32
	scratch []byte

	ofSlot []int32   // -1: the node is not in the view
	static []int64   // by domain: the term of the affinities, or of being avoided
	values [][]int32 // by domain, then column: the value's number
	size   []int32   // by domain: its nodes
	having [][][]int32
}

// noDomain is that of a node outside the view.
const noDomain = -1

// domainsOf gives the domains for a group, caught up with the nodes that changed; nil:
// all nodes of the view are alike.
func (f *Fleet) domainsOf(g *Group, v *staticView) *domains {
	names := g.attributes()
	if len(names) == 0 && !v.graded() {
		return nil
	}
	key := g.checks.key + "\x00" + strings.Join(names, "\x00")
	d := f.domains[key]
	if d == nil {
		if len(f.domains) >= maxViews {
			clear(f.domains)
		}
		d = &domains{names: names, number: map[string]int32{}, having: make([][][]int32, len(names))}
		f.domains[key] = d
	}
	if d.seen == f.changes {
		return d
	}
	d.columns = d.columns[:0]
	for _, name := range names {
		d.columns = append(d.columns, f.column(name))
	}
	f.catchUp(&d.seen, func(slot int32) { d.put(slot, v) })
	return d
}

// put finds the domain of a node.
func (d *domains) put(slot int32, v *staticView) {
	for int(slot) >= len(d.ofSlot) {
		d.ofSlot = append(d.ofSlot, noDomain)
	}
	if old := d.ofSlot[slot]; old != noDomain {
		d.size[old]--
	}
	d.ofSlot[slot] = noDomain
	if !v.ok.has(slot) {
		return
	}
	term := int64(0)
	if v.affinity != nil {
		term = fixed(float64(v.affinity[slot]))
	}
	if v.avoid.has(slot) {
		term -= penalty
	}
	b := binary.LittleEndian.AppendUint64(d.scratch[:0], uint64(term))
	for _, c := range d.columns {
		b = binary.LittleEndian.AppendUint32(b, uint32(c.ofSlot[slot]))
	}
	d.scratch = b
	n, known := d.number[string(b)]
	if !known {
		n = int32(len(d.static))
		d.number[string(b)] = n
		values := make([]int32, len(d.columns))
		for i, c := range d.columns {
			values[i] = c.ofSlot[slot]
			for int(values[i]) >= len(d.having[i]) {
				d.having[i] = append(d.having[i], nil)
			}
			d.having[i][values[i]] = append(d.having[i][values[i]], n)
		}
		d.static, d.values, d.size = append(d.static, term), append(d.values, values), append(d.size, 0)
	}
	d.ofSlot[slot] = n
	d.size[n]++
}

// terms are a group's terms by domain, as instances are placed.
type terms struct {
	d       *domains // nil: all are 0
	spreads []spread // of the first columns
	limits  []limit
	counts  [][]int32   // by column: instances by value number
	all     []int32     // by limit: instances that it counts
	room    [][]int64   // by limit: terms by value number, see seed
	desired [][]float64 // by spread: instances wanted by value number
	total   []int64     // by domain
	// dead domains have no node left that is not looked at apart from the others.
	dead []bool
	top  int64
	tops int // domains at the top; 0: not known
}

// start works the terms out for the instances that there are.
func (t *terms) start(f *Fleet, g *Group, v *staticView, wanted int) {
	t.d, t.spreads, t.limits, t.tops = f.domainsOf(g, v), g.spreads, g.limits, 0
	if t.d == nil {
		return
	}
	t.counts, t.desired = resize(t.counts, len(t.d.columns)), resize(t.desired, len(t.spreads))
	t.all = resize(t.all, len(t.limits))
	for i, col := range t.d.columns {
		t.counts[i] = resize(t.counts[i], len(col.values))
		clear(t.counts[i])
		t.count(f, g, i, col)
	}
	for i := range t.spreads {
		total := wanted
		for _, n := range t.counts[i] {
			total += int(n)
		}
		t.desired[i] = t.spreads[i].desired(t.desired[i], t.d, i, max(total, g.Count))
	}
	t.seed(f, g, v, wanted)
	t.total, t.dead = resize(t.total, len(t.d.static)), resize(t.dead, len(t.d.static))
	clear(t.dead)
	for n := range t.total {
		t.total[n] = t.sum(int32(n))
	}
}

// resize gives a slice of n with the memory and the content of s, as far as they go.
func resize[T any](s []T, n int) []T {
	if n <= cap(s) {
		return s[:n]
	}
	return slices.Grow(s, n-len(s))[:n]
}

// count counts the instances that a column is about.
func (t *terms) count(f *Fleet, g *Group, column int, col *column) {
	k := column - len(t.spreads)
	keys := g.keys(sameGroup)
	if k >= 0 {
		keys = t.limits[k].keys(g)
	}
	for key := range keys {
		f.groups[key].addTo(f, t.d.names[column], col, t.counts[column])
	}
	if k >= 0 {
		t.all[k] = 0
		for _, n := range t.counts[column] {
			t.all[k] += n
		}
	}
}

// desired gives the instances wanted by value number. Values without a target share
// what the targets leave; without targets all values share alike. Nodes without the
// attribute should get none.
func (s *spread) desired(out []float64, d *domains, column, total int) []float64 {
	values := d.columns[column].values
	out = resize(out, len(values))
	rest, others := 1.0, 0
	present := func(value int) bool {
		if value >= len(d.having[column]) {
			return false
		}
		return slices.ContainsFunc(d.having[column][value], func(n int32) bool { return d.size[n] > 0 })
	}
	for value := 1; value < len(out); value++ {
		out[value] = -1
		if share, targeted := s.targets[values[value]]; targeted {
			out[value] = float64(share * float64(total))
			rest -= share
		} else if present(value) {
			others++
		} else {
			out[value] = 0
		}
	}
	for value := 1; value < len(out); value++ {
		if out[value] < 0 {
			out[value] = float64(max(rest, 0) * float64(total) / float64(others))
		}
	}
	out[0] = -1
	return out
}

// sum is the term of a domain's nodes: for each spread, how many instances its value
// still lacks (or, below 0, has too many). A domain with a full value takes none.
func (t *terms) sum(n int32) int64 {
	values, room := t.d.values[n], int64(0)
	for k := range t.limits {
		i := len(t.spreads) + k
		if value := values[i]; value == 0 || t.limits[k].full(t.counts[i][value], t.all[k]) {
			return math.MinInt64
		}
		room += t.roomTerm(k, values[i])
	}
	sum := 0.0
	for i := range t.spreads {
		lack := t.desired[i][values[i]] - float64(t.counts[i][values[i]])
		sum += float64(t.spreads[i].weight * lack)
	}
	return t.d.static[n] + fixed(sum) + room
}

// moving says that terms change with every instance.
func (t *terms) moving() bool { return t.d != nil && len(t.d.columns) > 0 }

// of is the term of a node; false: its domain takes no more.
func (t *terms) of(slot int32) (int64, bool) {
	if t.d == nil {
		return 0, true
	}
	term := t.total[t.d.ofSlot[slot]]
	return term, term != math.MinInt64
}

// placed counts an instance on a node.
func (t *terms) placed(slot int32) {
	if !t.moving() {
		return
	}
	first := false
	for i, value := range t.d.values[t.d.ofSlot[slot]] {
		if k := i - len(t.spreads); k >= 0 {
			if t.limits[k].kind == apart {
				continue
			}
			t.all[k]++
			first = first || t.limits[k].kind == together && t.all[k] == 1
		}
		t.counts[i][value]++
		for _, n := range t.d.having[i][value] {
			now := t.sum(n)
			if t.tops > 0 && !t.dead[n] && t.total[n] == t.top && now != t.top {
				t.tops--
			}
			t.total[n] = now
		}
	}
	if first {
		t.again() // all other values are full now
	}
}

// best is the highest term of a domain that is not dead; false: there is none.
func (t *terms) best() (int64, bool) {
	if t.tops > 0 {
		return t.top, true
	}
	t.top = math.MinInt64
	for n, total := range t.total {
		switch {
		case t.dead[n] || total < t.top || total == math.MinInt64 || t.d.size[n] == 0:
		case total > t.top:
			t.top, t.tops = total, 1
		default:
			t.tops++
		}
	}
	return t.top, t.tops > 0
}

// exhaust marks the domains at the top as dead.
func (t *terms) exhaust() {
	for n, total := range t.total {
		t.dead[n] = t.dead[n] || total == t.top
	}
	t.tops = 0
}

// again works the terms of all domains out anew.
func (t *terms) again() {
	for n := range t.total {
		t.total[n] = t.sum(int32(n))
	}
	t.tops = 0
}

// full is the reached limit that keeps a node out; nil: none.
func (t *terms) full(slot int32) *limit {
	for k := range t.limits {
		i := len(t.spreads) + k
		if value := t.d.columns[i].ofSlot[slot]; value == 0 || t.limits[k].full(t.counts[i][value], t.all[k]) {
			return &t.limits[k]
		}
	}
	return nil
}
