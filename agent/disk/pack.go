// Package disk moves a directory from one node to another: Pack writes its content as a
// tar, Unpack makes a directory of one.
//
// Unpack promises that nothing outside of the directory is read or written, whatever the
// tar says, and that it has nothing but files, directories and links. Owners, modes, times
// and hard links are kept; what is nothing but zeros takes no room. Extended attributes are
// not kept.
package disk

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// Pack writes the content of a directory to w, as a tar. Nothing may change it meanwhile.
// Sockets, pipes and devices are left out: they mean nothing elsewhere.
func Pack(ctx context.Context, w io.Writer, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("opening the disk: %w", err)
	}
	defer root.Close()
	p := packer{root: root, out: tar.NewWriter(w), first: map[inode]string{}}
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		return p.add(name, info)
	})
	if err == nil {
		err = p.out.Close()
	}
	if err != nil {
		return fmt.Errorf("packing the disk: %w", err)
	}
	return nil
}

// inode is one file, whatever its names.
type inode struct{ device, number uint64 }

type packer struct {
	root  *os.Root
	out   *tar.Writer
	first map[inode]string // the first name of files that have several
}

// add writes one entry.
func (p *packer) add(name string, info fs.FileInfo) error {
	target, kind := "", info.Mode().Type()
	switch kind {
	case 0, fs.ModeDir:
	case fs.ModeSymlink:
		var err error
		if target, err = p.root.Readlink(name); err != nil {
			return err
		}
	default:
		return nil
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	// Users have other names elsewhere; the times of the last look are nobody's.
	h.Name, h.Uname, h.Gname, h.AccessTime, h.ChangeTime, h.Format = name, "", "", time.Time{}, time.Time{}, tar.FormatPAX
	if sys, ok := info.Sys().(*syscall.Stat_t); ok && kind == 0 && sys.Nlink > 1 {
		id := inode{sys.Dev, sys.Ino}
		if other, again := p.first[id]; again {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, other, 0
		} else {
			p.first[id] = name
		}
	}
	if err := p.out.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
		return err
	}
	f, err := p.root.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyN(p.out, f, h.Size)
	return err
}
