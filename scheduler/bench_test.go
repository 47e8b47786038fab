package scheduler

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func benchFleet(b *testing.B, nodes int) *Fleet {
	f := NewFleet()
	for i := range nodes {
		n := &berthv1.Node{Id: fmt.Sprintf("node-%d", i), Name: fmt.Sprintf("n%d", i), Status: berthv1.Node_ready, Arch: "amd64",
			Drivers: []*berthv1.DriverInfo{{Name: "exec", Healthy: true}}, MinPort: 20000, MaxPort: 32000,
			Attributes: map[string]string{"node.rack": fmt.Sprintf("r%d", i%16)}, Hardware: &berthv1.Hardware{DiskMib: 10 << 20}}
		for c := range 2 {
			cell := &berthv1.Cell{Id: uint32(c), MemoryMib: 256 << 10}
			for k := range 32 {
				cell.Cores = append(cell.Cores, fmt.Sprintf("%d,%d", c*32+k, 64+c*32+k))
			}
			n.Hardware.Cells = append(n.Hardware.Cells, cell)
		}
		if _, err := f.UpsertNode(n); err != nil {
			b.Fatal(err)
		}
	}
	return f
}

// cpuTime is the process's: on a busy machine the time on the wall says nothing.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Each op is one placement; they are taken back so that the fleet stays as full.
func BenchmarkPlace(b *testing.B) {
	shapes := []struct {
		name string
		o    options
	}{
		{"simple", options{"cpu": {"100"}, "mem": {"64"}}},
		{"port", options{"cpu": {"100"}, "mem": {"64"}, "port": {"0"}}},
		{"cores", options{"cores": {"4"}, "policy": {"single"}, "mem": {"4096"}}},
		{"spread", options{"cpu": {"100"}, "spread": {"node.rack"}}},
	}
	for _, nodes := range []int{1000, 10_000} {
		for _, shape := range shapes {
			for _, count := range []int{1, 100} {
				b.Run(fmt.Sprintf("nodes=%d/%s/count=%d", nodes, shape.name, count), func(b *testing.B) {
					f := benchFleet(b, nodes)
					ask := askOf(b, jobOf(b, "it", shape.o), shape.o)
					ask.Count = count
					b.ResetTimer()
					before := cpuTime()
					b.ReportAllocs()
					for n := 0; n < b.N; n += count {
						placed, _ := Place(f, []*Ask{ask})
						if len(placed) != count {
							b.Fatalf("%d placed", len(placed))
						}
						for _, p := range placed {
							f.Undo(ask.Group, p)
						}
					}
					b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
				})
			}
		}
	}
}

func BenchmarkGrantInto(b *testing.B) {
	a := &berthv1.Assignment{DiskMib: 300, Ports: []*berthv1.PortGrant{{Port: 20000}},
		Tasks: []*berthv1.TaskGrant{{Task: "main", Cells: []*berthv1.CellGrant{{CpuMilli: 100, MemoryMib: 64}}}}}
	f := NewFleet()
	b.ReportAllocs()
	for b.Loop() {
		if err := GrantInto(&f.scratch.grant, a); err != nil {
			b.Fatal(err)
		}
	}
}

// Each op is one ask that nothing has room for, explained or not.
func BenchmarkUnplaced(b *testing.B) {
	for _, silent := range []bool{false, true} {
		b.Run(fmt.Sprintf("nodes=1000/silent=%v", silent), func(b *testing.B) {
			f := benchFleet(b, 1000)
			o := options{"cores": {"65"}, "policy": {"single"}}
			ask := askOf(b, jobOf(b, "it", o), o)
			ask.Silent = silent
			b.ReportAllocs()
			before := cpuTime()
			for b.Loop() {
				if _, unplaced := Place(f, []*Ask{ask}); len(unplaced) != 1 {
					b.Fatal("placed")
				}
			}
			b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
		})
	}
}
