package state

import (
	"cmp"
	"encoding/binary"
	"iter"

	"github.com/tidwall/btree"
)

// tree is an ordered index of items by a group and an id, or by an id alone. Beside each
// item lies the head of its key as integers, so that a search seldom looks at the items
// themselves: they are far apart in memory, and their ids mostly differ early.
type tree[T any] struct {
	entries *btree.BTreeG[entry[T]]
	group   func(T) (string, string) // what it is grouped by; nil: nothing
	id      func(T) string
}

// entry is an item with the head of its key. Groups are only kept together, in no
// order, so a hash stands for them.
type entry[T any] struct {
	group, head, next uint64 // hash of the group, first 8 and next 8 bytes of the id
	item              T
}

func newIDTree[T any](id func(T) string, group func(T) (string, string)) *tree[T] {
	t := &tree[T]{group: group, id: id}
	t.entries = btree.NewBTreeGOptions(t.less, btree.Options{NoLocks: true})
	return t
}

// less orders by group and id; where the heads are equal it asks the items.
func (t *tree[T]) less(a, b entry[T]) bool {
	switch {
	case a.group != b.group:
		return a.group < b.group
	case a.head != b.head:
		return a.head < b.head
	case a.next != b.next:
		return a.next < b.next
	}
	if t.group != nil {
		a1, a2 := t.group(a.item)
		b1, b2 := t.group(b.item)
		if c := cmp.Or(cmp.Compare(a1, b1), cmp.Compare(a2, b2)); c != 0 {
			return c < 0
		}
	}
	return t.id(a.item) < t.id(b.item)
}

// entry makes the entry of an item.
func (t *tree[T]) entry(item T) entry[T] {
	e := entry[T]{item: item}
	if t.group != nil {
		e.group = hashGroup(t.group(item))
	}
	e.head, e.next = headOf(t.id(item))
	return e
}

// headOf gives the first 16 bytes of an id as two integers that order as the bytes do.
func headOf(id string) (head, next uint64) {
	if len(id) >= 16 {
		return binary.BigEndian.Uint64([]byte(id[:8])), binary.BigEndian.Uint64([]byte(id[8:16]))
	}
	var b [16]byte
	copy(b[:], id)
	return binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
}

// hashGroup is FNV-1a over both parts.
func hashGroup(a, b string) uint64 {
	const prime = 1099511628211
	h := uint64(14695981039346656037)
	for i := range len(a) {
		h = (h ^ uint64(a[i])) * prime
	}
	h = (h ^ 0xff) * prime
	for i := range len(b) {
		h = (h ^ uint64(b[i])) * prime
	}
	return h
}

// get finds the item with the key of another one.
func (t *tree[T]) get(key T) T {
	e, _ := t.entries.Get(t.entry(key))
	return e.item
}

// set stores an item and gives the one that it replaced.
func (t *tree[T]) set(item T) (T, bool) {
	e, replaced := t.entries.Set(t.entry(item))
	return e.item, replaced
}

// remove takes the item with that key out and gives it.
func (t *tree[T]) remove(key T) (T, bool) {
	e, ok := t.entries.Delete(t.entry(key))
	return e.item, ok
}

func (t *tree[T]) len() int { return t.entries.Len() }

// copy shares everything with the tree until either is changed.
func (t *tree[T]) copy() *tree[T] {
	return &tree[T]{entries: t.entries.Copy(), group: t.group, id: t.id}
}

// from iterates by id over the items of pivot's group (over all of them without
// groups), starting at the first whose id is not below pivot's.
func (t *tree[T]) from(pivot T) iter.Seq[T] {
	return func(yield func(T) bool) {
		first := t.entry(pivot)
		t.entries.Ascend(first, func(e entry[T]) bool {
			return e.group == first.group && (!t.sameGroup(e.item, pivot) || yield(e.item))
		})
	}
}

// sameGroup is false for an item of another group with the same hash.
func (t *tree[T]) sameGroup(a, b T) bool {
	if t.group == nil {
		return true
	}
	a1, a2 := t.group(a)
	b1, b2 := t.group(b)
	return a1 == b1 && a2 == b2
}
