// Package exectest has the exec driver's recipes for drivertest: they run in process and,
// by package plugins, through the wire.
package exectest

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/cgroup"
	"github.com/berthd/berth/drivers/drivertest"
)

// Shell is a task that runs a script.
func Shell(script string, args ...any) drivertest.Config {
	return drivertest.Config{"command": "/bin/sh", "args": []any{"-c", fmt.Sprintf(script, args...)}}
}

// Factory is how drivertest makes tasks of the exec driver whose cgroups live under
// parent. New is the caller's to set.
func Factory(parent string) drivertest.Factory {
	return drivertest.Factory{
		Forever:  drivertest.Config{"command": "sleep", "args": []any{"1000"}},
		Stubborn: Shell(`trap "" TERM; echo ready; while :; do sleep 0.05; done`),
		ExitWith: func(after time.Duration, code int) drivertest.Config {
			return Shell("sleep %f; exit %d", after.Seconds(), code)
		},
		Print: func(stdout, stderr string) drivertest.Config {
			return Shell("echo '%s'; echo '%s' >&2; exec sleep 1000", stdout, stderr)
		},
		Ticks: Shell("while :; do echo tick; sleep 0.02; done"),
		Flood: func(n int) drivertest.Config { return Shell("head -c %d /dev/zero", n) },
		Hog: func(mib int) drivertest.Config {
			return Shell(`x=$(head -c %d /dev/zero | tr '\0' x); exec sleep 1000`, mib<<20)
		},
		Invalid: map[string]drivertest.Config{
			"config.command":            {},
			"config.comand":             {"command": "sleep", "comand": "x"},
			"config.pid_mode":           {"command": "sleep", "pid_mode": "none"},
			"config.cap_add":            {"command": "sleep", "cap_add": []any{"fly"}},
			"config.rootfs":             {"command": "sleep", "rootfs": "/no/such/place"},
			"config.work_dir":           {"command": "sleep", "work_dir": "here"},
			"config.mount[0].path":      {"command": "sleep", "mount": []any{map[string]any{"host_path": "/tmp", "path": "/"}}},
			"config.mount[0].host_path": {"command": "sleep", "mount": []any{map[string]any{"host_path": "/no/such", "path": "/x"}}},
			"config.rlimits.nofile":     {"command": "sleep", "rlimits": map[string]any{"nofile": -1}},
		},
		Failing: map[string]drivertest.Config{
			"no such program":      {"command": "no-such-program"},
			"no such path":         {"command": "/no/such/program"},
			"not a program":        {"command": "/etc/passwd"},
			"a directory":          {"command": "/usr"},
			"no such work_dir":     {"command": "sleep", "work_dir": "/no/such/place"},
			"mount in a read-only": {"command": "sleep", "mount": []any{map[string]any{"host_path": "/var", "path": "/usr/no/such"}}},
			"no such protected":    {"command": "sleep", "read_only_paths": []any{"/no/such"}},
		},
		Exec: &drivertest.ExecCommands{
			Echo: []string{"echo", "hello"}, Cat: []string{"cat"}, Exit3: []string{"sh", "-c", "exit 3"},
			Sleep: []string{"sleep", "600"}, Env: []string{"sh", "-c", "echo $BERTH_TEST"},
			Size:    []string{"bash", "-c", "trap 'stty size' WINCH; stty size; while read -t 0.05 x; [ $? != 1 ]; do :; done"},
			Missing: []string{"no-such-program"},
		},
		Leftovers: func(t *testing.T, task *drivers.Task) []string { return leftovers(t, parent, task) },
	}
}

// leftovers looks for a task's cgroup, mounts and shim.
func leftovers(t *testing.T, parent string, task *drivers.Task) (left []string) {
	host, err := cgroup.Probe(parent)
	if err != nil {
		t.Fatal(err)
	}
	if host.Group(task.ID).Exists() {
		left = append(left, "its cgroup")
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), task.Dirs.Alloc) {
		left = append(left, "mounts")
	}
	left = append(left, drivertest.Processes(task.Dirs.Alloc)...)
	return left
}
