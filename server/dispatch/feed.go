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
	var changes []state.Change
	for {
		watch := d.cfg.Store.Watch(state.Topic{Table: state.TableAllocs})
		ok := true
		for more := true; ok && more; {
			if changes, ok = d.cfg.Store.ChangesInto(changes, seen, feedBatch); ok {
				more = len(changes) > 0
				seen = d.tell(changes, seen)
			}
		}
		if !ok { // the history was outrun, or the state replaced: everybody starts anew
			seen = d.cfg.Store.Revision()
			for _, s := range d.all() {
				s.markAll()
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

// tell marks the sessions that changes concern and gives the last revision in them;
// seen when there are none.
func (d *Dispatcher) tell(changes []state.Change, seen uint64) uint64 {
	var to nextSession
	for i := range changes {
		c := &changes[i]
		seen = c.Revision
		if c.Table != state.TableAllocs {
			continue
		}
		before, after := c.Allocs()
		switch {
		case !after.Exists():
			to.add(d, news{row: *before, revision: c.Revision, gone: true})
		case c.Kind == state.Created || after.AssignRevision() == c.Revision: // not the agent's own news
			to.add(d, news{row: *after, revision: c.Revision})
		}
	}
	to.mark()
	return seen
}

// nextSession gathers what follows each other for one node: placements come in runs.
type nextSession struct {
	nodeID  string
	session *session
	news    []news
}

func (n *nextSession) add(d *Dispatcher, what news) {
	if id := what.row.NodeID(); id != n.nodeID || n.session == nil {
		n.mark()
		n.nodeID, n.session = id, d.session(id)
	}
	if n.session != nil {
		n.news = append(n.news, what)
	}
}

func (n *nextSession) mark() {
	if n.session != nil && len(n.news) > 0 {
		n.session.mark(n.news)
	}
	n.news = n.news[:0]
}
