package state

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
)

// AllocID is an allocation's id: the 16 bytes of a UUID, which people see in its
// canonical form (36 characters, lower case).
type AllocID [16]byte

// ParseAllocID reads the canonical form; false: it is another.
func ParseAllocID(s string) (id AllocID, ok bool) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return id, false
	}
	at := 0
	for i := range id {
		if at == 8 || at == 13 || at == 18 || at == 23 {
			at++
		}
		hi, lo := fromHex[s[at]], fromHex[s[at+1]]
		if hi|lo == notHex {
			return AllocID{}, false
		}
		id[i], at = hi<<4|lo&15, at+2
	}
	return id, true
}

const notHex = 0xff

// fromHex has the values of the lower case digits.
var fromHex = func() (t [256]byte) {
	for i := range t {
		t[i] = notHex
	}
	for i, c := range "0123456789abcdef" {
		t[c] = byte(i)
	}
	return t
}()

// String is the canonical form.
func (id AllocID) String() string {
	var b [36]byte
	hex.Encode(b[0:8], id[0:4])
	hex.Encode(b[9:13], id[4:6])
	hex.Encode(b[14:18], id[6:8])
	hex.Encode(b[19:23], id[8:10])
	hex.Encode(b[24:36], id[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// allocKey is an id as two integers that order as the id does.
type allocKey struct{ hi, lo uint64 }

func (id AllocID) key() allocKey {
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
		v := fromHex[start[i]]
		if v == notHex || i == 8 || i == 13 || i == 18 || i == 23 {
			break // what follows is compared as text
		}
		id[digits/2] |= v << (4 * (1 - digits%2))
		digits++
	}
	return id.key()
}
