package topology

import "math/bits"

// Ports live in pages of 4096, so that a node that uses few pays for few.
const (
	portPages    = 16
	portPageBits = 12
	portWords    = 1 << (portPageBits - 6)
)

// PortSet is a set of port numbers. The zero value is empty; a copy shares its memory.
type PortSet struct {
	pages [portPages]*[portWords]uint64
}

// NewPortSet gives the set of the given ports.
func NewPortSet(ports ...uint16) PortSet {
	var s PortSet
	for _, p := range ports {
		s.Add(p)
	}
	return s
}

// Contains says whether port is in the set.
func (s *PortSet) Contains(port uint16) bool {
	page := s.pages[port>>portPageBits]
	return page != nil && page[port>>6%portWords]&(1<<(port&63)) != 0
}

// Add puts port into the set.
func (s *PortSet) Add(port uint16) {
	page := s.pages[port>>portPageBits]
	if page == nil {
		page = new([portWords]uint64)
		s.pages[port>>portPageBits] = page
	}
	page[port>>6%portWords] |= 1 << (port & 63)
}

// Remove takes port out of the set.
func (s *PortSet) Remove(port uint16) {
	if page := s.pages[port>>portPageBits]; page != nil {
		page[port>>6%portWords] &^= 1 << (port & 63)
	}
}

// NextFree is the lowest port from first to last that is in neither set; 0: none.
func (s *PortSet) NextFree(also *PortSet, first, last uint16) uint16 {
	for base := int(first) &^ 63; base <= int(last); base += 64 {
		free := ^(s.word(base) | also.word(base))
		if base < int(first) {
			free = free >> (first & 63) << (first & 63)
		}
		if free == 0 {
			continue
		}
		if p := base + bits.TrailingZeros64(free); p <= int(last) {
			return uint16(p)
		}
		return 0
	}
	return 0
}

func (s *PortSet) word(port int) uint64 {
	if page := s.pages[port>>portPageBits]; page != nil {
		return page[port>>6%portWords]
	}
	return 0
}
