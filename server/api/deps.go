package api

import (
	"context"
	"io"
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/fsm"
)

// Leadership is who leads.
type Leadership interface {
	// IsLeader says that this server leads, and has applied everything that was
	// committed before it did.
	IsLeader() bool
	// Leader is the gRPC address of the leader, empty where none is known. The channel is
	// closed when that, or what IsLeader says, may have changed.
	Leader() (address string, changed <-chan struct{})
	// LastContact is how long ago the leader was heard; 0 on the leader.
	LastContact() time.Duration
	// VerifyLeader asks a majority whether this server still leads; consensus.ErrNotLeader
	// is in the chain of its error when it does not.
	VerifyLeader(ctx context.Context) error
}

// Raft is the Raft set as operators see and change it.
type Raft interface {
	// Status is the configuration and how far everybody is.
	Status(ctx context.Context) (*berthv1.GetRaftResponse, error)
	// RemovePeer removes a server by its id; on the leader.
	RemovePeer(ctx context.Context, serverID string) error
	// Transfer makes another server lead; an empty id leaves the choice to Raft.
	Transfer(ctx context.Context, serverID string) error
	// Save writes a snapshot of the whole state.
	Save(ctx context.Context, w io.Writer) error
	// Restore replaces the whole state; on the leader. Nothing happens unless the
	// snapshot is whole.
	Restore(ctx context.Context, r io.Reader) error
}

// Gossip is the servers that know of each other.
type Gossip interface {
	Members() []*berthv1.Member
	// Join returns how many of the gossip addresses answered.
	Join(ctx context.Context, addresses []string) (int, error)
	// Leave takes this server out of the cluster for good, in order.
	Leave(ctx context.Context) error
}

// Proposer makes facts durable; on the leader. An error with consensus.ErrNotLeader in
// its chain means that nothing was proposed; any other one leaves open whether the entry
// is committed. When it returns, the Store has taken the entry in.
type Proposer interface {
	Propose(ctx context.Context, entry *berthv1.LogEntry) (fsm.Result, error)
}

// Planner is the leader's placement, asked by hand.
type Planner interface {
	// DryRun says what would become of the groups of a job (canonical and valid) if it
	// were registered now, and writes nothing.
	DryRun(ctx context.Context, job *berthv1.Job) ([]*berthv1.GroupOutcome, error)
	// Rollout says in words how the job would be rolled out, a line a group.
	Rollout(ctx context.Context, job *berthv1.Job) ([]string, error)
	// Rebalance says what could be moved to free whole nodes.
	Rebalance(ctx context.Context, q *berthv1.PlanRebalanceRequest) (*berthv1.RebalancePlan, error)
	// CollectGarbage forgets now what is over, however young.
	CollectGarbage(ctx context.Context) (*berthv1.CollectGarbageResponse, error)
}

// Streams opens a stream to the agent of a node, wherever its session is.
type Streams interface {
	// Open returns when the agent has answered or ctx is over. The order's stream_id is
	// Open's to choose.
	Open(ctx context.Context, nodeID string, order *berthv1.StreamOrder) (Stream, error)
}

// Stream is frames to and from an agent. Recv ends with a frame that says done or
// problem, or with an error. Close may be called at any time and more than once, and
// makes Send and Recv return.
type Stream interface {
	Send(frame *berthv1.StreamFrame) error
	Recv() (*berthv1.StreamFrame, error)
	Close() error
}
