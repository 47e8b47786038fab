package dispatch

import (
	"context"

	"github.com/berthd/berth/server/state"
)

// feedBatch is how many changes the feed takes at a time.
const feedBatch = 4096

// feed marks the sessions of nodes whose assignments have changed.
func (d *Dispatcher) feed(ctx context.Context) error {
	seen := d.began
	for {
		watch := d.cfg.Store.Watch(state.Topic{Table: state.TableAllocs})
		next, ok := d.feedOnce(seen)
		for ok && next > seen {
			seen = next
			next, ok = d.feedOnce(seen)
		}
		if !ok { // the history was outrun, or the state replaced: everybody starts anew
			seen = d.cfg.Store.Revision()
			for _, s := range d.all() {
				s.mark("", true)
			}
		}
		select {
		case <-ctx.Done():
			watch.Close()
			return ctx.Err()
		case <-watch.C:
			watch.Close()
		}
	}
}

// feedOnce takes the next batch of changes and gives the last revision in it; seen when
// there is none.
func (d *Dispatcher) feedOnce(seen uint64) (uint64, bool) {
	changes, ok := d.cfg.Store.Changes(seen, feedBatch)
	if !ok {
		return seen, false
	}
	for i := range changes {
		c := &changes[i]
		seen = c.Revision
		if c.Table != state.TableAllocs {
			continue
		}
		a, after := c.Allocs()
		if after.Exists() {
			a = after
		}
		if c.Kind == state.Updated && a.AssignRevision() != c.Revision {
			continue // the agent's own news
		}
		if s := d.session(a.NodeID()); s != nil {
			s.mark(a.ID().String(), false)
		}
	}
	return seen, true
}
