package consensus

import (
	"context"
	"slices"
	"strings"
)

// State is what gossip believes of a server. The strings are part of the API.
type State string

// The states. A dead server is not heard any more; one that left said so.
const (
	Alive State = "alive"
	Dead  State = "dead"
	Left  State = "left"
)

// Member is a server as gossip sees it.
type Member struct {
	ID, Name      string
	State         State
	GossipAddress string
	RaftAddress   string
	GRPCAddress   string
	HTTPAddress   string
	Version       string
	Cluster       string

	// Expect is the server's BootstrapExpect.
	Expect int
	// Formed says that the server knows a Raft configuration, so no cluster may be
	// bootstrapped beside it.
	Formed bool
	// Set identifies the Raft set that the server belongs to, from its bootstrap on;
	// empty before it has heard of one.
	Set string
	// Promise is the digest of the first Raft set that the server agreed to.
	Promise string
	// Leaving says that the server wants to be taken out of the Raft set.
	Leaving bool
}

// Gossip is how servers find each other and hear who is gone. What it says may be late;
// nothing but bootstrap and the shape of the Raft set follows from it.
type Gossip interface {
	// Members gives everybody it knows, itself included, dead and left ones for a while.
	Members() []Member
	// Update tells the others what self has become.
	Update(self Member) error
	// Join asks the servers at these addresses who is there, and counts who answered.
	Join(ctx context.Context, addresses []string) (int, error)
	// Leave tells the others that this server goes for good.
	Leave(ctx context.Context) error
	// Close ends taking part, without a word.
	Close() error
}

// StartGossip begins to take part as self; changed is called, and must not block, when
// Members has something new.
type StartGossip func(self Member, changed func()) (Gossip, error)

// sortMembers orders by name, then ID.
func sortMembers(ms []Member) []Member {
	slices.SortFunc(ms, func(a, b Member) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return ms
}
