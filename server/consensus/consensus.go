package consensus

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/berthd/berth/problem"
)

// Keys of the stable store beside Raft's own.
var (
	keyServerID    = []byte("berth/server-id")
	keySet         = []byte("berth/raft-set")
	keyKnownGossip = []byte("berth/known-gossip")
)

// Consensus is one server's part in the Raft set.
type Consensus struct {
	conf   Config
	logger *slog.Logger
	stores *Stores
	disk   *failStopLog
	log    *meteredLog // counts what goes to disk
	fsm    *meteredFSM

	duties []func(ctx context.Context, term uint64)

	// running is nil before Run has started and after it has ended.
	running   atomic.Pointer[running]
	elections atomic.Uint64
}

// running is what exists while Run does.
type running struct {
	raft   *raft.Raft
	trans  *watched
	gossip Gossip

	// poke wakes the housekeeping, reconcile the leader's; renew restarts the leader's
	// duties. All hold one item and coalesce.
	poke, reconcile, renew chan struct{}

	mu   sync.Mutex
	self Member // what the others are told

	// calls are the calls to Raft that wait for an answer. hashicorp/raft does not
	// answer what is queued when it is shut down, so it is shut down after them.
	callsMu sync.Mutex
	closing bool
	calls   sync.WaitGroup
	left    atomic.Bool
}

// New opens the stores and checks the configuration. It starts nothing; a Consensus that
// is never run must be closed.
func New(conf Config) (*Consensus, error) {
	conf, err := conf.withDefaults()
	if err != nil {
		return nil, err
	}
	stores := conf.Stores
	if stores == nil {
		if stores, err = openStores(conf.DataDir, conf.Logger); err != nil {
			return nil, err
		}
	}
	disk := newFailStopLog(stores.Log)
	c := &Consensus{conf: conf, stores: stores, disk: disk, log: &meteredLog{LogStore: disk}, fsm: newMeteredFSM(conf.FSM)}
	if err := c.settleID(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	c.logger = conf.Logger.With("server", c.conf.ID)
	if conf.StartGossip == nil {
		c.conf.StartGossip = startMemberlist(c.conf)
	}
	if err := c.checkBootstrap(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Close closes the stores of a Consensus that was not run; Run does so itself.
func (c *Consensus) Close() error {
	if c.stores.Close == nil {
		return nil
	}
	return c.stores.Close()
}

// ID is the server's ID.
func (c *Consensus) ID() string { return c.conf.ID }

// settleID makes the ID, or holds it against the one that the data belongs to.
func (c *Consensus) settleID() error {
	kept, err := c.stores.Stable.Get(keyServerID)
	if err != nil && err.Error() != "not found" {
		return storeProblem(c.stores.dir, stableFile, err)
	}
	switch {
	case len(kept) == 0 && c.conf.ID == "":
		c.conf.ID = newID()
	case len(kept) > 0 && c.conf.ID == "":
		c.conf.ID = string(kept)
	case len(kept) > 0 && c.conf.ID != string(kept):
		return problem.New(problem.Conflict, c.path(stableFile), "the data belongs to server %s, not to %s", kept, c.conf.ID).
			WithRemedy("start the server with its own data directory, or with an empty one")
	}
	if len(kept) > 0 {
		return nil
	}
	if err := c.stores.Stable.Set(keyServerID, []byte(c.conf.ID)); err != nil {
		return storeProblem(c.stores.dir, stableFile, err)
	}
	return nil
}

// path names a file of the stores in messages.
func (c *Consensus) path(name string) string { return filepath.Join(c.stores.dir, name) }

// newID makes a random UUID, version 4.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// OnLeadership registers what only the leader does; call it before Run. Each time this
// server comes to lead, and all entries before that are applied, every registered f is called in a
// goroutine of its own. ctx ends when the server leads no longer; f must then return soon, for the
// next term begins only after it has. When an operator's snapshot is restored, ctx ends
// and f is called anew, as the state is another.
func (c *Consensus) OnLeadership(f func(ctx context.Context, term uint64)) {
	c.duties = append(c.duties, f)
}

// Run takes part until ctx ends, then hands leadership over, finishes what is on its way
// and closes everything. It returns nil after that, or what kept it from running. It ends by itself
// when the log cannot be written, as when the disk is full.
func (c *Consensus) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, c.Close()) }()
	r, err := c.start()
	if err != nil {
		return err
	}
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { c.housekeep(inner, r) })
	wg.Go(func() { c.join(inner, r) })
	wg.Go(func() { c.lead(inner, r) })
	wg.Go(func() { c.nudge(inner, r) })
	var failure error
	select {
	case <-ctx.Done():
		c.logger.Info("stopping")
	case <-c.disk.failed:
		failure = writeProblem(c.path(walDir), c.disk.failure())
		c.logger.Error("stopping: the log cannot be written", "error", failure)
	}
	if r.raft.State() == raft.Leader && !r.left.Load() {
		c.handOver(context.WithoutCancel(ctx), r)
	}
	r.drain(c.conf.Timing.Drain)
	cancel()
	wg.Wait()
	c.running.Store(nil)
	err = r.gossip.Close()
	return errors.Join(failure, err, r.raft.Shutdown().Error())
}

// start brings up the transport, Raft and gossip.
func (c *Consensus) start() (_ *running, err error) {
	trans, where := c.conf.Transport, c.addressOf
	if trans == nil {
		s, err := newStreams(c.conf)
		if err != nil {
			return nil, errors.Join(err, c.conf.Listener.Close())
		}
		where = func(id raft.ServerID, configured raft.ServerAddress) raft.ServerAddress {
			return target(id, c.addressOf(id, configured))
		}
		trans = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream: s, MaxPool: 4, Timeout: c.conf.Timing.IO, Logger: raftLogger(c.conf.Logger),
		})
	}
	r := &running{trans: watch(trans, where), poke: make(chan struct{}, 1), reconcile: make(chan struct{}, 1), renew: make(chan struct{}, 1)}
	cache, err := raft.NewLogCache(cachedEntries, c.log)
	if err != nil {
		return nil, err
	}
	err = guard(func() (err error) {
		r.raft, err = raft.NewRaft(c.conf.raftConfig(), c.fsm, cache, c.stores.Stable, c.stores.Snapshots, r.trans)
		return err
	})
	if err != nil {
		return nil, errors.Join(storeProblem(c.stores.dir, "", fmt.Errorf("replaying the log: %w: %w", errDamaged, err)), r.trans.Close())
	}
	set, _ := c.stores.Stable.Get(keySet)
	r.self = Member{ID: c.conf.ID, Name: c.conf.Name, State: Alive, RaftAddress: string(trans.LocalAddr()), GRPCAddress: c.conf.GRPCAddress,
		HTTPAddress: c.conf.HTTPAddress, Version: c.conf.Version, Cluster: c.conf.Cluster, Expect: c.conf.BootstrapExpect,
		Formed: formed(r.raft), Set: string(set)}
	if r.gossip, err = c.conf.StartGossip(r.self, func() { poke(r.poke); poke(r.reconcile) }); err != nil {
		return nil, errors.Join(err, r.raft.Shutdown().Error())
	}
	c.running.Store(r)
	return r, nil
}

// poke leaves an item in a channel that holds one.
func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// formed says whether a server knows a Raft configuration.
func formed(r *raft.Raft) bool { return len(r.GetConfiguration().Configuration().Servers) > 0 }

// live gives what exists while Run does, or a problem.
func (c *Consensus) live() (*running, error) {
	if r := c.running.Load(); r != nil {
		return r, nil
	}
	return nil, problem.New(problem.Unavailable, "", "%w: it is starting or stopping", ErrNotLeader).WithRemedy("try again, or ask another server")
}

// begin counts a call that will wait for Raft's answer; end it with r.calls.Done.
func (r *running) begin() bool {
	r.callsMu.Lock()
	defer r.callsMu.Unlock()
	if !r.closing {
		r.calls.Add(1)
	}
	return !r.closing
}

// drain refuses new calls and waits for those that are there, at most for so long: only a disk that
// hangs takes longer, as a leader without a quorum steps down and answers.
func (r *running) drain(atMost time.Duration) {
	r.callsMu.Lock()
	r.closing = true
	r.callsMu.Unlock()
	done := make(chan struct{})
	go func() { r.calls.Wait(); close(done) }()
	t := time.NewTimer(atMost)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
}

// handOver has another voter lead, if there is one, so that the cluster need not notice
// that this server ends.
func (c *Consensus) handOver(ctx context.Context, r *running) {
	ctx, cancel := context.WithTimeout(ctx, c.conf.Timing.Drain)
	defer cancel()
	if !c.hasOtherVoter(r) {
		return
	}
	if err := c.TransferLeadership(ctx, ""); err != nil {
		c.logger.Info("no other server took over the lead in time; they will elect one", "error", err)
	}
}

// hasOtherVoter says whether another server has a vote.
func (c *Consensus) hasOtherVoter(r *running) bool {
	return slices.ContainsFunc(r.raft.GetConfiguration().Configuration().Servers, func(s raft.Server) bool {
		return s.Suffrage == raft.Voter && string(s.ID) != c.conf.ID
	})
}

// addressOf gives where to reach a server that Raft believes at configured: gossip knows a new
// address before the Raft configuration can, which matters when all change at once.
func (c *Consensus) addressOf(id raft.ServerID, configured raft.ServerAddress) raft.ServerAddress {
	if r := c.running.Load(); r != nil {
		for _, m := range r.gossip.Members() {
			if m.ID == string(id) && m.State == Alive && m.RaftAddress != "" {
				return raft.ServerAddress(m.RaftAddress)
			}
		}
	}
	return configured
}
