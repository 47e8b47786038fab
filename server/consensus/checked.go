package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
)

// checkedLog gives each entry a CRC-32C of its own, at the end of its Extensions:
// raft-wal checks only the last batch of a segment, when it opens it, and a flipped bit before
// that must not reach the state machine. (raft-wal v0.4.0 takes another codec, where
// this would rather sit, but cannot open what it wrote with one.)
type checkedLog struct{ raft.LogStore }

// errEntry is in the chain of what GetLog says of a damaged entry.
var errEntry = fmt.Errorf("an entry of the log does not match its checksum: %w", errDamaged)

// sumOf covers all that Raft needs of an entry.
func sumOf(l *raft.Log, extensions []byte) uint32 {
	var head [25]byte
	binary.LittleEndian.PutUint64(head[0:], l.Index)
	binary.LittleEndian.PutUint64(head[8:], l.Term)
	binary.LittleEndian.PutUint64(head[16:], uint64(len(l.Data)))
	head[24] = byte(l.Type)
	sum := crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, l.Data)
	return crc32.Update(sum, castagnoli, extensions)
}

// StoreLog implements raft.LogStore.
func (c checkedLog) StoreLog(l *raft.Log) error { return c.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore. The entries are Raft's and stay as they are.
func (c checkedLog) StoreLogs(logs []*raft.Log) error {
	sealed := make([]raft.Log, len(logs))
	out := make([]*raft.Log, len(logs))
	for i, l := range logs {
		sealed[i] = *l
		ext := make([]byte, 0, len(l.Extensions)+4)
		sealed[i].Extensions = binary.LittleEndian.AppendUint32(append(ext, l.Extensions...), sumOf(l, l.Extensions))
		out[i] = &sealed[i]
	}
	return c.LogStore.StoreLogs(out)
}

// GetLog implements raft.LogStore.
func (c checkedLog) GetLog(index uint64, l *raft.Log) (err error) {
	defer func() { // raft-wal's decoder may panic over a damaged length
		if r := recover(); r != nil {
			err = fmt.Errorf("entry %d: %w: %v", index, errEntry, r)
		}
	}()
	if err := c.LogStore.GetLog(index, l); err != nil {
		if errors.Is(err, raft.ErrLogNotFound) {
			return raft.ErrLogNotFound // Raft compares it with ==
		}
		return fmt.Errorf("entry %d: %w", index, err)
	}
	n := len(l.Extensions) - 4
	if n < 0 || l.Index != index || binary.LittleEndian.Uint32(l.Extensions[n:]) != sumOf(l, l.Extensions[:n]) {
		return fmt.Errorf("entry %d: %w", index, errEntry)
	}
	l.Extensions = l.Extensions[:n:n]
	if n == 0 {
		l.Extensions = nil
	}
	return nil
}

// IsMonotonic implements raft.MonotonicLogStore.
func (c checkedLog) IsMonotonic() bool {
	s, ok := c.LogStore.(raft.MonotonicLogStore)
	return ok && s.IsMonotonic()
}
