package scheduler

import (
	"math"
	"math/bits"
	"slices"
)

// vector is what is left of a node or a cell at a glance (of cells only what lies in
// them), or what a shape needs of it at
// least, by dimension. Where the need exceeds what is left the shape does not fit; the
// other way round it may. Numbers beyond 32 bits count as the largest.
type vector [dims]uint32

const (
	dimMilli   = iota // CPU
	dimMemory         // MiB
	dimCores          // whole free cores
	dimThreads        // free threads
	dimPages          // MiB of hugepages of all sizes
	dimDisk           // MiB; not of cells
	dimGPUs           // free whole devices that compute: GPUs and their slices
	dimDevices        // free whole devices of other kinds
	dimShare          // the most that is left of a device that can be shared
	dimVacant         // 1: nothing is granted on the node
	dims
)

func saturate(n uint64) uint32 { return uint32(min(n, math.MaxUint32)) }

// covers says whether v is at least n in every dimension.
func (v *vector) covers(n *vector) bool {
	for d := range v {
		if v[d] < n[d] {
			return false
		}
	}
	return true
}

// maxShapes is how many shapes an index knows at a time: one bit each.
const maxShapes = 64

// shapes are the needs that were asked for of late. Groups that need the same share one.
type shapes struct {
	number map[string]int
	names  [maxShapes]string
	needs  [maxShapes]vector
	used   [maxShapes]uint64
	levels [dims]levels
	active []int // dimensions in which anybody needs anything
	known  uint64
}

// levels tell for a number which shapes need no more than it in one dimension.
type levels struct {
	bounds []uint32 // ascending
	last   uint32   // of the bounds
	masks  []uint64 // [k]: shapes that need at most bounds[k-1]
	start  [numBuckets]uint8
}

// Numbers fall into buckets of an eighth of their magnitude; from a bucket's first level
// there are few steps to the exact one.
const numBuckets = 240

func bucketOf(v uint32) int {
	n := bits.Len32(v)
	if n <= 4 {
		return int(v)
	}
	return (n-4)<<3 + int(v>>(n-4))
}

// lowest is the smallest number in a bucket.
func lowest(bucket int) uint32 {
	if bucket < 16 {
		return uint32(bucket)
	}
	return uint32(8+bucket&7) << (bucket>>3 - 1)
}

// fitting gives a bit for each shape that the sums leave room for.
func (s *shapes) fitting(v *vector) uint64 {
	word := s.known
	for _, d := range s.active {
		word &= s.levels[d].mask(v[d])
	}
	return word
}

func (l *levels) mask(v uint32) uint64 {
	if v >= l.last {
		return l.masks[len(l.masks)-1]
	}
	k := int(l.start[bucketOf(v)])
	for k < len(l.bounds) && l.bounds[k] <= v {
		k++
	}
	return l.masks[k]
}

// add learns a shape, in the place of the least recently used one where there are many,
// and gives its number.
func (s *shapes) add(name string, need *vector, now uint64) int {
	if s.number == nil {
		s.number = map[string]int{}
	}
	i := bits.TrailingZeros64(^s.known)
	if i == maxShapes {
		i = 0
		for k := range s.used {
			if s.used[k] < s.used[i] {
				i = k
			}
		}
		delete(s.number, s.names[i])
	}
	s.number[name], s.names[i], s.needs[i], s.used[i] = i, name, *need, now
	s.known |= 1 << i
	s.active = s.active[:0]
	for d := range s.levels {
		if s.levels[d].learn(s, d) {
			s.active = append(s.active, d)
		}
	}
	return i
}

// least says that none of the known shapes needs no more than this in any dimension.
func (s *shapes) least(need *vector) bool {
	for known := s.known; known != 0; known &= known - 1 {
		if need.covers(&s.needs[bits.TrailingZeros64(known)]) {
			return false
		}
	}
	return true
}

// learn makes the levels of a dimension; false: nobody needs anything of it.
func (l *levels) learn(s *shapes, d int) bool {
	l.bounds = l.bounds[:0]
	var none uint64
	for i := range s.needs {
		switch n := s.needs[i][d]; {
		case s.known>>i&1 == 0:
		case n == 0:
			none |= 1 << i
		default:
			l.bounds = append(l.bounds, n)
		}
	}
	slices.Sort(l.bounds)
	l.bounds = slices.Compact(l.bounds)
	l.masks = append(l.masks[:0], none)
	for k, bound := range l.bounds {
		mask := l.masks[k]
		for i := range s.needs {
			if s.known>>i&1 != 0 && s.needs[i][d] == bound {
				mask |= 1 << i
			}
		}
		l.masks = append(l.masks, mask)
	}
	if l.last = 0; len(l.bounds) > 0 {
		l.last = l.bounds[len(l.bounds)-1]
	}
	for b := range l.start {
		l.start[b] = uint8(upTo(l.bounds, lowest(b)))
	}
	return len(l.bounds) > 0
}

// upTo is how many of the ascending numbers are at most v.
func upTo(bounds []uint32, v uint32) int {
	n := 0
	for n < len(bounds) && bounds[n] <= v {
		n++
	}
	return n
}
