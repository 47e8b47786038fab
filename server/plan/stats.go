package plan

import "sync/atomic"

// Stats is what a loop has done and has before it.
type Stats struct {
	// Placed, Refused and Failed count placements: written, refused by the FSM, and in
	// entries that were not written.
	Placed, Refused, Failed uint64
	// Looks counts reconciliations, Tests whether something that waits could fit on a
	// node that has changed.
	Looks, Tests uint64
	// Ready jobs wait for their turn, Blocked ones for room; Flying entries for the log.
	Ready, Blocked, Flying int64
}

type counters struct {
	placed, refused, failed, looks, tests atomic.Uint64
	ready, blocked, flying                atomic.Int64
}

// Stats may be called from any goroutine.
func (l *Loop) Stats() Stats {
	c := &l.stats
	return Stats{
		Placed: c.placed.Load(), Refused: c.refused.Load(), Failed: c.failed.Load(), Looks: c.looks.Load(), Tests: c.tests.Load(),
		Ready: c.ready.Load(), Blocked: c.blocked.Load(), Flying: c.flying.Load(),
	}
}

// gauge notes how much is before the loop.
func (l *Loop) gauge() {
	l.stats.ready.Store(int64(l.ready.len() + len(l.survey)))
	l.stats.blocked.Store(int64(len(l.blocked.jobs)))
	l.stats.flying.Store(int64(l.flying))
}
