package consensus

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// promoteWithin is how many entries a nonvoter may be behind and still be given a vote:
// it makes them good in well under a heartbeat.
const promoteWithin = 512

// view is what the leader knows of the cluster, for decide.
type view struct {
	self    string // ID
	set     string // the Raft set's identity
	peers   []raft.Server
	members map[string]Member
	// goneFor is how long neither gossip nor Raft has heard a peer; peers that one of them hears are not in it.
	goneFor map[string]time.Duration
	// behind is how many entries a peer that answers is behind.
	behind map[string]uint64
	grace  time.Duration
}

// change is one change to the Raft set, and why.
type change struct {
	kind   changeKind
	server raft.Server // Suffrage is of no meaning
	why    string
}

type changeKind string

const (
	nothing    changeKind = ""
	addServer  changeKind = "adding server"
	moveServer changeKind = "changing the address of server"
	promote    changeKind = "giving a vote to server"
	remove     changeKind = "removing server"
)

// decide gives the next change that brings the Raft set in step with gossip. What
// leaves goes before what comes, so that votes are counted among those who are there.
func decide(v view) change {
	if c := v.decideGone(); c.kind != nothing {
		return c
	}
	known := map[string]bool{}
	for _, p := range v.peers {
		known[string(p.ID)] = true
		m, ok := v.members[string(p.ID)]
		if !ok || !v.ours(m) {
			continue
		}
		if m.RaftAddress != string(p.Address) {
			moved := raft.Server{ID: p.ID, Address: raft.ServerAddress(m.RaftAddress), Suffrage: p.Suffrage}
			return change{moveServer, moved, fmt.Sprintf("it was at %s", p.Address)}
		}
		behind, answers := v.behind[string(p.ID)]
		if p.Suffrage != raft.Voter && answers && behind <= promoteWithin {
			return change{promote, p, "it has caught up"}
		}
	}
	var next change
	for id, m := range v.members {
		if !known[id] && v.ours(m) && (next.kind == nothing || id < string(next.server.ID)) {
			next = change{addServer, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(m.RaftAddress)}, "gossip shows it"}
		}
	}
	return next
}

// ours says whether a member is there to stay and belongs here: it is new, or of this Raft set.
func (v view) ours(m Member) bool {
	return m.State == Alive && !m.Leaving && m.RaftAddress != "" && (m.Set == "" || m.Set == v.set)
}

// decideGone looks for a peer to remove.
func (v view) decideGone() change {
	for _, p := range v.peers {
		m, known := v.members[string(p.ID)]
		gone, isGone := v.goneFor[string(p.ID)]
		why := ""
		switch {
		case string(p.ID) == v.self:
		case known && m.Leaving:
			why = "it leaves"
		case known && m.State == Left:
			why = "it left"
		case isGone && gone >= v.grace:
			why = fmt.Sprintf("it is dead for %v", gone.Round(time.Second))
		case isGone && v.replaced(p):
			why = fmt.Sprintf("another server is at its address, %s", p.Address)
		}
		if why != "" && v.quorumWithout(p.ID) {
			return change{remove, p, why}
		}
	}
	return change{}
}

// replaced says whether a living server with another ID has a peer's address: the host's
// data was lost, and the peer will not come back.
func (v view) replaced(p raft.Server) bool {
	for id, m := range v.members {
		if id != string(p.ID) && v.ours(m) && m.RaftAddress == string(p.Address) {
			return true
		}
	}
	return false
}

// quorumWithout says whether, once the server is removed, the voters that are there are a quorum of those
// that are left.
func (v view) quorumWithout(id raft.ServerID) bool {
	voters, there := 0, 0
	for _, p := range v.peers {
		if p.ID == id || p.Suffrage != raft.Voter {
			continue
		}
		voters++
		if _, gone := v.goneFor[string(p.ID)]; !gone {
			there++
		}
	}
	return voters > 0 && there >= voters/2+1
}

// reconcile is the leader's loop that keeps the Raft set in step with gossip.
func (c *Consensus) reconcile(ctx context.Context, r *running) {
	tick := time.NewTicker(c.conf.Timing.Reconcile)
	defer tick.Stop()
	gone := map[string]time.Time{} // since when; begins anew with each leader
	foreign := map[string]bool{}
	for {
		v := c.view(r, gone)
		c.warnForeign(v, foreign)
		if next := decide(v); next.kind != nothing {
			c.logger.Info(string(next.kind), "name", v.members[string(next.server.ID)].Name, "id", next.server.ID, "why", next.why)
			err := c.apply(ctx, next)
			if err == nil {
				continue
			}
			if ctx.Err() == nil {
				c.logger.Warn(string(next.kind)+" failed; trying on", "id", next.server.ID, "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-r.reconcile:
		case <-tick.C:
		}
	}
}

// view gathers what decide needs. gone keeps since when each peer is gone.
func (c *Consensus) view(r *running, gone map[string]time.Time) view {
	r.mu.Lock()
	set := r.self.Set
	r.mu.Unlock()
	v := view{self: c.conf.ID, set: set, members: map[string]Member{}, goneFor: map[string]time.Duration{},
		behind: map[string]uint64{}, grace: c.conf.Timing.DeadGrace, peers: r.raft.GetConfiguration().Configuration().Servers}
	for _, m := range r.gossip.Members() {
		if m.Cluster == c.conf.Cluster {
			v.members[m.ID] = m
		}
	}
	now, last := time.Now(), r.raft.LastIndex()
	peer := map[string]bool{}
	for _, p := range v.peers {
		id := string(p.ID)
		peer[id] = true
		heard, ok := r.trans.of(p.ID)
		answers := ok && now.Sub(heard.at) < 2*c.conf.Timing.Heartbeat
		if answers {
			v.behind[id] = last - min(last, heard.last)
		}
		m, known := v.members[id]
		if id == c.conf.ID || answers && m.State != Left || known && m.State == Alive {
			delete(gone, id)
			continue
		}
		if gone[id].IsZero() {
			gone[id] = now
		}
		v.goneFor[id] = now.Sub(gone[id])
	}
	for id := range gone {
		if !peer[id] {
			delete(gone, id)
		}
	}
	return v
}

// warnForeign tells once of each server that belongs to another Raft set: adding it
// would throw away one of the two states.
func (c *Consensus) warnForeign(v view, told map[string]bool) {
	for id, m := range v.members {
		foreign := m.State == Alive && m.Set != "" && m.Set != v.set
		if foreign && !told[id] {
			c.logger.Warn("a server of the same cluster name has a state of its own and is not added; "+
				"if that is not wanted, stop it, move its data directory away and start it again", "name", m.Name, "id", id, "gossip", m.GossipAddress)
		}
		told[id] = foreign
	}
}

// apply makes one change; the leader waits for it to be durable.
func (c *Consensus) apply(ctx context.Context, next change) error {
	s := next.server
	return c.await(ctx, string(next.kind)+" "+string(s.ID), func(r *running) raft.Future {
		switch {
		case next.kind == remove:
			return r.raft.RemoveServer(s.ID, 0, 0)
		case next.kind == promote || next.kind == moveServer && s.Suffrage == raft.Voter:
			return r.raft.AddVoter(s.ID, s.Address, 0, 0)
		}
		return r.raft.AddNonvoter(s.ID, s.Address, 0, 0)
	})
}
