package dispatch

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/fsm"
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

func (l *liveness) touch(server, node string, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h := l.nodes[node]; at.Before(h.at) {
		at = h.at
	}
	l.nodes[node] = heard{at, server}
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

func (l *liveness) keep(known func(node string) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.nodes {
		if !known(id) {
			delete(l.nodes, id)
		}
	}
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
	view, now, ttl := d.cfg.Store.View(), time.Now(), d.ttl()
	var late []string
	for node := range view.Nodes("") {
		if node.GetStatus() == berthv1.Node_down {
			continue
		}
		deadline := began.Add(ttl + d.cfg.Timing.Grace)
		if h, ok := d.liveness.get(node.GetId()); ok {
			deadline = h.at.Add(ttl)
		}
		if now.After(deadline) {
			late = append(late, node.GetId())
		}
	}
	d.liveness.keep(func(id string) bool { return view.Node(id) != nil })
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

// touch tells the leader, twice a heartbeat, which nodes this server hears; and sends
// the agents away when there is no leader to tell.
func (d *Dispatcher) touch(ctx context.Context) error {
	tick := time.NewTicker(d.cfg.Timing.Heartbeat / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if err := d.touchOnce(ctx); err != nil && ctx.Err() == nil {
			d.log.Debug("the leader could not be told which nodes are heard", "error", err)
		}
		if d.cfg.Cluster.LastContact() > d.cfg.Timing.Redirect {
			for _, s := range d.all() {
				s.cancel(problem.New(problem.Unavailable, "", "%w", errLeaderless).WithRemedy("dial another server"))
			}
		}
	}
}

func (d *Dispatcher) touchOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timing.Heartbeat)
	defer cancel()
	req := &berthv1.TouchNodesRequest{ServerId: d.cfg.ServerID}
	now, recent, ttl := time.Now(), d.heartbeat()+d.cfg.Timing.Heartbeat/2, d.ttl()
	for _, s := range d.all() {
		switch silent := now.Sub(s.lastHeard()); {
		case silent < recent:
			req.NodeIds = append(req.NodeIds, s.nodeID)
		case silent > ttl:
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
		return err
	}
	for _, id := range resp.GetUnknown() {
		if s := d.session(id); s != nil {
			s.end("the servers hold the node for down")
		}
	}
	return nil
}

// TouchNodes implements berthv1.InternalServiceServer.
func (d *Dispatcher) TouchNodes(_ context.Context, req *berthv1.TouchNodesRequest) (*berthv1.TouchNodesResponse, error) {
	if !d.cfg.Cluster.IsLeader() {
		return nil, problem.Wire(problem.New(problem.Unavailable, "", "this server does not lead"))
	}
	view, now := d.cfg.Store.View(), time.Now()
	resp := &berthv1.TouchNodesResponse{}
	for _, id := range req.GetGone() {
		d.liveness.ended(req.GetServerId(), id)
	}
	for _, id := range req.GetNodeIds() {
		if view.Node(id).GetStatus() != berthv1.Node_ready {
			resp.Unknown = append(resp.Unknown, id)
			continue
		}
		d.liveness.touch(req.GetServerId(), id, now)
	}
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
