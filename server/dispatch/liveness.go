package dispatch

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/fsm"
	"github.com/berthd/berth/server/state"
)

// liveness is what the leader knows of when nodes were heard, and by which server. It
// is no part of the state: a new leader starts with an empty one.
type liveness struct {
	mu    sync.Mutex
	nodes map[string]heard
}

type heard struct {
	at     time.Time
	server string // holds the session; empty: it has ended
}

func newLiveness() *liveness { return &liveness{nodes: map[string]heard{}} }

// touch notes that nodes were heard by that server, a moment ago at most.
func (l *liveness) touch(server string, at time.Time, nodes ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, node := range nodes {
		l.nodes[node] = heard{later(at, l.nodes[node].at), server}
	}
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// ended notes that a session at that server has ended.
func (l *liveness) ended(server, node string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h, ok := l.nodes[node]; ok && h.server == server {
		l.nodes[node] = heard{at: h.at}
	}
}

func (l *liveness) get(node string) (heard, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, ok := l.nodes[node]
	return h, ok
}

func (l *liveness) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.nodes)
}

// late gives the nodes, but for those that are down, that were not heard for so long, where nodes
// that were never heard count from a time on; and forgets nodes that are gone.
func (l *liveness) late(view *state.View, now time.Time, ttl time.Duration, from time.Time) (late []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := 0
	for node := range view.Nodes("") {
		h, heard := l.nodes[node.GetId()]
		if heard {
			known++
		} else {
			h.at = from
		}
		if node.GetStatus() != berthv1.Node_down && now.After(h.at.Add(ttl)) {
			late = append(late, node.GetId())
		}
	}
	if known < len(l.nodes) {
		maps.DeleteFunc(l.nodes, func(id string, _ heard) bool { return view.Node(id) == nil })
	}
	return late
}

// Lead finds the nodes that are late, for as long as this server leads.
func (d *Dispatcher) Lead(ctx context.Context) error {
	d.liveness.reset()
	began := time.Now()
	tick := time.NewTicker(d.cfg.Timing.Heartbeat / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if err := d.sweep(ctx, began); err != nil {
				d.log.Warn("late nodes could not be marked down", "error", err)
			}
		}
	}
}

// sweepBatch bounds the nodes in one fact, well below fsm.MaxEntry.
const sweepBatch = 1000

// sweep marks the nodes down that were not heard in time.
func (d *Dispatcher) sweep(ctx context.Context, began time.Time) error {
	now, ttl := time.Now(), d.ttl()
	late := d.liveness.late(d.cfg.Store.View(), now, ttl, began.Add(d.cfg.Timing.Grace))
	for batch := range slices.Chunk(late, sweepBatch) {
		d.log.Warn("nodes were not heard in time and are down now", "nodes", len(batch), "first", batch[0], "limit", ttl)
		down := berthv1.Node_down
		entry := fsm.NewEntry(now, func(e *berthv1.LogEntry) {
			e.Fact = &berthv1.LogEntry_NodesChanged{NodesChanged: &berthv1.NodesChanged{
				NodeIds: batch, Status: &down, Reason: fmt.Sprintf("not heard for %s", ttl),
			}}
		})
		if _, err := d.propose(ctx, entry); err != nil {
			return err
		}
	}
	return nil
}

// told is what a leader was told last: the nodes that were heard by then.
type told struct {
	leader any
	at     time.Time
}

// touch tells the leader, again and again, which nodes this server has heard since; and sends
// the agents away when there is no leader to tell.
func (d *Dispatcher) touch(ctx context.Context) error {
	tick := time.NewTicker(d.cfg.Timing.Heartbeat / 2)
	defer tick.Stop()
	var last told
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if err := d.touchOnce(ctx, &last); err != nil && ctx.Err() == nil {
			d.log.Debug("the leader could not be told which nodes are heard", "error", err)
		}
		if d.cfg.Cluster.LastContact() > d.cfg.Timing.Redirect {
			for _, s := range d.all() {
				s.cancel(problem.New(problem.Unavailable, "", "%w", errLeaderless).WithRemedy("dial another server"))
			}
		}
	}
}

func (d *Dispatcher) touchOnce(ctx context.Context, last *told) error {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timing.Heartbeat)
	defer cancel()
	req := &berthv1.TouchNodesRequest{ServerId: d.cfg.ServerID}
	now, recent, ttl := time.Now(), d.heartbeat()+d.cfg.Timing.Heartbeat/2, d.ttl()
	leader, since := d.leader(), now.Add(-recent)
	if leader == last.leader { // it knows the rest
		since = last.at
	}
	for _, s := range d.all() {
		switch at := s.lastHeard(); {
		case !at.Before(since):
			req.NodeIds = append(req.NodeIds, s.nodeID)
		case now.Sub(at) > ttl:
			s.end("the agent is silent")
		}
	}
	d.mu.Lock()
	gone := d.gone
	d.gone = map[string]struct{}{}
	d.mu.Unlock()
	for id := range gone {
		req.Gone = append(req.Gone, id)
	}
	resp, err := onLeader(ctx, d, req, d.TouchNodes, berthv1.InternalServiceClient.TouchNodes)
	if err != nil {
		*last = told{}
		return err
	}
	*last = told{leader, now}
	for _, id := range resp.GetUnknown() {
		if s := d.session(id); s != nil {
			s.end("the servers hold the node for down")
		}
	}
	return nil
}

// leader is something that is another one when another server leads.
func (d *Dispatcher) leader() any {
	if d.cfg.Cluster.IsLeader() {
		return d.cfg.ServerID
	}
	conn, _ := d.cfg.Cluster.LeaderConn() // nil: nobody can be told
	return conn
}

// TouchNodes implements berthv1.InternalServiceServer.
func (d *Dispatcher) TouchNodes(_ context.Context, req *berthv1.TouchNodesRequest) (*berthv1.TouchNodesResponse, error) {
	if !d.cfg.Cluster.IsLeader() {
		return nil, problem.Wire(problem.New(problem.Unavailable, "", "this server does not lead"))
	}
	resp := &berthv1.TouchNodesResponse{}
	for _, id := range req.GetGone() {
		d.liveness.ended(req.GetServerId(), id)
	}
	ready := make([]string, 0, len(req.GetNodeIds()))
	for i, node := range d.cfg.Store.NodesOf(req.GetNodeIds()) {
		if id := req.GetNodeIds()[i]; node.GetStatus() == berthv1.Node_ready {
			ready = append(ready, id)
		} else {
			resp.Unknown = append(resp.Unknown, id)
		}
	}
	d.liveness.touch(req.GetServerId(), time.Now(), ready...)
	return resp, nil
}

// LocateNode implements berthv1.InternalServiceServer; the answer is a server's id.
func (d *Dispatcher) LocateNode(_ context.Context, req *berthv1.LocateNodeRequest) (*berthv1.LocateNodeResponse, error) {
	if !d.cfg.Cluster.IsLeader() {
		return nil, problem.Wire(problem.New(problem.Unavailable, "", "this server does not lead"))
	}
	h, _ := d.liveness.get(req.GetNodeId())
	return &berthv1.LocateNodeResponse{ServerId: h.server}, nil
}
