package consensustest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/berthd/berth/server/consensus"
)

// StartGossip stands for memberlist, for Config.StartGossip. Servers of one part of the network that have joined,
// directly or over others, see each other at once; who is cut off or closed is dead to the rest. A server's gossip address is
// "gossip:" and its ID.
func (n *Network) StartGossip(self consensus.Member, changed func()) (consensus.Gossip, error) {
	self.GossipAddress = GossipAddress(self.ID)
	g := &fakeGossip{net: n, id: self.ID, changed: changed, up: true, sees: map[string]consensus.Member{self.ID: self}}
	n.mu.Lock()
	n.gossip[self.ID] = g
	n.mu.Unlock()
	return g, nil
}

// GossipAddress is where a server is found by Join.
func GossipAddress(id string) string { return "gossip:" + id }

// fakeGossip is one server's view; Network's lock guards it but for the call of changed.
type fakeGossip struct {
	net     *Network
	id      string
	changed func()
	up      bool
	sees    map[string]consensus.Member
	tell    sync.Mutex
}

// Members implements consensus.Gossip.
func (g *fakeGossip) Members() []consensus.Member {
	g.net.mu.Lock()
	defer g.net.mu.Unlock()
	out := make([]consensus.Member, 0, len(g.sees))
	for _, m := range g.sees {
		out = append(out, m)
	}
	return out
}

// Update implements consensus.Gossip.
func (g *fakeGossip) Update(self consensus.Member) error {
	self.GossipAddress = GossipAddress(g.id)
	g.net.mu.Lock()
	g.sees[g.id] = self
	g.net.mu.Unlock()
	g.net.spread()
	return nil
}

// Join implements consensus.Gossip.
func (g *fakeGossip) Join(_ context.Context, addresses []string) (int, error) {
	n := 0
	var errs []error
	g.net.mu.Lock()
	for _, a := range addresses {
		other := g.net.at(a)
		if other == nil || !other.up || !g.net.reaches(g.id, other.id) {
			errs = append(errs, fmt.Errorf("nobody answers at %s", a))
			continue
		}
		n++
		other.sees[g.id] = g.sees[g.id]
		g.sees[other.id] = other.sees[other.id]
	}
	g.net.mu.Unlock()
	g.net.spread()
	if n > 0 {
		return n, nil
	}
	return 0, errors.Join(errs...)
}

// Leave implements consensus.Gossip.
func (g *fakeGossip) Leave(context.Context) error {
	g.net.mu.Lock()
	for _, other := range g.net.gossip {
		if m, ok := other.sees[g.id]; ok && other.id != g.id && g.net.reaches(g.id, other.id) {
			m.State = consensus.Left
			other.sees[g.id] = m
		}
	}
	g.up = false
	g.net.mu.Unlock()
	g.net.spread()
	return nil
}

// Close implements consensus.Gossip.
func (g *fakeGossip) Close() error {
	g.net.mu.Lock()
	g.up = false
	g.net.mu.Unlock()
	g.net.spread()
	return nil
}

func (n *Network) at(address string) *fakeGossip {
	for id, g := range n.gossip {
		if GossipAddress(id) == address {
			return g
		}
	}
	return nil
}

// spread has every server that is up hear from all that it knows, directly or over others, and calls those for
// whom something changed.
func (n *Network) spread() {
	n.mu.Lock()
	changed := map[*fakeGossip]bool{}
	for again := true; again; {
		again = false
		for _, g := range n.gossip {
			if g.up && n.hear(g) {
				changed[g], again = true, true
			}
		}
	}
	n.mu.Unlock()
	for g := range changed {
		g.tell.Lock()
		g.changed()
		g.tell.Unlock()
	}
}

// hear brings one server's view up to date, and says whether that changed it.
func (n *Network) hear(g *fakeGossip) bool {
	before := fmt.Sprint(g.sees)
	for id, m := range g.sees {
		other := n.gossip[id]
		switch {
		case id == g.id:
		case other != nil && other.up && n.reaches(g.id, id):
			g.sees[id] = other.sees[id]
			for third, seen := range other.sees {
				if _, ok := g.sees[third]; !ok {
					g.sees[third] = seen
				}
			}
		case m.State == consensus.Alive:
			m.State = consensus.Dead
			g.sees[id] = m
		}
	}
	return fmt.Sprint(g.sees) != before
}
