package plugins_test

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
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
	"github.com/berthd/berth/drivers/mock"
	"github.com/berthd/berth/drivers/mock/mocktest"
	"github.com/berthd/berth/drivers/qemu"
	"github.com/berthd/berth/drivers/qemu/image"
	"github.com/berthd/berth/drivers/qemu/qemutest"
	"github.com/berthd/berth/plugins"
	"github.com/berthd/berth/problem"
)

var parent = cmp.Or(os.Getenv("BERTH_TEST_PARENT"), fmt.Sprintf("berth-test-%d.slice", os.Getpid()))

// TestMain is also the plugins that these tests start: the test binary executed again.
func TestMain(m *testing.M) {
	switch os.Getenv("BERTH_TEST_PLUGIN") {
	case "mock":
		plugins.Serve(mock.New(mock.NewHost()))
		return
	case "exec":
		plugins.Serve(exec.New(exec.Config{CgroupParent: parent}))
		return
	case "qemu":
		plugins.Serve(qemu.New(qemu.Config{CgroupParent: parent, Images: image.Config{
			Dir: os.Getenv("BERTH_TEST_IMAGES"), HostDirs: []string{os.Getenv("BERTH_TEST_GUEST")},
		}}))
		return
	case "garbage":
		fmt.Println("hello, I am no plugin")
		time.Sleep(time.Minute)
		return
	case "silent":
		time.Sleep(time.Minute)
		return
	case "dies":
		fmt.Fprintln(os.Stderr, "cannot find my configuration")
		os.Exit(3)
	}
	code := m.Run()
	if host, err := cgroup.Probe(parent); err == nil {
		if err := host.Destroy(); err != nil {
			fmt.Fprintln(os.Stderr, "clearing up:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// config is a plugin that is this binary.
func config(t *testing.T, name, behaviour string) plugins.Config {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := plugins.Config{
		Name: name, Path: self, Env: []string{"BERTH_TEST_PLUGIN=" + behaviour, "BERTH_TEST_PARENT=" + parent}, StateDir: dir, SocketDir: os.TempDir(),
		MinPause: 10 * time.Millisecond, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	t.Cleanup(func() {
		if err := plugins.New(c).End(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// run makes a Plugin and runs it until the test ends, or stop is called: the agent's death.
func run(t *testing.T, c plugins.Config) (p *plugins.Plugin, stop func()) {
	t.Helper()
	p = plugins.New(c)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := p.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	return p, stop
}

func ready(t *testing.T, p *plugins.Plugin) {
	t.Helper()
	// Not the test's context: drivertest clears up by a driver as well.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := p.Ready(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestMockThroughTheWire(t *testing.T) {
	c := config(t, "mock", "mock")
	f := mocktest.Factory(nil)
	f.New = func(t *testing.T) drivers.Driver {
		p, _ := run(t, c)
		ready(t, p)
		return p
	}
	drivertest.Run(t, f)
}

func TestExecThroughTheWire(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: namespaces and cgroups")
	}
	if testing.Short() {
		t.Skip("takes longer than 10 s; drivers/exec runs the same in process")
	}
	c := config(t, "exec", "exec")
	f := exectest.Factory(parent)
	f.New = func(t *testing.T) drivers.Driver {
		p, _ := run(t, c)
		ready(t, p)
		return p
	}
	drivertest.Run(t, f)
}

func TestQemuThroughTheWire(t *testing.T) {
	g := qemutest.Need(t)
	if testing.Short() {
		t.Skip("boots some dozens of guests; drivers/qemu runs the same in process")
	}
	c := config(t, "qemu", "qemu")
	c.Env = append(c.Env, "BERTH_TEST_IMAGES="+t.TempDir(), "BERTH_TEST_GUEST="+filepath.Dir(g.Kernel))
	// The tests run side by side: the plugin is there before the first of them looks for it.
	first, _ := run(t, c)
	ready(t, first)
	f := qemutest.Factory(g, parent)
	f.New = func(t *testing.T) drivers.Driver {
		p, _ := run(t, c)
		ready(t, p)
		return p
	}
	drivertest.Run(t, f)
}

func pid(t *testing.T, c plugins.Config) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(c.StateDir, "plugin-"+c.Name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if _, err := fmt.Sscanf(string(b), `{"pid":%d`, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func sleeper(t *testing.T, command string, args ...any) *drivers.Task {
	t.Helper()
	block := map[string]any{}
	if command != "" {
		block = map[string]any{"command": command, "args": args}
	}
	s, err := structpb.NewStruct(block)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	task := &drivers.Task{ID: filepath.Base(dir) + t.Name(), Name: "main", Config: s, Dirs: drivers.Dirs{
		Alloc: dir, Task: dir + "/task", Shared: dir + "/shared", Secrets: dir + "/secrets", Logs: dir + "/logs", State: dir + "/state",
	}}
	for _, d := range []string{task.Dirs.Task, task.Dirs.Shared, task.Dirs.Secrets, task.Dirs.Logs, task.Dirs.State} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return task
}

// The agent dies: the next one attaches to the same process, whose tasks are there.
func TestAgentRestart(t *testing.T) {
	c := config(t, "mock", "mock")
	p, stop := run(t, c)
	ready(t, p)
	task := sleeper(t, "")
	h, err := p.Start(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	before := pid(t, c)
	stop()
	if _, err := p.Start(t.Context(), task); !problem.Is(err, problem.Unavailable) {
		t.Errorf("Start without a link = %v, want Unavailable", err)
	}
	p, _ = run(t, c)
	ready(t, p)
	if after := pid(t, c); after != before {
		t.Errorf("the plugin was started again: pid %d, then %d", before, after)
	}
	if err := p.Recover(t.Context(), task, h); err != nil {
		t.Errorf("Recover: %v", err)
	}
}

// The plugin dies: it is started again and has recovered the task; Wait does not notice.
func TestPluginRestart(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: namespaces and cgroups")
	}
	c := config(t, "exec", "exec")
	p, _ := run(t, c)
	ready(t, p)
	task := sleeper(t, "sleep", "1000")
	h, err := p.Start(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	exit := make(chan *drivers.Exit, 1)
	go func() {
		e, err := p.Wait(context.Background(), task.ID)
		if err != nil {
			t.Errorf("Wait: %v", err)
		}
		exit <- e
	}()
	before := pid(t, c)
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if err := p.Signal(t.Context(), task.ID, "SIGTERM"); err == nil && pid(t, c) != before {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the plugin does not come back: %v", err)
		}
	}
	if e := <-exit; e == nil || e.Signal != int(syscall.SIGTERM) {
		t.Errorf("ended with %+v", e)
	}
	if err := p.Remove(t.Context(), task, h); err != nil {
		t.Errorf("Remove: %v", err)
	}
}

// What is no plugin is a problem in words, not healthy, and no panic.
func TestBadPlugins(t *testing.T) {
	for _, tt := range []struct{ behaviour, words string }{
		{"garbage", "does not behave as a plugin"},
		{"silent", "does not behave as a plugin: timeout"},
		{"dies", "does not behave as a plugin"},
		{"mock", `says that it is driver "mock"`},
	} {
		t.Run(tt.behaviour, func(t *testing.T) {
			c := config(t, "other", tt.behaviour)
			c.StartTimeout = 500 * time.Millisecond
			says(t, c, tt.words)
		})
	}
	t.Run("missing", func(t *testing.T) {
		c := config(t, "other", "")
		c.Path = "/no/such/plugin"
		says(t, c, "/no/such/plugin is not an executable")
	})
}

// says asserts that a plugin does not come up, and why.
func says(t *testing.T, c plugins.Config, words string) {
	t.Helper()
	p, _ := run(t, c)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		info, err := p.Probe(t.Context())
		if err != nil || info.GetHealthy() {
			t.Fatalf("Probe = %v, %v", info, err)
		}
		if strings.Contains(info.GetMessage(), words) {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("Probe says %q, not %q", info.GetMessage(), words)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := p.Ready(ctx); err == nil {
		t.Error("it is ready")
	}
}
