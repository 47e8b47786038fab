package consensus

import (
	"context"
	"errors"
	"sync"
	"time"
)

// lead follows Raft's word on leadership and runs the duties while this server leads.
func (c *Consensus) lead(ctx context.Context, r *running) {
	stop := func() {}
	defer func() { stop() }()
	leads := false
	for {
		select {
		case <-ctx.Done():
			return
		case leads = <-r.raft.LeaderCh():
			// Raft overwrites what was not read: a second true means lost and won again.
		case <-r.renew:
		}
		stop()
		stop = func() {}
		if leads {
			stop = c.reign(ctx, r)
		}
	}
}

// reign runs the duties of one term; what it returns ends them and waits for that.
func (c *Consensus) reign(ctx context.Context, r *running) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		term, ok := c.settled(ctx, r)
		if !ok {
			return
		}
		c.elections.Add(1)
		c.logger.Info("this server leads", "term", term)
		wg.Go(func() { c.reconcile(ctx, r) })
		for _, f := range c.duties {
			wg.Go(func() { f(ctx, term) })
		}
		<-ctx.Done()
		c.logger.Info("this server leads no longer", "term", term)
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// settled waits until everything from before this term is applied; false: ctx ended first.
func (c *Consensus) settled(ctx context.Context, r *running) (uint64, bool) {
	for {
		term := r.raft.CurrentTerm()
		err := c.Barrier(ctx)
		if err == nil && r.raft.CurrentTerm() == term {
			return term, true
		}
		// A transfer of leadership that came to nothing, or a loss that LeaderCh is about
		// to tell.
		if err != nil && !errors.Is(err, ErrNotLeader) && ctx.Err() == nil {
			c.logger.Warn("leading is delayed", "error", err)
		}
		select {
		case <-ctx.Done():
			return 0, false
		case <-time.After(c.conf.Timing.Heartbeat):
		}
	}
}
