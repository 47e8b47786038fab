// Package rows is the compact form of facts about very many allocations: placements, and
// reports of agents. A placement takes five bytes, or next to nothing where a whole run
// of instances lands on one node; as a message it takes two hundred.
//
// Both forms are a byte with the version, then records one after the other, each a byte
// that says what it is and what follows. Numbers are varints, signed ones zigzag, bytes
// have their length before them. A reader keeps what the records before have said, so a
// name is written once. Garbage is refused with an error; whoever reads must not have
// done anything that cannot be left half done, or read it once before (Check).
package rows

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxRows bounds the rows of one entry, so that a few damaged bytes cannot ask for
// billions.
const MaxRows = 1 << 15

// errShort says that the bytes end within a record.
var errShort = errors.New("it is cut short")

// in reads primitives; the first error stays.
type in struct {
	b   []byte
	err error
}

func (r *in) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
	r.b = nil
}

func (r *in) byte() byte {
	if len(r.b) == 0 {
		r.fail("%w", errShort)
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

// uint reads a number of at most max.
func (r *in) uint(max uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	switch {
	case n == 0:
		r.fail("%w", errShort)
		return 0
	case n < 0 || v > max:
		r.fail("a number is above %d", max)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *in) int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail("%w", errShort)
		return 0
	}
	r.b = r.b[n:]
	return v
}

// bytes reads bytes that lie in what is read.
func (r *in) bytes() []byte {
	n := r.uint(1 << 20)
	if n > uint64(len(r.b)) {
		r.fail("%w", errShort)
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *in) id() (id ID) {
	if len(r.b) < len(id) {
		r.fail("%w", errShort)
		return id
	}
	copy(id[:], r.b)
	r.b = r.b[len(id):]
	return id
}

func appendBytes[T string | []byte](b []byte, v T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

// version reads the first byte.
func (r *in) version(newest byte) {
	if v := r.byte(); r.err == nil && (v == 0 || v > newest) {
		r.fail("it has format %d, this server reads up to %d", v, newest)
	}
}
