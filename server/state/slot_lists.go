package state

import (
	"iter"
	"math"
	"slices"
)

// slotLists has the slots of each job, or of each node, as lists through the rows: a new slot
// comes first and points to the one before it. What is removed stays in its list, as the
// rows say, until that is swept: so a list is only ever gone through in one direction, and a
// write changes what was written lately, which is seldom shared with a view.
type slotLists struct {
	heads slab[uint32] // by the number of the job or node: its newest slot
	next  slab[uint32] // by slot: the one that is older
}

// In heads and next, 0 is the end of a list, others are slots above by one. unlisted marks a
// slot that is in no list.
const unlisted = math.MaxUint32

func (l *slotLists) copy() slotLists {
	return slotLists{heads: l.heads.copy(), next: l.next.copy()}
}

// add puts a slot first in a list. unused: no copy knows of the slot.
func (l *slotLists) add(number, slot uint32, unused bool) {
	head := l.heads.change(number)
	if unused {
		*l.next.fresh(slot) = *head
	} else {
		*l.next.change(slot) = *head
	}
	*head = slot + 1
}

// of iterates over a list, newest first, with what was removed.
func (l *slotLists) of(number uint32) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for at := l.heads.get(number); at != 0; at = *l.next.at(at - 1) {
			if !yield(at - 1) {
				return
			}
		}
	}
}

// sweep takes those out of a list that are gone.
func (l *slotLists) sweep(number uint32, gone func(slot uint32) bool) {
	kept := uint32(0) // the last one, above by one
	for _, slot := range slices.Collect(l.of(number)) {
		next := *l.next.at(slot)
		switch {
		case !gone(slot):
			kept = slot + 1
			continue
		case kept == 0:
			*l.heads.change(number) = next
		default:
			*l.next.change(kept - 1) = next
		}
		*l.next.change(slot) = unlisted
	}
}

// lists says whether a slot is in a list.
func (l *slotLists) lists(slot uint32) bool { return *l.next.at(slot) != unlisted }

// sweepDue says whether a list is to be swept that has so many left, and so many that are gone:
// each removal pays for looking at five.
func sweepDue(left, gone uint32) bool { return 4*gone >= left }
