package state

import "math/bits"

// slotIndex finds the slots of allocations by id, for the writer. It has no keys of its own,
// which are in the rows: an entry is 32 bits of the key's hash and the slot, so a look-up reads
// one or two lines of memory here, and the row that is looked for. Its parts grow one by one,
// each in well below a millisecond.
type slotIndex struct {
	parts [256]slotPart
}

// slotPart is a hash table with linear probing; its size is a power of 2.
type slotPart struct {
	entries []slotEntry
	used    int
}

// slotEntry is 0 where nothing is, otherwise the tag in the high half and the slot above 0 by
// one in the low.
type slotEntry uint64

func newSlotEntry(tag, slot uint32) slotEntry { return slotEntry(tag)<<32 | slotEntry(slot+1) }

func (e slotEntry) tag() uint32  { return uint32(e >> 32) }
func (e slotEntry) slot() uint32 { return uint32(e) - 1 }

// hashKey gives the part and the tag of a key. Ids are random; it only has to bear those that
// differ in a few bits.
func hashKey(k allocKey) (part uint8, tag uint32) {
	const golden = 0x9E3779B97F4A7C15
	h := (k.hi ^ bits.RotateLeft64(k.lo*golden, 32)) * golden
	return uint8(h >> 56), uint32(h >> 16)
}

// find gives the slot of a key, by the rows.
func (x *slotIndex) find(rows *slab[fixedRow], key allocKey) (slot uint32, ok bool) {
	part, tag := hashKey(key)
	p := &x.parts[part]
	if i := p.find(rows, key, tag); i >= 0 {
		return p.entries[i].slot(), true
	}
	return 0, false
}

// find gives the place of a key; below 0: it is not there.
func (p *slotPart) find(rows *slab[fixedRow], key allocKey, tag uint32) int {
	if len(p.entries) == 0 {
		return -1
	}
	mask := len(p.entries) - 1
	for i := int(tag) & mask; p.entries[i] != 0; i = (i + 1) & mask {
		if e := p.entries[i]; e.tag() == tag && rows.at(e.slot()).key == key {
			return i
		}
	}
	return -1
}

// add notes the slot of a key that is not there.
func (x *slotIndex) add(key allocKey, slot uint32) {
	part, tag := hashKey(key)
	p := &x.parts[part]
	if 4*(p.used+1) > 3*len(p.entries) {
		p.grow()
	}
	p.used++
	p.put(newSlotEntry(tag, slot))
}

func (p *slotPart) put(e slotEntry) {
	mask := len(p.entries) - 1
	i := int(e.tag()) & mask
	for p.entries[i] != 0 {
		i = (i + 1) & mask
	}
	p.entries[i] = e
}

func (p *slotPart) grow() {
	old := p.entries
	p.entries = make([]slotEntry, max(8, 2*len(old)))
	for _, e := range old {
		if e != 0 {
			p.put(e)
		}
	}
}

// remove forgets a key that is there.
func (x *slotIndex) remove(rows *slab[fixedRow], key allocKey) {
	part, tag := hashKey(key)
	p := &x.parts[part]
	p.close(p.find(rows, key, tag))
	p.used--
}

// close empties a place. Entries that made way for what was there move back.
func (p *slotPart) close(hole int) {
	mask := len(p.entries) - 1
	for i := (hole + 1) & mask; p.entries[i] != 0; i = (i + 1) & mask {
		if home := int(p.entries[i].tag()) & mask; (i-home)&mask >= (i-hole)&mask {
			p.entries[hole], hole = p.entries[i], i
		}
	}
	p.entries[hole] = 0
}
