package exec_test

import (
	"context"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/cgroup"
	"github.com/berthd/berth/drivers/drivertest"
	"github.com/berthd/berth/drivers/exec"
	"github.com/berthd/berth/drivers/exec/exectest"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// newTask makes a task in directories of its own, removed when the test ends.
func newTask(t *testing.T, d *exec.Driver, dir string, c drivertest.Config) *drivers.Task {
	t.Helper()
	block, err := structpb.NewStruct(c)
	if err != nil {
		t.Fatal(err)
	}
	task := &drivers.Task{
		ID: filepath.Base(dir) + "-" + t.Name() + "/main", Name: "main", Config: block,
		Env:       map[string]string{"BERTH_TASK_DIR": dir + "/task", "DATA": dir + "/shared/data", "PLAIN": "a b"},
		Resources: &berthv1.Resources{CpuMilli: 250, MemoryMib: 64, Pids: 50},
		Grant:     &berthv1.TaskGrant{Cells: []*berthv1.CellGrant{{Cell: 0, CpuMilli: 250, MemoryMib: 64}}},
		Dirs: drivers.Dirs{
			Alloc: dir, Shared: dir + "/shared", Task: dir + "/task", Secrets: dir + "/secrets", Logs: dir + "/logs", State: dir + "/state",
		},
	}
	for _, dir := range []string{task.Dirs.Task, task.Dirs.Shared, task.Dirs.Secrets, task.Dirs.Logs, task.Dirs.State} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := d.Remove(context.Background(), task, nil); err != nil {
			t.Error(err)
		}
	})
	return task
}

func start(t *testing.T, d *exec.Driver, task *drivers.Task) *drivers.Handle {
	t.Helper()
	h, err := d.Start(t.Context(), task)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	return h
}

// run runs a task to its end and gives its output.
func run(t *testing.T, d *exec.Driver, task *drivers.Task) string {
	t.Helper()
	start(t, d, task)
	if _, err := d.Wait(t.Context(), task.ID); err != nil {
		t.Fatal(err)
	}
	out, _ := os.ReadFile(task.Dirs.Logs + "/main.stdout.0")
	errs, _ := os.ReadFile(task.Dirs.Logs + "/main.stderr.0")
	return string(out) + string(errs)
}

// What a task sees and may do, as it finds out itself.
func TestIsolation(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config drivertest.Config
		user   string
		env    string
		script string
		want   string
	}{
		{name: "nobody by default", script: "id -u; id -g; id -G", want: "65534\n65534\n65534\n"},
		{name: "user and group", user: "daemon:1234", script: "id -u; id -g", want: "1\n1234\n"},
		{name: "by numbers", user: "1000:1000", script: "id -u; id -g", want: "1000\n1000\n"},
		{name: "own processes", script: `[ $$ -lt 20 ] && cat /proc/1/comm; set -- /proc/[0-9]*; echo $#`, want: "berth-shim\n2\n"},
		{name: "supervisor is out of reach", user: "root", script: "kill -9 1; kill -TERM 1; ls /proc/1/root /proc/1/fd >/dev/null 2>&1 || echo hidden; cat /proc/1/cmdline | tr '\\0' ' '", want: "hidden\nberth-shim "},
		{name: "host is read-only", user: "root", script: "touch /x /usr/x /etc/x 2>&1 | grep -c 'Read-only'", want: "3\n"},
		{name: "no passwords", script: "cat /etc/shadow 2>&1 | grep -c 'Permission denied'", want: "1\n"},
		{name: "no home, no var, no agent", script: "ls /root /home /var /run /srv 2>&1 | grep -c 'No such file'", want: "5\n"},
		{name: "own directories", script: "echo x >/local/a && echo x >/alloc/b && echo x >/secrets/c && echo x >/tmp/d && pwd", want: "/local\n"},
		{name: "directories by the task's names", script: "echo $BERTH_TASK_DIR $DATA $PLAIN $HOME", want: "/local /alloc/data a b /local\n"},
		{name: "devices", script: "ls /dev | tr '\\n' ' '; echo x >/dev/null; head -c 3 /dev/zero | wc -c; echo y >/dev/shm/z", want: "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero 3\n"},
		{name: "root's capabilities", user: "root", script: "grep -E 'Cap(Prm|Eff|Bnd|Amb)' /proc/self/status", want: "CapPrm:\t00000000800405fb\nCapEff:\t00000000800405fb\nCapBnd:\t00000000800405fb\nCapAmb:\t0000000000000000\n"},
		{name: "nobody's capabilities", script: "grep -E 'Cap(Prm|Eff|Bnd|Amb)' /proc/self/status", want: "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t00000000800405fb\nCapAmb:\t0000000000000000\n"},
		{
			name: "an added capability", config: drivertest.Config{"cap_add": []any{"net_raw"}, "cap_drop": []any{"all"}},
			script: "grep -E 'Cap(Prm|Eff|Bnd|Amb)' /proc/self/status", want: "CapPrm:\t0000000000002000\nCapEff:\t0000000000002000\nCapBnd:\t0000000000002000\nCapAmb:\t0000000000002000\n",
		},
		{name: "seccomp and no new privileges", script: "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status", want: "NoNewPrivs:\t1\nSeccomp:\t2\n"},
		{
			name: "unconfined", config: drivertest.Config{"seccomp": "unconfined", "no_new_privileges": false},
			script: "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status", want: "NoNewPrivs:\t0\nSeccomp:\t0\n",
		},
		{name: "no mounts", user: "root", config: drivertest.Config{"cap_add": []any{"sys_admin"}}, script: "mount -t tmpfs x /tmp 2>&1 | grep -c denied; unshare -m true 2>&1 | grep -c 'not permitted'", want: "1\n1\n"},
		{name: "no new user namespaces", script: "unshare -U true 2>&1 | grep -c 'not permitted'", want: "1\n"},
		{name: "kernel's knobs", user: "root", script: "echo 1 2>/dev/null >/proc/sys/vm/drop_caches || echo no; cat /proc/kcore 2>/dev/null | wc -c; touch /sys/x 2>&1 | grep -c .", want: "no\n0\n1\n"},
		{
			name: "limits", config: drivertest.Config{"rlimits": map[string]any{"nofile": 77, "core": 0}, "oom_score_adj": 300},
			script: "ulimit -n; ulimit -c; cat /proc/self/oom_score_adj", want: "77\n0\n300\n",
		},
		{name: "signals", script: "grep -E '^Sig(Blk|Ign)' /proc/self/status", want: "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"},
		{name: "descriptors", script: "ls /proc/self/fd | wc -l", want: "4\n"}, // 0, 1, 2 and ls's own
		{name: "work_dir", config: drivertest.Config{"work_dir": "/usr/bin"}, script: "pwd", want: "/usr/bin\n"},
		{
			name: "mounts", user: "root", config: drivertest.Config{"mount": []any{
				map[string]any{"host_path": "/proc/sys/kernel", "path": "/data/deep/kernel"},
				map[string]any{"host_path": "/etc/hostname", "path": "/data/name"},
			}},
			script: "ls /data/deep/kernel | grep -x ostype; touch /data/name 2>&1 | grep -c Read-only", want: "ostype\n1\n",
		},
		{name: "protected paths", config: drivertest.Config{"read_only_paths": []any{"/tmp"}}, script: "touch /tmp/x 2>&1 | grep -c Read-only", want: "1\n"},
		{name: "its own host name", user: "root", config: drivertest.Config{"cap_add": []any{"sys_admin"}}, script: "hostname elsewhere; hostname", want: "elsewhere\n"},
		{name: "own ipc", script: "ipcs -m | grep -c 0x; readlink /proc/self/ns/ipc | grep -c ipc", want: "0\n1\n"},
		{name: "host's processes", config: drivertest.Config{"pid_mode": "host"}, script: "[ $$ -gt 100 ] && cat /proc/$PPID/comm", want: "berth-shim\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDriver(t)
			c := exectest.Shell("%s", tt.script)
			for k, v := range tt.config {
				c[k] = v
			}
			task := newTask(t, d, t.TempDir(), c)
			task.User = tt.user
			if got := run(t, d, task); got != tt.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, tt.want)
			}
		})
	}
	hostname, _ := os.Hostname()
	if hostname == "elsewhere" {
		t.Error("a task changed the host's name")
	}
}

// A rootfs of the user's is what the task sees, and stays as it was.
func TestRootfs(t *testing.T) {
	d := newDriver(t)
	root := t.TempDir()
	copyProgram(t, root, "/bin/sh")
	copyProgram(t, root, "/bin/ls")
	for file, text := range map[string]string{"/etc/passwd": "app:x:4242:4343::/:/bin/sh\n", "/etc/group": "extra:x:5555:app\n", "/hello": "from the image\n"} {
		if err := os.MkdirAll(filepath.Dir(root+file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	before := tree(t, root)
	c := exectest.Shell(`read x </hello; echo $x; while read k v r; do case $k in Uid:|Groups:) echo $k $v;; esac; done </proc/self/status; ls /`)
	c["rootfs"], c["read_only_rootfs"] = root, true
	task := newTask(t, d, t.TempDir(), c)
	task.User = "app"
	want := "from the image\nUid: 4242\nGroups: 5555\nalloc\nbin\ndev\netc\nhello\nlib\nlib64\nlocal\nproc\nsecrets\nsys\ntmp\n"
	if got := run(t, d, task); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if after := tree(t, root); after != before {
		t.Errorf("the rootfs changed:\n%s\nwas:\n%s", after, before)
	}
}

// copyProgram copies a program and its libraries.
func copyProgram(t *testing.T, root, program string) {
	t.Helper()
	out, err := osexec.Command("ldd", program).Output()
	if err != nil {
		t.Skipf("ldd %s: %v", program, err)
	}
	files := []string{program}
	for _, f := range strings.Fields(string(out)) {
		if strings.HasPrefix(f, "/") {
			files = append(files, f)
		}
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(root+f), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+f, b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func tree(t *testing.T, root string) string {
	t.Helper()
	var b strings.Builder
	if err := filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
		if err == nil {
			fmt.Fprintln(&b, path, info.Mode(), info.Size())
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The shim is killed: no task is left without a supervisor, and that is said.
func TestSupervisorKilled(t *testing.T) {
	for _, mode := range []string{"private", "host"} {
		t.Run(mode, func(t *testing.T) {
			d := newDriver(t)
			c := exectest.Shell("sleep 1001 & exec sleep 1002")
			c["pid_mode"] = mode
			task := newTask(t, d, t.TempDir(), c)
			h := start(t, d, task)
			if err := syscall.Kill(shimOf(t, task), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				exit, err := d.Wait(t.Context(), task.ID)
				if err != nil || exit.Signal != int(syscall.SIGKILL) || !strings.Contains(exit.Err, "supervisor") {
					t.Errorf("Wait = %+v, %v", exit, err)
				}
			}
			if syscall.Kill(h.PID, 0) == nil && state(h.PID) != "Z" {
				t.Error("the task runs on")
			}
			left := exectest.Factory(parent).Leftovers(t, task)
			if err := d.Remove(t.Context(), task, h); err != nil {
				t.Fatal(err)
			}
			for _, l := range left {
				if l != "its cgroup" {
					t.Errorf("left after the shim's death: %s", l)
				}
			}
		})
	}
}

func shimOf(t *testing.T, task *drivers.Task) int {
	t.Helper()
	b, err := os.ReadFile(task.Dirs.State + "/record")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "shim "); ok {
			pid, _ := strconv.Atoi(strings.TrimSpace(rest))
			return pid
		}
	}
	t.Fatalf("no shim in %q", b)
	return 0
}

func state(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	return rest[:min(1, len(rest))]
}

// What a task leaves in the background ends with it, in either PID mode.
func TestBackgroundProcessesEndWithTheTask(t *testing.T) {
	for _, mode := range []string{"private", "host"} {
		t.Run(mode, func(t *testing.T) {
			d := newDriver(t)
			c := exectest.Shell("(trap '' TERM; setsid sleep 1003) & sleep 0.1; exit 6")
			c["pid_mode"] = mode
			task := newTask(t, d, t.TempDir(), c)
			start(t, d, task)
			if exit, err := d.Wait(t.Context(), task.ID); err != nil || exit.Code != 6 {
				t.Errorf("Wait = %+v, %v", exit, err)
			}
			host, err := cgroup.Probe(parent)
			if err != nil {
				t.Fatal(err)
			}
			if s, err := host.Group(task.ID).Stats(); err != nil || s.PIDs != 0 {
				t.Errorf("Stats = %+v, %v", s, err)
			}
		})
	}
}

// A state directory may be deeper than a socket's path may be long.
func TestLongPaths(t *testing.T) {
	d := newDriver(t)
	task := newTask(t, d, filepath.Join(t.TempDir(), strings.Repeat("deep/", 60)), drivertest.Config{"command": "sleep", "args": []any{"1000"}})
	start(t, d, task)
	if err := d.Stop(t.Context(), task.ID, "SIGTERM", 10*time.Second); err != nil {
		t.Error(err)
	}
	if exit, err := d.Wait(t.Context(), task.ID); err != nil || exit.Signal != int(syscall.SIGTERM) {
		t.Errorf("Wait = %+v, %v", exit, err)
	}
}

// After a reboot the files of what ran are there, and the task is not.
func TestReboot(t *testing.T) {
	d := newDriver(t)
	task := newTask(t, d, t.TempDir(), drivertest.Config{"command": "sleep", "args": []any{"1000"}})
	h := start(t, d, task)
	files := map[string][]byte{}
	for _, f := range []string{"record", "lock"} {
		b, err := os.ReadFile(filepath.Join(task.Dirs.State, f))
		if err != nil {
			t.Fatal(err)
		}
		files[f] = b
	}
	if err := d.Remove(t.Context(), task, h); err != nil {
		t.Fatal(err)
	}
	// The record now says this very process is the shim: it must not be touched.
	files["record"] = []byte(fmt.Sprintf("berth-exec 1\nboot another\nshim %d\npid %d\nstarted 1\n", os.Getpid(), os.Getpid()))
	files["exit"] = make([]byte, 512)
	for f, b := range files {
		if err := os.WriteFile(filepath.Join(task.Dirs.State, f), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again := newDriver(t)
	if err := again.Recover(t.Context(), task, h); !problem.Is(err, problem.NotFound) {
		t.Errorf("Recover = %v, want NotFound", err)
	}
	if second := start(t, again, task); second.PID == os.Getpid() {
		t.Error("Start took an old record for the task")
	}
}

// Damaged files in a state directory are no panic and no mistaken identity.
func TestDamagedState(t *testing.T) {
	d := newDriver(t)
	for _, record := range []string{"", "berth-exec 1\n", "berth-exec 2\nboot x\n", "\x00\xff", "berth-exec 1\nboot x\nshim -1\npid 0\n"} {
		task := newTask(t, d, t.TempDir(), drivertest.Config{"command": "true"})
		if err := os.WriteFile(task.Dirs.State+"/record", []byte(record), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := d.Recover(t.Context(), task, nil); !problem.Is(err, problem.NotFound) {
			t.Errorf("%q: Recover = %v, want NotFound", record, err)
		}
		if err := d.Remove(t.Context(), task, nil); err != nil {
			t.Errorf("%q: Remove = %v", record, err)
		}
	}
}

// When the last task is removed the host has no cgroup of ours, shared ones included.
func TestNothingIsLeft(t *testing.T) {
	d := newDriver(t)
	one := newTask(t, d, t.TempDir(), drivertest.Config{"command": "sleep", "args": []any{"1000"}})
	two := newTask(t, d, t.TempDir(), drivertest.Config{"command": "sleep", "args": []any{"1000"}})
	two.ID = "another/main"
	start(t, d, one)
	start(t, d, two)
	shared, err := cgroup.Probe(parent)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(t.Context(), one, nil); err != nil {
		t.Fatal(err)
	}
	if !shared.Group("shims").Exists() {
		t.Error("the shims' cgroup is gone while a task runs")
	}
	if err := d.Remove(t.Context(), two, nil); err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs(shared.Group("x")) {
		if _, err := os.Stat(filepath.Dir(dir)); err == nil {
			t.Errorf("left: %s", filepath.Dir(dir))
		}
	}
}

// The grant is in the kernel's files, and follows Update.
func TestLimits(t *testing.T) {
	d := newDriver(t)
	task := newTask(t, d, t.TempDir(), drivertest.Config{"command": "sleep", "args": []any{"1000"}, "cpu_hard_limit": true})
	task.Grant.Cells[0].Cpus = "0"
	start(t, d, task)
	host, err := cgroup.Probe(parent)
	if err != nil {
		t.Fatal(err)
	}
	check := func(want map[string]string) {
		t.Helper()
		for _, dir := range dirs(host.Group(task.ID)) {
			for file, value := range want {
				if b, err := os.ReadFile(filepath.Join(dir, file)); err == nil && strings.TrimSpace(string(b)) != value {
					t.Errorf("%s = %s, want %s", file, strings.TrimSpace(string(b)), value)
				}
			}
		}
	}
	check(map[string]string{
		"memory.limit_in_bytes": "67108864", "memory.max": "67108864", "pids.max": "50", "cpuset.cpus": "0", "cpuset.mems": "0",
		"cpu.shares": "256", "cpu.weight": "25", "hugetlb.2MB.max": "0",
	})
	task.Resources.MemoryMib, task.Resources.CpuMilli, task.Grant.Cells[0].Cpus = 128, 500, ""
	task.SharedCPUs = "0-1"
	if err := d.Update(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	check(map[string]string{
		"memory.limit_in_bytes": "134217728", "memory.max": "134217728", "cpuset.cpus": "0-1",
		"cpu.shares": "512", "cpu.weight": "50", "cpu.cfs_quota_us": "50000", "cpu.max": "50000 100000",
	})
	task.SharedCPUs = "4000"
	if err := d.Update(t.Context(), task); err == nil || !strings.Contains(err.Error(), "cpuset.cpus = 4000") {
		t.Errorf("Update to a CPU that does not exist = %v", err)
	}
}

func dirs(g *cgroup.Group) (dirs []string) {
	for _, procs := range g.Procs() {
		dirs = append(dirs, filepath.Dir(procs))
	}
	return dirs
}
