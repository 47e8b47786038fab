package topology

import (
	"fmt"
	"runtime"
	"testing"
)

// hostOf is a machine of so many cells of 32 cores of two threads.
func hostOf(t testing.TB, cells int) *Machine {
	m := Machine{MinPort: 20000, MaxPort: 32000}
	for i := range cells {
		c := Cell{ID: uint32(i), MemoryMiB: 1 << 18}
		for k := range 32 {
			first := 32*i + k
			c.Cores = append(c.Cores, Core{Threads: NewCPUSet(first, 32*cells+first)})
		}
		m.Cells = append(m.Cells, c)
	}
	out, err := NewMachine(m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Usages of nodes that share a machine cost few bytes and no allocation each.
func TestSlabIsSmall(t *testing.T) {
	for cells, most := range map[int]uint64{1: 256, 2: 320, 8: 640} {
		m := hostOf(t, cells)
		const nodes = 10_000
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		var slab Slab
		usages := make([]*Usage, 0, nodes)
		for range nodes {
			usages = append(usages, slab.NewUsage(m))
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(usages)
		if bytes := (after.HeapAlloc - before.HeapAlloc) / nodes; bytes > most || after.Mallocs-before.Mallocs > nodes/10 {
			t.Errorf("%d cells: %d bytes a node in %d allocations", cells, bytes, after.Mallocs-before.Mallocs)
		} else {
			t.Logf("%d cells: %d bytes a node", cells, bytes)
		}
	}
}

func BenchmarkNewUsage(b *testing.B) {
	for _, cells := range []int{2, 8} {
		b.Run(fmt.Sprintf("cells=%d", cells), func(b *testing.B) {
			m := hostOf(b, cells)
			var slab Slab
			b.ReportAllocs()
			for b.Loop() {
				slab.NewUsage(m)
			}
		})
	}
}
