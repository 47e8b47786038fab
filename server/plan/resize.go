package plan

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/state"
)

// Limits (CPU, memory, processes) can change while a task runs, where its driver has the
// power to. Reconcile asks for such an instance as for one that is replaced (Ask.Resizes),
// in its turn and within the same budget. The loop first has the scheduler give it what it
// asks for now on its own node, with what it has given back; where that fits, it is a
// change of the allocation, with the new grant in it. Where it does not, it is replaced.

// powerUpdate is how drivers call the power to change limits of what runs.
const powerUpdate = "update"

// withoutLimits is a group, which belongs to the caller, without what can change while it
// runs. Hugepages and devices cannot: tasks take hold of them when they start.
func withoutLimits(g *berthv1.Group) *berthv1.Group {
	for _, t := range g.GetTasks() {
		r := t.GetResources()
		if r == nil {
			r = &berthv1.Resources{}
			t.Resources = r
		}
		r.CpuMilli, r.Cores, r.MemoryMib, r.MemoryMaxMib, r.Pids = 0, 0, 0, 0, 0
		if r.GetCoreUnit() == "" {
			r.CoreUnit = "core"
		}
	}
	return g
}

// fixed says why the limits of an allocation cannot change while it runs, whatever its
// node has; "": they can.
func (r *reconciler) fixed(g *group, a *berthv1.Alloc) string {
	if g.spec.GetGang() || r.Job.GetGang() {
		return "a gang is replaced as a whole"
	}
	old, node := r.Version(a.GetJobVersion()).GroupNamed(g.spec.GetName()), r.Node(a.GetNodeId())
	for i, t := range g.spec.GetTasks() {
		if proto.Equal(t.GetResources(), old.GetTasks()[i].GetResources()) {
			continue
		}
		at := slices.IndexFunc(node.GetDrivers(), func(d *berthv1.DriverInfo) bool { return d.GetName() == t.GetDriver() })
		if at < 0 || !slices.Contains(node.GetDrivers()[at].GetCapabilities(), powerUpdate) {
			return fmt.Sprintf("the driver %s of %s cannot change limits of what runs", t.GetDriver(), node.GetName())
		}
	}
	return ""
}

// successor asks for an instance in place of one that runs.
func (r *reconciler) successor(g *group, a *berthv1.Alloc) Ask {
	return Ask{Index: a.GetIndex(), Previous: a, Replaces: true, Resizes: !r.draining(a) && r.updateOf(g, a) == resized}
}

// resize is another grant of an allocation that is on its way. The fleet has it; until the
// view does too, it is in Loop.resizing.
type resize struct {
	entry *entry
	to    *berthv1.Assignment
}

// resized is an allocation of the view as the fleet knows it.
func (s *resize) resized(a *berthv1.Alloc) *berthv1.Alloc {
	if s == nil || a == nil {
		return a
	}
	c := a.ShallowCopy()
	c.Assignment = s.to
	return c
}

// resize changes the limits of up to most instances whose nodes have room for that. The
// others are left to be replaced, after all that is asked for beside them.
func (l *Loop) resize(j *job, b *batch, same *identical, most int) int {
	n, rest := min(len(same.asks), most), []Ask(nil)
	for _, ask := range same.asks[:n] {
		now := l.view.Alloc(ask.Previous.GetId())
		if now == nil || !now.Wanted() || now.Terminal() {
			continue // it is looked at again for that
		}
		if l.resizing[now.GetId()] != nil {
			continue
		}
		to, err := l.fleet.Resize(same.group, now)
		if err != nil {
			rest = append(rest, ask)
			continue
		}
		change := &berthv1.AllocChange{AllocId: now.GetId(), JobVersion: j.work.spec.GetVersion()}
		if !proto.Equal(to, now.GetAssignment()) {
			change.Assignment = to
		}
		e := b.change(j, change)
		if change.Assignment != nil {
			l.resizing[now.GetId()] = &resize{e, to}
			l.crowd.forget(now.GetNodeId())
		}
		if o := j.work.outcomes[same.name()]; o != nil {
			o.Updated, o.Wanted = o.Updated+1, o.Wanted-1
		}
	}
	same.asks, same.left = same.asks[n:], same.left-n
	if len(rest) > 0 {
		j.work.asks = append(j.work.asks, same.replacing(rest))
	}
	return n
}

// replacing is for those that cannot be resized.
func (i *identical) replacing(asks []Ask) *identical {
	rest := *i
	rest.asks, rest.left, rest.resizes = asks, len(asks), false
	return &rest
}

// resizedInView takes in a change of an allocation of which another grant is on its way.
func (l *Loop) resizedInView(before, after *state.AllocRow) (from, to *berthv1.Alloc) {
	from, to = before.Alloc(), after.Alloc()
	id := from.GetId()
	s := l.resizing[id]
	if s == nil {
		return from, to
	}
	from = s.resized(from)
	if to == nil || !to.HoldsGrant() || proto.Equal(to.GetAssignment(), s.to) {
		delete(l.resizing, id)
		return from, to
	}
	return from, s.resized(to)
}

// keepSize takes back that an allocation was to have another grant.
func (l *Loop) keepSize(id string) {
	s := l.resizing[id]
	if s == nil {
		return
	}
	delete(l.resizing, id)
	if now := l.view.Alloc(id); now != nil {
		l.fleet.ChangeAlloc(s.resized(now), now)
		l.crowd.forget(now.GetNodeId())
		l.freed(now.GetNodeId())
	}
}

// resizeAgain has a fleet that was built anew from the view know what is on the way.
func (l *Loop) resizeAgain() {
	for id, s := range l.resizing {
		now := l.view.Alloc(id)
		if now == nil || !now.HoldsGrant() || s.entry.landed || proto.Equal(now.GetAssignment(), s.to) {
			delete(l.resizing, id)
			continue
		}
		l.fleet.ChangeAlloc(now, s.resized(now))
	}
}
