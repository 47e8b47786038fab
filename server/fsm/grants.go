package fsm

import (
	"iter"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
	"github.com/berthd/berth/server/state"
	"github.com/berthd/berth/topology"
)

// grants is what is held on every node: derived from the allocations that hold theirs,
// and rebuilt from them after a restore. It is no part of the state's hash.
type grants struct {
	nodes   map[string]*topology.Usage
	scratch topology.Grant
}

func newGrants() *grants { return &grants{nodes: map[string]*topology.Usage{}} }

// rebuild makes the grants of a whole state.
func (g *grants) rebuild(view *state.View) {
	for node := range view.Nodes("") {
		if machine, err := scheduler.MachineOf(node); err == nil {
			g.account(node.GetId(), machine, view.AllocsByNode(node.GetId()))
		}
	}
}

// account takes over a node's machine, new or changed. What is held on it stays held,
// also where the machine has shrunk below it.
func (g *grants) account(nodeID string, machine *topology.Machine, allocs iter.Seq[*berthv1.Alloc]) {
	usage := topology.NewUsage(machine)
	g.nodes[nodeID] = usage
	for alloc := range allocs {
		if alloc.HoldsGrant() && scheduler.GrantInto(&g.scratch, alloc.GetAssignment()) == nil {
			usage.Force(&g.scratch)
		}
	}
}

func (g *grants) deleteNode(nodeID string) { delete(g.nodes, nodeID) }

// hold takes what an allocation is granted, or says who lacks what.
func (g *grants) hold(alloc *berthv1.Alloc) error {
	usage := g.nodes[alloc.GetNodeId()]
	if usage == nil {
		return problem.New(problem.Conflict, "node "+alloc.GetNodeId(), "it has no inventory")
	}
	if err := scheduler.GrantInto(&g.scratch, alloc.GetAssignment()); err != nil {
		return problem.New(problem.Invalid, "alloc "+alloc.GetId()+".assignment", "%w", err)
	}
	if err := usage.Add(&g.scratch); err != nil {
		return problem.New(problem.Conflict, "node "+alloc.GetNodeId(), "%w", err).WithRemedy("plan again on a newer state")
	}
	return nil
}

// release frees what an allocation was granted.
func (g *grants) release(alloc *berthv1.Alloc) {
	usage := g.nodes[alloc.GetNodeId()]
	if usage == nil {
		return // with its node, everything on it was freed
	}
	if scheduler.GrantInto(&g.scratch, alloc.GetAssignment()) == nil {
		usage.Remove(&g.scratch)
	}
}
