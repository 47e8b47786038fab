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
	quotas  scheduler.Ledger
	scratch topology.Grant
	// Nodes that report the same share a machine.
	machines scheduler.Machines
	usages   topology.Slab
}

func newGrants() *grants { return &grants{nodes: map[string]*topology.Usage{}} }

// rebuild makes the grants of a whole state.
func (g *grants) rebuild(view *state.View) {
	for node := range view.Nodes("") {
		if machine, err := g.machines.Of(node); err == nil {
			g.account(node.GetId(), machine, view.AllocRowsByNode(node.GetId()))
		}
	}
	for ns := range view.Namespaces() {
		g.quotas.Open(ns.GetName(), ns.GetQuota(), g.heldIn(view, ns.GetName()))
	}
}

// account takes over a node's machine, new or changed. What is held on it stays held,
// also where the machine has shrunk below it. Where the machine is the same, so is what
// is held.
func (g *grants) account(nodeID string, machine *topology.Machine, allocs iter.Seq[*state.AllocRow]) {
	if usage := g.nodes[nodeID]; usage != nil && usage.Machine() == machine {
		return
	}
	usage := g.usages.NewUsage(machine)
	g.nodes[nodeID] = usage
	g.quotas.DropNode(nodeID)
	for alloc := range allocs {
		if alloc.HoldsGrant() && scheduler.GrantInto(&g.scratch, alloc.Assignment()) == nil {
			usage.Force(&g.scratch)
			g.quotas.Hold(alloc.Namespace(), nodeID, alloc.Assignment())
		}
	}
}

func (g *grants) deleteNode(nodeID string) {
	delete(g.nodes, nodeID)
	g.quotas.DropNode(nodeID)
}

// usage is what is held on a node; an error where that is not known.
func (g *grants) usage(nodeID string) (*topology.Usage, error) {
	if usage := g.nodes[nodeID]; usage != nil {
		return usage, nil
	}
	return nil, problem.New(problem.Conflict, "node "+nodeID, "it has no inventory")
}

// take takes a grant on a node, or says who lacks what.
func (g *grants) take(usage *topology.Usage, nodeID string, grant *topology.Grant) error {
	if err := usage.Add(grant); err != nil {
		return problem.New(problem.Conflict, "node "+nodeID, "%w", err).WithRemedy("plan again on a newer state")
	}
	return nil
}

// hold takes what an allocation is granted, or says who lacks what.
func (g *grants) hold(alloc *berthv1.Alloc) error {
	usage, err := g.usage(alloc.GetNodeId())
	if err != nil {
		return err
	}
	if err := scheduler.GrantInto(&g.scratch, alloc.GetAssignment()); err != nil {
		return problem.New(problem.Invalid, "assignment", "%w", err)
	}
	var use scheduler.Use
	if g.quotas.Counts(alloc.GetNamespace()) {
		use = scheduler.UseOf(alloc.GetAssignment())
	}
	if err := g.afford(alloc.GetNamespace(), &use); err != nil {
		return err
	}
	if err := g.take(usage, alloc.GetNodeId(), &g.scratch); err != nil {
		return err
	}
	g.quotas.HoldUse(alloc.GetNamespace(), alloc.GetNodeId(), &use)
	return nil
}

// giveBack frees what hold has taken.
func (g *grants) giveBack(alloc *berthv1.Alloc) {
	g.free(alloc.GetNamespace(), alloc.GetNodeId(), alloc.GetAssignment())
}

// release frees what an allocation was granted.
func (g *grants) release(alloc *state.AllocRow) {
	g.free(alloc.Namespace(), alloc.NodeID(), alloc.Assignment())
}

func (g *grants) free(namespace, nodeID string, a *berthv1.Assignment) {
	usage := g.nodes[nodeID]
	if usage == nil {
		return // with its node, everything on it was freed
	}
	if scheduler.GrantInto(&g.scratch, a) == nil {
		usage.Remove(&g.scratch)
		g.quotas.Release(namespace, nodeID, a)
	}
}
