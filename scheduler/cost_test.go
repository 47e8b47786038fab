package scheduler

import (
	"runtime"
	"testing"
	"time"
)

// What a placement costs, in counts that no noise touches: in the steady state it
// allocates nothing, and looks at a few blocks and entries however many nodes there are.
func TestPlacementIsCheap(t *testing.T) {
	for _, c := range []struct {
		name            string
		nodes           int
		shapes, classes int
		more            options
		blocks, entries float64 // at most, a placement
	}{
		{"mixed", 1000, 19, 0, nil, 2, 6},
		{"mixed, more nodes", 6000, 19, 0, nil, 2, 6},
		{"shapes and classes", 2000, 64, 16, nil, 3, 4},
		{"services", 1000, 19, 0, options{"type": {"service"}}, 4, 40},
		{"distinct hosts", 1000, 19, 0, options{"distinct": {""}}, 4, 40},
	} {
		t.Run(c.name, func(t *testing.T) {
			if testing.Short() && c.nodes > 2000 {
				t.Skip("short: fills thousands of nodes")
			}
			l := newLoad(t, c.nodes, 0.75, benchGroups(t, c.shapes, c.classes, c.more))
			for range 40 {
				l.turn(64)
			}
			before, vain := l.looked(), l.vain
			const turns = 20
			allocs := testing.AllocsPerRun(turns-1, func() { l.turn(64) })
			after, n := l.looked(), float64(turns*64)
			if allocs > 16 { // maps and ports grow now and then
				t.Errorf("%v allocations for 64 placements and releases", allocs)
			}
			if blocks := float64(after.blocks-before.blocks) / n; blocks > c.blocks {
				t.Errorf("%.1f blocks a placement, at most %v", blocks, c.blocks)
			}
			if entries := float64(after.entries-before.entries) / n; entries > c.entries {
				t.Errorf("%.1f entries a placement, at most %v", entries, c.entries)
			}
			t.Logf("%.1f rows, %.1f blocks, %.1f entries a placement; %.2f allocations a turn; %d of %.0f in vain",
				float64(after.rows-before.rows)/n, float64(after.blocks-before.blocks)/n, float64(after.entries-before.entries)/n, allocs, l.vain-vain, n)
		})
	}
}

// An index of many nodes is made in one go.
func BenchmarkIndexBuild(b *testing.B) {
	l := newLoad(b, 100_000, 0.05, benchGroups(b, 19, 0, nil))
	for _, cells := range []bool{false, true} {
		name := "nodes"
		if cells {
			name = "cells"
		}
		b.Run(name, func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			spent := time.Duration(0)
			for b.Loop() {
				start := cpuTime()
				x := newIndex(l.f, cells, packed)
				for _, g := range l.groups {
					if g.inCell == cells {
						x.shapeOf(g)
					}
				}
				x.sync()
				spent += cpuTime() - start
			}
			b.ReportMetric(spent.Seconds()*1000/float64(b.N), "cpu-ms/op")
		})
	}
}
