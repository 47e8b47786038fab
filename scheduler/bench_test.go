package scheduler

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// cpuTime is this thread's: on a busy machine the time on the wall says nothing. The
// caller is locked to it.
func cpuTime() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t)
	return time.Duration(t.Nano())
}

// benchFleet has nodes of 2 to 8 cells; one in twenty has 8 GPUs. Half of the nodes have
// each of 16 features, in sets of which there are 64.
func benchFleet(b testing.TB, nodes int) *Fleet {
	rng := rand.New(rand.NewPCG(1, 2))
	kinds := []struct{ weight, cells, cores, gib, gpus int }{{35, 2, 16, 128, 0}, {25, 2, 32, 256, 0}, {20, 4, 16, 128, 0}, {15, 8, 8, 64, 0}, {5, 2, 28, 512, 8}}
	var hardware []*berthv1.Hardware
	for _, k := range kinds {
		h := &berthv1.Hardware{DiskMib: 10 << 20}
		for c := range k.cells {
			cell := &berthv1.Cell{Id: uint32(c), MemoryMib: uint64(k.gib) << 10}
			for i := range k.cores {
				cell.Cores = append(cell.Cores, fmt.Sprintf("%d,%d", c*k.cores+i, k.cells*k.cores+c*k.cores+i))
			}
			h.Cells = append(h.Cells, cell)
		}
		for g := range k.gpus {
			h.Devices = append(h.Devices, &berthv1.Device{Id: fmt.Sprintf("g%d", g), Kind: "gpu", Cell: int32(g * k.cells / k.gpus), Healthy: true})
		}
		for range k.weight {
			hardware = append(hardware, h)
		}
	}
	var features [64]string
	for i := range features {
		for c := range 16 {
			if rng.IntN(2) == 0 {
				features[i] += fmt.Sprintf("f%d,", c)
			}
		}
	}
	f := NewFleet()
	for i := range nodes {
		n := &berthv1.Node{Id: fmt.Sprintf("node-%d", i), Name: fmt.Sprintf("n%d", i), Arch: "amd64", MinPort: 20000, MaxPort: 32000,
			Status: berthv1.Node_ready, Drivers: []*berthv1.DriverInfo{{Name: "exec", Healthy: true}}, Hardware: hardware[rng.IntN(len(hardware))],
			Attributes: map[string]string{"node.rack": fmt.Sprintf("r%d", i/40), "node.zone": fmt.Sprintf("z%d", i%3), "features": features[rng.IntN(64)]}}
		if _, err := f.UpsertNode(n); err != nil {
			b.Fatal(err)
		}
	}
	return f
}

// benchGroups draws shapes, each for every class: shared CPU anywhere and in one cell,
// exclusive cores, and whole GPUs.
func benchGroups(b testing.TB, shapes, classes int, more options) (groups []*Group) {
	rng := rand.New(rand.NewPCG(3, 4))
	for s := range shapes {
		o := options{"type": {"batch"}, "mem": {fmt.Sprint(256 * (1 + rng.IntN(64)))}}
		switch s % 10 {
		case 0, 5, 6:
			o["cpu"] = []string{fmt.Sprint(250 * (1 + rng.IntN(8)))}
		case 1, 4, 8, 9:
			n := 1 + rng.IntN(8)
			o["cores"], o["policy"], o["mem"] = []string{fmt.Sprint(n)}, []string{"single"}, []string{fmt.Sprint(n << (11 + rng.IntN(2)))}
		case 2, 3:
			o["cpu"], o["policy"] = []string{fmt.Sprint(1000 * (1 + rng.IntN(8)))}, []string{"single"}
		case 7:
			o["device"], o["cpu"] = []string{fmt.Sprintf("gpu,%d", 1<<rng.IntN(3))}, []string{"4000"}
		}
		for k, v := range more {
			o[k] = v
		}
		for c := range max(classes, 1) {
			if classes > 0 {
				o["constraint"] = []string{fmt.Sprintf("features,contains,f%d", c)}
			}
			name := fmt.Sprintf("job%d-%d", s, c)
			groups = append(groups, askOf(b, jobOf(b, name, o), o).Group)
		}
	}
	return groups
}

// held is what the benchmarks place: enough to take it back.
type held struct {
	g     *Group
	slot  int32
	grant topology.Grant
}

// load is a fleet in steady state: what ends is chosen at random, and something else comes.
type load struct {
	f      *Fleet
	groups []*Group
	rng    *rand.Rand
	res    Result
	live   []held
	ask    Ask
	asks   [1]*Ask
	vain   int // asks that nothing had room for
	gone   []*Group

	placing, releasing time.Duration
}

func newLoad(b testing.TB, nodes int, util float64, groups []*Group) *load {
	l := &load{f: benchFleet(b, nodes), groups: groups, rng: rand.New(rand.NewPCG(5, 6))}
	l.asks[0] = &l.ask
	all, free := uint64(0), uint64(0)
	for i := range l.f.nodes {
		for c := range l.f.nodes[i].usage.Machine().Cells {
			all += l.f.nodes[i].usage.FreeMilli(c)
		}
	}
	for free = all; free > uint64((1-util)*float64(all)) && l.vain < 1000; {
		g := l.groups[l.rng.IntN(len(l.groups))]
		if g.total.devices != nil && l.rng.IntN(10) > 0 { // GPUs are few
			continue
		}
		if l.place(g, 1) == 1 {
			h := &l.live[len(l.live)-1]
			for i := range h.grant.Cells {
				free -= uint64(h.grant.Cells[i].CPUMilli) + 1000*uint64(h.grant.Cells[i].CPUs.Count())
			}
		}
	}
	return l
}

// place places n of a group, and gives how many could be.
func (l *load) place(g *Group, n int) int {
	l.ask = Ask{Group: g, Count: n, Silent: true}
	PlaceInto(&l.res, l.f, l.asks[:])
	for i, p := range l.res.Placed {
		k := len(l.live)
		if k < cap(l.live) {
			l.live = l.live[:k+1]
		} else {
			l.live = append(l.live, held{})
		}
		l.live[k].g, l.live[k].slot = g, p.Slot
		copyGrant(&l.live[k].grant, l.res.Grant(i))
	}
	l.vain += n - len(l.res.Placed)
	return len(l.res.Placed)
}

// release takes one at random back, and gives its group.
func (l *load) release() *Group {
	k, last := l.rng.IntN(len(l.live)), len(l.live)-1
	l.live[k], l.live[last] = l.live[last], l.live[k]
	h := &l.live[last]
	l.f.Release(h.g, h.slot, &h.grant)
	l.live = l.live[:last]
	return h.g
}

func (l *load) looked() (out looks) {
	for how := range l.f.indexes {
		for _, x := range l.f.indexes[how] {
			if x != nil {
				out.rows, out.blocks, out.entries = out.rows+x.looked.rows, out.blocks+x.looked.blocks, out.entries+x.looked.entries
			}
		}
	}
	return out
}

// turn releases n instances, and places as many: of the groups of those released, in
// another order.
func (l *load) turn(n int) {
	l.gone = l.gone[:0]
	start := cpuTime()
	for range n {
		l.gone = append(l.gone, l.release())
	}
	l.releasing += cpuTime() - start
	l.rng.Shuffle(n, func(i, k int) { l.gone[i], l.gone[k] = l.gone[k], l.gone[i] })
	start = cpuTime()
	for _, g := range l.gone {
		l.place(g, 1)
	}
	l.placing += cpuTime() - start
}

// Each op is one placement and one release, in the steady state.
func BenchmarkChurn(b *testing.B) {
	for _, c := range []struct {
		nodes, shapes, classes int
		util                   float64
	}{{10_000, 19, 0, 0.6}, {10_000, 19, 0, 0.9}, {100_000, 19, 0, 0.75}, {100_000, 64, 16, 0.75}} {
		b.Run(fmt.Sprintf("nodes=%d/shapes=%d/classes=%d/util=%.0f", c.nodes, c.shapes, c.classes, c.util*100), func(b *testing.B) {
			runtime.LockOSThread()
			l := newLoad(b, c.nodes, c.util, benchGroups(b, c.shapes, c.classes, nil))
			for range 64 {
				l.turn(64) // warm
			}
			before := l.looked()
			l.vain, l.placing, l.releasing = 0, 0, 0
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += 64 {
				l.turn(64)
			}
			after, ops := l.looked(), float64(b.N)
			b.ReportMetric(float64(l.placing)/ops, "place-cpu-ns/op")
			b.ReportMetric(float64(l.releasing)/ops, "release-cpu-ns/op")
			b.ReportMetric(float64(after.rows-before.rows)/ops, "rows/op")
			b.ReportMetric(float64(after.blocks-before.blocks)/ops, "blocks/op")
			b.ReportMetric(float64(after.entries-before.entries)/ops, "entries/op")
			b.ReportMetric(float64(l.vain)/ops, "vain/op")
		})
	}
}

// Each op is one placement of a job of so many identical instances, all taken back again.
func BenchmarkJobs(b *testing.B) {
	for _, c := range []struct {
		name  string
		nodes int
		more  options
	}{
		{"identical", 10_000, nil},
		{"identical", 100_000, nil},
		{"service", 10_000, options{"type": {"service"}}},
		{"rack", 10_000, options{"spread": {"node.rack"}}},
		{"zone", 10_000, options{"spread": {"node.zone"}}},
		{"host", 10_000, options{"spread": {"node.id"}}},
		{"distinct-hosts", 10_000, options{"distinct": {""}}},
	} {
		for _, count := range []int{1, 100} {
			b.Run(fmt.Sprintf("%s/nodes=%d/count=%d", c.name, c.nodes, count), func(b *testing.B) {
				runtime.LockOSThread()
				l := newLoad(b, c.nodes, 0.7, benchGroups(b, 19, 0, nil))
				l.groups = benchGroups(b, 19, 0, c.more)
				spent, n, before := time.Duration(0), 0, l.looked()
				b.ReportAllocs()
				b.ResetTimer()
				for i := 0; n < b.N; i++ {
					first := len(l.live)
					start := cpuTime()
					got := l.place(l.groups[i%len(l.groups)], count)
					spent += cpuTime() - start
					n += max(got, 1)
					for len(l.live) > first {
						h := &l.live[len(l.live)-1]
						l.f.Release(h.g, h.slot, &h.grant)
						l.live = l.live[:len(l.live)-1]
					}
				}
				after := l.looked()
				b.ReportMetric(float64(spent)/float64(n), "place-cpu-ns/op")
				b.ReportMetric(float64(after.blocks-before.blocks)/float64(n), "blocks/op")
				b.ReportMetric(float64(after.entries-before.entries)/float64(n), "entries/op")
			})
		}
	}
}
