// Package drivertest is the conformance suite of the contract in package drivers. A
// driver's tests call Run twice: with the driver itself, and with it behind the plugin
// wire.
//
// The suite makes a fresh driver instance wherever an agent could have crashed, over the
// same directories, and never closes the old one: a crash does not either.
package drivertest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/berthd/berth/drivers"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Config is a task's config block.
type Config map[string]any

// Factory says how to make a driver and tasks of it. Recipes that are nil skip the
// tests that need them; New and Forever are required.
type Factory struct {
	// New makes a driver instance over what the host has: the same tasks as before.
	New func(t *testing.T) drivers.Driver
	// Forever runs until it is stopped; SIGTERM ends it.
	Forever Config
	// Stubborn runs until it is killed; it ignores SIGTERM.
	Stubborn Config
	// ExitWith runs for the time, then ends with the code.
	ExitWith func(after time.Duration, code int) Config
	// Print writes the words and then runs for ever.
	Print func(stdout, stderr string) Config
	// Ticks writes lines to its standard output all the time, some a second.
	Ticks Config
	// Flood writes so many bytes to its standard output, then ends with code 0.
	Flood func(bytes int) Config
	// Hog takes so much memory, more than it was granted, and then runs for ever.
	Hog func(mib int) Config
	// Invalid are configs that Prepare or Start refuses as Invalid, by the field that they name.
	Invalid map[string]Config
	// Failing are well-formed configs with which Start fails, by name.
	Failing map[string]Config
	// Exec are commands for the power CapExec.
	Exec *ExecCommands
	// User that tasks run as; "": the driver's default.
	User string
	// Console is a task with a serial console.
	Console *Console
	// Disked runs until it is stopped, and snapshots can be made of it.
	Disked Config
	// MemoryMiB is what tasks ask for; 0: 64. They are granted OverheadMiB more.
	MemoryMiB, OverheadMiB uint64
	// LateLogs says that output is in the log files only when a driver has recovered the
	// task: none is lost while no agent runs, and none comes.
	LateLogs bool
	// Parallel runs tests side by side, for tasks that take long to get anywhere.
	Parallel bool
	// Patience is how long anything that must happen may take; 0: 30 s. Nothing is
	// measured by it.
	Patience time.Duration
	// Leftovers names what is still on the host of a task that was removed.
	Leftovers func(t *testing.T, task *drivers.Task) []string
}

// ExecCommands are commands that run inside a task.
type ExecCommands struct {
	// Echo writes "hello" and a newline.
	Echo []string
	// Cat copies its input to its output.
	Cat []string
	// Exit3 ends with code 3.
	Exit3 []string
	// Sleep runs for minutes.
	Sleep []string
	// Env writes the environment variable BERTH_TEST and a newline.
	Env []string
	// Size writes "rows columns" of its terminal at once and whenever they change; nil: none.
	Size []string
	// Missing does not exist; nil: none.
	Missing []string
}

// patience is Factory.Patience where that is 0.
const patience = 30 * time.Second

func (b *bench) patience() time.Duration { return cmp.Or(b.f.Patience, patience) }

// Run runs the suite.
func Run(t *testing.T, f Factory) {
	if f.New == nil || f.Forever == nil {
		t.Fatal("drivertest: the factory lacks New or Forever")
	}
	for _, group := range []struct {
		name  string
		tests map[string]func(*testing.T, *bench)
	}{
		{"life", lifeTests},
		{"crash", crashTests},
		{"logs", logTests},
		{"powers", powerTests},
		{"machine", machineTests},
	} {
		names := make([]string, 0, len(group.tests))
		for name := range group.tests {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			t.Run(group.name+"/"+name, func(t *testing.T) {
				if f.Parallel {
					t.Parallel()
				}
				group.tests[name](t, newBench(t, f))
			})
		}
	}
}

// bench is one test's workplace: a driver and the tasks that it made.
type bench struct {
	t *testing.T
	f Factory
	d drivers.Driver
}

func newBench(t *testing.T, f Factory) *bench {
	return &bench{t: t, f: f, d: f.New(t)}
}

// crash replaces the driver as the agent's death and restart does.
func (b *bench) crash() { b.d = b.f.New(b.t) }

// need skips the test without the recipe.
func (b *bench) need(recipe bool, name string) {
	b.t.Helper()
	if !recipe {
		b.t.Skipf("the factory has no recipe %s", name)
	}
}

// power gives the driver as the interface of a power, or skips the test.
func power[P any](b *bench, c drivers.Capability) P {
	b.t.Helper()
	if !slices.Contains(b.d.Info().Capabilities, c) {
		b.t.Skipf("the driver has no power %q", c)
	}
	p, ok := b.d.(P)
	if !ok {
		b.t.Fatalf("the driver says that it has the power %q and lacks its method", c)
	}
	return p
}

func (b *bench) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), b.patience())
	b.t.Cleanup(cancel)
	return ctx
}

// task makes a task with directories of its own. It is removed when the test ends, and
// must then have left nothing.
func (b *bench) task(c Config) *drivers.Task {
	b.t.Helper()
	block, err := structpb.NewStruct(c)
	if err != nil {
		b.t.Fatalf("the factory's config: %v", err)
	}
	dir := b.t.TempDir()
	memory := cmp.Or(b.f.MemoryMiB, 64)
	alloc := fmt.Sprintf("%08x-0000-4000-8000-%012x", rand.Uint32(), rand.Uint64()&0xffffffffffff)
	task := &drivers.Task{
		ID: alloc + "/main", AllocID: alloc, Name: "main", Job: "drivertest", Group: "group", Namespace: "default",
		Config:    block,
		Env:       map[string]string{"PATH": "/usr/local/bin:/usr/bin:/bin", "BERTH_TASK": "main"},
		User:      b.f.User,
		Resources: &berthv1.Resources{CpuMilli: 100, MemoryMib: memory, Pids: 64},
		Grant: &berthv1.TaskGrant{Task: "main", Cells: []*berthv1.CellGrant{
			{Cell: 0, CpuMilli: 100, MemoryMib: memory + b.f.OverheadMiB},
		}},
		Dirs: drivers.Dirs{
			Alloc: dir, Shared: filepath.Join(dir, "shared"), Task: filepath.Join(dir, "task"),
			Secrets: filepath.Join(dir, "secrets"), Logs: filepath.Join(dir, "logs"), State: filepath.Join(dir, "state"),
		},
		Logs:       drivers.LogPolicy{MaxFiles: 3, MaxFileBytes: 1 << 20},
		KillSignal: "SIGTERM", KillTimeout: 5 * time.Second,
	}
	for _, d := range []string{task.Dirs.Shared, task.Dirs.Task, task.Dirs.Secrets, task.Dirs.Logs, task.Dirs.State} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			b.t.Fatal(err)
		}
	}
	b.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), b.patience())
		defer cancel()
		if err := b.f.New(b.t).Remove(ctx, task, nil); err != nil {
			b.t.Errorf("Remove at the end of the test: %v", err)
		}
		b.nothingLeft(task)
	})
	return task
}

// nothingLeft asserts that the host has nothing of the task, nor the state directory.
func (b *bench) nothingLeft(task *drivers.Task) {
	b.t.Helper()
	entries, err := os.ReadDir(task.Dirs.State)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		b.t.Error(err)
	}
	for _, e := range entries {
		b.t.Errorf("left in the state directory: %s", e.Name())
	}
	if b.f.Leftovers != nil {
		for _, l := range b.f.Leftovers(b.t, task) {
			b.t.Errorf("left on the host: %s", l)
		}
	}
}

// start prepares and starts a task.
func (b *bench) start(task *drivers.Task) *drivers.Handle {
	b.t.Helper()
	if err := b.d.Prepare(b.ctx(), task, nil); err != nil {
		b.t.Fatalf("Prepare: %v", err)
	}
	h, err := b.d.Start(b.ctx(), task)
	if err != nil {
		b.t.Fatalf("Start: %v", err)
	}
	if h == nil {
		b.t.Fatal("Start gave neither a handle nor an error")
	}
	return h
}

func (b *bench) wait(task *drivers.Task) *drivers.Exit {
	b.t.Helper()
	exit, err := b.d.Wait(b.ctx(), task.ID)
	if err != nil {
		b.t.Fatalf("Wait: %v", err)
	}
	return exit
}

// running asserts that Wait does not return now.
func (b *bench) running(task *drivers.Task) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if exit, err := b.d.Wait(ctx, task.ID); err == nil {
		b.t.Fatalf("the task does not run any more: %+v", exit)
	} else if ctx.Err() == nil {
		b.t.Fatalf("Wait: %v", err)
	}
}

// eventually waits for a condition that some other process brings about.
func (b *bench) eventually(what string, cond func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(b.patience()); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// output is what the task's log files of a stream hold, oldest first.
func output(task *drivers.Task, stream string) string {
	var all strings.Builder
	for _, name := range logFiles(task, stream) {
		data, _ := os.ReadFile(name)
		all.Write(data)
	}
	return all.String()
}

// logFiles are the paths of a stream's files, oldest first.
func logFiles(task *drivers.Task, stream string) []string {
	names, _ := filepath.Glob(filepath.Join(task.Dirs.Logs, task.Name+"."+stream+".*"))
	number := func(name string) (n int) {
		_, _ = fmt.Sscanf(filepath.Ext(name), ".%d", &n)
		return n
	}
	sort.Slice(names, func(i, j int) bool { return number(names[i]) < number(names[j]) })
	return names
}

// Processes names those that work in a directory or below it, for a Factory's Leftovers.
func Processes(dir string) (found []string) {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		if cwd, err := os.Readlink(link); err == nil && strings.HasPrefix(cwd, dir) {
			found = append(found, "process "+filepath.Base(filepath.Dir(link)))
		}
	}
	return found
}
