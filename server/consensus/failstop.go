package consensus

import (
	"errors"
	"sync"
	"syscall"

	"github.com/hashicorp/raft"

	"github.com/berthd/berth/problem"
)

// failStopLog takes no more writes once one has failed: what is in memory and what is on disk may be two
// things then, and hashicorp/raft would go on trying, and standing for election, for ever. Run ends instead.
type failStopLog struct {
	raft.LogStore
	failed chan struct{} // closed by the first failure

	mu  sync.Mutex
	err error
}

func newFailStopLog(l raft.LogStore) *failStopLog {
	return &failStopLog{LogStore: l, failed: make(chan struct{})}
}

// StoreLog implements raft.LogStore.
func (f *failStopLog) StoreLog(l *raft.Log) error { return f.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (f *failStopLog) StoreLogs(logs []*raft.Log) error {
	if err := f.failure(); err != nil {
		return err
	}
	return f.note(f.LogStore.StoreLogs(logs))
}

// DeleteRange implements raft.LogStore.
func (f *failStopLog) DeleteRange(from, to uint64) error {
	if err := f.failure(); err != nil {
		return err
	}
	return f.note(f.LogStore.DeleteRange(from, to))
}

// IsMonotonic implements raft.MonotonicLogStore.
func (f *failStopLog) IsMonotonic() bool {
	s, ok := f.LogStore.(raft.MonotonicLogStore)
	return ok && s.IsMonotonic()
}

// failure is the first error of a write.
func (f *failStopLog) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// note keeps the first error and gives err back.
func (f *failStopLog) note(err error) error {
	if err == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
		close(f.failed)
	}
	return err
}

// writeProblem says that the log at path cannot be written. Nothing was acknowledged that is not durable.
func writeProblem(path string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return problem.New(problem.Exhausted, path, "the disk is full: %w", err).
			WithRemedy("free space on the disk that holds %s, then start this server again; nothing that was acknowledged is lost", path)
	}
	return problem.New(problem.Unavailable, path, "the log cannot be written: %w", err).
		WithRemedy("see to the disk that holds %s, then start this server again; nothing that was acknowledged is lost", path)
}
