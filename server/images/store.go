// Package images keeps the bytes of the images that the cluster has, as files by their
// digest below the server's data directory, and brings what this server lacks from the
// others. What an image is called and what is known of it is in the state.
//
//	<dir>/sha256/<hex>  complete, and read-only
//	<dir>/temp/         on its way; emptied when the server starts
//
// package server composes it: the API imports through it, dispatch sends from it.
package images

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/problem"
)

const (
	// spare is what stays free on the disk, which the log is on as well.
	spare = 1 << 30
	// grace is how old a file without an image must be before it goes: an import writes the
	// file first.
	grace = time.Hour
)

// Store is the files.
type Store struct{ dir string }

// Open opens the store in dir, and removes what was on its way.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir}
	err := os.RemoveAll(filepath.Join(dir, "temp"))
	for _, d := range []string{"temp", "sha256"} {
		err = errors.Join(err, os.MkdirAll(filepath.Join(dir, d), 0o700))
	}
	if err != nil {
		return nil, fmt.Errorf("opening the store of images: %w", err)
	}
	return s, nil
}

var digestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// path gives a digest's file; "" for what is no digest.
func (s *Store) path(digest string) string {
	if !digestPattern.MatchString(digest) {
		return ""
	}
	return filepath.Join(s.dir, "sha256", strings.TrimPrefix(digest, "sha256:"))
}

// Has says whether the bytes are here.
func (s *Store) Has(digest string) bool {
	_, err := os.Stat(s.path(digest))
	return err == nil
}

// Open gives the bytes from offset on; NotFound: they are not here.
func (s *Store) Open(digest string, offset int64) (io.ReadCloser, error) {
	f, err := os.Open(s.path(digest))
	if err != nil {
		return nil, problem.New(problem.NotFound, "digest", "the bytes of image %s are not on this server", digest)
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil || offset < 0 {
		_ = f.Close()
		return nil, problem.New(problem.Invalid, "offset", "%d is no place in an image", offset)
	}
	return f, nil
}

// Keep removes the files that wanted does not say yes to, unless they are young.
func (s *Store) Keep(now time.Time, wanted func(digest string) bool) error {
	entries, err := os.ReadDir(filepath.Join(s.dir, "sha256"))
	if err != nil {
		return fmt.Errorf("tidying images: %w", err)
	}
	var all error
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || wanted("sha256:"+e.Name()) || now.Sub(info.ModTime()) < grace {
			continue
		}
		if err := os.Remove(filepath.Join(s.dir, "sha256", e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = errors.Join(all, err)
		}
	}
	return all
}

// Incoming is an image on its way in.
type Incoming struct {
	store  *Store
	file   *os.File
	size   int64
	looked int64 // size at the last look for room
	sha256 hash.Hash
	sha512 hash.Hash
}

// Begin begins an image. Abort must be called in the end; after Commit it does nothing.
func (s *Store) Begin() (*Incoming, error) {
	f, err := os.CreateTemp(filepath.Join(s.dir, "temp"), "")
	if err != nil {
		return nil, fmt.Errorf("taking an image in: %w", err)
	}
	in := &Incoming{store: s, file: f, sha256: sha256.New(), sha512: sha512.New()}
	if err := in.room(); err != nil {
		in.Abort()
		return nil, err
	}
	return in, nil
}

// room refuses to fill the disk.
func (in *Incoming) room() error {
	var disk unix.Statfs_t
	if err := unix.Statfs(in.store.dir, &disk); err != nil {
		return fmt.Errorf("looking for room: %w", err)
	}
	if free := int64(disk.Bavail) * disk.Bsize; free < spare {
		return problem.New(problem.Exhausted, "", "no space for images: %d MiB are free on the server's disk, and %d stay free", free>>20, int64(spare)>>20).
			WithRemedy("delete images, or give the server a larger disk")
	}
	in.looked = in.size
	return nil
}

// Write takes the next bytes.
func (in *Incoming) Write(p []byte) (int, error) {
	if in.size-in.looked >= 64<<20 {
		if err := in.room(); err != nil {
			return 0, err
		}
	}
	n, err := in.file.Write(p)
	_, _ = in.sha256.Write(p[:n]) // never fail
	_, _ = in.sha512.Write(p[:n])
	in.size += int64(n)
	if errors.Is(err, unix.ENOSPC) {
		err = problem.New(problem.Exhausted, "", "no space for images: %w", err)
	}
	return n, err
}

// ReadAt reads what was written.
func (in *Incoming) ReadAt(p []byte, off int64) (int, error) { return in.file.ReadAt(p, off) }

// Size is how much was written.
func (in *Incoming) Size() int64 { return in.size }

// Digest is of what was written: "sha256:...".
func (in *Incoming) Digest() string { return "sha256:" + hex.EncodeToString(in.sha256.Sum(nil)) }

// Check compares what was written with "sha256:..." or "sha512:..."; "" is any.
func (in *Incoming) Check(checksum string) error {
	kind, want, _ := strings.Cut(checksum, ":")
	var got string
	switch {
	case checksum == "":
		return nil
	case kind == "sha256":
		got = hex.EncodeToString(in.sha256.Sum(nil))
	case kind == "sha512":
		got = hex.EncodeToString(in.sha512.Sum(nil))
	default:
		return problem.New(problem.Invalid, "checksum", "%q is neither sha256:... nor sha512:...", checksum)
	}
	if !strings.EqualFold(got, want) {
		return problem.New(problem.Invalid, "checksum", "it does not match: what came is %s:%s", kind, got)
	}
	return nil
}

// Commit makes it durable, under its digest.
func (in *Incoming) Commit() error {
	to := in.store.path(in.Digest())
	err := errors.Join(in.file.Chmod(0o400), in.file.Sync())
	if err == nil {
		err = os.Rename(in.file.Name(), to)
	}
	if err == nil {
		var dir *os.File
		if dir, err = os.Open(filepath.Dir(to)); err == nil {
			err = errors.Join(dir.Sync(), dir.Close())
		}
	}
	if err != nil {
		return fmt.Errorf("keeping an image: %w", err)
	}
	return nil
}

// Abort removes what was not committed.
func (in *Incoming) Abort() {
	_ = in.file.Close()
	_ = os.Remove(in.file.Name()) // not there after Commit
}
