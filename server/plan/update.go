package plan

import (
	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// update is how an allocation comes to a newer version of its job.
type update uint8

const (
	upToDate update = iota
	inPlace         // its agent takes the new version over while it runs
	resized         // its limits change while it runs, where its node has room; else it is replaced
	replaced        // it is stopped, and another placed
)

type updateKey struct {
	group   string
	version uint64
}

// updateOf says how a live allocation comes to the job's version.
func (r *reconciler) updateOf(g *group, a *berthv1.Alloc) update {
	if a.GetJobVersion() == r.Job.GetVersion() {
		return upToDate
	}
	u := r.between(g, a.GetJobVersion())
	switch {
	case u != replaced && r.Allows != nil && !r.Allows(g.spec, a.GetNodeId()):
		return replaced
	case u == resized && r.fixed(g, a) != "":
		return replaced
	}
	return u
}

// stays says that an allocation runs already just as one of the job's version would.
func (r *reconciler) stays(g *group, a *berthv1.Alloc) bool {
	u := r.updateOf(g, a)
	return u == upToDate || u == inPlace
}

// outdated says that an allocation that has ended ran something else than the job is now.
func (r *reconciler) outdated(g *group, a *berthv1.Alloc) bool {
	if g.base != nil {
		return a.GetJobVersion() != g.base.GetVersion()
	}
	return a.GetJobVersion() != r.Job.GetVersion() && r.between(g, a.GetJobVersion()) != inPlace
}

// between compares the group in an older version with what it is now. A version that is
// not kept cannot be compared, and after one that was stopped all starts anew.
func (r *reconciler) between(g *group, version uint64) update {
	key := updateKey{g.spec.GetName(), version}
	if u, known := r.updates[key]; known {
		return u
	}
	u := replaced
	if old := r.Version(version); old != nil && !old.GetStopped() {
		u = compare(old, r.Job, old.GroupNamed(g.spec.GetName()), g.spec)
	}
	if r.updates == nil {
		r.updates = map[updateKey]update{}
	}
	r.updates[key] = u
	return u
}

// compare says how an allocation of the old version comes to the new one. In place, when it
// runs just as one of the new would, so that it needs no restart. These may differ:
//
//   - the job's priority, pool, architectures, constraints, affinities, spreads and
//     tolerations, and the group's: they choose the node (which must pass the new ones);
//   - the group's count and gang and their bounds, its disruption budget, and its update,
//     reschedule, restart and disconnect policies;
//   - its services and their checks: its agent takes them over while it runs;
//   - a task's restart policy, kill signal and kill timeout: the agent reads them when
//     they are due. Not so in a stateful group with on_disconnect.stop_after: its successors
//     rely on what the agent has heard (identity.go).
//
// Resized, when nothing else differs but limits that can change while it runs (resize.go).
func compare(oldJob, newJob *berthv1.Job, old, now *berthv1.Group) update {
	if old == nil || oldJob.GetType() != newJob.GetType() || !sameMeta(oldJob.GetMeta(), newJob.GetMeta()) {
		return replaced
	}
	before, after := runOf(old), runOf(now)
	switch {
	case proto.Equal(before, after):
		return inPlace
	case proto.Equal(withoutLimits(before), withoutLimits(after)):
		return resized
	}
	return replaced
}

func sameMeta(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

// runOf is a group with nothing but what its tasks see.
func runOf(g *berthv1.Group) *berthv1.Group {
	c := proto.Clone(g).(*berthv1.Group)
	var fence *berthv1.DisconnectPolicy
	if c.GetStateful() != nil && c.GetOnDisconnect().GetStopAfter().AsDuration() > 0 {
		fence = &berthv1.DisconnectPolicy{StopAfter: c.GetOnDisconnect().GetStopAfter()}
	}
	c.Count, c.Gang, c.Constraints, c.Affinities, c.Spreads = nil, false, nil, nil, nil
	c.Restart, c.Reschedule, c.OnDisconnect, c.Disruption, c.Tolerations = nil, nil, fence, nil, nil
	c.Update, c.Scaling, c.Stateful, c.Services = nil, nil, nil, nil
	for _, t := range c.GetTasks() {
		t.Constraints, t.Restart, t.KillSignal = nil, nil, ""
		if fence == nil {
			t.KillTimeout = nil
		}
	}
	return c
}
