package command

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/command/bench"
	"github.com/berthd/berth/problem"
)

// TestBenchAgent measures this test's own program, which is berth when it is called so
// (see TestMain), and sees that all it started has ended.
func TestBenchAgent(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the exec driver needs root")
	}
	b := bench.Agent{Tasks: 4, Sleeping: 3, Single: 2, Settle: 100 * time.Millisecond, Nap: 200 * time.Millisecond, Dir: t.TempDir(), Timeout: 2 * time.Minute, Progress: io.Discard}
	r, err := b.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.IdleRSSBytes < r.IdlePrivateBytes || r.IdlePrivateBytes == 0 || r.SubmitToRunning.P50 <= 0 || r.AllRunning <= 0 || r.MemoryPerTask == 0 || r.CPUPerTask <= 0 || r.ProcessesPerTask != 1 {
		t.Errorf("implausible: %+v", r)
	}
	if left := processesIn(t, b.Dir); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

// Ctrl-C in the middle, and what cannot be: nothing is left, and the reason is told.
func TestBenchAgentEnds(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the exec driver needs root")
	}
	b := bench.Agent{Tasks: 3, Sleeping: 3, Single: 1, Nap: time.Hour, Timeout: 2 * time.Minute}
	ctx, interrupt := context.WithCancel(t.Context())
	b.Dir, b.Progress = t.TempDir(), &watchedWriter{text: "sleeping tasks", cancel: interrupt}
	if _, err := b.Run(ctx); !problem.Is(err, problem.Canceled) {
		t.Errorf("after an interrupt: %v", err)
	}
	if left := processesIn(t, b.Dir); left != "" {
		t.Errorf("left behind after an interrupt: %s", left)
	}
	b.Dir, b.Progress, b.Tasks = t.TempDir(), io.Discard, 1_000_000
	if _, err := b.Run(t.Context()); !problem.Is(err, problem.Exhausted) || !strings.Contains(err.Error(), "not for 1000000") {
		t.Errorf("a million tasks: %v", err)
	}
	if left := processesIn(t, b.Dir); left != "" {
		t.Errorf("left behind after a failure: %s", left)
	}
}

// processesIn tells of processes that work in a directory.
func processesIn(t *testing.T, dir string) (found string) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if cwd, err := os.Readlink("/proc/" + e.Name() + "/cwd"); err == nil && strings.HasPrefix(cwd, dir) {
			found += " " + e.Name()
		}
	}
	return found
}
