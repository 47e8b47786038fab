package store

import (
	"errors"
	"fmt"
	"runtime/debug"
	"syscall"

	"go.etcd.io/bbolt"

	"github.com/berthd/berth/problem"
)

// update runs fn in a write transaction. Callers that arrive while one transaction is
// being synced share the next one. When one of several fails, each is run alone, so
// that an error reaches only who caused it.
func (s *Store) update(fn func(*bbolt.Tx) error) error { return s.updateThen(fn, nil) }

// updateThen is update with something that needs to be done once for all who share the
// transaction, after them: last is the same for all who give one.
func (s *Store) updateThen(fn, last func(*bbolt.Tx) error) error {
	w := &write{fn: fn, last: last}
	s.pendingMu.Lock()
	s.pending = append(s.pending, w)
	s.pendingMu.Unlock()

	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	if w.done {
		return w.err
	}
	s.pendingMu.Lock()
	batch := s.pending
	s.pending = nil
	s.pendingMu.Unlock()
	s.commit(batch)
	return w.err
}

// commit is called with commitMu held.
func (s *Store) commit(batch []*write) {
	err := s.transact(batch)
	if err != nil && len(batch) > 1 {
		for _, w := range batch {
			w.err, w.done = s.transact([]*write{w}), true
		}
		return
	}
	for _, w := range batch {
		w.err, w.done = err, true
	}
}

// transact commits one transaction. A panic in bbolt means that the file's structure is
// not what it should be: nothing is written to it any more, and the next Open will look.
func (s *Store) transact(batch []*write) (err error) {
	if s.broken != nil {
		return s.broken
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			s.broken = problem.New(problem.Internal, s.db.Path(), "the agent's store is damaged: %v", r).
				WithRemedy("restart the agent; it moves the file aside and recovers what runs")
			s.log.Error("the agent's store is damaged; workloads go on, nothing new is accepted", "reason", fmt.Sprint(r))
			err = s.broken
		}
	}()
	err = s.db.Update(func(tx *bbolt.Tx) error {
		var last func(*bbolt.Tx) error
		for _, w := range batch {
			if err := w.fn(tx); err != nil {
				return err
			}
			if w.last != nil {
				last = w.last
			}
		}
		if last != nil {
			return last(tx)
		}
		return nil
	})
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return problem.New(problem.Exhausted, s.db.Path(), "the disk of the agent's data directory is full: %w", err).
			WithRemedy("free space there; the agent tries again by itself")
	}
	return err
}

// view runs fn in a read transaction.
func (s *Store) view(fn func(*bbolt.Tx) error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = problem.New(problem.Internal, s.db.Path(), "reading the agent's store failed: %v", r)
		}
	}()
	return s.db.View(fn)
}
