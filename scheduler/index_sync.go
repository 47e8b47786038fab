package scheduler

import (
	"cmp"
	"slices"

	"github.com/berthd/berth/topology"
)

// sync takes in what has changed on the fleet's nodes since the last time.
func (x *index) sync() {
	f := x.f
	if x.seen == f.moves {
		return
	}
	for l := range x.lanes {
		f.refresh(x.lanes[l].view)
	}
	if oldest := f.moves - uint64(len(f.moveLog)); x.seen == 0 || x.seen < oldest {
		x.rebuild()
	} else {
		for _, m := range f.moveLog[x.seen-oldest:] {
			if m < 0 { // its static side has changed too
				x.forget(^m)
				m = ^m
			}
			x.update(m)
		}
	}
	x.seen = f.moves
}

// update puts the entries of a node where they belong.
func (x *index) update(slot int32) {
	n := &x.f.nodes[slot]
	if n.node == nil {
		return
	}
	var v vector
	if !x.cells {
		key := x.measure(n.usage, -1, &v)
		x.set(slot, key, &v)
		return
	}
	first := x.claim(slot, len(n.usage.Machine().Cells))
	for i := range n.usage.Machine().Cells {
		key := x.measure(n.usage, i, &v)
		x.set(first+int32(i), key, &v)
	}
}

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
		x.first[slot] = int32(len(x.owner))
		x.owner = append(x.owner, make([]int32, n)...)
	}
	x.owns[slot] = size
	for i := range n {
		x.owner[x.first[slot]+int32(i)] = slot
	}
	return x.first[slot]
}

// measure gives an entry's place in the order, and what is left of it; cell -1: of the
// whole node.
func (x *index) measure(u *topology.Usage, cell int, v *vector) uint64 {
	*v = vector{}
	key := x.rank.key(u, cell)
	if u.Stray() || u.Whole() {
		return key
	}
	m := u.Machine()
	var milli, memory, cores, threads, pages, cellPages uint64
	for i := range m.Cells {
		if cell < 0 || i == cell {
			s := u.Summary(i)
			milli, memory = milli+s.Milli, memory+s.Memory
			cores, threads = cores+uint64(s.Cores), threads+uint64(s.Threads)
		}
		for size, h := range m.Cells[i].Hugepages {
			n := u.FreeHugepages(i, size) * h.SizeKiB / 1024
			if pages += n; i == cell {
				cellPages += n
			}
		}
	}
	v[dimMilli], v[dimMemory] = saturate(milli), saturate(memory)
	v[dimCores], v[dimThreads] = saturate(cores), saturate(threads)
	v[dimPages], v[dimCellPages], v[dimDisk] = saturate(pages), saturate(cellPages), saturate(u.FreeDisk())
	if !u.Used() {
		v[dimVacant] = 1
	}
	for kind, name := range m.Kinds {
		d := dimDevices
		if alignOf(name) == alignGPU {
			d = dimGPUs
		}
		for i := -1; i < len(m.Cells); i++ {
			v[d] += uint32(u.FreeDevices(kind, i))
		}
		v[dimShare] = max(v[dimShare], u.LargestShare(kind))
	}
	return key
}

// rebuild makes the index anew. Blocks that churn has left half empty are full again.
func (x *index) rebuild() {
	x.clear()
	list := x.listed[:0]
	take := func(entry int32, slot int32, cell int) {
		x.grow(entry)
		key := x.measure(x.f.nodes[slot].usage, cell, &x.left[entry])
		list = append(list, placed{key, x.tieOf(entry), entry})
	}
	for slot := range x.f.nodes {
		n := &x.f.nodes[slot]
		switch {
		case n.node == nil:
		case !x.cells:
			take(int32(slot), int32(slot), -1)
		default:
			first := x.claim(int32(slot), len(n.usage.Machine().Cells))
			for i := range n.usage.Machine().Cells {
				take(first+int32(i), int32(slot), i)
			}
		}
	}
	slices.SortFunc(list, func(a, b placed) int {
		if a.key != b.key {
			return cmp.Compare(a.key, b.key)
		}
		if a.tie != b.tie {
			return cmp.Compare(a.tie, b.tie)
		}
		u, v := x.boundOf(a.entry, a.key), x.boundOf(b.entry, b.key)
		return u.compare(&v)
	})
	x.fill(list)
	x.listed = list
}
