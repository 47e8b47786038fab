package topology

import (
	"cmp"
	"math/bits"
	"slices"
)

// PortSet is a set of port numbers, as the words of a bitmap that are not empty: a node
// that uses few pays for few. The zero value is empty; a copy shares its memory.
type PortSet struct {
	words []portWord // ascending, none empty
}

// portWord is the ports from 64*index on.
type portWord struct {
	bits  uint64
	index uint16
}

// find gives the place of the word with that index, or where it belongs.
func (s *PortSet) find(index uint16) (int, bool) {
	if n := len(s.words); n == 0 || s.words[n-1].index < index {
		return n, false
	}
	return slices.BinarySearchFunc(s.words, index, func(w portWord, index uint16) int { return cmp.Compare(w.index, index) })
}

// Contains says whether port is in the set.
func (s *PortSet) Contains(port uint16) bool {
	i, found := s.find(port >> 6)
	return found && s.words[i].bits&(1<<(port&63)) != 0
}

// Add puts port into the set.
func (s *PortSet) Add(port uint16) {
	i, found := s.find(port >> 6)
	if !found {
		s.words = slices.Insert(s.words, i, portWord{index: port >> 6})
	}
	s.words[i].bits |= 1 << (port & 63)
}

// Remove takes port out of the set.
func (s *PortSet) Remove(port uint16) {
	i, found := s.find(port >> 6)
	if !found {
		return
	}
	if s.words[i].bits &^= 1 << (port & 63); s.words[i].bits == 0 {
		s.words = slices.Delete(s.words, i, i+1)
	}
}

// NextFree is the lowest port from first to last that is in neither set; 0: none, for
// port 0 is never free.
func (s *PortSet) NextFree(also *PortSet, first, last uint16) uint16 {
	first = max(first, 1)
	i, _ := s.find(first >> 6)
	k, _ := also.find(first >> 6)
	for index := int(first >> 6); index <= int(last>>6); index++ {
		taken := uint64(0)
		if i < len(s.words) && int(s.words[i].index) == index {
			taken = s.words[i].bits
			i++
		}
		if k < len(also.words) && int(also.words[k].index) == index {
			taken |= also.words[k].bits
			k++
		}
		if index == int(first>>6) {
			taken |= 1<<(first&63) - 1
		}
		if taken == ^uint64(0) {
			continue
		}
		if p := index<<6 + bits.TrailingZeros64(^taken); p <= int(last) {
			return uint16(p)
		}
		return 0
	}
	return 0
}
