package scheduler

import (
	"fmt"
	"runtime"
	"slices"
	"testing"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// boards is a machine of 64 cells of four cores on eight boards: 12 to the cells of the
// same board, 24 to the next board's, and farther beyond.
func boards(t testing.TB) *topology.Usage {
	n := &berthv1.Node{Hardware: &berthv1.Hardware{}}
	for i := range 64 {
		c := &berthv1.Cell{Id: uint32(i), MemoryMib: 1000}
		for k := range 4 {
			c.Cores = append(c.Cores, fmt.Sprint(4*i+k))
		}
		for k := range 64 {
			distance := 12 + 12*max(i/8-k/8, k/8-i/8)
			if i == k {
				distance = 10
			}
			c.Distances = append(c.Distances, uint32(distance))
		}
		n.Hardware.Cells = append(n.Hardware.Cells, c)
	}
	m, err := MachineOf(n)
	if err != nil {
		t.Fatal(err)
	}
	return topology.NewUsage(m)
}

func spanOf(m *topology.Machine, set []int) (span uint32) {
	for i, a := range set {
		for _, b := range set[:i] {
			span += m.Distance(a, b)
		}
	}
	return span
}

// On a node of 64 cells the closest are found within the bound, empty or in use.
func TestSpansOfALargeNode(t *testing.T) {
	for _, c := range []struct {
		cores, used int // used: every cell of the first boards has so many cores taken
		span        uint32
		set         []int
	}{
		{cores: 8, set: []int{0, 1}, span: 12},
		{cores: 32, set: []int{0, 1, 2, 3, 4, 5, 6, 7}, span: 28 * 12},
		{cores: 32, used: 1, set: []int{8, 9, 10, 11, 12, 13, 14, 15}, span: 28 * 12},
		{cores: 36, set: nil, span: 28*12 + 8*24},
		{cores: 64, set: nil, span: 2*28*12 + 64*24},
	} {
		u := boards(t)
		for i := range 8 * c.used {
			if err := u.Add(&topology.Grant{Cells: []topology.CellGrant{{Cell: uint32(i), CPUs: topology.NewCPUSet(4 * i)}}}); err != nil {
				t.Fatal(err)
			}
		}
		o := options{"cores": {fmt.Sprint(c.cores)}, "policy": {"best-effort"}}
		var x fitter
		if _, ok := x.fit(u, askOf(t, jobOf(t, "it", o), o).Group); !ok {
			t.Fatalf("%d cores do not fit", c.cores)
		}
		if got := spanOf(u.Machine(), x.search.set); got != c.span || c.set != nil && !slices.Equal(x.search.set, c.set) {
			t.Errorf("%d cores: cells %v, span %d; want %v, %d", c.cores, x.search.set, got, c.set, c.span)
		}
	}
}

// Sixteen cells are searched through whole, whatever is asked of them.
func TestSixteenCellsAreWithinTheBound(t *testing.T) {
	n := &berthv1.Node{Hardware: &berthv1.Hardware{}}
	for i := range 16 {
		n.Hardware.Cells = append(n.Hardware.Cells, &berthv1.Cell{Id: uint32(i), MemoryMib: 1000, Cores: []string{fmt.Sprint(i)}})
	}
	m, err := MachineOf(n)
	if err != nil {
		t.Fatal(err)
	}
	for k := 1; k <= 16; k++ {
		o := options{"cores": {fmt.Sprint(k)}, "policy": {"best-effort"}}
		var x fitter
		if _, ok := x.fit(topology.NewUsage(m), askOf(t, jobOf(t, "it", o), o).Group); !ok || x.search.steps < 0 {
			t.Errorf("%d cells: fits %v, %d steps left", k, ok, x.search.steps)
		}
	}
}

// Eight of sixteen GPUs that are all different are searched through whole.
func TestSixteenDevicesAreWithinTheBound(t *testing.T) {
	n := &berthv1.Node{Hardware: &berthv1.Hardware{Cells: []*berthv1.Cell{{MemoryMib: 1000, Cores: []string{"0"}}}}}
	for i := range 16 {
		d := &berthv1.Device{Id: fmt.Sprint(i), Kind: "gpu", Healthy: true}
		for k := range i {
			d.Links = append(d.Links, &berthv1.DeviceLink{Peer: fmt.Sprint(k), Type: "nvlink", Lanes: uint32(1 + (i*k)%7)})
		}
		n.Hardware.Devices = append(n.Hardware.Devices, d)
	}
	m, err := MachineOf(n)
	if err != nil {
		t.Fatal(err)
	}
	for k := 1; k <= 16; k++ {
		o := options{"cpu": {"100"}, "device": {fmt.Sprintf("gpu,%d", k)}}
		var x fitter
		if _, ok := x.fit(topology.NewUsage(m), askOf(t, jobOf(t, "it", o), o).Group); !ok || x.picker.steps < 0 {
			t.Errorf("%d devices: fits %v, %d steps left", k, ok, x.picker.steps)
		}
	}
}

func BenchmarkSpan(b *testing.B) {
	for _, cores := range []int{8, 32, 64} {
		b.Run(fmt.Sprintf("cells=64/cores=%d", cores), func(b *testing.B) {
			u := boards(b)
			o := options{"cores": {fmt.Sprint(cores)}, "policy": {"best-effort"}}
			g := askOf(b, jobOf(b, "it", o), o).Group
			var x fitter
			b.ReportAllocs()
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			before := cpuTime()
			for b.Loop() {
				choice, _ := x.fit(u, g)
				u.Remove(&choice.grant)
			}
			b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
		})
	}
}
