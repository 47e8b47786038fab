package health

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// eager is how often a check is run, at most, while it has not come to a status yet: what
// starts within a second is ready within two, whatever the interval. Failures count only
// once an interval all the same.
const eager = time.Second

// Pool runs the checks of a node, so many at a time.
type Pool struct {
	slots   chan struct{}
	clients clients
	wg      sync.WaitGroup // one for each armed timer and each run
}

// NewPool makes a pool that runs at most n checks at the same time; it starts nothing.
func NewPool(n int) *Pool {
	return &Pool{slots: make(chan struct{}, n), clients: newClients()}
}

// Wait returns when every check that was started has been stopped, and has come to its end.
func (p *Pool) Wait() { p.wg.Wait() }

// Check is a check that is run again and again until it is stopped.
type Check struct {
	pool    *Pool
	probe   Prober
	rules   Rules
	changed func(State)
	began   time.Time
	ctx     context.Context
	cancel  context.CancelFunc

	mu      sync.Mutex
	state   State
	counted time.Time // when a failure last counted
	timer   *time.Timer
}

// Start begins to run a check that stands so. changed is called, by one goroutine at a
// time, when the status has changed, and when the output of one that does not pass has.
func (p *Pool) Start(probe Prober, rules Rules, from State, changed func(State)) *Check {
	ctx, cancel := context.WithCancel(context.Background()) // ended by Stop
	c := &Check{pool: p, probe: probe, rules: rules, state: from, changed: changed, began: time.Now(), ctx: ctx, cancel: cancel}
	c.counted = c.began
	c.mu.Lock()
	defer c.mu.Unlock()
	p.wg.Add(1)
	// Checks that are started together are not run together.
	c.timer = time.AfterFunc(rand.N(min(rules.Interval, eager)), c.run)
	return c
}

// Stop ends the check. It does not wait: changed may be called once more meanwhile.
func (c *Check) Stop() {
	c.cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer.Stop() {
		c.pool.wg.Done()
	}
}

func (c *Check) run() {
	defer c.pool.wg.Done()
	select {
	case c.pool.slots <- struct{}{}:
	case <-c.ctx.Done():
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.rules.Timeout)
	o := c.probe.Probe(ctx)
	cancel()
	<-c.pool.slots
	if c.ctx.Err() != nil {
		return
	}
	o.Output = clip(o.Output)
	before, after := c.take(o)
	if before.Status != after.Status || after.Status != berthv1.CheckState_passing && before.Output != after.Output {
		c.changed(after)
	}
	c.arm()
}

// take makes an outcome count.
func (c *Check) take(o Outcome) (before, after State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	counts := now.Sub(c.began) >= c.rules.StartPeriod && now.Sub(c.counted) >= c.rules.Interval*9/10
	if counts {
		c.counted = now
	}
	before = c.state
	c.state = before.After(o, c.rules, counts, now)
	return before, c.state
}

// arm sets the timer for the next run, a little off the interval, so that what fell
// together once falls apart.
func (c *Check) arm() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return
	}
	wait := c.rules.Interval
	if c.state.Status == berthv1.CheckState_pending {
		wait = min(wait, eager)
	}
	c.pool.wg.Add(1)
	c.timer.Reset(wait - wait/40 + rand.N(wait/20+1))
}
