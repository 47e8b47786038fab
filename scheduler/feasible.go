package scheduler

import "slices"

// Feasible gives the ids of the nodes that pass the group's static checks, whatever is
// on them, in ascending order: those that a system job wants an instance on.
func (f *Fleet) Feasible(g *Group) []string {
	view := f.static(&g.checks)
	var ids []string
	for slot := range f.nodes {
		if view.ok.has(int32(slot)) {
			ids = append(ids, f.nodes[slot].node.GetId())
		}
	}
	slices.Sort(ids)
	return ids
}

// Allows says whether a node passes the group's static checks, whether or not it is
// ready and eligible now, and also where it was reserved for others since: what stays on
// it may stay.
func (f *Fleet) Allows(g *Group, nodeID string) bool {
	slot, known := f.slots[nodeID]
	if !known {
		return false
	}
	allowed := true
	g.checks.failures(f.nodes[slot].node, f.reserved[nodeID], func(name, _ string) bool {
		allowed = name == "status" || name == "eligibility" || name == "reservation" && g.checks.claim.name == ""
		return allowed
	})
	return allowed
}
