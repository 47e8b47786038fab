package bench

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Quantiles are in milliseconds.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// tracker knows when jobs were submitted, and how long after that each of their
// allocations came somewhere.
type tracker struct {
	mu      sync.Mutex
	since   map[string]time.Time // by job
	counts  map[string]int       // by job
	delays  []time.Duration
	newest  time.Time
	target  int
	reached chan struct{}
}

func newTracker() *tracker { return &tracker{since: map[string]time.Time{}, counts: map[string]int{}} }

func (t *tracker) submitted(job string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.since[job] = at
}

func (t *tracker) add(job string, n int, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addLocked(job, n, at)
}

// reach notes that n of a job's have come by now, of which some may be known.
func (t *tracker) reach(job string, n int, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addLocked(job, n-t.counts[job], at)
}

func (t *tracker) addLocked(job string, n int, at time.Time) {
	if n <= 0 {
		return
	}
	t.counts[job] += n
	for delay := at.Sub(t.since[job]); n > 0; n-- {
		t.delays = append(t.delays, delay)
	}
	if at.After(t.newest) {
		t.newest = at
	}
	if t.reached != nil && len(t.delays) >= t.target {
		close(t.reached)
		t.reached = nil
	}
}

func (t *tracker) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.delays)
}

// fork is where the next measurement begins.
func (t *tracker) fork() int { return t.count() }

func (t *tracker) last() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.newest
}

// wait waits until n have come; for one caller at a time.
func (t *tracker) wait(ctx context.Context, n int) error {
	t.mu.Lock()
	if len(t.delays) >= n {
		t.mu.Unlock()
		return nil
	}
	reached := make(chan struct{})
	t.target, t.reached = n, reached
	t.mu.Unlock()
	select {
	case <-reached:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *tracker) quantiles() Quantiles { return t.quantilesFrom(0) }

// quantilesFrom is over what came from the nth on.
func (t *tracker) quantilesFrom(n int) Quantiles {
	t.mu.Lock()
	delays := slices.Clone(t.delays[n:])
	t.mu.Unlock()
	return quantiles(delays)
}

// quantiles sorts the delays.
func quantiles(sorted []time.Duration) Quantiles {
	if len(sorted) == 0 {
		return Quantiles{}
	}
	slices.Sort(sorted)
	at := func(q float64) float64 {
		return float64(sorted[min(int(q*float64(len(sorted))), len(sorted)-1)].Microseconds()) / 1000
	}
	return Quantiles{P50: at(0.50), P99: at(0.99)}
}
