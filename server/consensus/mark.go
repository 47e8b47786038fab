package consensus

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// markEvery is after how many entries, at most, the stable store is told how far the log reaches.
// Its write takes as long as several appends.
const markEvery = 8192

// markedLog has the stable store know how far the log reaches: the mark. raft-wal makes a missing
// tail segment anew and takes one whose head is destroyed for empty, and a server that forgot what
// it acknowledged must not vote.
//
// The mark is never beyond what is durable in the log: it is raised after an append, and what
// lowers it, cutting the tail, is one transaction with the new table of segments. It goes along with
// every write of the stable store, and has one of its own at the first append to a segment, so that none can be lost
// unnoticed, and every markEvery entries.
//
// Raft appends and cuts the tail in one goroutine; only the head is cut in another.
type markedLog struct {
	*wal.WAL
	stable   *stableStore
	segments *segmentFS
}

// openLog opens the log in dir, or makes it. Its table of segments is in meta, which is stable but in tests.
func openLog(dir string, stable *stableStore, meta types.MetaStore, logger *slog.Logger) (*markedLog, error) {
	segments := &segmentFS{FS: walfs.New()}
	log, err := wal.Open(dir, wal.WithMetaStore(meta), wal.WithSegmentFiler(segment.NewFiler(dir, segments)), wal.WithLogger(raftLogger(logger)))
	if err != nil {
		return nil, err
	}
	return &markedLog{log, stable, segments}, nil
}

// StoreLog implements raft.LogStore.
func (m *markedLog) StoreLog(l *raft.Log) error { return m.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (m *markedLog) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	if err := m.WAL.StoreLogs(logs); err != nil {
		if cause := m.segments.failed.Load(); cause != nil && errors.Is(err, wal.ErrSealed) {
			return fmt.Errorf("making the next segment: %w", *cause) // raft-wal has only logged it
		}
		return err
	}
	return m.stable.reach(logs[len(logs)-1].Index)
}

// DeleteRange implements raft.LogStore.
func (m *markedLog) DeleteRange(from, to uint64) error {
	first, err := m.FirstIndex()
	if err != nil {
		return err
	}
	last, err := m.LastIndex()
	if err != nil {
		return err
	}
	if from <= last && to >= last {
		end := uint64(0) // all of it
		if from > first {
			end = from - 1
		}
		m.stable.cut(end) // written in one transaction with what is left of the segments
	}
	return m.WAL.DeleteRange(from, to)
}

// check holds the log that was opened against the mark.
func (m *markedLog) check() error {
	last, err := m.LastIndex()
	if err != nil {
		return err
	}
	mark := m.stable.last.Load()
	switch {
	case last == 0 && mark > 0:
		return fmt.Errorf("the log is empty, and this server had entries up to %d at least: %w", mark, errDamaged)
	case last < mark:
		return fmt.Errorf("the log ends at entry %d, and this server had entries up to %d at least: %w", last, mark, errDamaged)
	}
	m.stable.last.Store(last)
	return nil
}

// segmentFS makes the files of the log's segments. It remembers why one could not be made, and leaves
// nothing of it: raft-wal would take a part of a file for a segment.
type segmentFS struct {
	*walfs.FS
	failed atomic.Pointer[error]
}

// Create implements types.VFS.
func (s *segmentFS) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := s.FS.Create(dir, name, size)
	if err == nil {
		return f, nil
	}
	if !errors.Is(err, fs.ErrExist) {
		_ = os.Remove(filepath.Join(dir, name))
	}
	s.failed.Store(&err)
	return nil, err
}
