package consensus

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// joinPatience bounds the pause between two tries to join.
const joinPatience = 30 * time.Second

// housekeep does what every server does when gossip or leadership changes: its part in
// the first set, telling what it has become, and logging who came and went.
func (c *Consensus) housekeep(ctx context.Context, r *running) {
	seen := make(chan raft.Observation, 1)
	observer := raft.NewObserver(seen, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	})
	r.raft.RegisterObserver(observer)
	defer r.raft.DeregisterObserver(observer)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	h := chores{c: c, r: r, states: map[string]State{}}
	for {
		h.do()
		select {
		case <-ctx.Done():
			return
		case <-r.poke:
		case <-seen:
		case <-tick.C:
		}
	}
}

// chores is what the housekeeping remembers.
type chores struct {
	c       *Consensus
	r       *running
	waiting string
	states  map[string]State
	known   []string
}

func (h *chores) do() {
	c, r := h.c, h.r
	r.mu.Lock()
	self := r.self
	r.mu.Unlock()
	if !self.Formed {
		if formed(r.raft) {
			c.tell(r, func(m *Member) { m.Formed, m.Promise = true, "" })
		} else if w := c.bootstrap(r); w != h.waiting {
			h.waiting = w
			if w != "" {
				c.logger.Info("no cluster yet", "state", w)
			}
		}
	}
	h.identify(self)
	h.look(r.gossip.Members())
}

// identify settles which Raft set this server belongs to. Who hears a leader is of the
// leader's set. A leader without one, because who started the cluster was lost in that moment, takes that of
// another server in its configuration, or makes one.
func (h *chores) identify(self Member) {
	c, r := h.c, h.r
	leader, ok := c.Leader()
	switch {
	case !ok:
	case leader.ID != self.ID:
		if leader.Set != "" && leader.Set != self.Set {
			c.adopt(r, leader.Set)
		}
	case self.Set == "" && self.Formed:
		set := newID()
		for _, m := range r.gossip.Members() {
			if m.Set != "" && slices.ContainsFunc(r.raft.GetConfiguration().Configuration().Servers, func(s raft.Server) bool { return string(s.ID) == m.ID }) {
				set = m.Set
			}
		}
		c.adopt(r, set)
	}
}

// look logs what changed among the members, and keeps their gossip addresses for the
// next start.
func (h *chores) look(members []Member) {
	var addresses []string
	for _, m := range members {
		if m.ID == h.c.conf.ID {
			continue
		}
		if h.states[m.ID] != m.State {
			h.states[m.ID] = m.State
			h.c.logger.Info("server is "+string(m.State), "name", m.Name, "id", m.ID, "gossip", m.GossipAddress)
		}
		if m.State == Alive && m.GossipAddress != "" {
			addresses = append(addresses, m.GossipAddress)
		}
	}
	slices.Sort(addresses)
	if len(addresses) == 0 || slices.Equal(addresses, h.known) {
		return
	}
	h.known = addresses
	b, err := json.Marshal(addresses)
	if err == nil {
		err = h.c.stores.Stable.Set(keyKnownGossip, b)
	}
	if err != nil {
		h.c.logger.Warn("the other servers' addresses could not be kept for the next start", "error", err)
	}
}

// adopt keeps the identity of the Raft set that this server belongs to.
func (c *Consensus) adopt(r *running, set string) {
	if err := c.stores.Stable.Set(keySet, []byte(set)); err != nil {
		c.logger.Error("the identity of the Raft set could not be stored", "error", err)
		return
	}
	c.tell(r, func(m *Member) { m.Set = set })
}

// tell changes what the others are told.
func (c *Consensus) tell(r *running, change func(*Member)) {
	r.mu.Lock()
	change(&r.self)
	self := r.self
	r.mu.Unlock()
	if err := r.gossip.Update(self); err != nil {
		c.logger.Warn("the other servers could not be told", "error", err)
	}
}

// join asks the configured and the formerly known servers who is there until another
// server is alive, and again whenever none is.
func (c *Consensus) join(ctx context.Context, r *running) {
	addresses := slices.Clone(c.conf.Join)
	if b, err := c.stores.Stable.Get(keyKnownGossip); err == nil && len(b) > 0 {
		var known []string
		if err := json.Unmarshal(b, &known); err == nil {
			addresses = append(addresses, known...)
		}
	}
	slices.Sort(addresses)
	addresses = slices.Compact(addresses)
	if len(addresses) == 0 {
		return
	}
	pause := time.Second
	for said := false; ; {
		if c.alone(r) {
			if _, err := r.gossip.Join(ctx, addresses); err != nil && !said {
				c.logger.Warn("no other server answers yet; trying on", "addresses", addresses, "error", err)
				said = true
			}
		}
		if !c.alone(r) {
			pause, said = time.Second, false
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, joinPatience)
	}
}

// alone says whether gossip hears no other server.
func (c *Consensus) alone(r *running) bool {
	return !slices.ContainsFunc(r.gossip.Members(), func(m Member) bool { return m.ID != c.conf.ID && m.State == Alive })
}
