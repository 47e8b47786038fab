package consensus

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/berthd/berth/problem"
)

// MaxEntry is how large an entry of the log may be, in bytes. Larger ones would hold up
// heartbeats and group commit.
const MaxEntry = 64 << 10

// Config is what a server of the Raft set needs.
type Config struct {
	// ID names the server for life. Empty: one is made at the first start and kept in
	// the stable store. A data directory that was made under another ID is refused.
	ID string
	// Name is what people call the server; it need not be unique.
	Name string
	// Cluster names the cluster; servers of another one are not let in.
	Cluster string
	// DataDir holds the folder "raft" with everything durable. Not used where Stores is set.
	DataDir string
	// FSM applies the entries. If it is a raft.BatchingFSM it gets them in batches. It
	// sees LogCommand entries only.
	FSM raft.FSM
	// CheckSnapshot reads what an FSM snapshot wrote and says whether the FSM could
	// restore it, without changing anything. It is asked before an operator's snapshot
	// is restored, because hashicorp/raft ends the process if FSM.Restore fails then. Nil: the
	// checksum alone decides.
	CheckSnapshot func(io.Reader) error
	Logger        *slog.Logger

	// Listener is where the other servers' Raft connections come in; Run closes it.
	Listener net.Listener
	// RaftAdvertise is the host:port by which others reach Listener. Empty: its address.
	RaftAdvertise string
	// ServerTLS and ClientTLS secure the Raft connections. Both nil: plain.
	ServerTLS, ClientTLS *tls.Config

	// GossipBind is the host:port (TCP and UDP) of gossip; port 0 takes a free one.
	GossipBind string
	// GossipAdvertise is the host:port by which others reach it. Empty: GossipBind, or a
	// private address of the host where that is 0.0.0.0.
	GossipAdvertise string
	// GossipKey encrypts gossip: 16, 24 or 32 bytes. Empty: plain.
	GossipKey []byte

	// GRPCAddress, HTTPAddress and Version are told to the other servers.
	GRPCAddress, HTTPAddress, Version string

	// BootstrapExpect is how many servers make the first Raft set, the same number on
	// each of them: they wait until they see each other, then one starts it. 1: at
	// once. 0: never; the server waits to be added to a cluster that is there.
	BootstrapExpect int
	// Join are gossip addresses of other servers, its own among them does no harm.
	// Tried again and again until another server answers.
	Join []string

	Timing Timing
	// SnapshotThreshold is how many entries since the last snapshot make it worth
	// another, looked at every SnapshotInterval; TrailingLogs are kept before it for
	// followers that are a little behind. 0: 16384, 2 min, 16384.
	SnapshotThreshold uint64
	SnapshotInterval  time.Duration
	TrailingLogs      uint64

	// For tests: Transport stands for Listener, Stores for DataDir, StartGossip for memberlist.
	Transport   raft.Transport
	Stores      *Stores
	StartGossip StartGossip
}

// Timing holds the clocks of the cluster. Zero values take the defaults.
type Timing struct {
	// Heartbeat is how long a follower hears nothing before it stands for election, and
	// Election how long a candidate waits. Default 500 ms each: the loss of a leader is
	// noticed within 1 s.
	Heartbeat, Election time.Duration
	// Lease is how long a leader that hears no quorum believes that it leads. At most, and by default,
	// Heartbeat: it bears as long a stall as its followers do, and steps down before they elect another.
	Lease time.Duration
	// Commit is how soon followers learn, when nothing follows, that an entry is committed
	// (up to twice that). Default 10 ms: agents' sessions on followers wait for it.
	Commit time.Duration
	// DeadGrace is how long a server is dead, by gossip and by Raft, before the leader
	// removes it. Default 1 min: longer than an upgrade or a quick reboot, because
	// removing the first dead server of 3 or 5 wins no tolerance, and one that comes back
	// in time is a voter at once.
	DeadGrace time.Duration
	// Reconcile is how often the leader compares the Raft set with gossip, apart from
	// doing so at each change. Default 1 s.
	Reconcile time.Duration
	// IO bounds one call between servers, connecting included. Default 10 s.
	IO time.Duration
	// Drain bounds how long Run, once it is to end, waits for proposals on their way. Default 5 s.
	Drain time.Duration
}

// withDefaults fills in what is zero.
func (t Timing) withDefaults() Timing {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&t.Heartbeat, 500*time.Millisecond)
	def(&t.Election, t.Heartbeat)
	def(&t.Lease, t.Heartbeat)
	def(&t.Commit, 10*time.Millisecond)
	def(&t.DeadGrace, time.Minute)
	def(&t.Reconcile, time.Second)
	def(&t.IO, 10*time.Second)
	def(&t.Drain, 5*time.Second)
	return t
}

// withDefaults fills in what is zero and says what is wrong with the rest.
func (c Config) withDefaults() (Config, error) {
	c.Timing = c.Timing.withDefaults()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.SnapshotThreshold == 0 {
		c.SnapshotThreshold = 16384
	}
	if c.SnapshotInterval == 0 {
		c.SnapshotInterval = 2 * time.Minute
	}
	if c.TrailingLogs == 0 {
		c.TrailingLogs = 16384
	}
	var causes []*problem.Error
	bad := func(wrong bool, field, format string, args ...any) {
		if wrong {
			causes = append(causes, problem.New(problem.Invalid, field, format, args...))
		}
	}
	t := c.Timing
	bad(c.FSM == nil, "fsm", "there is no state machine")
	bad(c.DataDir == "" && c.Stores == nil, "data_dir", "it is empty")
	bad(c.Listener == nil && c.Transport == nil, "raft", "there is no listener")
	bad(len(c.ID) > 128 || strings.ContainsAny(c.ID, "@ \t\n"), "id", "%q is longer than 128 bytes or holds a blank or @", c.ID)
	bad(c.GossipBind == "" && c.StartGossip == nil, "gossip_bind", "it is empty")
	bad((c.ServerTLS == nil) != (c.ClientTLS == nil), "tls", "server and client sides must both use TLS or neither")
	bad(c.BootstrapExpect < 0, "bootstrap_expect", "%d is negative", c.BootstrapExpect)
	bad(t.Lease > t.Heartbeat, "timing.lease", "%v is longer than the heartbeat timeout, %v", t.Lease, t.Heartbeat)
	bad(t.Election < t.Heartbeat, "timing.election", "%v is shorter than the heartbeat timeout, %v", t.Election, t.Heartbeat)
	bad(min(t.Heartbeat, t.Election, t.Lease) < 5*time.Millisecond, "timing.heartbeat", "the Raft timeouts must be 5 ms or more")
	bad(t.Commit < time.Millisecond, "timing.commit", "%v is under 1 ms", t.Commit)
	bad(min(t.DeadGrace, t.Reconcile, t.IO, t.Drain) < 0, "timing", "a duration is negative")
	bad(c.SnapshotInterval < 5*time.Millisecond, "snapshot_interval", "%v is under 5 ms", c.SnapshotInterval)
	switch len(c.GossipKey) {
	case 0, 16, 24, 32:
	default:
		bad(true, "gossip_key", "it has %d bytes; 16, 24 or 32 are needed", len(c.GossipKey))
	}
	return c, problem.Join(problem.Invalid, "the consensus configuration has mistakes", causes)
}

// raftConfig is c in hashicorp/raft's words.
func (c Config) raftConfig() *raft.Config {
	r := raft.DefaultConfig()
	r.LocalID = raft.ServerID(c.ID)
	r.Logger = raftLogger(c.Logger)
	r.HeartbeatTimeout = c.Timing.Heartbeat
	r.ElectionTimeout = c.Timing.Election
	r.LeaderLeaseTimeout = c.Timing.Lease
	r.CommitTimeout = c.Timing.Commit
	r.SnapshotThreshold = c.SnapshotThreshold
	r.SnapshotInterval = c.SnapshotInterval
	r.TrailingLogs = c.TrailingLogs
	// One sync commits what queued up during the last one: the queue must have room for
	// a full group, or a single pipelining proposer gets one sync per entry.
	r.MaxAppendEntries = maxGroup
	r.BatchApplyCh = true
	// A removed server goes on as a follower that nobody counts, and can be added again
	// without a restart.
	r.ShutdownOnRemove = false
	r.NoLegacyTelemetry = true
	return r
}
