package runner

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/berthd/berth/agent/store"
	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/mock"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// BenchmarkAllocs is what an alloc costs the agent, with a task in memory only, without
// and with one http check every 10 s that is answered: bytes an alloc, and CPU as a part of
// a core for 1000 of them (the answering server's part included).
func BenchmarkAllocs(b *testing.B) {
	for _, checks := range []int{0, 1} {
		b.Run(fmt.Sprintf("checks=%d", checks), func(b *testing.B) { benchAllocs(b, checks) })
	}
}

func benchAllocs(b *testing.B, checks int) {
	const n = 1000
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }))
	defer server.Close()
	st, err := store.Open(b.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	r := &reports{last: map[string]*berthv1.AllocStatusUpdate{}}
	driver := mock.New(mock.NewHost())
	node := testNode("n1")
	host, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	node.Address = host
	m := New(Config{
		Store: st, Layout: Layout{Data: b.TempDir()}, Reporter: discard{r}, Log: slog.New(slog.DiscardHandler),
		Driver: func(string) drivers.Driver { return driver }, Node: func() *berthv1.Node { return node },
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = m.Run(ctx) }()
	defer func() { cancel(); <-done }()

	job := webJob()
	if checks == 0 {
		job.Groups[0].Services = nil
	} else {
		job.Groups[0].Services[0].Checks[0].Interval = durationpb.New(10 * time.Second)
	}
	as := complete(1, job)
	number, _ := strconv.Atoi(port)
	for i := range n {
		a := allocOf(job, fmt.Sprintf("a%d", i))
		a.Assignment = &berthv1.Assignment{Ports: []*berthv1.PortGrant{{Name: "http", Port: uint32(number)}}}
		as.Allocs = append(as.Allocs, a)
	}
	heapBefore, stacksBefore := inUse()
	if err := m.Apply(as); err != nil {
		b.Fatal(err)
	}
	for !m.settled(n, checks > 0) {
		time.Sleep(20 * time.Millisecond)
	}
	used, began := cpu(), time.Now()
	for b.Loop() {
		time.Sleep(10 * time.Second)
	}
	b.ReportMetric((cpu()-used).Seconds()/time.Since(began).Seconds(), "cores")
	heap, stacks := inUse()
	b.ReportMetric(float64(heap-heapBefore)/n, "heap-B/alloc")
	b.ReportMetric(float64(stacks-stacksBefore)/n, "stack-B/alloc")
	b.ReportMetric(0, "ns/op")
}

// settled says that n allocs run, and are ready where they offer something.
func (m *Manager) settled(n int, services bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.allocs {
		a.mu.Lock()
		ok := a.status == berthv1.Alloc_running && (!services || len(a.last.GetServices()) == 1 && a.last.GetServices()[0].GetReady())
		a.mu.Unlock()
		if !ok {
			return false
		}
	}
	return len(m.allocs) == n
}

// discard is a Reporter that keeps nothing.
type discard struct{ *reports }

func (discard) Report(*berthv1.AllocStatusUpdate, bool) {}

func inUse() (heap, stacks uint64) {
	var s runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&s)
	return s.HeapAlloc, s.StackInuse
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
