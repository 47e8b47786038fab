package artifact

import (
	"archive/tar"
	"archive/zip"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/berthd/berth/problem"
)

// go-getter unpacks a link as a file that is empty, or has the link's target in it. So when
// it is done the archive is read once more, and links are made where those files are: what
// the archive has was all unpacked before there is any link that it could have gone through.

// link is one of an archive.
type link struct {
	name, target string
	hard         bool // target is a name in the archive
}

// relink makes the links of an archive in the tree that was unpacked of it. Whether they
// lead out of it, inspect says.
func relink(ctx context.Context, tree, archive, kind string) error {
	links, err := linksOf(ctx, archive, kind)
	if err != nil || len(links) == 0 {
		return err
	}
	root, err := os.OpenRoot(tree)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, l := range links {
		if err := l.make(root); err != nil {
			return problem.New(problem.Invalid, "source", "the link %q in it leads out of it, or to nothing: %v", l.name, err)
		}
	}
	return nil
}

func (l link) make(root *os.Root) error {
	if l.hard && l.target == l.name {
		return errors.New("it is a link to itself")
	}
	if err := root.Remove(l.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if l.hard {
		return root.Link(l.target, l.name)
	}
	return root.Symlink(l.target, l.name)
}

// noter notes the links of an archive in their order. What comes later under the same name
// takes the place of what came before.
type noter struct {
	ctx   context.Context
	links []link
	at    map[string]int // by name
}

func (n *noter) note(name, target string, symbolic, hard bool) error {
	name = local(name)
	if i, before := n.at[name]; before {
		n.links[i].name = "" // it was replaced
		delete(n.at, name)
	}
	if hard {
		target = local(target)
	}
	if symbolic || hard {
		n.at[name] = len(n.links)
		n.links = append(n.links, link{name, target, hard})
	}
	return n.ctx.Err()
}

// local is a name in an archive, from its root; like go-getter, which joins names to the
// tree, it takes an absolute one as one from there.
func local(name string) string { return path.Clean(strings.TrimLeft(name, "/")) }

func linksOf(ctx context.Context, archive, kind string) ([]link, error) {
	n := noter{ctx: ctx, at: map[string]int{}}
	var err error
	if kind == "zip" {
		err = n.zip(archive)
	} else {
		err = n.tar(archive, kind)
	}
	return slices.DeleteFunc(n.links, func(l link) bool { return l.name == "" }), err
}

func (n *noter) tar(archive, kind string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	plain, done, err := uncompressed(f, kind)
	if err != nil {
		return err
	}
	defer done()
	for in := tar.NewReader(plain); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = n.note(h.Name, h.Linkname, h.Typeflag == tar.TypeSymlink, h.Typeflag == tar.TypeLink)
		}
		if err != nil {
			return err
		}
	}
}

// uncompressed reads what a tar of a kind is compressed of.
func uncompressed(r io.Reader, kind string) (io.Reader, func(), error) {
	none := func() {}
	switch strings.TrimPrefix(strings.TrimPrefix(kind, "tar."), "t") {
	case "gz":
		z, err := gzip.NewReader(r)
		return z, none, err
	case "bz2":
		return bzip2.NewReader(r), none, nil
	case "xz":
		z, err := xz.NewReader(r)
		return z, none, err
	case "zst":
		z, err := zstd.NewReader(r)
		if err != nil {
			return nil, none, err
		}
		return z, z.Close, nil
	}
	return r, none, nil
}

// maxTarget bounds the target of a link; Linux takes no longer path.
const maxTarget = 4096

func (n *noter) zip(archive string) error {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer z.Close()
	for _, f := range z.File {
		target := ""
		symbolic := f.Mode()&fs.ModeSymlink != 0
		if symbolic {
			if target, err = targetIn(f); err != nil {
				return fmt.Errorf("reading the link %q: %w", f.Name, err)
			}
		}
		if err := n.note(f.Name, target, symbolic, false); err != nil {
			return err
		}
	}
	return nil
}

// targetIn reads where a link of a zip leads: that is what the file has.
func targetIn(f *zip.File) (string, error) {
	r, err := f.Open()
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxTarget+1))
	if err == nil && len(b) > maxTarget {
		err = errors.New("its target is too long")
	}
	return string(b), err
}
