package plan

import (
	"context"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/fsm"
	"github.com/berthd/berth/server/state"
)

// Drains in the loop: whose jobs are looked at when, and when a node is empty. What is to
// be moved, and when, Reconcile decides.

// drains are the nodes that are drained and were not found empty yet; true: something on
// them has changed since they were looked at.
type drains map[string]bool

// follow notes what has become of a node.
func (d drains) follow(id string, n *berthv1.Node) {
	if n.GetDrain() != nil && n.GetDrain().GetDoneTime() == nil {
		d[id] = true
	} else {
		delete(d, id)
	}
}

// ended notes that an allocation on a node is over, or lost.
func (d drains) ended(node string) {
	if _, drained := d[node]; drained {
		d[node] = true
	}
}

// drainsChanged says whether a node's drain is another one.
func drainsChanged(before, after *berthv1.Node) bool {
	return !proto.Equal(before.GetDrain(), after.GetDrain())
}

// drained looks at the drained nodes on which something has changed: of one where only
// system jobs are left these are looked at, and one that is empty is said to be.
func (l *Loop) drained(ctx context.Context, now time.Time) {
	for _, id := range slices.Sorted(maps.Keys(l.drains)) {
		if !l.drains[id] {
			continue
		}
		l.drains[id] = false
		drain := l.nodes[id].GetDrain()
		rest, system := leftOn(l.view, id)
		switch {
		case len(rest) > 0:
		case len(system) > 0 && !drain.GetIgnoreSystem():
			for _, key := range system {
				l.mark(l.job(key.namespace, key.name), now, berthv1.Evaluation_node_changed)
			}
		default:
			done := proto.Clone(drain).(*berthv1.Drain)
			done.DoneTime = timestamppb.New(now)
			l.drainDone(ctx, now, id, done)
		}
	}
}

// drainDone makes it a fact that nothing is left to be moved from a node. Where that
// fails the next look tries again.
func (l *Loop) drainDone(ctx context.Context, now time.Time, id string, done *berthv1.Drain) {
	l.flying++
	f := &flight{entry: &entry{}, empties: id}
	go func() {
		f.result, f.err = l.cfg.Proposer.Propose(ctx, fsm.NewEntry(now, func(e *berthv1.LogEntry) {
			e.Fact = &berthv1.LogEntry_NodesChanged{NodesChanged: &berthv1.NodesChanged{NodeIds: []string{id}, Drain: done}}
		}))
		if f.err != nil {
			select {
			case <-time.After(retryFailed):
			case <-ctx.Done():
			}
		}
		l.landed <- f
	}()
}

// leftOn gives the jobs with allocations on a node that are not over, system jobs apart.
func leftOn(view *state.View, node string) (rest, system []jobKey) {
	for a := range view.AllocRowsByNode(node) {
		if a.Terminal() {
			continue
		}
		key := jobKey{a.Namespace(), a.Job()}
		if view.Job(key.namespace, key.name).GetType() == berthv1.Job_system {
			system = append(system, key)
		} else {
			rest = append(rest, key)
		}
	}
	return rest, system
}

// occupied says whether a node has anything but system jobs that is not over.
func occupied(view *state.View) func(node string) bool {
	return func(node string) bool {
		rest, _ := leftOn(view, node)
		return len(rest) > 0
	}
}
