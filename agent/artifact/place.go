package artifact

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/problem"
)

// subdirectory gives a directory of what was fetched, not by way of links.
func subdirectory(tree, sub string) (string, error) {
	at := tree
	for part := range strings.SplitSeq(filepath.Clean(sub), "/") {
		at = filepath.Join(at, part)
		if info, err := os.Lstat(at); err != nil || !info.IsDir() {
			return "", problem.New(problem.Invalid, "source", "it has no directory %q", sub)
		}
	}
	return at, nil
}

// inspect refuses what must not come to the task's directory, and gives the rest to its
// user: no devices, pipes or sockets, no set-id bits, no links out of the tree.
func inspect(tree string, maxBytes int64, user string) error {
	uid, gid, owned := owner(user)
	files, size := 0, int64(0)
	return filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(tree, path)
		if files++; files > maxFiles {
			return problem.New(problem.Invalid, "source", "it has more than %d files", maxFiles)
		}
		mode := info.Mode()
		switch {
		case mode.IsRegular():
			if size += info.Size(); size > maxBytes {
				return errTooLarge(maxBytes)
			}
		case mode.IsDir():
		case mode&fs.ModeSymlink != 0:
			if err := checkLink(tree, path, name); err != nil {
				return err
			}
		default:
			return problem.New(problem.Invalid, "source", "%q in it is neither a file nor a directory", name)
		}
		if mode&fs.ModeSymlink == 0 {
			if err := os.Chmod(path, permissions(mode, owned)); err != nil {
				return err
			}
		}
		if owned && os.Geteuid() == 0 {
			return os.Lchown(path, uid, gid)
		}
		return nil
	})
}

// permissions are what a file gets: without an owner of its own it is open to all, as the
// task's directory is.
func permissions(mode fs.FileMode, owned bool) fs.FileMode {
	perm := mode.Perm() | 0o400
	switch {
	case mode.IsDir() && owned:
		return perm | 0o700
	case mode.IsDir():
		return 0o777
	case owned:
		return perm
	}
	perm |= 0o444
	if perm&0o100 != 0 {
		perm |= 0o111
	}
	return perm
}

// checkLink refuses links that are absolute, lead out of the tree, or to nothing.
func checkLink(tree, path, name string) error {
	target, err := os.Readlink(path)
	if err != nil {
		return err
	}
	base, err := filepath.EvalSymlinks(tree)
	if err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(path)
	rel, rerr := filepath.Rel(base, real)
	if filepath.IsAbs(target) || err != nil || rerr != nil || !filepath.IsLocal(rel) {
		return problem.New(problem.Invalid, "source", "the link %q in it leads out of it, or to nothing", name)
	}
	return nil
}

// owner reads a user that is a number; names belong to the driver.
func owner(user string) (uid, gid int, ok bool) {
	u, g, both := strings.Cut(user, ":")
	n, err := strconv.ParseUint(u, 10, 31)
	if err != nil {
		return 0, 0, false
	}
	m := n
	if both {
		if m, err = strconv.ParseUint(g, 10, 31); err != nil {
			m = n
		}
	}
	return int(n), int(m), true
}

// place moves a tree's content to the destination, file by file where there is something
// already, and gives the paths in the task's directory that it consists of.
func (j *job) place(tree string) ([]string, error) {
	root, err := os.OpenRoot(j.TaskDir)
	if err != nil {
		return nil, fmt.Errorf("opening the task's directory: %w", err)
	}
	defer root.Close()
	into := j.destination
	if j.Artifact.GetMode() == "file" {
		into = filepath.Dir(into)
	}
	if err := makeParents(root, into); err != nil {
		return nil, err
	}
	at, err := root.OpenRoot(into)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	entries, err := os.ReadDir(tree)
	if err != nil {
		return nil, err
	}
	placed := []string{}
	for _, e := range entries {
		placed = append(placed, filepath.Join(into, e.Name()))
	}
	return placed, merge(tree, at)
}

// makeParents makes directories that every task user may write into, as the task's own is.
func makeParents(root *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	if err := makeParents(root, filepath.Dir(dir)); err != nil {
		return err
	}
	info, err := root.Lstat(dir)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return problem.New(problem.Invalid, "destination", "%q is there and no directory (links are not followed)", dir)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := root.Mkdir(dir, 0o777); err != nil {
		return err
	}
	return root.Chmod(dir, 0o777) // past the umask
}

// merge moves what is in a directory of the agent's into one of the task's. The last part
// of a path is never followed, the parts before it are held open.
func merge(from string, to *os.Root) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := to.Open(".")
	if err != nil {
		return err
	}
	defer dst.Close()
	entries, err := src.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		there, err := to.Lstat(name)
		switch {
		case err == nil && there.IsDir() && e.IsDir():
			sub, err := to.OpenRoot(name)
			if err != nil {
				return err
			}
			if err := errors.Join(merge(filepath.Join(from, name), sub), sub.Close()); err != nil {
				return err
			}
			continue
		case err == nil && there.IsDir():
			return problem.New(problem.Invalid, "destination", "%q is a directory, and a file in what was fetched", name)
		case err == nil && e.IsDir():
			if err := to.Remove(name); err != nil {
				return err
			}
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		}
		if err := unix.Renameat(int(src.Fd()), name, int(dst.Fd()), name); err != nil {
			return fmt.Errorf("moving %q: %w", name, err)
		}
	}
	return nil
}
