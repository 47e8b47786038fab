package consensus

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"github.com/hashicorp/raft"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/berthd/berth/problem"
)

const (
	raftDir      = "raft"      // under the data directory
	walDir       = "log"       // under raftDir
	snapshotsDir = "snapshots" // under raftDir; the name is hashicorp/raft's
	// keepSnapshots is how many snapshots stay on disk: the newest, and one to fall back on.
	keepSnapshots = 2
	// cachedEntries is how many of the newest entries stay in memory for followers, at
	// most MaxEntry each.
	cachedEntries = 512
)

// Stores are where Raft keeps what must not be lost.
type Stores struct {
	Log       raft.LogStore
	Stable    raft.StableStore
	Snapshots raft.SnapshotStore
	// Close gives back what the stores hold; nil: nothing.
	Close func() error

	dir string // for messages; empty in memory
}

// openStores opens what is under dataDir, or makes it.
func openStores(dataDir string, logger *slog.Logger) (_ *Stores, err error) {
	dir := filepath.Join(dataDir, raftDir)
	if err := os.MkdirAll(filepath.Join(dir, walDir), 0o700); err != nil {
		return nil, storeProblem(dir, walDir, err)
	}
	var stable *stableStore
	err = guard(func() (err error) {
		stable, err = openStable(dir)
		return err
	})
	if err != nil {
		return nil, storeProblem(dir, stableFile, err)
	}
	s := &Stores{Stable: stable, Close: stable.Close, dir: dir}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	var log *markedLog
	err = guard(func() (err error) {
		log, err = openLog(filepath.Join(dir, walDir), stable, stable, logger)
		return err
	})
	if err != nil {
		return nil, storeProblem(dir, walDir, err)
	}
	s.Close = func() error { return errors.Join(log.Close(), stable.Close()) }
	if err := log.check(); err != nil {
		return nil, storeProblem(dir, stable.tail(), err)
	}
	s.Log = checkedLog{log}
	if s.Snapshots, err = raft.NewFileSnapshotStoreWithLogger(dir, keepSnapshots, raftLogger(logger)); err != nil {
		return nil, storeProblem(dir, snapshotsDir, err)
	}
	return s, guard(s.check)
}

// check finds a hole between the newest snapshot and the log, which Raft would find
// by a panic.
func (s *Stores) check() error {
	first, err := s.Log.FirstIndex()
	if err != nil {
		return storeProblem(s.dir, walDir, err)
	}
	snapshots, err := s.Snapshots.List()
	if err != nil {
		return storeProblem(s.dir, snapshotsDir, err)
	}
	var newest uint64
	for _, m := range snapshots {
		newest = max(newest, m.Index)
	}
	if first > newest+1 {
		return storeProblem(s.dir, snapshotsDir, fmt.Errorf(
			"the log begins at entry %d, and the newest readable snapshot ends at %d: %w", first, newest, errDamaged))
	}
	return nil
}

// guard turns a panic of f, or a fault in memory that it has mapped from a file that
// was cut short, into an error.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			if e, ok := r.(error); ok {
				err = fmt.Errorf("%w: %w", errDamaged, e)
			} else {
				err = fmt.Errorf("%w: %v", errDamaged, r)
			}
		}
	}()
	return f()
}

// storeProblem says what is wrong with the file called name of the stores in dir, and the way out of it.
func storeProblem(dir, name string, err error) error {
	path := filepath.Join(dir, name)
	var p *problem.Error
	if errors.As(err, &p) {
		return err
	}
	var errno syscall.Errno
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return problem.New(problem.Conflict, path, "another process holds the file: %w", err).
			WithRemedy("stop the other server that runs on this data directory")
	case !errors.Is(err, errDamaged) && errors.As(err, &errno) && !errors.Is(err, fs.ErrNotExist):
		return problem.New(problem.Unavailable, path, "the server's store cannot be used: %w", err).
			WithRemedy("see to the disk, its space and the permissions, then start the server again")
	}
	return problem.New(problem.Internal, path, "the server's store is damaged: %w", err).
		WithRemedy("if a quorum of the other servers is alive, move %s away and start this server again: it joins them and gets the state from them. "+
			"If not, start it with an empty data directory and restore a snapshot that was saved before", dir)
}
