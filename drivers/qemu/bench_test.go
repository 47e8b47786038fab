package qemu_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/drivers/qemu/machine"
	"github.com/berthd/berth/drivers/qemu/qemutest"
	"github.com/berthd/berth/drivers/qemu/qmp"
)

// BenchmarkStart measures what the driver adds to plain QEMU between the wish for a
// machine and its running CPUs: "added-ms" is the difference, in the same minute.
func BenchmarkStart(b *testing.B) {
	f := setUp(b)
	task := f.task(qemutest.Machine(f.g))
	var ours, plain time.Duration
	for b.Loop() {
		if err := f.d.Prepare(f.ctx(), task, nil); err != nil {
			b.Fatal(err)
		}
		begun := time.Now()
		h, err := f.d.Start(f.ctx(), task)
		if err != nil {
			b.Fatal(err)
		}
		ours += time.Since(begun)
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", h.PID))
		if err != nil {
			b.Fatal(err)
		}
		if err := f.d.Remove(f.ctx(), task, h); err != nil {
			b.Fatal(err)
		}
		plain += plainStart(b, strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00"))
	}
	n := float64(b.N)
	b.ReportMetric(float64(plain.Microseconds())/1e3/n, "plain-ms")
	b.ReportMetric(float64((ours-plain).Microseconds())/1e3/n, "added-ms")
}

// plainStart starts the same QEMU by hand, up to running CPUs.
func plainStart(b *testing.B, args []string) time.Duration {
	b.Helper()
	dir := b.TempDir()
	begun := time.Now()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = dir
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	for {
		if _, err := os.Stat(filepath.Join(dir, machine.QMPSocket)); err == nil {
			m, err := qmp.Dial(b.Context(), dir, machine.QMPSocket)
			if err == nil {
				defer m.Close()
				if err := m.Continue(b.Context()); err != nil {
					b.Fatal(err)
				}
				return time.Since(begun)
			}
		}
		time.Sleep(time.Millisecond)
	}
}

// BenchmarkKeep measures the memory that a running machine takes of the agent, in bytes.
func BenchmarkKeep(b *testing.B) {
	f := setUp(b)
	const machines = 4
	for b.Loop() {
		before := heap()
		for range machines {
			f.start(f.task(qemutest.Machine(f.g)))
		}
		b.ReportMetric(float64(heap()-before)/machines, "B/machine")
	}
}

// heap is what the heap and the stacks take after a collection, in bytes.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
