package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/berthd/berth/diskimage"
	"github.com/berthd/berth/problem"
)

// Store keeps bases. Its methods may be called from several goroutines.
//
//	bases/<sha256>.<raw|qcow2|file>       what a base is; read-only, complete
//	bases/<sha256>.<raw|qcow2|file>.json  what is known of it; its time is that of its last use
//	refs/<hash of a source>.json          what a source held when it was fetched last
//	temp/                                 what is not complete; emptied by New
type Store struct {
	cfg  Config
	keys []publicKey

	// mu guards what follows and names in bases/: it is held over a rename, a look or a
	// removal there, never over what takes time.
	mu      sync.Mutex
	pins    map[string]int // by path of a base: how many have it from Ensure
	flights map[string]*flight
}

// New opens the store in cfg.Dir and removes what a crash left half.
func New(cfg Config) (*Store, error) {
	if !filepath.IsAbs(cfg.Dir) {
		return nil, problem.New(problem.Invalid, "images.dir", "%q is not an absolute path", cfg.Dir)
	}
	for value, standard := range map[*int64]int64{&cfg.MaxBytes: 32 << 30, &cfg.MaxImageBytes: 256 << 30, &cfg.MaxVirtualBytes: 16 << 40} {
		if *value == 0 {
			*value = standard
		}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{cfg: cfg, pins: map[string]int{}, flights: map[string]*flight{}}
	for i, text := range cfg.Keys {
		key, err := parseKey(text)
		if err != nil {
			return nil, problem.New(problem.Invalid, fmt.Sprintf("qemu.image_keys[%d]", i), "%w", err)
		}
		s.keys = append(s.keys, key)
	}
	for i, dir := range cfg.HostDirs {
		if !filepath.IsAbs(dir) {
			return nil, problem.New(problem.Invalid, fmt.Sprintf("qemu.image_dirs[%d]", i), "%q is not an absolute path", dir)
		}
	}
	err := os.RemoveAll(s.path("temp"))
	for _, dir := range []string{"temp", "refs", "bases"} {
		err = errors.Join(err, os.MkdirAll(s.path(dir), 0o711))
	}
	if err != nil {
		return nil, fmt.Errorf("opening the store of images: %w", err)
	}
	return s, nil
}

func (s *Store) path(names ...string) string {
	return filepath.Join(append([]string{s.cfg.Dir}, names...)...)
}

// Ensure gives the base of src; it fetches, checks and converts what is not there. Several
// that want the same wait for one fetch. Until release is called the base stays even if
// nothing links to it.
func (s *Store) Ensure(ctx context.Context, src Source, progress Progress) (base *Base, release func(), err error) {
	if progress == nil {
		progress = func(string) {}
	}
	o, err := s.origin(src)
	if err != nil {
		return nil, nil, err
	}
	if err := checkSum(src.Checksum); err != nil {
		return nil, nil, err
	}
	w, err := s.want(ctx, src, o, progress)
	if err == nil && w.digest != "" {
		base, release, err = s.find(w.digest, src.Format)
	}
	if err == nil && base == nil {
		base, release, err = s.share(ctx, w, progress)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("image %s: %w", o, err)
	}
	return base, release, nil
}

// wanted is a source of which it is known what it holds now.
type wanted struct {
	Source
	origin origin
	// version is what the origin says of its content now; digest is that of the bytes, ""
	// where only fetching tells.
	version, digest string
	ref             string // name of its record in refs/
}

// record is a file in refs/.
type record struct {
	Ref, Version, Digest string
}

func (s *Store) want(ctx context.Context, src Source, o origin, progress Progress) (*wanted, error) {
	w := &wanted{Source: src, origin: o, ref: digestOf(o.String() + "\n" + src.Checksum + "\n" + src.Signature)[len("sha256:"):] + ".json"}
	var known record
	if b, err := os.ReadFile(s.path("refs", w.ref)); err == nil && json.Unmarshal(b, &known) != nil {
		known = record{}
	}
	if strings.HasPrefix(src.Checksum, "sha256:") && !s.signed(o) {
		w.digest = strings.ToLower(src.Checksum)
		return w, nil
	}
	if src.Checksum != "" && known.Digest != "" {
		w.digest = known.Digest // what has that checksum never changes
		return w, nil
	}
	version, err := o.version(ctx)
	switch {
	case problem.Is(err, problem.Unavailable) && known.Digest != "":
		progress("cannot ask whether the image has changed: taking the copy that is here")
		w.digest = known.Digest
		return w, nil
	case err != nil:
		return nil, err
	}
	w.version = version
	switch {
	case known.Digest != "" && version != "" && known.Version == version:
		w.digest = known.Digest
	case strings.HasPrefix(version, "sha256:") && !s.signed(o):
		w.digest = version
	}
	return w, nil
}

// variants are the endings of bases that a format may be stored as.
func variants(format string) []string {
	if format == string(diskimage.File) {
		return []string{"file"}
	}
	return []string{"qcow2", "raw"}
}

// find gives the base of a digest, pinned; nil where there is none.
func (s *Store) find(digest, format string) (*Base, func(), error) {
	for _, ending := range variants(format) {
		path := s.path("bases", strings.TrimPrefix(digest, "sha256:")+"."+ending)
		release := s.pin(path)
		base, err := s.readBase(path)
		if base == nil || err != nil {
			release()
			if err != nil {
				return nil, nil, err
			}
			continue
		}
		if format != "" && format != "auto" && format != base.Source && ending != "file" && (format != "raw" || base.Source != "iso") {
			release()
			return nil, nil, problem.New(problem.Invalid, "image_format", "its content is %s, not %s", base.Source, format)
		}
		now := time.Now()
		if err := os.Chtimes(path+".json", now, now); err != nil {
			s.cfg.Log.Warn("an image's last use is not remembered", "path", path, "error", err)
		}
		return base, release, nil
	}
	return nil, nil, nil
}

// readBase gives the base at path; nil where there is none.
func (s *Store) readBase(path string) (*Base, error) {
	b, err := os.ReadFile(path + ".json")
	if err == nil {
		_, err = os.Stat(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the store of images: %w", err)
	}
	base := &Base{}
	if err := json.Unmarshal(b, base); err != nil {
		return nil, nil //nolint:nilerr // what cannot be read is fetched anew
	}
	base.Path = path
	return base, nil
}

// pin keeps what is at path, or will be, from Tidy.
func (s *Store) pin(path string) (release func()) {
	s.mu.Lock()
	s.pins[path]++
	s.mu.Unlock()
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.pins[path]--; s.pins[path] == 0 {
			delete(s.pins, path)
		}
	})
}
