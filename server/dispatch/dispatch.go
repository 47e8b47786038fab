// Package dispatch is the servers' side of agents: it holds their sessions, hands out
// what they are to run, takes in what they report, notices the ones that are late, and
// carries logs, exec and files over streams that the agents open.
//
// Every server does it for the agents that dialled it. A session starts with a complete
// set of assignments and goes on with deltas, coalesced per node: a change of state only
// marks the node, and what is sent is read from the newest View. Registrations and
// reports become facts at the leader; liveness is no fact: followers tell the leader
// which nodes they hear, and only a node that is late becomes one.
//
// package server composes it; package api opens streams through it.
package dispatch

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/fsm"
	"github.com/berthd/berth/server/state"
)

// Proposer makes facts durable; only the leader's succeeds.
type Proposer interface {
	Propose(ctx context.Context, entry *berthv1.LogEntry) (fsm.Result, error)
}

// Cluster is what dispatch must know of the other servers.
type Cluster interface {
	// IsLeader says whether this server leads.
	IsLeader() bool
	// LastContact is the time since the leader was heard; 0 on the leader.
	LastContact() time.Duration
	// LeaderConn is a connection to the leader's gRPC port.
	LeaderConn() (grpc.ClientConnInterface, error)
	// ServerConn is a connection to the gRPC port of a server by its id.
	ServerConn(id string) (grpc.ClientConnInterface, error)
	// Servers are the gRPC addresses of all servers.
	Servers() []string
}

// Timing is how fast dispatch is. The zero value of a field takes the default.
type Timing struct {
	// Heartbeat is the shortest period of agents' heartbeats (1 s). It grows with the
	// number of nodes so that the leader hears at most about 5,000 a second.
	Heartbeat time.Duration
	// TTL is how long a node may be silent before it is down (4.5 s); never less than
	// two heartbeats.
	TTL time.Duration
	// Redirect is how long a server without a leader keeps its sessions (3 s).
	Redirect time.Duration
	// Grace is what a new leader adds to TTL before it calls a node down that it has not
	// heard yet: time for agents to find a server that leads to it (6 s).
	Grace time.Duration
}

func (t Timing) withDefaults() Timing {
	set := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	set(&t.Heartbeat, time.Second)
	set(&t.TTL, 4500*time.Millisecond)
	set(&t.Redirect, 3*time.Second)
	set(&t.Grace, 6*time.Second)
	return t
}

// heartbeatsPerSecond bounds what the leader hears; see Timing.Heartbeat.
const heartbeatsPerSecond = 5000

// Config is what a Dispatcher is made of.
type Config struct {
	ServerID string
	Store    *state.Store
	Proposer Proposer
	Cluster  Cluster
	Timing   Timing
	Logger   *slog.Logger
	// Images has the bytes of all images, LocalImages of those that are on this server. May be nil: none.
	Images      Images
	LocalImages LocalImages
}

// Dispatcher serves agents. It implements berthv1.AgentServiceServer and
// berthv1.InternalServiceServer.
type Dispatcher struct {
	berthv1.UnimplementedAgentServiceServer
	berthv1.UnimplementedInternalServiceServer

	cfg      Config
	log      *slog.Logger
	reports  *reports
	liveness *liveness
	streams  *streams
	began    uint64 // revision that every session is at or above
	// turns has room for as many sessions as make assignments at a time. Without it, news
	// for a thousand nodes are a thousand goroutines ready to run, and whoever is to make
	// the next entry durable waits behind all of them.
	turns chan struct{}
	// registering has room for atOnce.
	registering chan struct{}
	jobs        encodedJobs

	mu       sync.Mutex
	sessions map[string]*session // by node id
	gone     map[string]struct{} // sessions that ended since the leader was last told
}

// New makes a dispatcher.
func New(cfg Config) *Dispatcher {
	cfg.Timing = cfg.Timing.withDefaults()
	d := &Dispatcher{
		cfg: cfg, log: cfg.Logger.With("part", "dispatch"),
		liveness: newLiveness(), streams: newStreams(), began: cfg.Store.Revision(),
		turns: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), registering: make(chan struct{}, atOnce),
		sessions: map[string]*session{}, gone: map[string]struct{}{},
	}
	d.reports = newReports(d.proposeReports)
	return d
}

// Register offers the dispatcher's services.
func (d *Dispatcher) Register(r grpc.ServiceRegistrar) {
	berthv1.RegisterAgentServiceServer(r, d)
	berthv1.RegisterInternalServiceServer(r, d)
}

// Run serves until ctx ends. Sessions end with the gRPC server that carries them.
func (d *Dispatcher) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.feed(ctx) })
	group.Go(func() error { return d.touch(ctx) })
	group.Go(func() error { return d.reports.run(ctx) })
	return group.Wait()
}

// Sessions is the number of agents that this server holds.
func (d *Dispatcher) Sessions() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.sessions)
}

// heartbeat is the period that agents are told.
func (d *Dispatcher) heartbeat() time.Duration {
	nodes := d.cfg.Store.NodeCount()
	return max(d.cfg.Timing.Heartbeat, time.Duration(nodes)*time.Second/heartbeatsPerSecond)
}

func (d *Dispatcher) ttl() time.Duration {
	return max(d.cfg.Timing.TTL, 2*d.heartbeat()+d.cfg.Timing.Heartbeat/2)
}

// attach makes s its node's session, and ends the one before it.
func (d *Dispatcher) attach(s *session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if old := d.sessions[s.nodeID]; old != nil {
		old.end("the agent has opened another session")
	}
	d.sessions[s.nodeID] = s
	delete(d.gone, s.nodeID)
}

func (d *Dispatcher) detach(s *session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sessions[s.nodeID] == s {
		delete(d.sessions, s.nodeID)
		d.gone[s.nodeID] = struct{}{}
	}
}

func (d *Dispatcher) session(nodeID string) *session {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sessions[nodeID]
}

// all gives the sessions as they are now.
func (d *Dispatcher) all() []*session {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]*session, 0, len(d.sessions))
	for _, s := range d.sessions {
		out = append(out, s)
	}
	return out
}
