package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/diskimage"
	"github.com/berthd/berth/problem"
)

// fetch gets w's bytes, checks them, converts them to what QEMU reads well, and puts the
// base into its place, pinned. When it fails nothing is left.
func (s *Store) fetch(ctx context.Context, w *wanted, tell Progress) (base *Base, release func(), err error) {
	dir, err := os.MkdirTemp(s.path("temp"), "")
	if err != nil {
		return nil, nil, fmt.Errorf("making room: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	d, err := s.download(ctx, w, filepath.Join(dir, "fetched"), tell)
	if err != nil {
		return nil, nil, err
	}
	defer d.file.Close()
	tell("checking the image")
	if err := s.checkSignature(ctx, w, d, dir); err != nil {
		return nil, nil, err
	}
	info, err := diskimage.Inspect(d.file, d.size, diskimage.Format(w.Format))
	if err != nil {
		return nil, nil, err
	}
	if info.VirtualSize > s.cfg.MaxVirtualBytes {
		return nil, nil, problem.New(problem.Invalid, "image", "it is a disk of %s, and this host takes up to %s", size(info.VirtualSize), size(s.cfg.MaxVirtualBytes))
	}
	base = &Base{Source: string(info.Format), VirtualSize: info.VirtualSize, Digest: d.digest(), Hints: info.Hints}
	path, err := s.convert(ctx, base, info, d, dir, tell)
	if err != nil {
		return nil, nil, err
	}
	if release, err = s.place(base, path); err != nil {
		return nil, nil, err
	}
	if err := s.remember(w, base.Digest); err != nil {
		s.cfg.Log.Warn("where an image came from is not remembered", "image", w.origin, "error", err)
	}
	return base, release, nil
}

// download gets w's bytes into the file at path.
func (s *Store) download(ctx context.Context, w *wanted, path string, tell Progress) (*download, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return nil, fmt.Errorf("making room: %w", err)
	}
	d := newDownload(f, s.cfg.MaxImageBytes, s.room, tell)
	err = w.origin.fetch(ctx, d)
	if err == nil {
		err = d.finish(w.Checksum)
	}
	if strings.HasPrefix(w.version, "sha256:") && err == nil && d.digest() != w.version {
		err = problem.New(problem.Unavailable, "image", "its bytes are %s, and they should be %s", d.digest(), w.version)
	}
	if err != nil {
		return nil, errors.Join(noSpace(err), f.Close())
	}
	return d, nil
}

// convert gives the file in dir that is to be the base, and sets the base's format. raw and
// qcow2 stay what they are.
func (s *Store) convert(ctx context.Context, base *Base, info *diskimage.Info, d *download, dir string, tell Progress) (string, error) {
	base.Format = "raw"
	from, at := string(info.Format), d.file.Name()
	switch info.Format {
	case diskimage.Raw, diskimage.ISO, diskimage.File:
		return at, nil
	case diskimage.QCOW2:
		base.Format = "qcow2"
		return at, check(ctx, "qcow2", at)
	case diskimage.OVA:
		if err := info.Disk.Verify(); err != nil {
			return "", err
		}
		tell("taking the disk out of the archive")
		from, at = string(info.Disk.Info.Format), filepath.Join(dir, "disk")
		if err := s.extract(info.Disk, at); err != nil {
			return "", err
		}
	}
	base.Format = "qcow2"
	if from != "raw" {
		if err := check(ctx, from, at); err != nil {
			return "", err
		}
	}
	tell("converting the image from " + from)
	to := filepath.Join(dir, "converted")
	if err := qemuImg(ctx, convertLimits(info.VirtualSize), "convert", "-q", "-f", from, "-O", "qcow2", at, to); err != nil {
		return "", noSpace(err)
	}
	return to, nil
}

func (s *Store) extract(m *diskimage.Member, path string) error {
	r := m.Reader()
	if err := s.room(r.Size()); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		_, err = io.Copy(f, r)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("taking %s out of its archive: %w", m.Name, noSpace(err))
	}
	return nil
}

// place makes the file at path the base: first what is known of it, then the base, each
// whole on disk before it has its name, and pinned before anybody can remove it.
func (s *Store) place(base *Base, path string) (release func(), err error) {
	ending := base.Format
	if base.Source == string(diskimage.File) {
		ending = "file"
	}
	base.Path = s.path("bases", strings.TrimPrefix(base.Digest, "sha256:")+"."+ending)
	about, err := json.Marshal(base)
	if err == nil {
		err = os.WriteFile(path+".json", about, 0o644)
	}
	for _, p := range []string{path + ".json", path} {
		if err == nil {
			err = errors.Join(os.Chmod(p, 0o444), syncFile(p))
		}
	}
	release = s.pin(base.Path)
	if err == nil {
		s.mu.Lock()
		err = errors.Join(os.Rename(path+".json", base.Path+".json"), os.Rename(path, base.Path))
		s.mu.Unlock()
	}
	if err == nil {
		err = syncFile(s.path("bases"))
	}
	if err != nil {
		release()
		return nil, fmt.Errorf("putting an image into the store: %w", noSpace(err))
	}
	return release, nil
}

func (s *Store) remember(w *wanted, digest string) error {
	b, err := json.Marshal(record{Ref: w.origin.String(), Version: w.version, Digest: digest})
	if err != nil {
		return err
	}
	path := s.path("refs", w.ref)
	return errors.Join(os.WriteFile(path+".new", b, 0o600), os.Rename(path+".new", path))
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// spare is what stays free on the store's disk.
const spare = 256 << 20

// room makes room for need bytes, by removing unused bases if it must.
func (s *Store) room(need int64) error {
	free, err := s.free()
	if err == nil && free < need+spare {
		if _, err = s.evict(0, need+spare-free); err == nil {
			free, err = s.free()
		}
	}
	if err != nil {
		return fmt.Errorf("looking for room: %w", err)
	}
	if free < need+spare {
		return problem.New(problem.Exhausted, "image", "no space: it needs %s, and %s has %s", size(need), s.cfg.Dir, size(max(0, free-spare)))
	}
	return nil
}

func (s *Store) free() (int64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(s.cfg.Dir, &fs); err != nil {
		return 0, err
	}
	return int64(fs.Bavail) * fs.Bsize, nil
}

// noSpace gives "no space left on device" its kind.
func noSpace(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return problem.New(problem.Exhausted, "image", "no space: %w", err)
	}
	return err
}

// size is for people.
func size(n int64) string {
	for _, u := range []struct {
		bytes int64
		name  string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.bytes {
			return fmt.Sprintf("%.4g %s", float64(n)/float64(u.bytes), u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
