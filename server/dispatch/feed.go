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
	to := gathering{d: d, bySession: map[string]*gathered{}}
	for i := range changes {
		c := &changes[i]
		seen = c.Revision
		if c.Table != state.TableAllocs {
			continue
		}
		before, after := c.Allocs()
		switch {
		case !after.Exists():
			to.add(before, news{revision: c.Revision, gone: true})
		case c.Kind == state.Created || after.AssignRevision() == c.Revision: // not the agent's own news
			to.add(after, news{revision: c.Revision, fresh: c.Kind == state.Created})
		}
	}
	for _, g := range to.inTurn {
		g.session.mark(g.news)
	}
	return seen
}

// gathering has what is new for each session. An entry places one job after the other on the
// same nodes; a session that is woken by the first of its news sends it alone. It reads jobs
// from the state as it is, not from a View: a View for each session that has
// news would have the writer copy what it writes next.
type gathering struct {
	d         *Dispatcher
	bySession map[string]*gathered // by node id; nil: this server has none
	inTurn    []*gathered

	version jobVersion
	job     *berthv1.Job // that version
}

type gathered struct {
	session *session
	news    []news
}

// add notes news of a row.
func (g *gathering) add(row *state.AllocRow, n news) {
	of, known := g.bySession[row.NodeID()]
	if !known {
		if s := g.d.session(row.NodeID()); s != nil {
			of = &gathered{session: s}
			g.inTurn = append(g.inTurn, of)
		}
		g.bySession[row.NodeID()] = of
	}
	if of == nil {
		return
	}
	if version := (jobVersion{row.Namespace(), row.Job(), row.JobVersion()}); !n.gone && (version != g.version || g.job == nil) {
		g.version, g.job = version, g.d.cfg.Store.JobVersion(version.namespace, version.job, version.version)
	}
	n.row, n.job = *row, g.job
	of.news = append(of.news, n)
}
