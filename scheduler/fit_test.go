package scheduler

import (
	"testing"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// fitCase is an ask that is common, and a machine of two cells of 32 cores of 2 threads.
type fitCase struct {
	name string
	u    *topology.Usage
	g    *Group
}

func fitCases(tb testing.TB) []fitCase {
	var cases []fitCase
	for _, c := range []struct {
		name string
		o    options
	}{
		{"simple", options{"cpu": {"100"}, "mem": {"64"}}},
		{"simple/single", options{"cpu": {"100"}, "mem": {"64"}, "policy": {"single"}}},
		{"port", options{"cpu": {"100"}, "mem": {"64"}, "port": {"0"}}},
		{"cores", options{"cores": {"8"}, "mem": {"4096"}, "policy": {"single"}}},
		{"cores/none", options{"cores": {"8"}, "mem": {"4096"}}},
		{"threads", options{"threads": {"8"}, "mem": {"4096"}, "policy": {"single"}}},
		{"hugepages", options{"cores": {"8"}, "pages": {"512"}, "policy": {"single"}}},
	} {
		cases = append(cases, fitCase{c.name, topology.NewUsage(fitMachine(tb)), askOf(tb, jobOf(tb, "it", c.o), c.o).Group})
	}
	return cases
}

func fitMachine(tb testing.TB) *topology.Machine {
	f := NewFleet()
	w := world{t: &testing.T{}, f: f, nodes: nil}
	w.nodes = map[string]*berthv1.Node{}
	w.node("n", options{})
	for range 2 {
		w.cell("32x2", "262144", options{"pages": {"1024"}})
	}
	w.flush()
	return f.nodes[0].usage.Machine()
}

// The common asks cost no allocation.
func TestFitAllocatesNothing(t *testing.T) {
	for _, c := range fitCases(t) {
		var x fitter
		allocs := testing.AllocsPerRun(100, func() {
			choice, ok := x.fit(c.u, c.g)
			if !ok {
				t.Fatal("does not fit")
			}
			c.u.Remove(&choice.grant)
		})
		if allocs != 0 {
			t.Errorf("%s: %v allocations", c.name, allocs)
		}
	}
}

// Each op fits an ask, adds it and removes it again, beside others that are there.
func BenchmarkFit(b *testing.B) {
	for _, c := range fitCases(b) {
		b.Run(c.name, func(b *testing.B) {
			var x, first fitter
			if _, ok := first.fit(c.u, c.g); !ok {
				b.Fatal("does not fit")
			}
			b.ReportAllocs()
			for b.Loop() {
				choice, ok := x.fit(c.u, c.g)
				if !ok {
					b.Fatal("does not fit")
				}
				c.u.Remove(&choice.grant)
			}
		})
	}
}
