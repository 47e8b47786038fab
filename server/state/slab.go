package state

import "slices"

// slabRows is how many rows a chunk of a slab has: few enough that copying a chunk for
// one changed row costs microseconds, many enough that a million rows are few chunks.
const slabRows = 256

// slabPage is how many chunks a page has, for the same reasons.
const slabPage = 64

// slab is an array in pages of chunks. A copy shares every chunk with the original; the original
// copies a chunk, and the page that it is on, before it changes a row that a copy may read. Rows are values without
// pointers wherever there may be many, so that the garbage collector has nothing to look
// at. Only the original is ever changed, by one goroutine; copies are only read.
type slab[T any] struct {
	pages []*page[T]
	// epoch counts the copies that were made. A chunk, a page and the list of pages of an
	// older epoch are shared with a copy.
	epoch, listEpoch uint64
}

type page[T any] struct {
	epoch  uint64
	chunks [slabPage]*slabChunk[T]
}

type slabChunk[T any] struct {
	epoch uint64
	rows  [slabRows]T
}

// at gives a row to be read; nil: nothing was ever written near it.
func (s *slab[T]) at(i uint32) *T {
	if n := int(i / slabRows); n/slabPage < len(s.pages) {
		if p := s.pages[n/slabPage]; p != nil && p.chunks[n%slabPage] != nil {
			return &p.chunks[n%slabPage].rows[i%slabRows]
		}
	}
	return nil
}

// get gives a row's value; zero where nothing was written.
func (s *slab[T]) get(i uint32) (v T) {
	if p := s.at(i); p != nil {
		v = *p
	}
	return v
}

// change gives a row to be changed that a copy may know.
func (s *slab[T]) change(i uint32) *T {
	c := s.chunk(i / slabRows)
	if c.epoch != s.epoch {
		c = &slabChunk[T]{epoch: s.epoch, rows: c.rows}
		s.own(i / slabRows).chunks[i/slabRows%slabPage] = c
	}
	return &c.rows[i%slabRows]
}

// fresh gives a row to be written that no copy knows: none was made since the row was
// last in use, or it never was. Its chunk is not copied, whoever shares it.
func (s *slab[T]) fresh(i uint32) *T { return &s.chunk(i / slabRows).rows[i%slabRows] }

// chunk gives the nth chunk, made when it is not there.
func (s *slab[T]) chunk(n uint32) *slabChunk[T] {
	if int(n/slabPage) < len(s.pages) && s.pages[n/slabPage] != nil {
		if c := s.pages[n/slabPage].chunks[n%slabPage]; c != nil {
			return c
		}
	}
	c := &slabChunk[T]{epoch: s.epoch}
	s.own(n).chunks[n%slabPage] = c
	return c
}

// own gives the page of the nth chunk, which no copy has.
func (s *slab[T]) own(n uint32) *page[T] {
	at := int(n / slabPage)
	if at < len(s.pages) && s.pages[at] != nil && s.pages[at].epoch == s.epoch {
		return s.pages[at]
	}
	if s.listEpoch != s.epoch {
		s.pages, s.listEpoch = slices.Clone(s.pages), s.epoch
	}
	for at >= len(s.pages) {
		s.pages = append(s.pages, nil)
	}
	p := &page[T]{epoch: s.epoch}
	if old := s.pages[at]; old != nil {
		p.chunks = old.chunks
	}
	s.pages[at] = p
	return p
}

// copy shares everything with the slab.
func (s *slab[T]) copy() slab[T] {
	s.epoch++
	return slab[T]{pages: s.pages}
}

// numbers gives out numbers from 0, those that were given back first.
type numbers struct {
	next uint32
	free []uint32
}

// take gives a number; fresh says that it was never used.
func (n *numbers) take() (number uint32, fresh bool) {
	if last := len(n.free) - 1; last >= 0 {
		number, n.free = n.free[last], n.free[:last]
		return number, false
	}
	n.next++
	return n.next - 1, true
}

func (n *numbers) give(number uint32) { n.free = append(n.free, number) }
