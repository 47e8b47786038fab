package plan

import (
	"fmt"
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// When something of a stateful group cannot run any more though nobody has said so. It is
// on a node that is not there, and may go on running on it: nobody knows. It is certain not
// to run when
//
//   - the node has been removed (`berth node remove`), or the allocation was stopped by
//     force (`berth alloc stop -force`): an operator's word;
//   - or on_disconnect.stop_after has passed since the node was found down, in which time
//     its agent has stopped it, and the time that stopping takes, and a margin. The node
//     was last heard before it was found down.
//
// Without stop_after the successor waits for the node to come back, or for the operator.

// disconnectMargin is for clocks of servers that differ, and for agents that are slow.
const disconnectMargin = 30 * time.Second

// mayRun says whether an allocation that is not to run may do so still.
func (r *reconciler) mayRun(g *group, a *berthv1.Alloc) bool {
	if a.Ended() || r.Node(a.GetNodeId()) == nil {
		return false
	}
	if r.nodeUp(a) {
		return true // until its agent says that it has ended
	}
	return r.before(r.overAt(g, a))
}

// waitsForNode deals with an allocation whose node is not there. It says whether it may
// still run: then it is waited for, and goes on should its node come back.
func (r *reconciler) waitsForNode(g *group, a *berthv1.Alloc) bool {
	node := r.Node(a.GetNodeId())
	over, known := r.overAt(g, a)
	if node != nil && known {
		over = latest(over, node.GetStatusTime().AsTime().Add(g.spec.GetOnDisconnect().GetLostAfter().AsDuration()))
	}
	if node == nil || !r.before(over, known) {
		r.lose(g, a)
		return false
	}
	r.live++
	if a.GetStatus() != berthv1.Alloc_unknown {
		r.change(a, &berthv1.AllocChange{Status: berthv1.Alloc_unknown.Enum(), StatusReason: reasonNodeAway})
	}
	return true
}

// before says whether a time is still to come, and asks for another look then; not known
// is never.
func (r *reconciler) before(at time.Time, known bool) bool {
	if !known {
		return true
	}
	if r.Now.Before(at) {
		r.wake(at)
		return true
	}
	return false
}

// overAt is when an allocation on a node that is not there has been stopped by its agent;
// false: it is not stopped.
func (r *reconciler) overAt(g *group, a *berthv1.Alloc) (time.Time, bool) {
	ran := r.Version(a.GetJobVersion()).GroupNamed(a.GetGroup())
	if ran == nil {
		ran = g.spec
	}
	after := ran.GetOnDisconnect().GetStopAfter().AsDuration()
	if after <= 0 {
		return time.Time{}, false
	}
	down := r.Node(a.GetNodeId()).GetStatusTime().AsTime()
	return down.Add(after + stopTakes(ran) + disconnectMargin), true
}

// defaultKillTimeout is the schema's.
const defaultKillTimeout = 5 * time.Second

// stopTakes is how long an agent takes at most to stop a group: its tasks one after the other.
func stopTakes(g *berthv1.Group) time.Duration {
	d := g.GetShutdownDelay().AsDuration()
	for _, t := range g.GetTasks() {
		d += durationOr(t.GetKillTimeout(), defaultKillTimeout) + t.GetShutdownDelay().AsDuration()
	}
	return d
}

// whyHeld explains why an instance waits for one that may still run.
func (r *reconciler) whyHeld(g *group, holder *berthv1.Alloc) *berthv1.Explanation {
	node := r.Node(holder.GetNodeId())
	name := node.GetName()
	if name == "" {
		name = holder.GetNodeId()
	}
	x := &berthv1.Explanation{
		Needs: fmt.Sprintf("%s[%d] must not run twice, and allocation %s may still run on %s, which is %s",
			g.spec.GetName(), holder.GetIndex(), holder.GetId(), name, node.GetStatus()),
		Remedies: []string{fmt.Sprintf("bring %s back: its agent says what became of it", name)},
	}
	if at, known := r.overAt(g, holder); known {
		x.Remedies = append(x.Remedies, fmt.Sprintf("wait until %s: by then its agent has stopped it (on_disconnect.stop_after)", at.UTC().Format(time.RFC3339)))
	}
	x.Remedies = append(x.Remedies,
		fmt.Sprintf("if the node is gone for good: berth node remove %s", name),
		fmt.Sprintf("if it is certain that it does not run any more: berth alloc stop -force %s", holder.GetId()))
	if _, known := r.overAt(g, holder); !known {
		x.Remedies = append(x.Remedies, "let agents stop it themselves when they lose touch: on_disconnect.stop_after")
	}
	return x
}
