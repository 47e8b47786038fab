package scheduler

import (
	"encoding/binary"
	"slices"
	"strings"
)

// Nodes of a view that have the same affinity and the same values of every attribute that
// instances are counted by are a domain: a group's terms are the same for all of them,
// but for what its own instances on a node say. An attribute of which every node has a
// value of its own (node.id) makes no domains: counting by it is counting by node.

// domains are those of a view's nodes by some attributes. Groups that share both share
// them, so they are kept.
type domains struct {
	seen    uint64
	names   []string
	plain   []bool // by name: no value of it is special, so it may be counted by node
	columns []*column
	byNode  []bool // by column: it is counted by node
	number  map[string]int32
	scratch []byte

	ofSlot []int32   // noDomain: the node is not in the view
	static []int64   // by domain: the term of the affinities, or of being avoided
	values [][]int32 // by domain, then column: the value's number
	size   []int32   // by domain: its nodes
	nodes  int       // of the view
	// By column, then value: the domains that have it, and how many nodes have. present is
	// how many values any node has, by column.
	having  [][][]int32
	held    [][]int32
	present []int
}

// noDomain is that of a node outside the view.
const noDomain = -1

// domainNames names what a group's domains are made of. Those that it has while the first
// of who lie together is still to come have the attributes of these limits, too.
type domainNames struct {
	key   string
	names []string
	plain []bool
}

// compileDomains names the group's domains: without and with the attributes that the
// first instance decides for all.
func (g *Group) compileDomains() {
	var names []string
	var plain []bool
	for _, s := range g.spreads {
		names, plain = append(names, s.attribute), append(plain, s.targets == nil)
	}
	g.domains[0] = newDomainNames(g.checks.key, names, plain)
	for _, l := range g.limits {
		if l.kind == together {
			names, plain = append(names, l.attribute), append(plain, false)
		}
	}
	g.domains[1] = newDomainNames(g.checks.key, names, plain)
}

func newDomainNames(checks string, names []string, plain []bool) domainNames {
	var key strings.Builder
	key.WriteString(checks)
	for i, name := range names {
		key.WriteString("\x00")
		key.WriteString(name)
		if plain[i] {
			key.WriteString("\x01")
		}
	}
	return domainNames{key.String(), slices.Clone(names), slices.Clone(plain)}
}

// domainsOf gives the domains of a view, caught up with the nodes that changed.
func (f *Fleet) domainsOf(by *domainNames, v *staticView) *domains {
	d := f.domains[by.key]
	if d == nil {
		if len(f.domains) >= maxViews {
			clear(f.domains)
		}
		d = &domains{names: by.names, plain: by.plain, byNode: make([]bool, len(by.names))}
		f.domains[by.key] = d
	}
	if d.seen == f.changes {
		return d
	}
	d.columns = d.columns[:0]
	anew := d.seen == 0
	for i, name := range d.names {
		c := f.column(name)
		d.columns = append(d.columns, c)
		if byNode := d.plain[i] && c.distinct(f); byNode != d.byNode[i] {
			d.byNode[i], anew = byNode, true
		}
	}
	if anew {
		d.clear()
	}
	f.catchUp(&d.seen, func(slot int32) { d.put(slot, v) })
	return d
}

func (d *domains) clear() {
	n := len(d.names)
	*d = domains{names: d.names, plain: d.plain, columns: d.columns, byNode: d.byNode, number: map[string]int32{},
		having: make([][][]int32, n), held: make([][]int32, n), present: make([]int, n)}
}

// put finds the domain of a node.
func (d *domains) put(slot int32, v *staticView) {
	for int(slot) >= len(d.ofSlot) {
		d.ofSlot = append(d.ofSlot, noDomain)
	}
	if old := d.ofSlot[slot]; old != noDomain {
		d.resize(old, -1)
	}
	d.ofSlot[slot] = noDomain
	if !v.ok.has(slot) {
		return
	}
	term := v.term(slot)
	b := binary.LittleEndian.AppendUint64(d.scratch[:0], uint64(term))
	for i := range d.columns {
		b = binary.LittleEndian.AppendUint32(b, uint32(d.valueOf(i, slot)))
	}
	d.scratch = b
	n, known := d.number[string(b)]
	if !known {
		n = d.add(slot, term)
		d.number[string(b)] = n
	}
	d.ofSlot[slot] = n
	d.resize(n, 1)
}

// valueOf is the number of a node's value of a column; 0 where it is counted by node.
func (d *domains) valueOf(column int, slot int32) int32 {
	if d.byNode[column] {
		return 0
	}
	return d.columns[column].ofSlot[slot]
}

// add makes the domain of a node that is the first in it.
func (d *domains) add(slot int32, term int64) int32 {
	n := int32(len(d.static))
	values := make([]int32, len(d.columns))
	for i := range values {
		value := d.valueOf(i, slot)
		for int(value) >= len(d.having[i]) {
			d.having[i], d.held[i] = append(d.having[i], nil), append(d.held[i], 0)
		}
		values[i], d.having[i][value] = value, append(d.having[i][value], n)
	}
	d.static, d.values, d.size = append(d.static, term), append(d.values, values), append(d.size, 0)
	return n
}

// resize counts nodes of a domain that come or go.
func (d *domains) resize(n, by int32) {
	d.size[n] += by
	d.nodes += int(by)
	for i, value := range d.values[n] {
		was := d.held[i][value]
		d.held[i][value] += by
		switch {
		case was == 0:
			d.present[i]++
		case was+by == 0:
			d.present[i]--
		}
	}
}

// has says whether any node of the view has a value of a column.
func (d *domains) has(column int, value int32) bool {
	return int(value) < len(d.held[column]) && d.held[column][value] > 0
}

// with are the domains of a value of a column.
func (d *domains) with(column int, value int32) []int32 {
	if int(value) >= len(d.having[column]) {
		return nil
	}
	return d.having[column][value]
}
