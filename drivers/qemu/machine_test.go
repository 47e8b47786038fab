package qemu_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
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
	"github.com/berthd/berth/drivers/qemu"
	"github.com/berthd/berth/drivers/qemu/guest"
	"github.com/berthd/berth/drivers/qemu/qemutest"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// patience is how long anything that must happen may take; nothing is measured by it.
const patience = 3 * time.Minute

// fixture is a driver and what its tasks are made of.
type fixture struct {
	testing.TB
	g      *guest.Guest
	images string
	d      *qemu.Driver
}

func setUp(t testing.TB) *fixture {
	f := &fixture{TB: t, g: qemutest.Need(t), images: t.TempDir()}
	f.again()
	t.Cleanup(func() { f.d.Close() })
	return f
}

// again is the agent's death and its next life.
func (f *fixture) again() {
	if f.d != nil {
		f.d.Close()
	}
	cfg := qemutest.Config(f.g, parent, f.images)
	cfg.Log = slog.New(slog.NewTextHandler(f.Output(), nil))
	f.d = qemu.New(cfg)
}

func contextFor(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}

func (f *fixture) ctx() context.Context {
	ctx, cancel := contextFor(patience)
	f.Cleanup(cancel)
	return ctx
}

func (f *fixture) task(c drivertest.Config) *drivers.Task {
	f.Helper()
	block, err := structpb.NewStruct(c)
	if err != nil {
		f.Fatal(err)
	}
	dir := f.TempDir()
	t := &drivers.Task{
		ID: filepath.Base(filepath.Dir(dir)) + filepath.Base(dir) + "/vm", AllocID: "alloc", Name: "vm", Config: block,
		Resources: &berthv1.Resources{CpuMilli: 1000, MemoryMib: 96},
		Grant:     &berthv1.TaskGrant{Task: "vm", Cells: []*berthv1.CellGrant{{CpuMilli: 1000, MemoryMib: 352}}},
		Dirs: drivers.Dirs{
			Alloc: dir, Shared: dir + "/shared", Task: dir + "/task", Secrets: dir + "/secrets", Logs: dir + "/logs", State: dir + "/state",
		},
		Logs: drivers.LogPolicy{MaxFiles: 3, MaxFileBytes: 1 << 20}, KillTimeout: 5 * time.Second,
	}
	for _, d := range []string{t.Dirs.Shared, t.Dirs.Task, t.Dirs.Secrets, t.Dirs.Logs, t.Dirs.State} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			f.Fatal(err)
		}
	}
	f.Cleanup(func() {
		if err := f.d.Remove(f.ctx(), t, nil); err != nil {
			f.Errorf("Remove: %v", err)
		}
		if left, _ := os.ReadDir(t.Dirs.State); len(left) > 0 {
			f.Errorf("left in the state directory: %v", left)
		}
		if n := machines(t); n > 0 {
			f.Errorf("%d processes are left", n)
		}
	})
	return t
}

// machines counts the QEMUs of a task.
func machines(t *drivers.Task) (n int) {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		if cwd, err := os.Readlink(link); err == nil && cwd == t.Dirs.State {
			n++
		}
	}
	return n
}

func (f *fixture) start(t *drivers.Task) *drivers.Handle {
	f.Helper()
	if err := f.d.Prepare(f.ctx(), t, func(words string) { f.Log(words) }); err != nil {
		f.Fatalf("Prepare: %v", err)
	}
	h, err := f.d.Start(f.ctx(), t)
	if err != nil {
		f.Fatalf("Start: %v", err)
	}
	return h
}

func (f *fixture) wait(t *drivers.Task) *drivers.Exit {
	f.Helper()
	exit, err := f.d.Wait(f.ctx(), t.ID)
	if err != nil {
		f.Fatalf("Wait: %v\n%s", err, output(t))
	}
	return exit
}

func output(t *drivers.Task) string {
	names, _ := filepath.Glob(filepath.Join(t.Dirs.Logs, t.Name+".stdout.*"))
	var all strings.Builder
	for _, n := range names {
		b, _ := os.ReadFile(n)
		all.Write(b)
	}
	return all.String()
}

func (f *fixture) until(what string, cond func() bool) {
	f.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.Fatalf("waited in vain for: %s", what)
		}
	}
}

func (f *fixture) shows(t *drivers.Task, words string) {
	f.Helper()
	f.until(words+" on the console", func() bool { return strings.Contains(output(t), words) })
}

// A guest that powers off ends the task well, also while no agent is there to see it.
func TestPoweroff(t *testing.T) {
	f := setUp(t)
	for _, away := range []bool{false, true} {
		task := f.task(qemutest.Machine(f.g, "sleep 2; poweroff -f"))
		h := f.start(task)
		if away {
			f.again()
			f.until("the guest's end", func() bool {
				b, _ := os.ReadFile(filepath.Join(task.Dirs.State, "console.log"))
				return strings.Contains(string(b), guest.Greeting)
			})
			time.Sleep(5 * time.Second) // whether it has ended or not, the outcome is the same
			if err := f.d.Recover(f.ctx(), task, h); err != nil {
				t.Fatal(err)
			}
		}
		if exit := f.wait(task); !exit.OK() {
			t.Errorf("ended with %+v, want code 0", exit)
		}
		if !strings.Contains(output(task), guest.Greeting) {
			t.Errorf("the output is not complete: %q", output(task))
		}
		f.again()
		again, err := f.d.Start(f.ctx(), task)
		if err != nil || again.PID != h.PID {
			t.Errorf("Start of what had ended = %+v, %v", again, err)
		}
		if exit := f.wait(task); !exit.OK() {
			t.Errorf("ended with %+v, want code 0", exit)
		}
	}
}

func TestPanic(t *testing.T) {
	f := setUp(t)
	task := f.task(qemutest.Machine(f.g, "sleep 1", "panic"))
	f.start(task)
	if exit := f.wait(task); exit.OK() || !strings.Contains(exit.Err, "panicked") {
		t.Errorf("ended with %+v, want a panic", exit)
	}
	task = f.task(qemutest.With(qemutest.Machine(f.g, "sleep 1", "panic"), drivertest.Config{"on_panic": "pause"}))
	h := f.start(task)
	f.condition(task, "panicked")
	f.again()
	if err := f.d.Recover(f.ctx(), task, h); err != nil {
		t.Fatal(err)
	}
	f.condition(task, "panicked")
	// A reset is the way out.
	before := strings.Count(output(task), guest.Greeting)
	if err := f.d.Control(f.ctx(), task.ID, drivers.ActionResume); err != nil {
		t.Fatal(err)
	}
	f.until("the next boot", func() bool { return strings.Count(output(task), guest.Greeting) > before })
}

// condition waits until a task's condition has the state.
func (f *fixture) condition(t *drivers.Task, state string) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.ctx(), patience)
	defer cancel()
	last := ""
	_ = f.d.Observe(ctx, t.ID, func(c drivers.Condition) {
		if last = c.State; last == state {
			cancel()
		}
	})
	if last != state {
		f.Fatalf("the machine is %s, not %s", last, state)
	}
}

// A QEMU that dies is a failure, with its last words.
func TestKilledFromOutside(t *testing.T) {
	f := setUp(t)
	for _, away := range []bool{false, true} {
		task := f.task(qemutest.Machine(f.g))
		h := f.start(task)
		if away {
			f.again()
		}
		if err := syscall.Kill(h.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if away {
			if err := f.d.Recover(f.ctx(), task, h); err != nil {
				t.Fatal(err)
			}
		}
		if exit := f.wait(task); exit.OK() || exit.OOMKilled || !strings.Contains(exit.Err, "QEMU ended by itself") {
			t.Errorf("ended with %+v", exit)
		} else {
			t.Log(exit.Err)
		}
	}
}

func TestOutOfMemory(t *testing.T) {
	f := setUp(t)
	task := f.task(qemutest.Machine(f.g, "hog 80"))
	task.Grant.Cells[0].MemoryMib = 120 // less than QEMU and its guest need
	if _, err := f.d.Start(f.ctx(), task); err != nil {
		t.Skipf("QEMU does not even start with so little: %v", err)
	}
	if exit := f.wait(task); !exit.OOMKilled {
		t.Errorf("ended with %+v, want OOMKilled\n%s", exit, output(task))
	}
}

// A suspended machine uses nothing, and goes on where it was.
func TestSuspendGoesOn(t *testing.T) {
	f := setUp(t)
	task := f.task(qemutest.Machine(f.g, "tick"))
	h := f.start(task)
	f.shows(task, "tick 2")
	if err := f.d.Control(f.ctx(), task.ID, drivers.ActionSuspend); err != nil {
		t.Fatal(err)
	}
	host, err := cgroup.Probe(parent)
	if err != nil {
		t.Fatal(err)
	}
	if n := machines(task); n > 0 || host.Group(task.ID).Exists() {
		t.Errorf("a suspended machine has %d processes", n)
	}
	f.again()
	if err := f.d.Recover(f.ctx(), task, h); err != nil {
		t.Fatal(err)
	}
	if err := f.d.Control(f.ctx(), task.ID, drivers.ActionResume); err != nil {
		t.Fatal(err)
	}
	last := strings.Count(output(task), "tick ")
	f.shows(task, fmt.Sprintf("tick %d", last+2))
	if strings.Count(output(task), guest.Greeting) != 1 {
		t.Error("it was booted anew")
	}
	if machines(task) != 1 {
		t.Errorf("%d machines run", machines(task))
	}
}

// A machine that is started again has its disks.
func TestDiskStays(t *testing.T) {
	f := setUp(t)
	task := f.task(qemutest.With(qemutest.Machine(f.g, "boots /dev/vda", "poweroff -f"), drivertest.Config{
		"disk": []any{map[string]any{"name": "data", "size": 16}},
	}))
	for i := range 2 {
		h := f.start(task)
		if exit := f.wait(task); !exit.OK() {
			t.Fatalf("ended with %+v", exit)
		}
		if want := fmt.Sprintf("boot %d of", i+1); !strings.Contains(output(task), want) {
			t.Fatalf("not %q: %s", want, output(task))
		}
		if err := f.d.Remove(f.ctx(), task, h); err != nil {
			t.Fatal(err)
		}
	}
}

// The group's ports lead into the guest.
func TestPorts(t *testing.T) {
	f := setUp(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	task := f.task(qemutest.Machine(f.g, "net"))
	task.Ports = []*berthv1.PortGrant{{Name: "http", Port: uint32(port), To: 8080, Address: "127.0.0.1"}}
	_, err = f.d.Start(f.ctx(), task)
	if err == nil || problem.From(err).Kind != problem.Unavailable {
		t.Errorf("Start with a port that is taken = %v", err)
	}
	t.Log(err)
	if n := machines(task); n != 0 {
		t.Errorf("%d processes are left of a failed start", n)
	}
	l.Close()
	f.start(task)
	f.until("an answer", func() bool {
		c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
		if err != nil {
			return false
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(2 * time.Second))
		fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
		b := make([]byte, 200)
		n, _ := c.Read(b)
		return strings.Contains(string(b[:n]), "200 OK")
	})
}

// What happens to a guest is told: it reboots, and the host's disk is full.
func TestEvents(t *testing.T) {
	f := setUp(t)
	task := f.task(qemutest.With(qemutest.Machine(f.g, "dd if=/dev/urandom of=/dev/vda bs=1M 2>/dev/null; sleep 1; reboot -f"), drivertest.Config{
		"disk": []any{map[string]any{"name": "data", "size": 96}},
	}))
	small := filepath.Join(task.Dirs.Shared, "data") // where disks lie if it is there
	if err := os.MkdirAll(small, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=48m"); err != nil {
		t.Skipf("no small file system can be made here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(small, syscall.MNT_DETACH) })
	f.start(task)
	conditions := make(chan drivers.Condition, 100)
	ctx, cancel := contextFor(patience)
	defer cancel()
	observed := make(chan struct{})
	go func() {
		defer close(observed)
		_ = f.d.Observe(ctx, task.ID, func(c drivers.Condition) { conditions <- c })
	}()
	hears := func(words, state string) {
		t.Helper()
		for {
			select {
			case c := <-conditions:
				t.Logf("%+v", c)
				if strings.Contains(c.Event, words) && (state == "" || c.State == state) {
					return
				}
			case <-ctx.Done():
				t.Fatalf("nothing was told of %q", words)
			}
		}
	}
	hears("disk is full", "")
	f.condition(task, "failing")
	if err := syscall.Mount("tmpfs", small, "tmpfs", syscall.MS_REMOUNT, "size=200m"); err != nil {
		t.Fatal(err)
	}
	if err := f.d.Control(f.ctx(), task.ID, drivers.ActionResume); err != nil {
		t.Fatal(err)
	}
	hears("rebooted", "running")
	cancel()
	<-observed
	if err := f.d.Stop(f.ctx(), task.ID, "", 0); err != nil {
		t.Fatal(err)
	}
}
