package dispatch

import (
	"context"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
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
	to := nextSession{d: d}
	for i := range changes {
		c := &changes[i]
		seen = c.Revision
		if c.Table != state.TableAllocs {
			continue
		}
		before, after := c.Allocs()
		switch {
		case !after.Exists():
			to.add(before, c.Revision, true)
		case c.Kind == state.Created || after.AssignRevision() == c.Revision: // not the agent's own news
			to.add(after, c.Revision, false)
		}
	}
	to.mark()
	return seen
}

// nextSession gathers what follows each other for one node: placements come in runs. It
// reads jobs from the state as it is, not from a View: a View for each session that has
// news would have the writer copy what it writes next.
type nextSession struct {
	d       *Dispatcher
	nodeID  string
	session *session
	news    []news

	version jobVersion
	job     *berthv1.Job // that version
}

func (n *nextSession) add(row *state.AllocRow, revision uint64, gone bool) {
	if id := row.NodeID(); id != n.nodeID || n.session == nil {
		n.mark()
		n.nodeID, n.session = id, n.d.session(id)
	}
	if n.session == nil {
		return
	}
	if version := (jobVersion{row.Namespace(), row.Job(), row.JobVersion()}); !gone && (version != n.version || n.job == nil) {
		n.version, n.job = version, n.d.cfg.Store.JobVersion(version.namespace, version.job, version.version)
	}
	n.news = append(n.news, news{row: *row, revision: revision, gone: gone, job: n.job})
}

func (n *nextSession) mark() {
	if n.session != nil && len(n.news) > 0 {
		n.session.mark(n.news)
	}
	n.news = n.news[:0]
}
