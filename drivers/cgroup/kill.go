package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Killer kills every process of a group. It is plain values, so that a process that did
// not make the group can be told how.
type Killer struct {
	// KillFile is cgroup.kill (v2, Linux 5.14), which does it at once; may be empty.
	KillFile string
	// FreezeFile is freezer.state (v1), which holds them still meanwhile; may be empty.
	FreezeFile string
	// Procs is a cgroup.procs that lists them.
	Procs string
}

// Kill returns when the group has no process any more. It gives up on what does not die
// within seconds: a process that waits for a broken disk cannot.
func (k *Killer) Kill() error {
	if k.KillFile != "" && os.WriteFile(k.KillFile, []byte("1"), 0) == nil {
		return kill(parent(k.KillFile)+"/cgroup.procs", "")
	}
	if k.Procs == "" {
		return nil
	}
	return kill(k.Procs, k.FreezeFile)
}

func kill(procs, freezer string) error {
	for wait := time.Millisecond; ; wait *= 2 {
		pids, err := readPIDs(procs)
		if err != nil || len(pids) == 0 {
			return err
		}
		if freezer != "" && len(pids) > 1 {
			// Frozen, they cannot fork away from the list; they die when thawed.
			if os.WriteFile(freezer, []byte("FROZEN"), 0) == nil {
				pids, _ = readPIDs(procs)
			}
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if freezer != "" {
			_ = os.WriteFile(freezer, []byte("THAWED"), 0)
		}
		if wait > 2*time.Second {
			return errors.New("processes of " + parent(procs) + " do not die")
		}
		time.Sleep(wait)
	}
}

// readPIDs lists a group's processes; none of a group that is not there.
func readPIDs(procs string) ([]int, error) {
	b, err := os.ReadFile(procs)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var pids []int
	for _, p := range strings.Fields(string(b)) {
		// 0: a process that has no number in this process's PID namespace.
		if pid, err := strconv.Atoi(p); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// OOMKills reads how many processes the kernel has killed for want of memory, from
// memory.events (v2) or memory.oom_control (v1). 0 when it cannot be read.
func OOMKills(file string) int {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(keyed(string(b), "oom_kill"))
	return n
}

// keyed finds the value of a key in lines of "key value".
func keyed(text, key string) string {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, key+" "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// parent is the directory of a path. Package path/filepath would do, and would make every
// shim initialise most of its binary's packages first: the order is by name.
func parent(path string) string { return path[:strings.LastIndexByte(path, '/')] }
