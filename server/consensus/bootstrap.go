package consensus

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/raft"

	"github.com/berthd/berth/problem"
)

// How the first Raft set comes about. Each new server that sees BootstrapExpect servers of
// its kind promises, in gossip, the set of those with the lowest IDs, and never another one
// while it runs. When all of a set have promised it, the one with the lowest ID starts
// it; the others get the configuration from it. As each server promises one set only, two
// sets that share a server cannot both be promised in full.

// firstSet is what a new server makes of what it sees.
type firstSet struct {
	// members are the servers of the set, lowest ID first; empty: it must wait.
	members []Member
	// digest names the set.
	digest string
	// start says that this server is to start it.
	start bool
	// wait says what is missing, for people.
	wait string
}

// decideFirst looks for the first set. members includes self.
func decideFirst(self Member, members []Member) firstSet {
	if self.Expect == 0 {
		return firstSet{wait: "waiting to be added to a cluster: bootstrap_expect is 0"}
	}
	var fresh []Member
	for _, m := range members {
		switch {
		case m.State != Alive || m.Cluster != self.Cluster || m.Leaving:
		case m.Formed:
			return firstSet{wait: fmt.Sprintf("waiting to be added to the cluster that %s is in", cmpName(m))}
		case m.Expect == self.Expect:
			fresh = append(fresh, m)
		case m.Expect != 0:
			return firstSet{wait: fmt.Sprintf("%s has bootstrap_expect %d and this server %d; they must be the same", cmpName(m), m.Expect, self.Expect)}
		}
	}
	if len(fresh) < self.Expect {
		return firstSet{wait: fmt.Sprintf("waiting for %d servers; %d are here", self.Expect, len(fresh))}
	}
	slices.SortFunc(fresh, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })
	f := firstSet{members: fresh[:self.Expect]}
	h := sha256.New()
	for _, m := range f.members {
		fmt.Fprintf(h, "%s\n", m.ID)
	}
	f.digest = hex.EncodeToString(h.Sum(nil)[:8])
	if !slices.ContainsFunc(f.members, func(m Member) bool { return m.ID == self.ID }) {
		return firstSet{wait: fmt.Sprintf("waiting to be added: %d other servers are about to start the cluster", self.Expect)}
	}
	for _, m := range f.members {
		promise := m.Promise
		if m.ID == self.ID {
			promise = self.Promise
		}
		switch promise {
		case f.digest:
		case "":
			f.wait = fmt.Sprintf("waiting for %s to agree on the first %d servers", cmpName(m), self.Expect)
		default:
			f.wait = fmt.Sprintf("%s agreed to another set of first servers; restart it", cmpName(m))
		}
	}
	f.start = f.wait == "" && f.members[0].ID == self.ID
	return f
}

// checkBootstrap refuses a new server that would start a cluster of its own though it was told to
// join one.
func (c *Consensus) checkBootstrap() error {
	has, err := raft.HasExistingState(c.stores.Log, c.stores.Stable, c.stores.Snapshots)
	if err != nil {
		return storeProblem(c.stores.dir, "", err)
	}
	if !has && c.conf.BootstrapExpect == 1 && len(c.conf.Join) > 0 {
		return problem.New(problem.Invalid, "bootstrap_expect", "it is 1, a cluster of its own, and there are servers to join").
			WithRemedy("leave bootstrap_expect out, or 0, on a server that joins others")
	}
	return nil
}

// bootstrap does this server's part in the first set. It says what it waits for.
func (c *Consensus) bootstrap(r *running) string {
	r.mu.Lock()
	self := r.self
	r.mu.Unlock()
	f := decideFirst(self, r.gossip.Members())
	if len(f.members) == 0 {
		return f.wait
	}
	if self.Promise == "" {
		c.tell(r, func(m *Member) { m.Promise = f.digest })
		self.Promise = f.digest
		f = decideFirst(self, r.gossip.Members())
	}
	if !f.start {
		return f.wait
	}
	var conf raft.Configuration
	for _, m := range f.members {
		conf.Servers = append(conf.Servers, raft.Server{ID: raft.ServerID(m.ID), Address: raft.ServerAddress(m.RaftAddress)})
	}
	c.adopt(r, newID())
	if err := r.raft.BootstrapCluster(conf).Error(); err != nil {
		return "starting the cluster: " + err.Error()
	}
	c.logger.Info("cluster started", "servers", len(conf.Servers))
	return ""
}
