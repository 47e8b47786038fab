package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/cgroup"
	"github.com/berthd/berth/drivers/qemu/machine"
	"github.com/berthd/berth/problem"
)

// stateDir is a task's state directory, QEMU's working directory: the truth about the
// task. What is written there is written before the step that it names.
type stateDir string

// Files of the driver's beside those of package machine.
const (
	lockFile     = "lock"          // held by QEMU as long as it lives
	recordFile   = "machine.json"  // record
	exitFile     = "exit.json"     // how the task ended; its existence ends the task
	preparedFile = "prepared.json" // what Prepare made
	errorsFile   = "qemu.log"      // QEMU's own words
	suspendFile  = "suspended"     // memory and devices of a suspended machine
	partSuffix   = ".part"         // of a file that is not whole
)

// Phases of a record.
const (
	// starting: nothing is promised yet; whatever there is is undone by the next Start.
	starting = "starting"
	// running: QEMU has been started, and its CPUs may have run.
	running = "running"
	// suspending: the memory is being written to suspendFile.part. The machine is whole.
	suspending = "suspending"
	// suspended: suspendFile is the machine; a QEMU that is still there is worth nothing.
	suspended = "suspended"
	// resuming: a QEMU reads suspendFile, which is still the machine: no CPU has run.
	resuming = "resuming"
)

// record is what is known of a task that was started.
type record struct {
	Version int       `json:"version"`
	Phase   string    `json:"phase"`
	Boot    string    `json:"boot"` // the host's boot id
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	// Paused says that the CPUs are to stand still; Why is for people.
	Paused bool   `json:"paused,omitempty"`
	Why    string `json:"why,omitempty"`
	// Killed says that QEMU is being killed on purpose.
	Killed bool `json:"killed,omitempty"`
	// Machine is what QEMU was started with.
	Machine *machine.Machine `json:"machine,omitempty"`
	// Taps and Bound are changes of the host that are to be undone.
	Taps  []string `json:"taps,omitempty"`
	Bound []bound  `json:"bound,omitempty"`
}

func (s stateDir) path(file string) string { return filepath.Join(string(s), file) }

// write makes a file whole or not at all, also after a loss of power.
func (s stateDir) write(file string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(s.path(file+partSuffix), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return unavailable("writing down the machine's state", err)
	}
	defer f.Close()
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), os.Rename(f.Name(), s.path(file))); err != nil {
		return unavailable("writing down the machine's state", err)
	}
	return nil
}

// read reads a file into v; false: it is not there.
func (s stateDir) read(file string, v any) (bool, error) {
	b, err := os.ReadFile(s.path(file))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	} else if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return false, problem.New(problem.Internal, "", "reading the machine's state: %w", err)
	}
	return true, nil
}

// record gives what is recorded; nil: nothing that the task could be found by.
func (s stateDir) record() (*record, error) {
	r := &record{}
	ok, err := s.read(recordFile, r)
	if !ok || err != nil {
		return nil, err
	}
	if r.Version > handleVersion {
		return nil, problem.New(problem.Unsupported, "", "the machine was started by a newer qemu driver (its record is version %d)", r.Version).
			WithRemedy("upgrade the agent")
	}
	return r, nil
}

// find gives the record of a task that was started, running or not; nil: there is none
// that is true. What has ended stays so, what is suspended outlives the host's boot.
func (s stateDir) find() (*record, error) {
	r, err := s.record()
	if r == nil || err != nil {
		return nil, err
	}
	if s.exit() != nil {
		return r, nil
	}
	again := r.Boot != bootID() // since then the host was booted
	switch r.Phase {
	case starting:
		return nil, nil
	case suspended:
		return r, nil
	case suspending, resuming:
		if _, err := os.Stat(s.path(suspendFile)); err == nil && (again || !s.alive()) {
			r.Phase, r.PID = suspended, 0
			return r, nil
		}
	}
	if again {
		return nil, nil
	}
	return r, nil
}

func (r *record) handle() *drivers.Handle {
	return &drivers.Handle{Driver: name, Version: handleVersion, PID: r.PID, StartedAt: r.Started}
}

// exit is how the task ended; nil: that is not written down.
func (s stateDir) exit() *drivers.Exit {
	e := &drivers.Exit{}
	if ok, err := s.read(exitFile, e); !ok || err != nil {
		return nil
	}
	return e
}

// alive says whether a QEMU runs, by whether its lock is held. There is no pid in this,
// so none can be mistaken for another.
func (s stateDir) alive() bool {
	f, err := os.Open(s.path(lockFile))
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// lock takes the lock for a new QEMU.
func (s stateDir) lock() (*os.File, error) {
	f, err := os.OpenFile(s.path(lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, unavailable("locking the task's state directory", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, problem.New(problem.Conflict, "task", "somebody else is starting the machine")
	}
	return f, nil
}

// clear removes all files but those to be kept.
func (s stateDir) clear(keep ...string) error {
	entries, err := os.ReadDir(string(s))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	kept := map[string]bool{}
	for _, k := range keep {
		kept[k] = true
	}
	for _, e := range entries {
		if !kept[e.Name()] {
			err = errors.Join(err, os.RemoveAll(s.path(e.Name())))
		}
	}
	if err != nil {
		return unavailable("clearing the task's state directory", err)
	}
	return nil
}

// killTime is how long what was killed may take to be gone.
const killTime = 15 * time.Second

// kill kills QEMU with all that belongs to it and returns when it is gone.
func (s stateDir) kill(ctx context.Context, group *cgroup.Group) error {
	killer := group.Killer()
	for begun := time.Now(); ; {
		// One that is only being started joins the group in a moment.
		if err := killer.Kill(); err != nil {
			return unavailable("killing QEMU", err)
		}
		if !s.alive() {
			return nil
		}
		if time.Since(begun) > killTime {
			return problem.New(problem.Unavailable, "", "QEMU does not die within %s", killTime)
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// lastWords are the last lines that QEMU wrote; "": none.
func (s stateDir) lastWords() string {
	const most = 500
	f, err := os.Open(s.path(errorsFile))
	if err != nil {
		return ""
	}
	defer f.Close()
	end, _ := f.Seek(0, 2)
	b := make([]byte, min(end, most))
	_, _ = f.ReadAt(b, end-int64(len(b)))
	words := strings.Trim(strings.ToValidUTF8(string(b), "?"), "\x00 \n")
	if end > most {
		if _, whole, ok := strings.Cut(words, "\n"); ok {
			words = whole
		}
	}
	return words
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

func unavailable(doing string, err error) error {
	return problem.New(problem.Unavailable, "", "%w", fmt.Errorf("%s: %w", doing, err))
}
