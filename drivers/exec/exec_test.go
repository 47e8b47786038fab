package exec_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/cgroup"
	"github.com/berthd/berth/drivers/drivertest"
	"github.com/berthd/berth/drivers/exec"
)

// parent is where these tests' cgroups live, apart from those of an agent on the machine.
const parent = "berth-test.slice"

func newDriver(t testing.TB) *exec.Driver {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: namespaces and cgroups")
	}
	d := exec.New(exec.Config{CgroupParent: parent, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	info, err := d.Probe(t.Context())
	if err != nil || !info.GetHealthy() {
		t.Skipf("the exec driver cannot work here: %s, %v", info.GetMessage(), err)
	}
	return d
}

func sh(script string, args ...any) drivertest.Config {
	return drivertest.Config{"command": "/bin/sh", "args": []any{"-c", fmt.Sprintf(script, args...)}}
}

func factory() drivertest.Factory {
	return drivertest.Factory{
		New:      func(t *testing.T) drivers.Driver { return newDriver(t) },
		Forever:  drivertest.Config{"command": "sleep", "args": []any{"1000"}},
		Stubborn: sh(`trap "" TERM; echo ready; while :; do sleep 0.05; done`),
		ExitWith: func(after time.Duration, code int) drivertest.Config {
			return sh("sleep %f; exit %d", after.Seconds(), code)
		},
		Print: func(stdout, stderr string) drivertest.Config {
			return sh("echo '%s'; echo '%s' >&2; exec sleep 1000", stdout, stderr)
		},
		Ticks: sh("while :; do echo tick; sleep 0.02; done"),
		Flood: func(n int) drivertest.Config { return sh("head -c %d /dev/zero", n) },
		Hog: func(mib int) drivertest.Config {
			return sh(`x=$(head -c %d /dev/zero | tr '\0' x); exec sleep 1000`, mib<<20)
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
			Size:    []string{"bash", "-c", "stty size; trap 'stty size' WINCH; while read -t 0.05 x; [ $? != 1 ]; do :; done"},
			Missing: []string{"no-such-program"},
		},
		Leftovers: leftovers,
	}
}

// leftovers looks for a task's cgroup, mounts and shim.
func leftovers(t *testing.T, task *drivers.Task) (left []string) {
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
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		if cwd, err := os.Readlink(link); err == nil && strings.HasPrefix(cwd, task.Dirs.Alloc) {
			left = append(left, "process "+filepath.Base(filepath.Dir(link)))
		}
	}
	return left
}

func TestMain(m *testing.M) {
	code := m.Run()
	if host, err := cgroup.Probe(parent); err == nil {
		if err := host.Destroy(); err != nil {
			fmt.Fprintln(os.Stderr, "clearing up:", err)
			code = 1
		}
	}
	os.Exit(code)
}

func TestConformance(t *testing.T) { drivertest.Run(t, factory()) }
