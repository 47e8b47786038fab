package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/berthd/berth/agent/store"
	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
)

// Layout is where allocations lie on the disk:
//
//	allocs/<id>/shared        for all tasks of the alloc
//	allocs/<id>/shared/data   what a successor takes over, with a sticky disk
//	allocs/<id>/logs          <task>.<stream>.<n>
//	allocs/<id>/tasks/<task>  one task's own, its working directory
//	private/<id>/<task>/state the driver's own
//	private/<id>/<task>.handle  second copy of the task's handle
//
// What people may look into with `berth alloc fs` is all under allocs/<id>; what they
// may not is elsewhere.
type Layout struct {
	// Data is the agent's data directory.
	Data string
	// Secrets is where tasks' secrets directories are made, best on a tmpfs; empty: in
	// private/.
	Secrets string
}

// AllocDir is what people may look into.
func (l Layout) AllocDir(alloc string) string { return filepath.Join(l.Data, "allocs", alloc) }

// LogsDir is where an alloc's logs are.
func (l Layout) LogsDir(alloc string) string { return filepath.Join(l.AllocDir(alloc), "logs") }

func (l Layout) privateDir(alloc string) string { return filepath.Join(l.Data, "private", alloc) }

func (l Layout) secretsDir(alloc string) string {
	if l.Secrets == "" {
		return filepath.Join(l.privateDir(alloc), "secrets")
	}
	return filepath.Join(l.Secrets, alloc)
}

func (l Layout) handlePath(key store.TaskKey) string {
	return filepath.Join(l.privateDir(key.Alloc), key.Task+".handle")
}

func (l Layout) dirs(key store.TaskKey) drivers.Dirs {
	return drivers.Dirs{
		Alloc:   l.AllocDir(key.Alloc),
		Shared:  filepath.Join(l.AllocDir(key.Alloc), "shared"),
		Task:    filepath.Join(l.AllocDir(key.Alloc), "tasks", key.Task),
		Secrets: filepath.Join(l.secretsDir(key.Alloc), key.Task),
		Logs:    l.LogsDir(key.Alloc),
		State:   filepath.Join(l.privateDir(key.Alloc), key.Task, "state"),
	}
}

// checkName refuses what must not become part of a path.
func checkName(field, name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
		return problem.New(problem.Invalid, field, "%q cannot be the name of a directory", clip(name))
	}
	return nil
}

// makeDirs makes a task's directories; those that exist stay as they are. Tasks may run
// as any user, so what is theirs is open to all, below a private directory open to root.
func makeDirs(d drivers.Dirs) error {
	private := filepath.Dir(filepath.Dir(filepath.Dir(d.State)))
	for _, dir := range []struct {
		path string
		mode fs.FileMode
	}{
		{private, 0o700},
		{filepath.Dir(filepath.Dir(d.Secrets)), 0o700},
		{d.Alloc, 0o755}, {d.Logs, 0o755}, {d.State, 0o700},
		{d.Shared, 0o777}, {d.Task, 0o777}, {d.Secrets, 0o777},
	} {
		_, err := os.Lstat(dir.path)
		if err == nil {
			continue
		}
		if err := os.MkdirAll(dir.path, dir.mode); err != nil {
			return fmt.Errorf("making the task's directories: %w", err)
		}
		if err := os.Chmod(dir.path, dir.mode); err != nil { // past the umask
			return fmt.Errorf("making the task's directories: %w", err)
		}
	}
	return nil
}

// writeHandle keeps a second copy of a handle, for the day that the store is lost.
func (l Layout) writeHandle(key store.TaskKey, h *drivers.Handle) error {
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	path := l.handlePath(key)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return store.WriteFile(path, b, 0o600)
}

// readHandle reads the second copy; nil when there is none that can be read.
func (l Layout) readHandle(key store.TaskKey) *drivers.Handle {
	b, err := os.ReadFile(l.handlePath(key))
	if err != nil {
		return nil
	}
	h := &drivers.Handle{}
	if json.Unmarshal(b, h) != nil || h.Driver == "" {
		return nil
	}
	return h
}

func (l Layout) dropHandle(key store.TaskKey) error {
	err := os.Remove(l.handlePath(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// dropSecrets deletes a task's secrets, which have no use after it.
func (l Layout) dropSecrets(key store.TaskKey) error {
	dir := l.dirs(key).Secrets
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	_ = os.Remove(filepath.Dir(dir)) // the alloc's, when this was the last task
	return nil
}

// removeAlloc deletes everything of an alloc from the disk.
func (l Layout) removeAlloc(alloc string) error {
	return errors.Join(os.RemoveAll(l.AllocDir(alloc)), os.RemoveAll(l.privateDir(alloc)), os.RemoveAll(l.secretsDir(alloc)))
}
