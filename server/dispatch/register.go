package dispatch

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/fsm"
)

// registerTimeout bounds how long a registration waits for the leader.
const registerTimeout = 10 * time.Second

// register makes what an agent says of its node durable, unless it is so already, and
// waits until this server's own state has it.
func (d *Dispatcher) register(ctx context.Context, node *berthv1.Node) error {
	if sameNode(d.cfg.Store.NodesOf([]string{node.GetId()})[0], node) {
		return nil
	}
	select { // in turn: thousands of agents that come at once must not all be late
	case d.registering <- struct{}{}:
		defer func() { <-d.registering }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	req := &berthv1.RegisterNodeRequest{Node: node, ServerId: d.cfg.ServerID}
	resp, err := onLeader(ctx, d, req, d.RegisterNode, berthv1.InternalServiceClient.RegisterNode)
	if err != nil {
		return fmt.Errorf("registering node %s: %w", node.GetName(), err)
	}
	select {
	case <-d.cfg.Store.Reached(resp.GetRevision()):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for revision %d: %w", resp.GetRevision(), ctx.Err())
	}
}

// atOnce is how many registrations a server has on the way: enough for some to be in each sync
// of the log, few enough that the last of them is there long before registerTimeout.
const atOnce = 256

// sameNode says whether the stored node is ready and otherwise what the agent says.
func sameNode(stored, node *berthv1.Node) bool {
	if stored.GetStatus() != berthv1.Node_ready {
		return false
	}
	said := proto.Clone(node).(*berthv1.Node)
	said.Status, said.StatusReason, said.StatusTime = stored.GetStatus(), stored.GetStatusReason(), stored.GetStatusTime()
	said.Eligibility, said.OperatorTaints, said.Drain = stored.GetEligibility(), stored.GetOperatorTaints(), stored.GetDrain()
	said.CreateRevision, said.ModifyRevision = stored.GetCreateRevision(), stored.GetModifyRevision()
	return proto.Equal(stored, said)
}

// RegisterNode implements berthv1.InternalServiceServer.
func (d *Dispatcher) RegisterNode(ctx context.Context, req *berthv1.RegisterNodeRequest) (*berthv1.RegisterNodeResponse, error) {
	node := req.GetNode()
	entry := fsm.NewEntry(time.Now(), func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_NodeRegistered{NodeRegistered: &berthv1.NodeRegistered{Node: node}}
	})
	revision, err := d.propose(ctx, entry)
	if err != nil {
		return nil, problem.Wire(err)
	}
	d.liveness.touch(req.GetServerId(), time.Now(), node.GetId())
	return &berthv1.RegisterNodeResponse{Revision: revision}, nil
}

// propose makes an entry durable; an entry that the FSM refused is an error.
func (d *Dispatcher) propose(ctx context.Context, entry *berthv1.LogEntry) (uint64, error) {
	result, err := d.cfg.Proposer.Propose(ctx, entry)
	if err != nil {
		return 0, err
	}
	return result.Revision, result.Err
}
