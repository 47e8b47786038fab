package topology

import (
	"iter"
	"math/bits"
)

// MaxCPU is the highest CPU number that a CPUSet takes: the kernel's own limit.
const MaxCPU = 8191

// CPUSet is a set of CPU numbers from 0 to MaxCPU, as a bitmap. The zero value is the
// empty set. Union, Minus and Intersect make a new set; Add, Remove, AddAll and
// RemoveAll change the set in place. A copy of a CPUSet shares its memory: Clone what
// will be changed in place.
type CPUSet struct{ words []uint64 }

// NewCPUSet gives the set of the given CPUs; those out of bounds are left out.
func NewCPUSet(cpus ...int) CPUSet {
	var s CPUSet
	for _, c := range cpus {
		s.Add(c)
	}
	return s
}

// Contains says whether cpu is in the set.
func (s CPUSet) Contains(cpu int) bool {
	return cpu >= 0 && cpu>>6 < len(s.words) && s.words[cpu>>6]&(1<<(cpu&63)) != 0
}

// Count is the number of CPUs in the set.
func (s CPUSet) Count() int {
	n := 0
	for _, w := range s.words {
		n += bits.OnesCount64(w)
	}
	return n
}

// Empty says whether the set has no CPU.
func (s CPUSet) Empty() bool {
	for _, w := range s.words {
		if w != 0 {
			return false
		}
	}
	return true
}

// First is the lowest CPU in the set; -1 when it is empty.
func (s CPUSet) First() int {
	for i, w := range s.words {
		if w != 0 {
			return i<<6 + bits.TrailingZeros64(w)
		}
	}
	return -1
}

// All gives the CPUs in ascending order.
func (s CPUSet) All() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i, w := range s.words {
			for ; w != 0; w &= w - 1 {
				if !yield(i<<6 + bits.TrailingZeros64(w)) {
					return
				}
			}
		}
	}
}

// Clone gives a set that shares no memory with s.
func (s CPUSet) Clone() CPUSet {
	if len(s.words) == 0 {
		return CPUSet{}
	}
	return CPUSet{append([]uint64(nil), s.words...)}
}

// Equal says whether both sets have the same CPUs.
func (s CPUSet) Equal(o CPUSet) bool { return s.ContainsAll(o) && o.ContainsAll(s) }

// ContainsAll says whether every CPU of o is in s.
func (s CPUSet) ContainsAll(o CPUSet) bool {
	for i, w := range o.words {
		if w&^s.word(i) != 0 {
			return false
		}
	}
	return true
}

// Overlaps says whether the sets have a CPU in common.
func (s CPUSet) Overlaps(o CPUSet) bool {
	for i, w := range o.words {
		if w&s.word(i) != 0 {
			return true
		}
	}
	return false
}

// CountCommon is the number of CPUs that are in both sets.
func (s CPUSet) CountCommon(o CPUSet) int {
	n := 0
	for i, w := range o.words {
		n += bits.OnesCount64(w & s.word(i))
	}
	return n
}

// Union is the CPUs of either set.
func (s CPUSet) Union(o CPUSet) CPUSet {
	u := s.Clone()
	u.AddAll(o)
	return u
}

// Minus is the CPUs of s that are not in o.
func (s CPUSet) Minus(o CPUSet) CPUSet {
	u := s.Clone()
	u.RemoveAll(o)
	return u
}

// Intersect is the CPUs of both sets.
func (s CPUSet) Intersect(o CPUSet) CPUSet {
	u := s.Clone()
	for i := range u.words {
		u.words[i] &= o.word(i)
	}
	return u
}

// Add puts cpu into the set; false: it is out of bounds.
func (s *CPUSet) Add(cpu int) bool {
	if cpu < 0 || cpu > MaxCPU {
		return false
	}
	s.grow(cpu>>6 + 1)
	s.words[cpu>>6] |= 1 << (cpu & 63)
	return true
}

// Remove takes cpu out of the set.
func (s *CPUSet) Remove(cpu int) {
	if s.Contains(cpu) {
		s.words[cpu>>6] &^= 1 << (cpu & 63)
	}
}

// AddAll puts the CPUs of o into the set.
func (s *CPUSet) AddAll(o CPUSet) {
	s.grow(len(o.words))
	for i, w := range o.words {
		s.words[i] |= w
	}
}

// RemoveAll takes the CPUs of o out of the set.
func (s *CPUSet) RemoveAll(o CPUSet) {
	for i := range min(len(s.words), len(o.words)) {
		s.words[i] &^= o.words[i]
	}
}

// Clear empties the set and keeps its memory.
func (s *CPUSet) Clear() { clear(s.words) }

func (s CPUSet) word(i int) uint64 {
	if i < len(s.words) {
		return s.words[i]
	}
	return 0
}

func (s *CPUSet) grow(words int) {
	for len(s.words) < words {
		s.words = append(s.words, 0)
	}
}
