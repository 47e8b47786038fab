package scheduler

import (
	"strconv"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// Misfit is why an instance cannot have the grant that somebody else has chosen for it.
type Misfit struct {
	Why Why
	// Err is a *problem.Error; a *topology.Shortfall is in the chain of what is Held.
	Err error
}

// Error is what it says in words.
func (m *Misfit) Error() string { return m.Err.Error() }

// Unwrap gives what it says.
func (m *Misfit) Unwrap() error { return m.Err }

// Why is what kind of Misfit it is.
type Why uint8

// The kinds: the node is not there, or takes nothing new; it does not pass the group's
// checks; the grant is not what the group asks for; somebody holds a part of it; the
// namespace's quota would be exceeded.
const (
	NodeGone Why = iota
	NotAllowed
	WrongGrant
	Held
	OverQuota
)

func misfit(why Why, field, format string, args ...any) *Misfit {
	kind := problem.Conflict
	switch why {
	case WrongGrant:
		kind = problem.Invalid
	case OverQuota:
		kind = problem.Exhausted
	}
	return &Misfit{Why: why, Err: problem.New(kind, field, format, args...)}
}

// CheckNode says why no instance of the group may be placed on a node, whatever is free
// there; nil: it may. The error is a *Misfit.
func (f *Fleet) CheckNode(g *Group, nodeID string) error {
	slot, known := f.slots[nodeID]
	if !known {
		return misfit(NodeGone, "node_id", "there is no node %q", nodeID)
	}
	n := f.nodes[slot].node
	var m *Misfit
	g.checks.failures(n, f.reserved[nodeID], func(name, detail string) bool {
		why := NotAllowed
		if name == "status" || name == "eligibility" {
			why = NodeGone
		}
		m = misfit(why, "node_id", "%s: %s", n.GetName(), detail)
		return false
	})
	if m == nil {
		m = f.checkOthers(g, slot)
	}
	if m != nil {
		return m
	}
	return nil
}

// checkOthers looks at what depends on the group's other instances: distinct hosts, and
// limits of a value of an attribute.
func (f *Fleet) checkOthers(g *Group, slot int32) (m *Misfit) {
	n := f.nodes[slot].node
	f.eachInstance(g, g.hosts, func(other, _ int32) {
		if other == slot {
			m = misfit(NotAllowed, "node_id", "%s has an instance already, and hosts must be distinct", n.GetName())
		}
	})
	for i := range g.limits {
		l := &g.limits[i]
		value, has := attributeOf(n, l.attribute)
		count, all := int32(0), int32(0)
		for key := range l.keys(g) {
			if f.groups[key].none() {
				continue
			}
			for other, instances := range f.groups[key].on.all() {
				if v, has := attributeOf(f.nodes[other].node, l.attribute); has && v == value {
					count += instances
				}
				all += instances
			}
		}
		if check, detail := l.words(); !has || l.full(count, all) {
			return misfit(NotAllowed, "node_id", "%s does not pass %s: %s", n.GetName(), check, detail)
		}
	}
	return m
}

// PlaceExact places one instance of a group on a node with a grant that somebody else
// has chosen, and adds it to the fleet, from which Undo takes it. It is held to what
// Place keeps to: the checks of the group, what the group asks for and how that must lie
// in the node, and what is free. The error is a *Misfit. The placement has an assignment
// of its own, in which what follows from the rest (ports' targets and addresses) is set.
func (f *Fleet) PlaceExact(g *Group, nodeID string, a *berthv1.Assignment) (Placement, error) {
	if err := f.CheckNode(g, nodeID); err != nil {
		return Placement{}, err
	}
	n := &f.nodes[f.slots[nodeID]]
	a, err := g.asAsked(n.usage.Machine(), n.node, a)
	if err != nil {
		return Placement{}, err
	}
	grant, err := GrantOf(a)
	if err != nil {
		return Placement{}, misfit(WrongGrant, "assignment", "%w", err)
	}
	use := UseOf(a)
	if over := f.quotas.OverUse(g.Key.Namespace, &use); over != "" {
		return Placement{}, misfit(OverQuota, "quota", "%s", over)
	}
	if err := n.usage.Add(&grant); err != nil {
		why := Held
		if s, ok := err.(*topology.Shortfall); ok && s.Wanted == 0 { //nolint:errorlint // Add returns it as it is
			why = WrongGrant // it is not there, free or not
		}
		return Placement{}, misfit(why, "assignment", "%s: %w", n.node.GetName(), err)
	}
	n.usage.Remove(&grant) // it was the question only: ChangeAlloc takes it in
	f.ChangeAlloc(nil, &berthv1.Alloc{Namespace: g.Key.Namespace, Job: g.Key.Job, Group: g.Key.Group, NodeId: nodeID, Assignment: a})
	return Placement{NodeID: nodeID, NodeName: n.node.GetName(), Assignment: a}, nil
}

// portsAsAsked are the ports of an assignment with what follows from the group and node.
func (g *Group) portsAsAsked(m *topology.Machine, n *berthv1.Node, given []*berthv1.PortGrant) ([]*berthv1.PortGrant, *Misfit) {
	if len(given) != len(g.ports) {
		return nil, misfit(WrongGrant, "assignment.ports", "%d are granted, %d asked for", len(given), len(g.ports))
	}
	byName := map[string]*berthv1.PortGrant{}
	for _, p := range given {
		byName[p.GetName()] = p
	}
	out := make([]*berthv1.PortGrant, len(g.ports))
	for i, want := range g.ports {
		p := byName[want.name]
		field := "assignment.ports[" + strconv.Quote(want.name) + "]"
		switch {
		case p == nil:
			return nil, misfit(WrongGrant, field, "it is asked for, and not granted")
		case want.static != 0 && p.GetPort() != want.static:
			return nil, misfit(WrongGrant, field, "it must be %d", want.static)
		case want.static == 0 && (p.GetPort() < uint32(m.MinPort) || p.GetPort() > uint32(m.MaxPort) || p.GetPort() == 0):
			return nil, misfit(WrongGrant, field, "%d is not among the node's dynamic ports %d-%d", p.GetPort(), m.MinPort, m.MaxPort)
		}
		out[i] = want.granted(p.GetPort(), n.GetAddress())
	}
	return out, nil
}
