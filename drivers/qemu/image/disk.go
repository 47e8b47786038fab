package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/diskimage"
	"github.com/berthd/berth/problem"
)

// baseEnding is that of the link beside a linked clone.
const baseEnding = ".base"

// MakeDisk makes a disk of a base, or an empty one where base is nil. One that is there
// already is checked and stays as it is (it grows, if it is smaller than spec says). It is
// whole or not there.
func (s *Store) MakeDisk(ctx context.Context, base *Base, spec DiskSpec) error {
	bytes, err := spec.check(base)
	if err != nil {
		return err
	}
	if has, err := diskSize(spec); err != nil {
		return fmt.Errorf("disk %s: %w", spec.Path, err)
	} else if has > 0 {
		if has < spec.SizeBytes {
			return s.Grow(ctx, spec.Path, spec.Format, spec.SizeBytes)
		}
		return nil
	}
	// A run that was killed may have left these.
	if err := s.Remove(spec.Path); err != nil {
		return err
	}
	if err := s.build(ctx, base, spec, bytes); err != nil {
		return errors.Join(fmt.Errorf("making disk %s: %w", filepath.Base(spec.Path), noSpace(err)), s.Remove(spec.Path))
	}
	return nil
}

func (d *DiskSpec) check(base *Base) (bytes int64, err error) {
	bytes = d.SizeBytes
	linked := base != nil && d.Clone == "linked"
	switch {
	case base == nil && bytes <= 0:
		return 0, problem.New(problem.Invalid, "size", "an empty disk needs a size")
	case base != nil && bytes == 0:
		bytes = base.VirtualSize
	case base != nil && bytes < base.VirtualSize:
		return 0, problem.New(problem.Invalid, "size", "%s is less than the image's %s", size(bytes), size(base.VirtualSize))
	}
	switch {
	case d.Format != "qcow2" && d.Format != "raw":
		return 0, problem.New(problem.Invalid, "format", "%q is neither qcow2 nor raw", d.Format)
	case linked && d.Format != "qcow2":
		return 0, problem.New(problem.Invalid, "clone", "only a qcow2 can be linked to its image").WithRemedy(`write clone = "full"`)
	case linked && d.Preallocation != "" && d.Preallocation != "off":
		return 0, problem.New(problem.Invalid, "preallocation", "a linked clone takes its space as it is written to").WithRemedy(`write clone = "full"`)
	case d.Format == "raw" && (d.ClusterBytes != 0 || d.Preallocation == "metadata"):
		return 0, problem.New(problem.Invalid, "format", "a raw disk has no clusters and no metadata")
	case d.ClusterBytes != 0 && (d.ClusterBytes < 512 || d.ClusterBytes > 2<<20 || d.ClusterBytes&(d.ClusterBytes-1) != 0):
		return 0, problem.New(problem.Invalid, "cluster_size", "%d is no power of two from 512 bytes to 2 MiB", d.ClusterBytes)
	}
	return (bytes + 511) / 512 * 512, nil
}

// diskSize gives the size of the disk that is there; 0: none. A qcow2 may have a backing file
// in its own directory only, whoever wrote its header since.
func diskSize(spec DiskSpec) (int64, error) {
	f, err := os.OpenFile(spec.Path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, problem.New(problem.Invalid, "", "it is no plain file")
	}
	if spec.Format == "raw" {
		return info.Size(), nil
	}
	virtual, backing, err := diskimage.Overlay(f, info.Size())
	if err != nil {
		return 0, err
	}
	if name, beside := strings.CutPrefix(backing, "./"); backing != "" && (!beside || strings.Contains(name, "/")) {
		return 0, problem.New(problem.Denied, "", "it has a backing file that is not beside it: %q", backing)
	}
	return virtual, nil
}

// build makes the disk under another name and gives it its own when it is whole.
func (s *Store) build(ctx context.Context, base *Base, spec DiskSpec, bytes int64) error {
	if spec.Preallocation == "falloc" || spec.Preallocation == "full" {
		if err := s.room(bytes); err != nil {
			return err
		}
	}
	temp := spec.Path + ".new"
	var options []string
	if spec.ClusterBytes != 0 {
		options = append(options, fmt.Sprintf("cluster_size=%d", spec.ClusterBytes))
	}
	if spec.Preallocation != "" {
		options = append(options, "preallocation="+spec.Preallocation)
	}
	create := []string{"create", "-q", "-f", spec.Format}
	convert := []string{"convert", "-q", "-O", spec.Format}
	if len(options) > 0 {
		o := []string{"-o", strings.Join(options, ",")}
		create, convert = append(create, o...), append(convert, o...)
	}
	l := convertLimits(bytes)
	var err error
	switch {
	case base == nil:
		err = qemuImg(ctx, l, append(create, temp, fmt.Sprint(bytes))...)
	case spec.Clone == "linked":
		if err = s.Link(ctx, base, spec.Path+baseEnding); err == nil {
			beside := "./" + filepath.Base(spec.Path) + baseEnding
			err = qemuImg(ctx, l, append(create, "-b", beside, "-F", base.Format, temp, fmt.Sprint(bytes))...)
		}
	default:
		if err = qemuImg(ctx, l, append(convert, "-f", base.Format, base.Path, temp)...); err == nil && bytes > base.VirtualSize {
			err = grow(ctx, temp, spec, bytes)
		}
	}
	if err != nil {
		return err
	}
	if err := errors.Join(os.Chmod(temp, 0o600), syncFile(temp), os.Rename(temp, spec.Path)); err != nil {
		return err
	}
	return syncFile(filepath.Dir(spec.Path))
}

// Grow makes a disk, that no QEMU has open, larger.
func (s *Store) Grow(ctx context.Context, path, format string, bytes int64) error {
	return grow(ctx, path, DiskSpec{Format: format}, bytes)
}

func grow(ctx context.Context, path string, spec DiskSpec, bytes int64) error {
	args := []string{"resize", "-q", "-f", spec.Format}
	if spec.Preallocation != "" && spec.Preallocation != "off" {
		args = append(args, "--preallocation="+spec.Preallocation)
	}
	if err := qemuImg(ctx, convertLimits(bytes), append(args, path, fmt.Sprint(bytes))...); err != nil {
		return fmt.Errorf("growing %s to %s: %w", filepath.Base(path), size(bytes), err)
	}
	return nil
}

// Link makes base readable at path: for CD-ROMs and kernels. What is there is replaced. On
// another file system it is a copy.
func (s *Store) Link(ctx context.Context, base *Base, path string) error {
	temp := path + ".new"
	err := os.Remove(temp)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = os.Link(base.Path, temp)
	}
	if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EMLINK) {
		err = copyFile(ctx, base.Path, temp)
	}
	// A rename between two links to one file would leave both.
	if err == nil {
		if err = os.Remove(path); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		_ = os.Remove(temp)
		return fmt.Errorf("taking an image from the store: %w", noSpace(err))
	}
	return nil
}

func copyFile(ctx context.Context, from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, &reader{ctx: ctx, Reader: src})
	return errors.Join(err, dst.Sync(), dst.Close())
}

// Remove removes a disk or link, and what MakeDisk put beside it. What is not there is fine.
func (s *Store) Remove(path string) error {
	var all error
	for _, p := range []string{path, path + ".new", path + baseEnding, path + baseEnding + ".new"} {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = errors.Join(all, fmt.Errorf("removing a disk: %w", err))
		}
	}
	return all
}
