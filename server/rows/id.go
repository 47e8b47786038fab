package rows

import "encoding/hex"

// ID is an allocation's id: the 16 bytes of a UUID, which people see in its
// canonical form (36 characters, lower case).
type ID [16]byte

// ParseID reads the canonical form; false: it is another.
func ParseID(s string) (id ID, ok bool) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return id, false
	}
	at := 0
	for i := range id {
		if at == 8 || at == 13 || at == 18 || at == 23 {
			at++
		}
		hi, lo := HexValue(s[at]), HexValue(s[at+1])
		if hi|lo == notHex {
			return ID{}, false
		}
		id[i], at = hi<<4|lo&15, at+2
	}
	return id, true
}

const notHex = 0xff

// HexValue is the value of a lower case digit; 255: it is none.
func HexValue(c byte) byte { return fromHex[c] }

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
func (id ID) String() string {
	b := id.Text()
	return string(b[:])
}

// Text is the canonical form.
func (id ID) Text() (b [36]byte) {
	hex.Encode(b[0:8], id[0:4])
	hex.Encode(b[9:13], id[4:6])
	hex.Encode(b[14:18], id[6:8])
	hex.Encode(b[19:23], id[8:10])
	hex.Encode(b[24:36], id[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return b
}
