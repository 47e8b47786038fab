package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/agent/artifact"
	"github.com/berthd/berth/agent/store"
	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// makeFiles fetches a task's artifacts, then renders its templates, and waits for what
// they want to know. False: the task cannot be started now; an error comes from a
// failpoint alone.
func (t *task) makeFiles(ctx context.Context, wakes uint64, dt *drivers.Task) (bool, error) {
	def := t.alloc.taskSpec(t.def)
	if len(def.GetArtifacts())+len(def.GetTemplates()) == 0 {
		return true, nil
	}
	if t.rec.Phase == store.Waiting {
		t.rec.State.Phase = berthv1.TaskState_preparing
		t.publish(false)
	}
	opCtx, release := t.interruptible(ctx, wakes, true)
	err := t.fetch(opCtx, def, dt)
	if err == nil {
		err = t.renderFirst(opCtx, def, dt)
	}
	interrupted := opCtx.Err() != nil
	release()
	switch {
	case err == nil:
		t.templates.ready = true
		return true, nil
	case errors.Is(err, errFault):
		return false, err
	case interrupted:
		return false, nil
	case problem.Is(err, problem.Invalid), problem.Is(err, problem.Unsupported):
		t.rec.GiveUp = err.Error() // trying again is useless
	}
	t.ended(&drivers.Exit{Err: err.Error(), At: time.Now()}, "files failed")
	return false, t.settle("not started")
}

// fetch fetches what is not there yet.
func (t *task) fetch(ctx context.Context, def *berthv1.Task, dt *drivers.Task) error {
	private := t.m.cfg.Layout.filesDir(t.key)
	for i, a := range def.GetArtifacts() {
		a, err := t.resolve(a, fmt.Sprintf("tasks[%s].artifacts[%d]", t.def, i), dt.Env)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(private, 0o700); err != nil {
			return fmt.Errorf("making a directory for artifacts: %w", err)
		}
		say := func(words string) {
			t.log.Info("fetching an artifact", "progress", words)
			t.progress("fetching", words)
		}
		fetched, err := artifact.Fetch(ctx, artifact.Request{Artifact: a, TaskDir: dt.Dirs.Task, Private: private, User: dt.User, Progress: say})
		if err != nil {
			return err
		}
		if !fetched {
			continue
		}
		words := fmt.Sprintf("artifact %d of %d, into %q", i+1, len(def.GetArtifacts()), a.GetDestination())
		if a.GetChecksum() == "" && a.GetOptions()["ref"] == "" {
			words += "; it has no checksum"
		}
		t.event("fetched", words)
		t.publish(false)
		if err := t.m.fault("fetched"); err != nil {
			return errors.Join(errFault, err)
		}
	}
	return nil
}

// errFault marks what comes from a failpoint.
var errFault = errors.New("a failpoint")

// resolve replaces every ${...} of an artifact.
func (t *task) resolve(a *berthv1.Artifact, field string, env map[string]string) (*berthv1.Artifact, error) {
	a = proto.CloneOf(a)
	n := names{node: t.m.cfg.Node(), env: env}
	for name, text := range map[string]*string{"source": &a.Source, "destination": &a.Destination, "checksum": &a.Checksum} {
		v, err := n.expand(field+"."+name, *text)
		if err != nil {
			return nil, err
		}
		*text = v
	}
	for name, words := range map[string]map[string]string{"headers": a.Headers, "options": a.Options} {
		for k, text := range words {
			v, err := n.expand(field+"."+name+"."+k, text)
			if err != nil {
				return nil, err
			}
			words[k] = v
		}
	}
	return a, nil
}

// progress keeps one event of a kind up to date, so that it does not push others out.
func (t *task) progress(kind, words string) {
	if n := len(t.rec.State.Events); n > 0 && t.rec.State.Events[n-1].GetType() == kind {
		t.rec.State.Events = t.rec.State.Events[:n-1]
	}
	t.event(kind, words)
	t.publish(false)
}

// filesDir is where the agent remembers what it put into a task's directory.
func (l Layout) filesDir(key store.TaskKey) string {
	return filepath.Join(l.privateDir(key.Alloc), key.Task, "files")
}

// putFile writes a file in a task's directory, whole or not at all. Whatever the task has
// put there before (links, say), nothing outside of it is touched.
func putFile(dir, name string, text []byte, perms fs.FileMode, user string) error {
	name = path.Clean(name)
	if !fs.ValidPath(name) || name == "." {
		return problem.New(problem.Invalid, "destination", "%q is not a file in the task's directory", clip(name)).
			WithRemedy(`write a relative path such as "local/conf"`)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("opening the task's directory: %w", err)
	}
	defer root.Close()
	if err := makeParents(root, path.Dir(name)); err != nil {
		return fmt.Errorf("making the directory of %s: %w", clip(name), err)
	}
	temp := path.Join(path.Dir(name), ".berth-new")
	if err := root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replacing %s: %w", clip(name), err)
	}
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("writing %s: %w", clip(name), err)
	}
	_, err = f.Write(text)
	err = errors.Join(err, giveTo(f, user), f.Chmod(perms), f.Sync(), f.Close())
	if err == nil {
		err = root.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", clip(name), err), root.Remove(temp))
	}
	return nil
}

// readFile reads a file in a task's directory, of at most limit bytes.
func readFile(dir, name string, limit int64) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(path.Clean(name), os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe must not hold it up
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > limit {
		return nil, errors.Join(err, fmt.Errorf("%s is no file, or too large", clip(name)))
	}
	return io.ReadAll(io.LimitReader(f, limit))
}
