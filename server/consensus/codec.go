package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/hashicorp/raft"
)

// entryCodec writes entries into the log's segments, each with a CRC-32C of its own:
// raft-wal checks only the last batch of a segment when it opens it, and a flipped bit
// before that must not reach the state machine.
//
// An entry is: uvarint index, uvarint term, type (1 byte), uvarint length and data, uvarint length and
// extensions, AppendedAt in Unix ns (8 bytes, 0: none), CRC-32C (4 bytes). Integers are
// little endian.
type entryCodec struct{}

// codecID is in every segment's header; another layout needs another one.
const codecID = 1<<16 + 0xBE01

var errEntry = errors.New("an entry's checksum does not match")

// ID implements wal.Codec.
func (entryCodec) ID() uint64 { return codecID }

// Encode implements wal.Codec.
func (entryCodec) Encode(l *raft.Log, w io.Writer) error {
	b := make([]byte, 0, len(l.Data)+len(l.Extensions)+48)
	b = binary.AppendUvarint(b, l.Index)
	b = binary.AppendUvarint(b, l.Term)
	b = append(b, byte(l.Type))
	b = append(binary.AppendUvarint(b, uint64(len(l.Data))), l.Data...)
	b = append(binary.AppendUvarint(b, uint64(len(l.Extensions))), l.Extensions...)
	var at uint64
	if !l.AppendedAt.IsZero() {
		at = uint64(l.AppendedAt.UnixNano())
	}
	b = binary.LittleEndian.AppendUint64(b, at)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	_, err := w.Write(b)
	return err
}

// Decode implements wal.Codec; what it fills in l shares nothing with b.
func (entryCodec) Decode(b []byte, l *raft.Log) error {
	if len(b) < 4 {
		return fmt.Errorf("%d bytes: %w", len(b), errEntry)
	}
	body := b[:len(b)-4]
	if binary.LittleEndian.Uint32(b[len(body):]) != crc32.Checksum(body, castagnoli) {
		return errEntry
	}
	d := entryDecoder{rest: body}
	*l = raft.Log{Index: d.uvarint(), Term: d.uvarint(), Type: raft.LogType(d.take(1)[0])}
	l.Data = d.bytes()
	l.Extensions = d.bytes()
	if at := binary.LittleEndian.Uint64(d.take(8)); at != 0 {
		l.AppendedAt = time.Unix(0, int64(at))
	}
	if d.short || len(d.rest) > 0 {
		return errEntry
	}
	return nil
}

// entryDecoder takes fields off rest; short is set, and zeros given, when that ends early.
type entryDecoder struct {
	rest  []byte
	short bool
}

func (d *entryDecoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.short = true
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *entryDecoder) take(n uint64) []byte {
	if n > uint64(len(d.rest)) {
		d.short = true
		return make([]byte, min(n, 8))
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *entryDecoder) bytes() []byte {
	n := d.uvarint()
	if n == 0 {
		return nil
	}
	return append([]byte(nil), d.take(n)...)
}
