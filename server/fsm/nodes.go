package fsm

import (
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func (a *applier) nodeRegistered(f *berthv1.NodeRegistered) error {
	node := f.GetNode()
	if node.GetId() == "" || node.GetName() == "" {
		return problem.New(problem.Invalid, "node", "a node without id or name")
	}
	machine, err := a.grants.machines.Of(node)
	if err != nil {
		return err
	}
	stored := a.Node(node.GetId())
	node = revised(node, func(n *berthv1.Node) {
		n.CreateRevision, n.ModifyRevision = a.Revision(), a.Revision()
		n.Status, n.StatusReason, n.StatusTime = berthv1.Node_ready, "", a.timestamp
		n.OperatorTaints, n.Drain = stored.GetOperatorTaints(), stored.GetDrain()
		if stored == nil {
			return
		}
		n.CreateRevision = stored.GetCreateRevision()
		n.Eligibility = stored.GetEligibility()
		if stored.GetStatus() == berthv1.Node_ready {
			n.StatusTime = stored.GetStatusTime()
		}
	})
	a.PutNode(node)
	a.grants.account(node.GetId(), machine, a.AllocRowsByNode(node.GetId()))
	return nil
}

func (a *applier) nodesChanged(f *berthv1.NodesChanged) error {
	if f.GetRemove() {
		return a.nodesRemoved(f.GetNodeIds())
	}
	for _, id := range f.GetNodeIds() {
		stored := a.Node(id)
		if stored == nil {
			continue // removed while the fact was on its way
		}
		a.PutNode(revised(stored, func(n *berthv1.Node) {
			if f.Status != nil && n.GetStatus() != f.GetStatus() {
				n.Status, n.StatusTime = f.GetStatus(), a.timestamp
			}
			if f.Status != nil {
				n.StatusReason = f.GetReason()
			}
			if f.Eligibility != nil {
				n.Eligibility = f.GetEligibility()
			}
			drain(n, f)
			n.OperatorTaints = taintsAfter(n.GetOperatorTaints(), f.GetAddTaints(), f.GetRemoveTaints())
			n.ModifyRevision = a.Revision()
		}))
	}
	return nil
}

func (a *applier) nodesRemoved(ids []string) error {
	for _, id := range ids {
		for alloc := range a.AllocRowsByNode(id) {
			if alloc.HoldsGrant() && alloc.Status() != berthv1.Alloc_lost && alloc.Status() != berthv1.Alloc_unknown {
				return problem.New(problem.Conflict, "node "+id, "allocation %s of job %q is still on it", alloc.ID(), alloc.Job()).
					WithRemedy("wait until it is lost or stopped, or stop the agent and wait until the node is down")
			}
		}
	}
	for _, id := range ids {
		a.DeleteNode(id)
		a.grants.deleteNode(id)
	}
	return nil
}
