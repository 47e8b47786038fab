package state

import "slices"

// slabRows is how many rows a chunk of a slab has: few enough that copying a chunk for
// one changed row costs microseconds, many enough that a million rows are a short list.
const slabRows = 256

// slab is an array in chunks. A copy shares every chunk with the original; the original
// copies a chunk before it changes a row that a copy may read. Rows are values without
// pointers wherever there may be many, so that the garbage collector has nothing to look
// at. Only the original is ever changed, by one goroutine; copies are only read.
type slab[T any] struct {
	chunks []*slabChunk[T]
	// epoch counts the copies that were made. A chunk, and the list of chunks, of an older
	// epoch is shared with a copy.
	epoch, listEpoch uint64
}

type slabChunk[T any] struct {
	epoch uint64
	rows  [slabRows]T
}

// at gives a row to be read; nil: nothing was ever written near it.
func (s *slab[T]) at(i uint32) *T {
	if n := int(i / slabRows); n < len(s.chunks) && s.chunks[n] != nil {
		return &s.chunks[n].rows[i%slabRows]
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
	n := int(i / slabRows)
	c := s.chunk(n)
	if c.epoch != s.epoch {
		s.ownList()
		c = &slabChunk[T]{epoch: s.epoch, rows: c.rows}
		s.chunks[n] = c
	}
	return &c.rows[i%slabRows]
}

// fresh gives a row to be written that no copy knows: none was made since the row was
// last in use, or it never was. Its chunk is not copied, whoever shares it.
func (s *slab[T]) fresh(i uint32) *T { return &s.chunk(int(i / slabRows)).rows[i%slabRows] }

// chunk gives the nth chunk, made when it is not there.
func (s *slab[T]) chunk(n int) *slabChunk[T] {
	if n < len(s.chunks) && s.chunks[n] != nil {
		return s.chunks[n]
	}
	s.ownList()
	for n >= len(s.chunks) {
		s.chunks = append(s.chunks, nil)
	}
	s.chunks[n] = &slabChunk[T]{epoch: s.epoch}
	return s.chunks[n]
}

func (s *slab[T]) ownList() {
	if s.listEpoch != s.epoch {
		s.chunks, s.listEpoch = slices.Clone(s.chunks), s.epoch
	}
}

// copy shares everything with the slab.
func (s *slab[T]) copy() slab[T] {
	s.epoch++
	return slab[T]{chunks: s.chunks}
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
