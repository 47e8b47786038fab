package bench

import (
	"slices"
	"time"
)

// Meter is what the bench measures with: this package asks no clock itself.
type Meter struct {
	// CPU is the time that this thread has spent on a processor; the caller has tied
	// the goroutine to its thread.
	CPU func() time.Duration
	// Mallocs is how many objects were allocated so far.
	Mallocs func() uint64
	// Heap is how many bytes live, after a collection.
	Heap func() uint64
}

// figures collects what was measured of a side.
type figures struct {
	placeCPU, releaseCPU time.Duration
	placed, released     int // placements in those
	single               []int32
	mallocs              uint64
	counted              int // placements in those, and as many releases
	mismatches, compared int
	asks, unplaced       int
}

// overhead is what one reading of the clock takes, to be taken off.
func overhead(cpu func() time.Duration) time.Duration {
	least := time.Hour
	for range 1000 {
		start := cpu()
		least = min(least, cpu()-start)
	}
	return least
}

// quantile of the single placements, in ns; 0: none was measured.
func (f *figures) quantile(q float64) float64 {
	if len(f.single) == 0 {
		return 0
	}
	slices.Sort(f.single)
	return float64(f.single[min(int(q*float64(len(f.single))), len(f.single)-1)])
}
