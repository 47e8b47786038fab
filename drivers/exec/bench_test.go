package exec_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/berthd/berth/drivers"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// benchTask makes a task that sleeps.
func benchTask(b *testing.B, dir string, n int) *drivers.Task {
	config, err := structpb.NewStruct(map[string]any{"command": "sleep", "args": []any{"1000"}})
	if err != nil {
		b.Fatal(err)
	}
	dir = filepath.Join(dir, strconv.Itoa(n))
	t := &drivers.Task{
		ID: fmt.Sprintf("bench-%d/main", n), Name: "main", Config: config,
		Resources: &berthv1.Resources{CpuMilli: 100, MemoryMib: 64, Pids: 64},
		Dirs: drivers.Dirs{
			Alloc: dir, Shared: dir + "/shared", Task: dir + "/task", Secrets: dir + "/secrets", Logs: dir + "/logs", State: dir + "/state",
		},
	}
	for _, d := range []string{t.Dirs.Shared, t.Dirs.Task, t.Dirs.Secrets, t.Dirs.Logs, t.Dirs.State} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			b.Fatal(err)
		}
	}
	return t
}

// BenchmarkStart is the time from Start to a running task, and from kill to nothing left.
func BenchmarkStart(b *testing.B) {
	d := newDriver(b)
	dir := b.TempDir()
	var starting, removing time.Duration
	for i := range b.N {
		t := benchTask(b, dir, i)
		begun := time.Now()
		h, err := d.Start(context.Background(), t)
		if err != nil {
			b.Fatal(err)
		}
		started := time.Now()
		if err := d.Remove(context.Background(), t, h); err != nil {
			b.Fatal(err)
		}
		starting, removing = starting+started.Sub(begun), removing+time.Since(started)
	}
	b.ReportMetric(float64(starting.Microseconds())/float64(b.N)/1000, "ms/start")
	b.ReportMetric(float64(removing.Microseconds())/float64(b.N)/1000, "ms/remove")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkFootprint is what sleeping tasks cost: memory and processes beside the task's
// own, and CPU. BERTH_BENCH_TASKS sets how many run at once.
func BenchmarkFootprint(b *testing.B) {
	d := newDriver(b)
	n := 50
	if s, err := strconv.Atoi(os.Getenv("BERTH_BENCH_TASKS")); err == nil {
		n = s
	}
	dir := b.TempDir()
	begun := time.Now()
	for i := range n {
		t := benchTask(b, dir, i)
		if _, err := d.Start(context.Background(), t); err != nil {
			b.Fatal(err)
		}
		defer func() { _ = d.Remove(context.Background(), t, nil) }()
	}
	all := time.Since(begun)
	var shims []string
	comms, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range comms {
		if cwd, err := os.Readlink(link); err == nil && strings.HasPrefix(cwd, dir) {
			shims = append(shims, filepath.Dir(link))
		}
	}
	before := cpuTime(b, shims)
	const nap = 2 * time.Second
	time.Sleep(nap)
	used := cpuTime(b, shims) - before
	for _, m := range []struct{ key, unit string }{
		{"Rss:", "KiB-RSS/task"}, {"Pss:", "KiB-PSS/task"}, {"Private_Dirty:", "KiB-private-dirty/task"}, {"Pss_Anon:", "KiB-PSS-anon/task"},
	} {
		b.ReportMetric(float64(sum(shims, "smaps_rollup", m.key))/float64(n), m.unit)
	}
	b.ReportMetric(float64(len(shims))/float64(n), "shims/task")
	b.ReportMetric(float64(sum(shims, "status", "Threads:"))/float64(n), "threads/shim")
	b.ReportMetric(used/nap.Seconds(), "cores-all-tasks")
	b.ReportMetric(all.Seconds(), "s/start-all")
	b.ReportMetric(0, "ns/op")
}

// sum adds up the number after key in a file of each process.
func sum(procs []string, file, key string) (total int) {
	for _, p := range procs {
		data, _ := os.ReadFile(filepath.Join(p, file))
		for line := range strings.Lines(string(data)) {
			if rest, ok := strings.CutPrefix(line, key); ok {
				n, _ := strconv.Atoi(strings.Fields(rest)[0])
				total += n
			}
		}
	}
	return total
}

// cpuTime is the CPU time of processes in seconds, from the scheduler's nanoseconds.
func cpuTime(b *testing.B, procs []string) float64 {
	var ns float64
	for _, p := range procs {
		tasks, _ := filepath.Glob(p + "/task/*/schedstat")
		for _, t := range tasks {
			data, err := os.ReadFile(t)
			if err != nil {
				b.Fatal(err)
			}
			n, _ := strconv.ParseFloat(strings.Fields(string(data))[0], 64)
			ns += n
		}
	}
	return ns / 1e9
}
