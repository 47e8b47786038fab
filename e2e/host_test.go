package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is one of the host's.
type process struct {
	pid     int
	command string
}

func (p process) String() string { return fmt.Sprintf("%d %s", p.pid, p.command) }

// processes gives those that want accepts, zombies not among them.
func processes(want func(dir, command string) bool) []process {
	var found []process
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		data, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || len(data) == 0 {
			continue // it is gone, or a thread of the kernel, or a zombie
		}
		command := string(bytes.TrimSpace(bytes.ReplaceAll(data, []byte{0}, []byte{' '})))
		if pid, _ := strconv.Atoi(filepath.Base(dir)); pid != os.Getpid() && want(dir, command) {
			found = append(found, process{pid, command})
		}
	}
	return found
}

// below says whether a process belongs to a script: its words or its directory do. Shims
// work in the data directory of their agent.
func below(work string) func(dir, command string) bool {
	return func(dir, command string) bool {
		cwd, _ := os.Readlink(filepath.Join(dir, "cwd"))
		// With the slash: "schedule" is not "scheduler".
		return strings.Contains(command, work+"/") || strings.HasPrefix(cwd+"/", work+"/")
	}
}

// tasksBelow gives the supervisors of tasks of a script's agents.
func tasksBelow(work string) []process {
	mine := below(work)
	return processes(func(dir, command string) bool {
		return strings.HasPrefix(command, "berth-shim") && mine(dir, command)
	})
}

// allocsBelow gives the ids of the allocations that a script's agents have known.
func allocsBelow(work string) []string {
	var ids []string
	for _, pattern := range []string{"allocs", "private"} {
		dirs, _ := filepath.Glob(filepath.Join(work, "*", pattern, "*-*-*-*-*"))
		for _, dir := range dirs {
			ids = append(ids, filepath.Base(dir))
		}
	}
	return ids
}

// cgroupsBelow gives the control groups of those allocations that are there.
func cgroupsBelow(work string) []string {
	var all []string
	for _, id := range allocsBelow(work) {
		for _, pattern := range []string{"/sys/fs/cgroup/berth.slice/", "/sys/fs/cgroup/*/berth.slice/"} {
			groups, _ := filepath.Glob(pattern + id + "*")
			all = append(all, groups...)
		}
	}
	return all
}

// leftovers gives what a script's cluster has left on the host.
func leftovers(work string) []string {
	var left []string
	for deadline := time.Now().Add(3 * time.Second); ; time.Sleep(look) {
		left = left[:0]
		for _, p := range processes(below(work)) {
			left = append(left, "process "+p.String())
		}
		for _, m := range mountsBelow(work) {
			left = append(left, "mount "+m)
		}
		left = append(left, cgroupsBelow(work)...)
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
	}
}

// killBelow kills what a script has left, so that one failure is not the next one's.
func killBelow(work string) {
	for _, p := range processes(below(work)) {
		if kids, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", p.pid, p.pid)); err == nil && strings.HasPrefix(p.command, "berth-shim") {
			for kid := range strings.FieldsSeq(string(kids)) {
				if n, err := strconv.Atoi(kid); err == nil {
					_ = syscall.Kill(n, syscall.SIGKILL)
				}
			}
		}
		_ = syscall.Kill(p.pid, syscall.SIGKILL)
	}
}

// mountsBelow gives the mount points under a directory.
func mountsBelow(dir string) []string {
	data, _ := os.ReadFile("/proc/self/mountinfo")
	var found []string
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 4 && (f[4] == dir || strings.HasPrefix(f[4], dir+"/")) {
			found = append(found, f[4])
		}
	}
	return found
}
