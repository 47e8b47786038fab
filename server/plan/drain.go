package plan

import (
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
)

// What runs on a node that is drained is moved: another instance is placed elsewhere, and
// the one on the node stops at the same time. Until the new one is up, the instance is
// missing, and no more of a group may be missing by that than its disruption budget
// allows. What finds no place elsewhere goes on where it is.
//
// Batch jobs are left to finish, and system jobs go when nothing else is left on the node
// (system.go). At the deadline all that is left is stopped at once, and replaced.

const (
	reasonDrained  = "its node is drained"
	reasonDrainDue = "its node is drained, and the deadline has come"
	// drainShare is the part of a group without a disruption budget that may be missing
	// by drains at a time: one in so many, at least one.
	drainShare = 4
	// defaultHealthyDeadline is the schema's.
	defaultHealthyDeadline = 5 * time.Minute
)

// draining says whether an allocation is on a node that is to be empty.
func (r *reconciler) draining(a *berthv1.Alloc) bool { return r.Node(a.GetNodeId()).GetDrain() != nil }

// drainDue says whether the drain's deadline has come; before it asks for another look then.
func (r *reconciler) drainDue(a *berthv1.Alloc) bool {
	deadline := r.Node(a.GetNodeId()).GetDrain().GetDeadline()
	if deadline == nil {
		return false
	}
	if r.Now.Before(deadline.AsTime()) {
		r.wake(deadline.AsTime())
		return false
	}
	return true
}

// drain moves what is on drained nodes, and gives the allocations that stay.
func (r *reconciler) drain(g *group, live []*berthv1.Alloc, count int) (stay []*berthv1.Alloc) {
	if !g.drained {
		return live
	}
	var leaving []*berthv1.Alloc
	for _, a := range live {
		switch {
		case !r.draining(a):
			stay = append(stay, a)
		case r.drainDue(a):
			r.stop(g, a, reasonDrainDue)
			r.ask(g, Ask{Index: a.GetIndex(), Previous: a})
		case r.toCompletion():
			stay = append(stay, a)
		default:
			leaving = append(leaving, a)
		}
	}
	if len(leaving) == 0 {
		return stay
	}
	room := r.disruptable(g, append(stay[:len(stay):len(stay)], leaving...), count)
	if room > 0 && (g.spec.GetGang() || r.Job.GetGang()) {
		room = len(leaving) // it runs as a whole or not at all
	}
	for _, a := range leaving {
		if r.up(g, a) {
			if room <= 0 {
				r.result.Rolling = true
				stay = append(stay, a)
				continue
			}
			room--
		}
		r.live++
		r.ask(g, Ask{Index: a.GetIndex(), Previous: a, Replaces: true, Moves: true})
	}
	return stay
}

// disruptable is how many of a group's instances that are up may be taken away now by a
// drain: what is missing already, for whatever reason, counts.
func (r *reconciler) disruptable(g *group, live []*berthv1.Alloc, count int) int {
	most := max(1, count/drainShare)
	if g.spec.GetDisruption() != nil {
		most = scheduler.MaxUnavailable(g.spec, count)
	}
	up := 0
	for _, a := range live {
		if r.up(g, a) {
			up++
		}
	}
	return most - max(0, count-up)
}

// up says whether an instance does what it is there for: it runs, nobody has told it to
// end, and, with an update strategy, it is healthy. One that nobody has judged by its
// deadline counts by whether it runs.
func (r *reconciler) up(g *group, a *berthv1.Alloc) bool {
	if a.GetStatus() != berthv1.Alloc_running || r.Told != nil && r.Told(a.GetId()) {
		return false
	}
	strategy := g.spec.GetUpdate()
	if strategy == nil {
		strategy = r.Job.GetUpdate()
	}
	if strategy == nil || a.GetHealth() != berthv1.Alloc_undecided {
		return a.GetHealth() != berthv1.Alloc_unhealthy
	}
	if r.onTrial(a) && strategy.GetHealth() != "manual" {
		return false // its agent will say, and counts from when the tasks have started
	}
	deadline := defaultHealthyDeadline
	if d := strategy.GetHealthyDeadline(); d != nil {
		deadline = d.AsDuration()
	}
	judged := askedSince(a).Add(deadline)
	if r.Now.Before(judged) {
		r.wake(judged)
		return false
	}
	return true
}

// onTrial says whether an instance is of a version that was not rolled out well, as yet.
func (r *reconciler) onTrial(a *berthv1.Alloc) bool {
	return r.deployment != nil && r.deployment.GetStatus() != berthv1.Deployment_successful && a.GetJobVersion() == r.Job.GetVersion()
}

// drainSystem stops the instances of a system job on drained nodes where nothing else is
// left, and gives those that stay.
func (r *reconciler) drainSystem(g *group, live []*berthv1.Alloc) (stay []*berthv1.Alloc) {
	if !g.drained {
		return live
	}
	for _, a := range live {
		switch {
		case !r.draining(a) || r.Node(a.GetNodeId()).GetDrain().GetIgnoreSystem():
			stay = append(stay, a)
		case r.drainDue(a):
			r.stop(g, a, reasonDrainDue)
		case r.toCompletion() || r.Occupied != nil && r.Occupied(a.GetNodeId()):
			stay = append(stay, a)
		default:
			r.stop(g, a, reasonDrained)
		}
	}
	return stay
}

// reason is why the allocation is stopped that the ask replaces.
func (a *Ask) reason(spec *berthv1.Job) string {
	if a.Moves {
		return reasonDrained
	}
	return updated(spec)
}
