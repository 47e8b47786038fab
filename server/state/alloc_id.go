package state

import (
	"cmp"
	"encoding/binary"

	"github.com/berthd/berth/server/rows"
)

// AllocID is an allocation's id in bytes.
type AllocID = rows.ID

// ParseAllocID reads an id in its canonical form; false: it is in another, and no
// allocation has it.
func ParseAllocID(s string) (AllocID, bool) { return rows.ParseID(s) }

// allocKey is an id as two integers that order as the id does.
type allocKey struct{ hi, lo uint64 }

func keyOf(id AllocID) allocKey {
	return allocKey{binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])}
}

func (k allocKey) id() (id AllocID) {
	binary.BigEndian.PutUint64(id[:8], k.hi)
	binary.BigEndian.PutUint64(id[8:], k.lo)
	return id
}

func (k allocKey) compare(o allocKey) int {
	return cmp.Or(cmp.Compare(k.hi, o.hi), cmp.Compare(k.lo, o.lo))
}

// lowest is a key that no id is below whose text is not below start.
func lowest(start string) allocKey {
	var id AllocID
	digits := 0
	for i := 0; i < len(start) && digits < 32; i++ {
		if start[i] == '-' && (i == 8 || i == 13 || i == 18 || i == 23) {
			continue
		}
		v := rows.HexValue(start[i])
		if v > 15 || i == 8 || i == 13 || i == 18 || i == 23 {
			break // what follows is compared as text
		}
		id[digits/2] |= v << (4 * (1 - digits%2))
		digits++
	}
	return keyOf(id)
}

// below is compare(o) < 0, for the index, where half of the time of a look-up goes.
func (k allocKey) below(o allocKey) bool { return k.hi < o.hi || k.hi == o.hi && k.lo < o.lo }
