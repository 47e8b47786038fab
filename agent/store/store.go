// Package store is what an agent remembers across its own restarts: who its node is,
// what it was assigned, how far each task is, and what it has not reported yet. It is
// one bbolt file and, beside it, the node's id as plain text.
//
// It promises that what a write reported as done is found again after a crash, that a
// file which cannot be trusted is noticed when it is opened and moved aside (never
// read half), and that writers who come at the same time share one sync of the disk.
// Every value carries a checksum, because bbolt has none for its data.
//
// The runner writes assignments here before it acts on them; the agent composes. No
// secret is ever stored here.
package store

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/berthd/berth/problem"
)

const (
	fileName   = "state.db"
	nodeIDName = "node-id"
	// lockWait is how long Open waits for another agent to let go of the file.
	lockWait = time.Second
	// format is the version of the layout; it is the name of the bucket that holds all.
	format = 1
)

// Store is an open store. Its methods may be called from several goroutines.
type Store struct {
	db     *bbolt.DB
	log    *slog.Logger
	nodeID string
	lost   string // why the file before this one was moved aside; "": it was not

	pendingMu sync.Mutex
	pending   []*write
	commitMu  sync.Mutex
	broken    error // guarded by commitMu: the file may not be written any more
}

// write is one caller's change, waiting for its commit.
type write struct {
	fn   func(*bbolt.Tx) error
	last func(*bbolt.Tx) error // runs once, after every fn of the transaction; nil: nothing
	done bool
	err  error
}

// Open opens the store in dir and makes it when it is not there. A file that is corrupt
// is moved aside, and Lost says so afterwards.
func Open(dir string, log *slog.Logger) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the agent's state directory: %w", err)
	}
	s := &Store{log: log}
	path := filepath.Join(dir, fileName)
	db, err := openChecked(path)
	if corrupt := (*corruptError)(nil); errors.As(err, &corrupt) {
		s.lost = corrupt.Error()
		if err := moveAside(path, log, corrupt); err != nil {
			return nil, err
		}
		db, err = openChecked(path)
	}
	if err != nil {
		return nil, err
	}
	s.db = db
	if err := s.loadNodeID(filepath.Join(dir, nodeIDName)); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// Close closes the file. Writes that come later fail.
func (s *Store) Close() error {
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	if s.broken == nil {
		s.broken = errors.New("the agent's store is closed")
	}
	return s.db.Close()
}

// NodeID is the node's id, made when the data directory was first used.
func (s *Store) NodeID() string { return s.nodeID }

// Lost says why what was remembered before is gone; "" when it is not.
func (s *Store) Lost() string { return s.lost }

// corruptError says that a store file cannot be trusted.
type corruptError struct{ reason string }

func (e *corruptError) Error() string { return e.reason }

func corruptf(format string, args ...any) error {
	return &corruptError{fmt.Sprintf(format, args...)}
}

// openChecked opens the file, makes its buckets and reads everything in it once, so
// that damage shows now and not in the middle of work.
func openChecked(path string) (db *bbolt.DB, err error) {
	// Damaged pages make bbolt read outside of its map; that must be an error here.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, corruptf("reading it failed: %v", r)
		}
	}()
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait, FreelistType: bbolt.FreelistMapType})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, problem.New(problem.Conflict, path, "another agent has this data directory in use").
			WithRemedy("stop it, or give this agent another -data-dir")
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrVersionMismatch), errors.Is(err, berrors.ErrChecksum):
		return nil, corruptf("it is not a whole store file: %v", err)
	case err != nil && isIO(err):
		return nil, fmt.Errorf("opening the agent's store %s: %w", path, err)
	case err != nil:
		return nil, corruptf("opening it failed: %v", err)
	}
	if err := checkAll(db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := db.Update(makeBuckets); err != nil {
		return nil, errors.Join(fmt.Errorf("preparing the agent's store %s: %w", path, err), db.Close())
	}
	return db, nil
}

// isIO tells an error of the system (no permission, disk full) from one of the content.
func isIO(err error) bool {
	var path *os.PathError
	return errors.As(err, &path)
}

// moveAside renames a corrupt file to the first free state.db.corrupt-N.
func moveAside(path string, log *slog.Logger, why error) error {
	for n := 1; ; n++ {
		aside := fmt.Sprintf("%s.corrupt-%d", path, n)
		if _, err := os.Lstat(aside); err == nil {
			continue
		}
		if err := os.Rename(path, aside); err != nil {
			return fmt.Errorf("moving the corrupt store aside: %w", err)
		}
		log.Error("the agent's store is corrupt and was moved aside; what runs here goes on and is found again with the servers' help",
			"file", path, "moved_to", aside, "reason", why.Error())
		return nil
	}
}

// loadNodeID finds the node's id in the store, else in the plain file, else makes one;
// then both have it.
func (s *Store) loadNodeID(path string) error {
	stored, err := s.meta(metaNodeID)
	if err != nil {
		return err
	}
	plain := ""
	if b, err := os.ReadFile(path); err == nil {
		if id, err := uuid.ParseBytes(trimSpace(b)); err == nil {
			plain = id.String()
		} else {
			s.log.Warn("the node-id file does not hold a node id and is written anew", "file", path)
		}
	}
	switch {
	case stored != nil:
		s.nodeID = string(stored)
	case plain != "":
		s.nodeID = plain
	default:
		s.nodeID = uuid.NewString()
	}
	if stored == nil {
		if err := s.setMeta(metaNodeID, []byte(s.nodeID)); err != nil {
			return fmt.Errorf("storing the node's id: %w", err)
		}
	}
	if plain == s.nodeID {
		return nil
	}
	if plain != "" {
		s.log.Warn("the node-id file differs from the store; the store's id is kept", "file", path, "node", s.nodeID)
	}
	if err := WriteFile(path, []byte(s.nodeID+"\n"), 0o600); err != nil {
		return fmt.Errorf("writing the node's id: %w", err)
	}
	return nil
}

// WriteFile writes a small file so that a crash leaves the old content or the new.
func WriteFile(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // it is gone when the rename went well
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
