package berthv1

import (
	"slices"

	"google.golang.org/protobuf/proto"
)

// Active says whether the roll-out goes on, or would when it is resumed.
func (d *Deployment) Active() bool {
	return d != nil && (d.GetStatus() == Deployment_running || d.GetStatus() == Deployment_paused)
}

// GroupNamed gives how far a group is; nil: the group is not rolled out by it.
func (d *Deployment) GroupNamed(name string) *DeploymentGroup {
	for _, g := range d.GetGroups() {
		if g.GetGroup() == name {
			return g
		}
	}
	return nil
}

// GroupNamed gives a group of the job; nil: it has none of that name.
func (x *Job) GroupNamed(name string) *Group {
	for _, g := range x.GetGroups() {
		if g.GetName() == name {
			return g
		}
	}
	return nil
}

// SameHealth says whether an instance of the group that is healthy is so by another
// version of the group too: both ask the same of it, and give it the same.
func (g *Group) SameHealth(other *Group) bool {
	if g.GetUpdate().GetHealth() != other.GetUpdate().GetHealth() || (g.GetUpdate() == nil) != (other.GetUpdate() == nil) {
		return false
	}
	if !slices.EqualFunc(g.GetTasks(), other.GetTasks(), func(a, b *Task) bool { return proto.Equal(a.GetResources(), b.GetResources()) }) {
		return false
	}
	return slices.EqualFunc(g.GetServices(), other.GetServices(), func(a, b *Service) bool {
		return a.GetName() == b.GetName() && a.GetPort() == b.GetPort() &&
			slices.EqualFunc(a.GetChecks(), b.GetChecks(), func(x, y *Check) bool { return proto.Equal(x, y) })
	})
}
