package scheduler

import "math/bits"

// sync takes in what has changed on the fleet's nodes since the last time.
func (x *index) sync() {
	f := x.f
	if x.seen == f.moves {
		return
	}
	if x.changes != f.changes {
		for l := range x.lanes {
			f.refresh(x.lanes[l].view)
		}
		x.changes = f.changes
	}
	if oldest := f.moves - uint64(len(f.moveLog)); x.seen == 0 || x.seen < oldest {
		x.rebuild()
	} else {
		for moves := x.concerning(f.moveLog[x.seen-oldest:]); len(moves) > 0; {
			n := min(len(moves), batch)
			x.takeIn(moves[:n])
			moves = moves[n:]
		}
	}
	x.seen = f.moves
}

// batch is how many moves are taken in at a time.
const batch = 32

// takeIn takes moves in. Where there are several, all that they need to read is read
// first: memory gives many answers at a time to who asks for them all at once.
func (x *index) takeIn(moves []move) {
	if len(moves) > 2 {
		for i := range moves {
			x.warmth += x.warmUsage(moves[i].slot)
		}
		for i := range moves {
			x.warmth += x.warmEntry(&moves[i])
		}
		for i := range moves {
			x.warmth += x.warmBlock(&moves[i])
		}
	}
	cells, static := uint64(0), false
	for i := range moves {
		m := &moves[i]
		cells, static = cells|m.cells, static || m.static
		if i+1 < len(moves) && moves[i+1].slot == m.slot {
			continue // what counts is how the node is now
		}
		if static {
			x.forget(m.slot)
		}
		x.update(m.slot, cells)
		cells, static = 0, false
	}
}

// entryOf is an entry of what a move is about; none: it is about none yet.
func (x *index) entryOf(m *move) int32 {
	id := m.slot
	if x.cells {
		if int(m.slot) >= len(x.owns) || x.owns[m.slot] == 0 {
			return none
		}
		id = x.first[m.slot]
		if m.cells != everyCell {
			id += int32(bits.TrailingZeros64(m.cells|1<<63)) % int32(x.owns[m.slot])
		}
	}
	if int(id) >= len(x.entries) {
		return none
	}
	return id
}

func (x *index) warmUsage(slot int32) int {
	if u := x.f.nodes[slot].usage; u != nil {
		return u.Warm()
	}
	return 0
}

func (x *index) warmEntry(m *move) int {
	if id := x.entryOf(m); id != none {
		return int(x.entries[id].at)
	}
	return 0
}

func (x *index) warmBlock(m *move) int {
	id := x.entryOf(m)
	if id == none || x.entries[id].at < 0 {
		return 0
	}
	at := x.entries[id].at
	b := &x.blocks[at/depth]
	return int(b.fits[at%depth]) + int(b.taken)
}

// update puts the entries of a node where they belong: of the cells given.
func (x *index) update(slot int32, cells uint64) {
	n := &x.f.nodes[slot]
	if n.node == nil {
		return
	}
	var v vector
	if !x.cells {
		x.claimNode(slot)
		if x.isolates() {
			x.relist(slot)
		}
		if key, ok := x.ofNode(slot, &v); ok {
			x.set(slot, key, &v)
		} else {
			x.drop(slot)
		}
		return
	}
	if x.refused.has(slot) { // for want of what may not lie in cells
		x.refused.set(slot, false)
		cells = everyCell
	}
	if x.rank == evened || x.rank == sparing && hasGPUs(n.usage.Machine()) { // cells go by their node
		cells = everyCell
	}
	all := len(n.usage.Machine().Cells)
	first := x.claim(slot, all)
	for i := 0; i < all && x.isolates(); i++ {
		x.relist(first + int32(i))
	}
	for cells &= 1<<all - 1; cells != 0; cells &= cells - 1 {
		i := bits.TrailingZeros64(cells)
		key := x.rank.ofCell(n.usage, i, &v)
		x.set(first+int32(i), key, &v)
	}
}

// enter puts an entry where it belongs now.
func (x *index) enter(id int32) {
	var v vector
	slot, cell := x.slotOf(id)
	if x.cells {
		key := x.rank.ofCell(x.f.nodes[slot].usage, cell, &v)
		x.set(id, key, &v)
	} else if key, ok := x.ofNode(slot, &v); ok {
		x.set(id, key, &v)
	}
}

// ofNode is the key of a node, and what is left of it; false: it has no place here.
func (x *index) ofNode(slot int32, v *vector) (uint64, bool) {
	key := x.rank.ofNode(x.f.nodes[slot].usage, v)
	if x.rates != nil {
		key = x.rates(slot)
	}
	return key, x.rates == nil || key != unrated
}

// isolates says that there are lanes by some group's instances.
func (x *index) isolates() bool { return x.levels > 0 }

// forget takes a node's entries out: it is gone, or what it is made of has changed.
func (x *index) forget(slot int32) {
	if !x.cells {
		x.drop(slot)
		return
	}
	if int(slot) >= len(x.owns) || x.owns[slot] == 0 {
		return
	}
	for i := range int32(x.owns[slot]) {
		x.drop(x.first[slot] + i)
	}
	x.spare[x.owns[slot]] = append(x.spare[x.owns[slot]], x.first[slot])
	x.owns[slot] = 0
}

// claim gives the first of a node's n cell entries.
func (x *index) claim(slot int32, n int) int32 {
	for int(slot) >= len(x.owns) {
		x.owns, x.first = append(x.owns, 0), append(x.first, 0)
	}
	if x.owns[slot] > 0 || n == 0 {
		return x.first[slot]
	}
	size := uint8(n)
	if list := x.spare[size]; len(list) > 0 {
		x.first[slot] = list[len(list)-1]
		x.spare[size] = list[:len(list)-1]
	} else {
		x.first[slot] = int32(len(x.entries))
		x.entries = append(x.entries, make([]entry, n)...)
	}
	x.owns[slot] = size
	for i := range n {
		x.entries[int(x.first[slot])+i] = entry{tie: cellTie(x.f.hashes[slot], i), slot: slot, at: none}
	}
	return x.first[slot]
}

// claimNode gives a node its entry.
func (x *index) claimNode(slot int32) {
	for int(slot) >= len(x.entries) {
		x.entries = append(x.entries, entry{at: none})
	}
	if e := &x.entries[slot]; e.at == none {
		e.slot, e.tie = slot, x.f.hashes[slot]
	}
}
