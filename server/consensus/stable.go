package consensus

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
	"go.etcd.io/bbolt"
)

// The stable store's file: two buckets, each value followed by its CRC-32C, because
// bbolt checks its own meta pages only.
const stableFile = "stable.db"

var (
	stableBucket = []byte("stable") // raft's term and vote, and this package's keys
	walBucket    = []byte("wal")    // which segments the log has
	walKey       = []byte("state")
	keyLogEnd    = []byte("berth/log-end")
	castagnoli   = crc32.MakeTable(crc32.Castagnoli)
)

// errDamaged is in the chain of every error about a store's content.
var errDamaged = errors.New("its content is damaged")

// stableStore is Raft's stable store and the log's table of segments, in one bbolt file
// that also keeps a second process off the data. It is a raft.StableStore and a raft-wal
// MetaStore.
type stableStore struct {
	db *bbolt.DB
	// last is the log's newest entry that is known to be durable; see markedLog. Each write
	// takes it along under keyLogEnd. marked is what the file says of it at least, and base where
	// the segment begins that is appended to.
	last, marked, base atomic.Uint64
}

// openStable opens the store in dir, or makes it.
func openStable(dir string) (*stableStore, error) {
	path := filepath.Join(dir, stableFile)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if err := checkNew(dir); err != nil {
			return nil, err
		}
		if err := makeStable(dir, path); err != nil {
			return nil, err
		}
	}
	// Wait for a lock as long as a predecessor takes to end, not for ever.
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 2 * time.Second})
	if err != nil {
		return nil, err
	}
	s := &stableStore{db: db}
	good := false
	defer func() { // also when damage makes bbolt panic: the file's lock must go
		if !good {
			_ = db.Close()
		}
	}()
	if err := s.verify(); err != nil {
		return nil, err
	}
	mark, err := s.GetUint64(keyLogEnd)
	if err != nil {
		return nil, err
	}
	s.last.Store(mark)
	s.marked.Store(mark)
	good = true
	return s, nil
}

// checkNew finds the log and snapshots of a stable store that is gone. They come after it, so a crash leaves
// none without it; and raft-wal would delete the segments that it does not know.
func checkNew(dir string) error {
	for _, pattern := range []string{filepath.Join(walDir, "*.wal"), filepath.Join(snapshotsDir, "*")} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		if len(found) > 0 {
			return fmt.Errorf("it is missing, and %s is there: %w", found[0], errDamaged)
		}
	}
	return nil
}

// makeStable makes the file under another name first, so that a crash in the middle
// leaves none that cannot be opened.
func makeStable(dir, path string) error {
	tmp := path + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	db, err := bbolt.Open(tmp, 0o600, &bbolt.Options{Timeout: 2 * time.Second})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, b := range [][]byte{stableBucket, walBucket} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes renames in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// verify reads everything once.
func (s *stableStore) verify() error {
	return s.db.View(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{stableBucket, walBucket} {
			b := tx.Bucket(name)
			if b == nil {
				return fmt.Errorf("bucket %q is missing: %w", name, errDamaged)
			}
			err := b.ForEach(func(k, v []byte) error {
				_, err := unseal(k, v)
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// seal appends the checksum of key and value to value.
func seal(key, value []byte) []byte {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
	out := make([]byte, 0, len(value)+4)
	return binary.LittleEndian.AppendUint32(append(out, value...), sum)
}

// unseal gives a copy of what was sealed.
func unseal(key, sealed []byte) ([]byte, error) {
	if len(sealed) < 4 {
		return nil, fmt.Errorf("key %q: %w", key, errDamaged)
	}
	value := append([]byte{}, sealed[:len(sealed)-4]...)
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
	if binary.LittleEndian.Uint32(sealed[len(value):]) != sum {
		return nil, fmt.Errorf("key %q: %w", key, errDamaged)
	}
	return value, nil
}

func (s *stableStore) get(bucket, key []byte) (value []byte, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		if sealed := tx.Bucket(bucket).Get(key); sealed != nil {
			value, err = unseal(key, sealed)
		}
		return err
	})
	return value, err
}

func (s *stableStore) set(bucket, key, value []byte) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		if err := s.mark(tx); err != nil {
			return err
		}
		if value == nil {
			return tx.Bucket(bucket).Delete(key)
		}
		return tx.Bucket(bucket).Put(key, seal(key, value))
	})
}

// mark writes how far the log reaches.
func (s *stableStore) mark(tx *bbolt.Tx) error {
	end := binary.LittleEndian.AppendUint64(nil, s.last.Load())
	return tx.Bucket(stableBucket).Put(keyLogEnd, seal(keyLogEnd, end))
}

// cut is told that the log is about to end with entry last. The next write says so.
func (s *stableStore) cut(last uint64) {
	s.last.Store(last)
	s.marked.Store(min(s.marked.Load(), last))
}

// reach is told that the log is durable up to index.
func (s *stableStore) reach(index uint64) error {
	s.last.Store(index)
	if marked := s.marked.Load(); marked >= s.base.Load() && index < marked+markEvery {
		return nil
	}
	if err := s.db.Update(s.mark); err != nil {
		return fmt.Errorf("noting the end of the log: %w", err)
	}
	s.marked.Store(index)
	return nil
}

// Set implements raft.StableStore.
func (s *stableStore) Set(key, value []byte) error { return s.set(stableBucket, key, value) }

// Get implements raft.StableStore: nil where there is nothing.
func (s *stableStore) Get(key []byte) ([]byte, error) { return s.get(stableBucket, key) }

// SetUint64 implements raft.StableStore.
func (s *stableStore) SetUint64(key []byte, v uint64) error {
	return s.Set(key, binary.LittleEndian.AppendUint64(nil, v))
}

// GetUint64 implements raft.StableStore: 0 where there is nothing.
func (s *stableStore) GetUint64(key []byte) (uint64, error) {
	v, err := s.Get(key)
	switch {
	case err != nil || v == nil:
		return 0, err
	case len(v) != 8:
		return 0, fmt.Errorf("key %q has %d bytes, not 8: %w", key, len(v), errDamaged)
	}
	return binary.LittleEndian.Uint64(v), nil
}

// Load implements types.MetaStore. The directory is the one that was opened.
func (s *stableStore) Load(string) (types.PersistentState, error) {
	var state types.PersistentState
	raw, err := s.get(walBucket, walKey)
	if err != nil || raw == nil {
		return state, err
	}
	if err := json.Unmarshal(raw, &state); err != nil {
		return state, fmt.Errorf("reading the log's segments: %w: %w", errDamaged, err)
	}
	s.rebase(state)
	return state, nil
}

// rebase notes where the last segment begins.
func (s *stableStore) rebase(state types.PersistentState) {
	if n := len(state.Segments); n > 0 {
		s.base.Store(state.Segments[n-1].BaseIndex)
	}
}

// tail names the file, below the stores' folder, of the segment that is appended to.
func (s *stableStore) tail() string {
	state, err := s.Load("")
	if err != nil || len(state.Segments) == 0 {
		return walDir
	}
	return filepath.Join(walDir, segment.FileName(state.Segments[len(state.Segments)-1]))
}

// CommitState implements types.MetaStore.
func (s *stableStore) CommitState(state types.PersistentState) error {
	raw, err := json.Marshal(state)
	if err != nil {
		return err
	}
	s.rebase(state)
	return s.set(walBucket, walKey, raw)
}

// GetStable implements types.MetaStore; Raft does not come this way.
func (s *stableStore) GetStable(key []byte) ([]byte, error) { return s.Get(key) }

// SetStable implements types.MetaStore.
func (s *stableStore) SetStable(key, value []byte) error { return s.Set(key, value) }

// Close implements types.MetaStore. After an orderly end the mark is exact; one that is too low does no harm.
func (s *stableStore) Close() error {
	_ = s.db.Update(s.mark)
	return s.db.Close()
}
