package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/berthd/berth/problem"
)

// writePayload writes the payload of a dispatched job into a task's directory; the file
// is empty where there is no payload. Whatever the task has put into its directory before
// (links, say), nothing outside of it is touched.
func writePayload(dir, name, user string, payload []byte) error {
	if !fs.ValidPath(path.Clean(name)) || path.Clean(name) == "." {
		return problem.New(problem.Invalid, "payload_file", "%q is not a file in the task's directory", clip(name)).
			WithRemedy(`write a relative path such as "local/payload"`)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("opening the task's directory: %w", err)
	}
	defer root.Close()
	name = path.Clean(name)
	if err := makeParents(root, path.Dir(name)); err != nil {
		return fmt.Errorf("making the directory of the payload: %w", err)
	}
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replacing the payload: %w", err)
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("writing the payload: %w", err)
	}
	_, err = f.Write(payload)
	if err = errors.Join(err, giveTo(f, user), f.Close()); err != nil {
		return fmt.Errorf("writing the payload: %w", err)
	}
	return nil
}

// makeParents makes directories that every task user may write into, as the task's
// directory is.
func makeParents(root *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	if err := makeParents(root, path.Dir(dir)); err != nil {
		return err
	}
	err := root.Mkdir(dir, 0o777)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return root.Chmod(dir, 0o777) // past the umask
}

// giveTo lets only the task's user read a file. Who that is, is known here where the spec
// has a number; names belong to the driver (they may be of an image), so then all may read.
func giveTo(f *os.File, user string) error {
	uid, gid, _ := strings.Cut(user, ":")
	u, err := strconv.ParseUint(uid, 10, 31)
	if err != nil {
		return f.Chmod(0o644)
	}
	g, err := strconv.ParseUint(gid, 10, 31)
	if err != nil {
		g = u
	}
	if err := f.Chown(int(u), int(g)); err != nil {
		return f.Chmod(0o644) // the agent is not root
	}
	return nil
}
