package consensustest

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/berthd/berth/server/consensus"
)

// MemoryStores are stores in memory. They outlive the server that runs on them, as a disk does: hand them to the
// next one to restart it.
func MemoryStores() *consensus.Stores {
	s := raft.NewInmemStore()
	return &consensus.Stores{Log: s, Stable: s, Snapshots: &memorySnapshots{}}
}

// SlowLog is a log store whose writes take a while.
type SlowLog struct {
	raft.LogStore
	delay atomic.Int64
}

// SetDelay has each write from now on take so much longer.
func (s *SlowLog) SetDelay(d time.Duration) { s.delay.Store(int64(d)) }

// StoreLog implements raft.LogStore.
func (s *SlowLog) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (s *SlowLog) StoreLogs(l []*raft.Log) error {
	time.Sleep(time.Duration(s.delay.Load()))
	return s.LogStore.StoreLogs(l)
}

// memorySnapshots keeps the newest snapshot. Unlike raft.InmemSnapshotStore it keeps
// the one before until the new one is complete.
type memorySnapshots struct {
	mu   sync.Mutex
	made int
	last *memorySnapshot
}

type memorySnapshot struct {
	of   *memorySnapshots
	meta raft.SnapshotMeta
	data bytes.Buffer
}

// Create implements raft.SnapshotStore.
func (m *memorySnapshots) Create(version raft.SnapshotVersion, index, term uint64, conf raft.Configuration, confIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.made++
	return &memorySnapshot{of: m, meta: raft.SnapshotMeta{Version: version, ID: strconv.Itoa(m.made), Index: index, Term: term,
		Configuration: conf, ConfigurationIndex: confIndex}}, nil
}

// List implements raft.SnapshotStore.
func (m *memorySnapshots) List() ([]*raft.SnapshotMeta, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last == nil {
		return nil, nil
	}
	meta := m.last.meta
	return []*raft.SnapshotMeta{&meta}, nil
}

// Open implements raft.SnapshotStore.
func (m *memorySnapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last == nil || m.last.meta.ID != id {
		return nil, nil, errors.New("there is no such snapshot any more")
	}
	meta := m.last.meta
	return &meta, io.NopCloser(bytes.NewReader(m.last.data.Bytes())), nil
}

// Write implements raft.SnapshotSink.
func (s *memorySnapshot) Write(b []byte) (int, error) { return s.data.Write(b) }

// ID implements raft.SnapshotSink.
func (s *memorySnapshot) ID() string { return s.meta.ID }

// Cancel implements raft.SnapshotSink.
func (s *memorySnapshot) Cancel() error { return nil }

// Close implements raft.SnapshotSink.
func (s *memorySnapshot) Close() error {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	s.meta.Size = int64(s.data.Len())
	if s.of.last == nil || s.of.last.meta.Index <= s.meta.Index {
		s.of.last = s
	}
	return nil
}
