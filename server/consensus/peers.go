package consensus

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/berthd/berth/problem"
)

// Peer is a server of the Raft set.
type Peer struct {
	ID, Name, Address    string
	Leader, Voter, Alive bool
	// Behind is how many entries it is behind this server, as far as this one knows: of
	// others only the leader does.
	Behind uint64
}

// Peers gives the Raft set as this server knows it.
func (c *Consensus) Peers() ([]Peer, error) {
	r, err := c.live()
	if err != nil {
		return nil, err
	}
	members := map[string]Member{}
	for _, m := range r.gossip.Members() {
		members[m.ID] = m
	}
	_, leader := r.raft.LeaderWithID()
	leads, last := r.raft.State() == raft.Leader, r.raft.LastIndex()
	var out []Peer
	for _, s := range r.raft.GetConfiguration().Configuration().Servers {
		m := members[string(s.ID)]
		p := Peer{ID: string(s.ID), Name: m.Name, Address: string(s.Address), Leader: s.ID == leader, Voter: s.Suffrage == raft.Voter, Alive: m.State == Alive}
		switch heard, ok := r.trans.of(s.ID); {
		case p.ID == c.conf.ID:
			p.Behind = last - min(last, r.raft.AppliedIndex())
		case leads && ok:
			p.Behind = last - min(last, heard.last)
		}
		out = append(out, p)
	}
	return out, nil
}

// peer finds a server of the Raft set.
func (c *Consensus) peer(id string) (Peer, error) {
	peers, err := c.Peers()
	if err != nil {
		return Peer{}, err
	}
	for _, p := range peers {
		if p.ID == id {
			return p, nil
		}
	}
	return Peer{}, problem.New(problem.NotFound, "server_id", "no server of the Raft set has the ID %q", id).
		WithRemedy("berth operator raft lists them")
}

// AddPeer adds a server that gossip does not show, as a nonvoter; it votes as soon as gossip shows it caught up. Leader only.
func (c *Consensus) AddPeer(ctx context.Context, id, address string) error {
	return c.apply(ctx, change{kind: addServer, server: raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(address)}})
}

// RemovePeer takes a server out of the Raft set that is gone for good, without waiting for the grace. One that is alive would come
// straight back; it has to leave by itself. Leader only.
func (c *Consensus) RemovePeer(ctx context.Context, id string) error {
	p, err := c.peer(id)
	if err != nil {
		return err
	}
	if !c.IsLeader() {
		return c.notLeader()
	}
	if p.Alive || id == c.conf.ID {
		return problem.New(problem.Conflict, "server_id", "server %s is alive and would be added again", cmpName(Member{ID: p.ID, Name: p.Name})).
			WithRemedy("have it leave with berth server leave, or stop it first")
	}
	return c.apply(ctx, change{kind: remove, server: raft.Server{ID: raft.ServerID(id)}})
}

// TransferLeadership has another voter lead: the one with that ID, or, where it is empty, one that is not
// behind. Leader only.
func (c *Consensus) TransferLeadership(ctx context.Context, id string) error {
	if id != "" {
		p, err := c.peer(id)
		if err != nil {
			return err
		}
		switch {
		case !c.IsLeader():
			return c.notLeader()
		case id == c.conf.ID:
			return nil
		case !p.Voter:
			return problem.New(problem.Conflict, "server_id", "server %s has no vote yet", id).WithRemedy("wait until it has caught up")
		}
		return c.await(ctx, "transferring leadership to "+id, func(r *running) raft.Future {
			return r.raft.LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(p.Address))
		})
	}
	return c.await(ctx, "transferring leadership", func(r *running) raft.Future { return r.raft.LeadershipTransfer() })
}

// Members gives the servers that gossip knows, by name.
func (c *Consensus) Members() []Member {
	r, err := c.live()
	if err != nil {
		return nil
	}
	return r.gossip.Members()
}

// Join asks the servers at these gossip addresses who is there, and counts who answered.
func (c *Consensus) Join(ctx context.Context, addresses []string) (int, error) {
	r, err := c.live()
	if err != nil {
		return 0, err
	}
	n, err := r.gossip.Join(ctx, addresses)
	if err != nil {
		return n, problem.New(problem.Unavailable, "addresses", "%w", err).
			WithRemedy("check the addresses, the gossip port and the gossip key, and that the servers belong to cluster %q", c.conf.Cluster)
	}
	return n, nil
}

// Leave takes this server out of the cluster in order: another one leads, the Raft set is rid of it, and
// gossip is told. After that the process should end Run. The only server of a cluster keeps its Raft set.
func (c *Consensus) Leave(ctx context.Context) error {
	r, err := c.live()
	if err != nil {
		return err
	}
	r.left.Store(true)
	c.tell(r, func(m *Member) { m.Leaving = true })
	// Whoever leads sees the wish in gossip, and makes it so. Raft tells a removed server of
	// it as best it can, and then speaks to it no more: silence is an answer too, and where it only means
	// that nobody leads, the next leader removes a server that left.
	start := time.Now()
	for handed := false; c.inSet(r) && !c.forgotten(r, start); {
		if c.IsLeader() && !handed {
			c.handOver(ctx, r)
			handed = true
		}
		select {
		case <-ctx.Done():
			// The others remove a server that left as soon as they can.
			c.logger.Warn("leaving without having been removed from the Raft set", "error", ctx.Err())
			short, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.conf.Timing.Drain)
			defer cancel()
			return r.gossip.Leave(short)
		case <-time.After(c.conf.Timing.Heartbeat / 5):
		}
	}
	return r.gossip.Leave(ctx)
}

// forgotten says whether this server follows, and has heard no leader for several elections.
func (c *Consensus) forgotten(r *running, since time.Time) bool {
	if heard := r.raft.LastContact(); heard.After(since) {
		since = heard
	}
	return !c.IsLeader() && time.Since(since) > 3*(c.conf.Timing.Heartbeat+c.conf.Timing.Election)
}

// inSet says whether this server and another one are in the Raft set.
func (c *Consensus) inSet(r *running) bool {
	return c.hasOtherVoter(r) && slices.ContainsFunc(r.raft.GetConfiguration().Configuration().Servers,
		func(s raft.Server) bool { return string(s.ID) == c.conf.ID })
}
