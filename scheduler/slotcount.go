package scheduler

import (
	"iter"
	"math/bits"
)

// slotCounts has a number for some nodes, by slot; the others' is 0. It is a table with
// linear probing: one look costs one line of memory, where a map takes two or three. The
// zero value is empty.
type slotCounts struct {
	table []slotCount // a power of two, at most 3/4 full
	used  int
	sum   int // of all numbers
}

// slotCount with n 0 is vacant.
type slotCount struct{ slot, n int32 }

// at is a node's number.
func (c *slotCounts) at(slot int32) int32 {
	if c.used == 0 {
		return 0
	}
	return c.table[c.find(slot)].n
}

func (c *slotCounts) len() int { return c.used }

// home is where the search for a slot begins.
func (c *slotCounts) home(slot int32) int {
	return int(uint32(slot) * 0x9E3779B1 >> (32 - bits.Len(uint(len(c.table)-1))))
}

// find gives the place of a slot, or the vacant one where it would be put.
func (c *slotCounts) find(slot int32) int {
	i := c.home(slot)
	for c.table[i].n != 0 && c.table[i].slot != slot {
		i = (i + 1) & (len(c.table) - 1)
	}
	return i
}

// add adds to a node's number, which does not fall below 0, and gives what it was.
func (c *slotCounts) add(slot, by int32) (was int32) {
	if 4*(c.used+1) > 3*len(c.table) {
		c.grow()
	}
	i := c.find(slot)
	e := &c.table[i]
	was = e.n
	c.sum += int(max(was+by, 0) - was)
	switch now := was + by; {
	case now > 0 && was == 0:
		*e = slotCount{slot, now}
		c.used++
	case now > 0:
		e.n = now
	case was > 0:
		c.vacate(i)
	}
	return was
}

// drop forgets a node.
func (c *slotCounts) drop(slot int32) {
	if c.used > 0 {
		c.add(slot, -c.at(slot))
	}
}

// vacate takes one out, and moves those up that were not put there for its sake.
func (c *slotCounts) vacate(i int) {
	mask := len(c.table) - 1
	c.used--
	for k := (i + 1) & mask; c.table[k].n != 0; k = (k + 1) & mask {
		if home := c.home(c.table[k].slot); (k-home)&mask >= (k-i)&mask {
			c.table[i] = c.table[k]
			i = k
		}
	}
	c.table[i].n = 0
}

func (c *slotCounts) grow() {
	old := c.table
	c.table = make([]slotCount, max(8, 2*len(old)))
	for _, e := range old {
		if e.n != 0 {
			c.table[c.find(e.slot)] = e
		}
	}
}

// all are the nodes whose number is not 0, in an order that follows from what was added.
func (c *slotCounts) all() iter.Seq2[int32, int32] {
	return func(yield func(slot, n int32) bool) {
		for _, e := range c.table {
			if e.n != 0 && !yield(e.slot, e.n) {
				return
			}
		}
	}
}
