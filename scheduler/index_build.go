package scheduler

import "slices"

// placed is an entry on its way into the index.
type placed struct {
	key, tie uint64
	id       int32
}

// rebuild makes the index anew. Blocks that churn has left half empty are full again.
func (x *index) rebuild() {
	x.clear()
	list := x.list()
	x.blocks = slices.Grow(x.blocks, len(list)/blockFill+1)
	x.fill(x.sorted(list))
}

// list gives the entries that have room for anything; the others are outside.
func (x *index) list() []placed {
	f, all := x.f, 0
	for slot := range f.nodes {
		if n := &f.nodes[slot]; n.node != nil && x.cells {
			all += len(n.usage.Machine().Cells)
		} else if n.node != nil && x.rates == nil {
			all++
		}
	}
	if len(x.entries) == 0 {
		x.entries = make([]entry, 0, all)
	}
	list := make([]placed, 0, all)
	for slot := range int32(len(f.nodes)) {
		n := &f.nodes[slot]
		switch {
		case n.node == nil, x.rates != nil && !f.gpus.has(slot):
		case !x.cells:
			x.claimNode(slot)
			if key, ok := x.ofNode(slot, &x.entries[slot].left); ok {
				list = x.listed(list, key, slot)
			}
		default:
			first := x.claim(slot, len(n.usage.Machine().Cells))
			for i := range int(x.owns[slot]) {
				id := first + int32(i)
				key := x.rank.ofCell(n.usage, i, &x.entries[id].left)
				list = x.listed(list, key, id)
			}
		}
	}
	return list
}

func (x *index) listed(list []placed, key uint64, id int32) []placed {
	e := &x.entries[id]
	e.in = x.lanesOf(e.slot)
	if x.shapes.fitting(&e.left) == 0 {
		e.at = outside
		return list
	}
	return append(list, placed{key, e.tie, id})
}

// digit is by how many bits entries are sorted at a time.
const digit = 11

// sorted gives the list in order. It is sorted by those digits of the keys that differ, and
// before that by three of the hashes, which leaves next to nothing to be put right.
func (x *index) sorted(list []placed) []placed {
	other := make([]placed, len(list))
	var every, some uint64 = ^uint64(0), 0
	for i := range list {
		every, some = every&list[i].key, some|list[i].key
	}
	for shift := 64 - 3*digit; shift < 64; shift += digit {
		byDigit(other, list, false, shift)
		list, other = other, list
	}
	for shift := 0; shift < 64; shift += digit {
		if (every^some)>>shift&(1<<digit-1) != 0 {
			byDigit(other, list, true, shift)
			list, other = other, list
		}
	}
	for i := range list {
		for k := i; k > 0 && x.comesBefore(&list[k], &list[k-1]); k-- {
			list[k], list[k-1] = list[k-1], list[k]
		}
	}
	return list
}

// byDigit sorts by one digit of the keys, or of the hashes; what is equal keeps its order.
func byDigit(into, list []placed, byKey bool, shift int) {
	var next [1 << digit]int32
	for i := range list {
		next[list[i].digit(byKey, shift)]++
	}
	sum := int32(0)
	for d, n := range next {
		next[d] = sum
		sum += n
	}
	for i := range list {
		at := &next[list[i].digit(byKey, shift)]
		into[*at] = list[i]
		*at++
	}
}

func (p *placed) digit(byKey bool, shift int) uint64 {
	n := p.tie
	if byKey {
		n = p.key
	}
	return n >> (shift & 63) % (1 << digit)
}

func (x *index) comesBefore(a, b *placed) bool {
	if a.key != b.key || a.tie != b.tie {
		return a.key < b.key || a.key == b.key && a.tie < b.tie
	}
	u, v := x.boundOf(a.id, a.key), x.boundOf(b.id, b.key)
	return u.compare(&v) < 0
}

// What is built anew is filled by three quarters.
const (
	blockFill = depth * 3 / 4
	rowFill   = fan * 3 / 4
)

// fill puts sorted entries into an empty index.
func (x *index) fill(list []placed) {
	r, k := 0, 0
	for from := 0; from < len(list); from += blockFill {
		part := list[from:min(from+blockFill, len(list))]
		if from > 0 {
			low := x.boundOf(part[0].id, part[0].key)
			if k++; k < rowFill {
				x.rows[r].insert(k, x.newBlock(), low)
			} else {
				w := x.newRow()
				w.insert(0, x.newBlock(), low)
				r, k = r+1, 0
				x.insertRow(r, w)
			}
		}
		for i := range part { // memory answers many at a time, see takeIn
			x.warmth += int(x.entries[part[i].id].slot)
		}
		for i := range part {
			e := &x.entries[part[i].id]
			word := x.shapes.fitting(&e.left)
			x.put(x.rows[r].blocks[k], part[i].id, part[i].key, word)
			x.unite(r, k, word, e.in)
		}
	}
}
