package command

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/moby/sys/mountinfo"

	"github.com/berthd/berth/problem"
)

// makeDataDir makes the data directory and locks it for the roles of this process, so
// that a server and an agent may share it, and two of a kind may not.
func (d *daemon) makeDataDir() error {
	if d.cfg.DataDir == "" { // -dev
		dir, err := os.MkdirTemp("", "berth-dev-")
		if err != nil {
			return problem.New(problem.Invalid, "data_dir", "no temporary directory can be made: %w", err)
		}
		d.cfg.DataDir = dir
		d.undo = append(d.undo, func() {
			if err := removeTree(dir); err != nil {
				d.log.Error("the temporary data directory is left behind", "dir", dir, "error", err)
			}
		})
	}
	if err := os.MkdirAll(d.cfg.DataDir, 0o755); err != nil {
		return problem.New(problem.Invalid, d.cfg.DataDir, "the data directory cannot be made: %w", unpath(err)).
			WithRemedy("set data_dir, -data-dir or BERTH_DATA_DIR to a place that this user may write to")
	}
	for _, role := range []struct {
		name string
		here bool
	}{{"server", d.cfg.Server.Enabled}, {"agent", d.cfg.Agent.Enabled}} {
		if !role.here {
			continue
		}
		unlock, err := lockFile(filepath.Join(d.cfg.DataDir, role.name+".lock"), role.name)
		if err != nil {
			return err
		}
		d.undo = append(d.undo, unlock)
	}
	return nil
}

// removeTree removes a directory, unless something is mounted in it: a bind mount that
// was left behind would have what it shows, such as the host's /dev, removed with it.
func removeTree(dir string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return fmt.Errorf("reading what is mounted: %w", err)
	}
	if len(mounts) > 0 {
		return fmt.Errorf("%s is still mounted", mounts[0].Mountpoint)
	}
	return os.RemoveAll(dir)
}

// lockFile takes a lock that ends with the process, and says in the file whose it is.
func lockFile(name, role string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, problem.New(problem.Invalid, name, "the lock file cannot be opened: %w", unpath(err)).
			WithRemedy("set data_dir, -data-dir or BERTH_DATA_DIR to a place that this user may write to")
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(name)
		_ = f.Close()
		return nil, problem.New(problem.Conflict, filepath.Dir(name), "another %s (process %s) works in this data directory", role, or(strings.TrimSpace(string(holder)), "unknown")).
			WithRemedy("stop that one, or give this one a data directory of its own by -data-dir")
	}
	if err := f.Truncate(0); err == nil {
		_, _ = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	return func() { _ = f.Close() }, nil
}
