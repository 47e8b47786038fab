package rows

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
)

// IDs derives the ids of an entry's allocations from its base, 16 random bytes: the nth
// is n, encrypted by the base as a key (AES-128), in the shape of a random UUID. So they
// cost nothing in the log, all differ, and tell nothing of each other.
type IDs struct {
	block cipher.Block
	buf   [aes.BlockSize]byte
}

// NewIDs starts from a base.
func NewIDs(base ID) *IDs {
	block, err := aes.NewCipher(base[:])
	if err != nil {
		panic(err) // only a wrong length fails
	}
	return &IDs{block: block}
}

// At gives the nth id.
func (d *IDs) At(n int) ID {
	d.buf = [aes.BlockSize]byte{}
	binary.BigEndian.PutUint64(d.buf[8:], uint64(n))
	d.block.Encrypt(d.buf[:], d.buf[:])
	d.buf[6] = d.buf[6]&0x0f | 0x40 // version 4: random
	d.buf[8] = d.buf[8]&0x3f | 0x80 // the variant of RFC 9562
	return d.buf
}
