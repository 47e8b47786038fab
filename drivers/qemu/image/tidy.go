package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// stored is a base as Tidy sees it.
type stored struct {
	path  string
	bytes int64 // on disk
	used  time.Time
	links uint64
}

// Tidy removes the bases that were used least recently until those that nobody uses take
// no more than Config.MaxBytes; it gives the bytes that were freed.
func (s *Store) Tidy(context.Context) (int64, error) { return s.evict(s.cfg.MaxBytes, 0) }

// evict removes unused bases, the least recently used first, until they take at most keep
// bytes or, with need, until as much is free.
func (s *Store) evict(keep, need int64) (freed int64, err error) {
	unused, err := s.unused()
	if err != nil {
		return 0, fmt.Errorf("tidying the store of images: %w", err)
	}
	total := int64(0)
	for _, b := range unused {
		total += b.bytes
	}
	for _, b := range unused {
		if total-freed <= keep || need > 0 && freed >= need {
			break
		}
		gone, err := s.drop(b.path)
		if err != nil {
			return freed, fmt.Errorf("removing an image: %w", err)
		}
		if gone {
			freed += b.bytes
		}
	}
	return freed, nil
}

// unused gives the bases that have no links but their own, the least recently used first.
// What is known of a base that is not there is removed.
func (s *Store) unused() ([]stored, error) {
	entries, err := os.ReadDir(s.path("bases"))
	if err != nil {
		return nil, err
	}
	var list []stored
	for _, e := range entries {
		name, about := strings.CutSuffix(e.Name(), ".json")
		if !about {
			continue
		}
		b, err := look(s.path("bases", name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if _, err := s.drop(s.path("bases", name)); err != nil {
				return nil, err
			}
			continue
		case err != nil:
			return nil, err
		case b.links > 1:
			continue
		}
		if info, err := e.Info(); err == nil {
			b.used = info.ModTime()
		}
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b stored) int { return a.used.Compare(b.used) })
	return list, nil
}

func look(path string) (stored, error) {
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		return stored{}, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	return stored{path: path, bytes: st.Blocks * 512, links: uint64(st.Nlink)}, nil //nolint:unconvert // 32 bits on some architectures
}

// drop removes a base unless somebody began to use it.
func (s *Store) drop(path string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b, err := look(path); s.pins[path] > 0 || err == nil && b.links > 1 {
		return false, nil
	}
	for _, p := range []string{path, path + ".json"} {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return true, nil
}
