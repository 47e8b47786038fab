package disk

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/berthd/berth/problem"
)

// blockSize is what a file is written in; a block of zeros is left out of it.
const blockSize = 64 << 10

var zeros [blockSize]byte

// Count is what was unpacked.
type Count struct {
	Files int   // and directories and links
	Bytes int64 // that take room
}

// Unpack makes the content of dir, which is empty, of a tar. limit bounds what it takes, in
// bytes (0: nothing does); progress is told every block. What it has made when it fails is
// left to the caller. Invalid: the tar has what it must not have.
func Unpack(ctx context.Context, r io.Reader, dir string, limit int64, progress func(Count)) (Count, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Count{}, fmt.Errorf("opening the disk's directory: %w", err)
	}
	defer root.Close()
	u := unpacker{ctx: ctx, root: root, in: tar.NewReader(r), limit: limit, progress: progress, buf: make([]byte, blockSize)}
	for {
		h, err := u.in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return u.count, fmt.Errorf("reading the disk: %w", err)
		}
		if err := u.entry(h); err != nil {
			return u.count, fmt.Errorf("unpacking %q: %w", h.Name, err)
		}
		u.count.Files++
	}
	// Whoever sends may say only now that it is not whole.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return u.count, fmt.Errorf("reading the disk: %w", err)
	}
	// Directories come last, the inner ones first: what is made in them changes their time,
	// and who may not write into them could make nothing there.
	for _, h := range slices.Backward(u.dirs) {
		if err := u.finish(h); err != nil {
			return u.count, fmt.Errorf("unpacking %q: %w", h.Name, err)
		}
	}
	return u.count, nil
}

type unpacker struct {
	ctx      context.Context
	root     *os.Root
	in       *tar.Reader
	limit    int64
	progress func(Count)
	buf      []byte
	dirs     []*tar.Header
	count    Count
}

// entry makes one entry.
func (u *unpacker) entry(h *tar.Header) error {
	h.Name = path.Clean(h.Name)
	if !filepath.IsLocal(h.Name) {
		return problem.New(problem.Invalid, "", "the name leads out of the disk")
	}
	switch h.Typeflag {
	case tar.TypeDir:
		u.dirs = append(u.dirs, h)
		if h.Name == "." {
			return nil
		}
		return u.root.Mkdir(h.Name, 0o700)
	case tar.TypeReg:
		return u.file(h)
	case tar.TypeSymlink:
		if err := u.root.Symlink(h.Linkname, h.Name); err != nil { // it is never followed out of here
			return err
		}
		return owned(u.root.Lchown(h.Name, h.Uid, h.Gid))
	case tar.TypeLink:
		if !filepath.IsLocal(h.Linkname) {
			return problem.New(problem.Invalid, "", "the link leads out of the disk")
		}
		return u.root.Link(path.Clean(h.Linkname), h.Name)
	}
	return problem.New(problem.Invalid, "", "a disk has files, directories and links only; this is a %q", h.Typeflag)
}

// file makes a regular file.
func (u *unpacker) file(h *tar.Header) error {
	f, err := u.root.OpenFile(h.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = u.content(f, h.Size)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return u.finish(h)
}

// content writes a file's content; what is zeros becomes a hole.
func (u *unpacker) content(f *os.File, size int64) error {
	for at := int64(0); at < size; {
		block := u.buf[:min(size-at, blockSize)]
		if _, err := io.ReadFull(u.in, block); err != nil {
			return err
		}
		if !bytes.Equal(block, zeros[:len(block)]) {
			if u.count.Bytes += int64(len(block)); u.limit > 0 && u.count.Bytes > u.limit {
				return problem.New(problem.Exhausted, "disk", "it is larger than the group's disk of %d MiB", u.limit>>20).
					WithRemedy("give the group a larger disk")
			}
			if _, err := f.WriteAt(block, at); err != nil {
				return err
			}
		}
		at += int64(len(block))
		u.progress(u.count)
		if err := u.ctx.Err(); err != nil {
			return err
		}
	}
	return f.Truncate(size)
}

// finish gives a file or directory its owner, mode and time.
func (u *unpacker) finish(h *tar.Header) error {
	if err := owned(u.root.Lchown(h.Name, h.Uid, h.Gid)); err != nil {
		return err
	}
	// After the owner: a change of it takes special bits away.
	if err := u.root.Chmod(h.Name, h.FileInfo().Mode()&^fs.ModeType); err != nil {
		return err
	}
	return u.root.Chtimes(h.Name, h.ModTime, h.ModTime)
}

// owned is the outcome of a change of owner: an agent that is not root can make none, and
// goes on.
func owned(err error) error {
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		return nil
	}
	return err
}
