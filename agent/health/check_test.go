package health

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

type probeFunc func(ctx context.Context) Outcome

func (f probeFunc) Probe(ctx context.Context) Outcome { return f(ctx) }

// history notes what a check says, and when.
type history struct {
	mu    sync.Mutex
	began time.Time
	last  State
	at    time.Duration
	n     int
}

func (h *history) note(s State) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last, h.at, h.n = s, time.Since(h.began), h.n+1
}

func (h *history) get() (State, time.Duration, int) {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last, h.at, h.n
}

func TestCheckIsReadySoonAndFailsSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(8)
		defer p.Wait()
		var ok atomic.Bool
		h := &history{began: time.Now()}
		rules := Rules{Interval: 10 * time.Second, Timeout: time.Second, Successes: 1, Failures: 3}
		c := p.Start(probeFunc(func(context.Context) Outcome { return Outcome{OK: ok.Load(), Output: "x"} }), rules, State{}, h.note)
		defer c.Stop()
		time.Sleep(8 * time.Second)
		ok.Store(true)
		time.Sleep(2 * time.Second)
		if s, at, _ := h.get(); s.Status != berthv1.CheckState_passing || at > 10*time.Second {
			t.Errorf("%v after %s", s, at)
		}
		ok.Store(false)
		failed := time.Now()
		time.Sleep(31 * time.Second)
		if s, _, _ := h.get(); s.Status != berthv1.CheckState_failing || s.Since.Sub(failed) < 20*time.Second {
			t.Errorf("%v after %s", s, s.Since.Sub(failed))
		}
	})
}

func TestFailuresCountOnceAnInterval(t *testing.T) {
	for _, tc := range []struct {
		start time.Duration
		least time.Duration
	}{{0, 27 * time.Second}, {time.Minute, time.Minute}} {
		synctest.Test(t, func(t *testing.T) {
			p := NewPool(8)
			defer p.Wait()
			h := &history{began: time.Now()}
			c := p.Start(failing("no"), Rules{Interval: 10 * time.Second, Timeout: time.Second, Successes: 1, Failures: 3, StartPeriod: tc.start}, State{}, h.note)
			defer c.Stop()
			time.Sleep(tc.least)
			if s, _, n := h.get(); s.Status != berthv1.CheckState_pending || s.Output != "no" || n != 1 {
				t.Errorf("after %s: %v, said %d times", tc.least, s, n)
			}
			time.Sleep(35 * time.Second)
			if s, _, n := h.get(); s.Status != berthv1.CheckState_failing || n != 2 {
				t.Errorf("%v, said %d times", s, n)
			}
		})
	}
}

// TestManyChecksAreSpread starts a thousand checks at once: they do not run at once, and
// never more than the pool's number.
func TestManyChecksAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, width = 1000, 16
		p := NewPool(width)
		var running, most, runs atomic.Int64
		firsts := make([]time.Duration, n)
		began := time.Now()
		var checks []*Check
		for i := range n {
			checks = append(checks, p.Start(probeFunc(func(context.Context) Outcome {
				now := running.Add(1)
				for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
				}
				if runs.Add(1); firsts[i] == 0 {
					firsts[i] = time.Since(began)
				}
				time.Sleep(time.Millisecond)
				running.Add(-1)
				return Outcome{OK: true}
			}), Rules{Interval: 10 * time.Second, Timeout: time.Second, Successes: 1, Failures: 3}, State{}, func(State) {}))
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		slots := make([]int, 10)
		for _, at := range firsts {
			slots[min(at/(100*time.Millisecond), 9)]++
		}
		for i, n := range slots {
			if n < 50 || n > 200 {
				t.Errorf("%d checks ran first in tenth %d of a second: %v", n, i, slots)
				break
			}
		}
		if most.Load() > width {
			t.Errorf("%d ran at once", most.Load())
		}
		time.Sleep(100 * time.Second)
		if r := runs.Load(); r < 10*n || r > 12*n {
			t.Errorf("%d runs in 102 s", r)
		}
		for _, c := range checks {
			c.Stop()
		}
		p.Wait()
		after := runs.Load()
		time.Sleep(time.Minute)
		if runs.Load() != after {
			t.Error("a stopped check runs")
		}
	})
}

func TestStopEndsARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(1)
		said := false
		block := probeFunc(func(ctx context.Context) Outcome { <-ctx.Done(); return Outcome{Output: ctx.Err().Error()} })
		rules := Rules{Interval: time.Second, Timeout: time.Hour, Successes: 1, Failures: 1}
		a := p.Start(block, rules, State{}, func(State) { said = true })
		b := p.Start(block, rules, State{}, func(State) { said = true }) // waits for its turn
		time.Sleep(5 * time.Second)
		a.Stop()
		b.Stop()
		p.Wait()
		if said {
			t.Error("a stopped check said something")
		}
	})
}
