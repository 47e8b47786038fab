package server

import (
	"context"
	"crypto/tls"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/consensus"
	"github.com/berthd/berth/server/fsm"
	"github.com/berthd/berth/server/peers"
)

// leaderPoll is how often this server looks whether who leads has changed.
const leaderPoll = 50 * time.Millisecond

var errNoLeader = problem.New(problem.Unavailable, "", "there is no leader now").
	WithRemedy("wait for the election; berth server members shows who is there")

// answerWithin is how long a server that has left waits for the answer to reach who asked for it.
const answerWithin = 500 * time.Millisecond

// cluster is consensus as the API and dispatch see it: who leads and how to reach
// them, and facts that become durable.
type cluster struct {
	*consensus.Consensus
	peers *peers.Pool

	leads atomic.Bool   // set once everything before this term is applied
	left  chan struct{} // capacity 1: this server has left the cluster for good

	mu      sync.Mutex
	address string        // the leader's gRPC address
	servers []string      // gRPC addresses of the servers that gossip hears, sorted
	changed chan struct{} // closed at the next change of address or leads
}

func newCluster(c *consensus.Consensus, cfg Config) *cluster {
	return &cluster{
		Consensus: c, peers: peers.New(cfg.ClientTLS, cfg.PeerOptions),
		left: make(chan struct{}, 1), changed: make(chan struct{}),
	}
}

// Leave implements api.Gossip. A server that has left has nothing to do any more, so Run ends.
func (c *cluster) Leave(ctx context.Context) error {
	if err := c.Consensus.Leave(ctx); err != nil {
		return err
	}
	select {
	case c.left <- struct{}{}:
	default:
	}
	return nil
}

// run keeps Leader and Servers up to date until ctx ends.
func (c *cluster) run(ctx context.Context) error {
	tick := time.NewTicker(leaderPoll)
	defer tick.Stop()
	defer c.peers.Close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			c.observe()
		}
	}
}

// observe looks who leads and who is there.
func (c *cluster) observe() {
	m, _ := c.Consensus.Leader()
	var servers []string
	for _, member := range c.Consensus.Members() {
		if member.State == consensus.Alive && member.GRPCAddress != "" {
			servers = append(servers, member.GRPCAddress)
		}
	}
	slices.Sort(servers)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.servers = servers
	if m.GRPCAddress != c.address {
		c.address = m.GRPCAddress
		c.announce()
	}
}

// announce wakes who waits for a change; c.mu is held.
func (c *cluster) announce() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *cluster) setLeads(leads bool) {
	c.leads.Store(leads)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.announce()
}

// IsLeader says that this server leads and has applied everything from before.
func (c *cluster) IsLeader() bool { return c.leads.Load() && c.Consensus.IsLeader() }

// Leader is the leader's gRPC address, and a channel that is closed when who leads may
// have changed.
func (c *cluster) Leader() (string, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.address, c.changed
}

// LastContact is the time since the leader was heard; very long where it never was.
func (c *cluster) LastContact() time.Duration {
	if d, ok := c.Consensus.LastContact(); ok {
		return d
	}
	return 24 * time.Hour
}

// Propose makes a fact durable.
func (c *cluster) Propose(ctx context.Context, entry *berthv1.LogEntry) (fsm.Result, error) {
	data, err := fsm.Encode(entry)
	if err != nil {
		return fsm.Result{}, err
	}
	answer, err := c.Consensus.Propose(ctx, data)
	if err != nil {
		return fsm.Result{}, err
	}
	return answer.(fsm.Result), nil
}

// LeaderConn is a connection to the leader.
func (c *cluster) LeaderConn() (grpc.ClientConnInterface, error) {
	address, _ := c.Leader()
	if address == "" {
		return nil, errNoLeader
	}
	return c.peers.Conn(address)
}

// ServerConn is a connection to a server by its id.
func (c *cluster) ServerConn(id string) (grpc.ClientConnInterface, error) {
	for _, m := range c.Consensus.Members() {
		if m.ID == id && m.GRPCAddress != "" {
			return c.peers.Conn(m.GRPCAddress)
		}
	}
	return nil, problem.New(problem.Unavailable, "server "+id, "its address is not known")
}

// others are connections to the servers that are not this one.
func (c *cluster) others() (conns []grpc.ClientConnInterface) {
	for _, m := range c.Consensus.Members() {
		if m.ID == c.ID() || m.GRPCAddress == "" || m.State != consensus.Alive {
			continue
		}
		if conn, err := c.peers.Conn(m.GRPCAddress); err == nil {
			conns = append(conns, conn)
		}
	}
	return conns
}

// Servers are the gRPC addresses of the servers that gossip hears; not to be changed.
func (c *cluster) Servers() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.servers
}

// grpcOptions are the server's own, beside the API's.
func grpcOptions(config *tls.Config) []grpc.ServerOption {
	options := []grpc.ServerOption{
		// Agents and clients may ping an idle connection as often as this.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	}
	if config != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(config)))
	}
	return options
}

// Status is the Raft set as this server knows it.
func (c *cluster) Status(context.Context) (*berthv1.GetRaftResponse, error) {
	peers, err := c.Peers()
	if err != nil {
		return nil, err
	}
	resp := &berthv1.GetRaftResponse{Term: c.Term(), Applied: c.AppliedIndex(), Committed: c.CommitIndex()}
	for _, p := range peers {
		resp.Peers = append(resp.Peers, &berthv1.RaftPeer{
			Id: p.ID, Name: p.Name, Address: p.Address, Leader: p.Leader, Voter: p.Voter, Alive: p.Alive, Behind: p.Behind,
		})
	}
	return resp, nil
}

// Transfer has another server lead.
func (c *cluster) Transfer(ctx context.Context, id string) error {
	return c.TransferLeadership(ctx, id)
}

// Save writes a snapshot file of the whole state.
func (c *cluster) Save(ctx context.Context, w io.Writer) error {
	_, err := c.SaveSnapshot(ctx, w)
	return err
}

// Restore replaces the whole state by a snapshot file.
func (c *cluster) Restore(ctx context.Context, r io.Reader) error {
	_, err := c.RestoreSnapshot(ctx, r)
	return err
}

// Members are the servers as gossip sees them.
func (c *cluster) Members() []*berthv1.Member {
	leader, _ := c.Consensus.Leader()
	var out []*berthv1.Member
	for _, m := range c.Consensus.Members() {
		out = append(out, &berthv1.Member{
			Id: m.ID, Name: m.Name, State: string(m.State), GossipAddress: m.GossipAddress, RaftAddress: m.RaftAddress,
			GrpcAddress: m.GRPCAddress, HttpAddress: m.HTTPAddress, Version: m.Version, Leader: m.ID == leader.ID, Region: m.Cluster,
		})
	}
	return out
}
