package agent_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/berthd/berth/agent"
	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/mock"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// benchAgent runs an agent with mock tasks and a fake server, in real time.
func benchAgent(b *testing.B) (*cluster, func()) {
	b.Helper()
	c := newCluster(nil, "s1")
	a, err := agent.New(agent.Config{
		DataDir: b.TempDir(), Name: "n1", Servers: []string{"s1"}, Address: "10.0.0.1", Root: "/",
		Logger: slog.New(slog.DiscardHandler), Drivers: []drivers.Driver{mock.New(mock.NewHost())},
		Dialer: func(ctx context.Context, addr string) (net.Conn, error) { return c.dial(ctx, addr) },
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	for a.Connected() == "" {
		time.Sleep(time.Millisecond)
	}
	return c, func() {
		cancel()
		<-done
		c.stop()
	}
}

func (c *cluster) waitRunning(n int, from int) {
	for {
		c.mu.Lock()
		running := 0
		for _, u := range c.reported {
			if u.GetStatus() == berthv1.Alloc_running {
				running++
			}
		}
		c.mu.Unlock()
		if running >= from+n {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// BenchmarkAssignToRunning is the agent's own part of a start: assignment to the report
// that the tasks run, with every step on the disk, and no process started.
func BenchmarkAssignToRunning(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprintf("%d", n), func(b *testing.B) {
			c, stop := benchAgent(b)
			defer stop()
			job := mockJob("web", nil)
			from := 0
			for b.Loop() {
				var allocs []*berthv1.Alloc
				for i := range n {
					allocs = append(allocs, allocOf(job, fmt.Sprintf("a-%d-%d", from, i)))
				}
				c.change(job, nil, allocs...)
				c.waitRunning(n, from)
				from += n
			}
		})
	}
}

// BenchmarkIdle is what 300 tasks that sleep cost the agent: CPU as a part of a core
// (the fake server's included), and memory.
func BenchmarkIdle(b *testing.B) {
	c, stop := benchAgent(b)
	defer stop()
	job := mockJob("web", nil)
	var allocs []*berthv1.Alloc
	for i := range 300 {
		allocs = append(allocs, allocOf(job, fmt.Sprintf("a-%d", i)))
	}
	c.change(job, nil, allocs...)
	c.waitRunning(300, 0)
	before, began := cpuTime(), time.Now()
	for b.Loop() {
		time.Sleep(10 * time.Second)
	}
	used := cpuTime() - before
	b.ReportMetric(used.Seconds()/time.Since(began).Seconds(), "cores")
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapAlloc+m.StackInuse)/300, "B/task")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
