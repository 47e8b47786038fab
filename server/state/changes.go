package state

import (
	"slices"
	"sort"
	"time"

	"google.golang.org/protobuf/proto"
)

// Kind is what happened to an item.
type Kind uint8

// The kinds.
const (
	Created Kind = iota
	Updated
	Deleted
)

// String is the kind's name as events have it.
func (k Kind) String() string { return [...]string{"created", "updated", "deleted"}[k] }

// Change is one item that was created, updated or deleted.
type Change struct {
	Revision  uint64
	Time      time.Time // when it was proposed
	Table     Table
	Kind      Kind
	Namespace string

	key            string
	item, before   proto.Message // of other tables than allocations
	rowBefore, row AllocRow
}

// Key is the item's name or id.
func (c *Change) Key() string {
	if c.Table != TableAllocs {
		return c.key
	}
	if c.row.Exists() {
		return c.row.ID().String()
	}
	return c.rowBefore.ID().String()
}

// Item is the item after the change; nil when it was deleted. An allocation's message is
// made anew by each call.
func (c *Change) Item() proto.Message {
	if c.Table == TableAllocs {
		return messageOf(&c.row)
	}
	return c.item
}

// Before is the item as it was; nil when it was created.
func (c *Change) Before() proto.Message {
	if c.Table == TableAllocs {
		return messageOf(&c.rowBefore)
	}
	return c.before
}

// Allocs are the rows before and after the change of an allocation; one of them may not
// exist.
func (c *Change) Allocs() (before, after *AllocRow) { return &c.rowBefore, &c.row }

func messageOf(r *AllocRow) proto.Message {
	if !r.Exists() {
		return nil
	}
	return r.Alloc()
}

// change is what the tables say of a write. before and after are nil interfaces where
// there is none.
type change struct {
	table     Table
	namespace string
	key       string
	job       string // of an evaluation or deployment; the service of an instance
	before    proto.Message
	after     proto.Message
}

// orNil makes a nil interface of an item that was not there.
func orNil(item proto.Message, ok bool) proto.Message {
	if !ok {
		return nil
	}
	return item
}

// changed records a write: in the history, for Revised, and for the watchers.
func (tx *Tx) changed(c change) {
	*tx.store.history.next() = Change{
		Revision: tx.revision, Time: tx.time, Table: c.table, Kind: kindOf(c.before != nil, c.after != nil),
		Namespace: c.namespace, key: c.key, item: c.after, before: c.before,
	}
	tx.revised.changed(tx.revision, c)
	tx.store.watchers.changed(c)
}

func kindOf(before, after bool) Kind {
	switch {
	case !after:
		return Deleted
	case !before:
		return Created
	}
	return Updated
}

// Changes gives the changes with a revision above after, oldest first, about max of
// them but always all of a revision; none when nothing has changed since. false: the
// history does not go back that far, read a View anew and go on from its Revision.
func (s *Store) Changes(after uint64, max int) ([]Change, bool) {
	return s.ChangesInto(nil, after, max)
}

// ChangesInto is Changes into the memory of buf, for those who ask again and again: a
// change is large, and copies for everybody who follows were most of what was allocated.
func (s *Store) ChangesInto(buf []Change, after uint64, max int) ([]Change, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.history.since(buf[:0], after, max)
}

// OldestChange is the revision from which on Changes can answer.
func (s *Store) OldestChange() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.history.floor
}

// history is a ring of the newest changes, in chunks that are made when they are first
// needed: a change is large, and a list that grows copies all of them again and again.
type history struct {
	chunks []*[historyChunk]Change
	limit  int
	len    int    // how many there are, at most limit
	head   int    // place of the oldest
	floor  uint64 // every change above this revision is in the ring
}

const historyChunk = 256

func newHistory(limit int) history {
	return history{chunks: make([]*[historyChunk]Change, (limit+historyChunk-1)/historyChunk), limit: limit}
}

// next gives the place of the next change, where that of the oldest may be.
func (h *history) next() *Change {
	i := (h.head + h.len) % h.limit
	if h.chunks[i/historyChunk] == nil {
		h.chunks[i/historyChunk] = new([historyChunk]Change)
	}
	c := &h.chunks[i/historyChunk][i%historyChunk]
	if h.len < h.limit {
		h.len++
	} else {
		h.floor = c.Revision
		h.head = (h.head + 1) % h.limit
	}
	return c
}

func (h *history) reset(floor uint64) {
	clear(h.chunks)
	h.len, h.head, h.floor = 0, 0, floor
}

func (h *history) at(i int) *Change {
	i = (h.head + i) % h.limit
	return &h.chunks[i/historyChunk][i%historyChunk]
}

// since appends the changes above a revision to out.
func (h *history) since(out []Change, after uint64, max int) ([]Change, bool) {
	if after < h.floor {
		return nil, false
	}
	first := sort.Search(h.len, func(i int) bool { return h.at(i).Revision > after }) // revisions never fall
	last := first
	for last < h.len && (last-first < max || h.at(last).Revision == h.at(last-1).Revision) {
		last++
	}
	out = slices.Grow(out, last-first)
	for i := first; i < last; i++ {
		out = append(out, *h.at(i))
	}
	return out, true
}
