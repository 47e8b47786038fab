package plan

import (
	"slices"
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
)

// The instances of a stateful group have an identity, their index, and there are never two
// of one index that may run: a successor is placed only when whatever had the index before
// has ended by its agent's word, or cannot run any more (identity.go). So an instance that
// is to be replaced or moved is stopped first; it is left alone while its successor would
// have no place.
//
// With order = "ordered" instances start from the first to the last, each when all before
// it are up; they are stopped, updated and moved from the last to the first, one at a time.

// ordinal is one index of a stateful group.
type ordinal struct {
	now    *berthv1.Alloc // is to run, and its node is there
	ended  *berthv1.Alloc // the newest that has ended by itself; nil: there is a newer one
	last   *berthv1.Alloc // the newest of those that have no successor
	holder *berthv1.Alloc // may still run, beside now
	ready  bool           // now does what it is there for
}

// stateful reconciles a stateful group.
func (r *reconciler) stateful(g *group) {
	slices.SortFunc(g.all, byPlace)
	ordinals := r.ordinals(g, scheduler.GroupCount(g.spec))
	r.start(g, ordinals)
	r.replace(g, ordinals)
}

// inOrder says whether a group's instances wait for each other.
func inOrder(g *berthv1.Group) bool { return g.GetStateful().GetOrder() != "parallel" }

// ordinals sorts a group's allocations by index, and ends what has none.
func (r *reconciler) ordinals(g *group, count int) []ordinal {
	list := make([]ordinal, count)
	var excess []*berthv1.Alloc
	for _, a := range g.live {
		switch {
		case int64(a.GetIndex()) >= int64(count):
			excess = append(excess, a)
		case list[a.GetIndex()].now != nil:
			r.stop(g, a, reasonDuplicate)
			list[a.GetIndex()].holder = a
		default:
			r.live++
			list[a.GetIndex()].now = a
			list[a.GetIndex()].ready = r.up(g, a)
		}
	}
	r.stopLast(g, excess, reasonCount)
	for _, a := range g.away {
		if int64(a.GetIndex()) >= int64(count) {
			r.lose(g, a)
		} else if r.waitsForNode(g, a) {
			list[a.GetIndex()].holder = a
		}
	}
	for _, a := range g.all {
		if int64(a.GetIndex()) >= int64(count) {
			continue
		}
		o := &list[a.GetIndex()]
		if a != o.now && (!a.Wanted() || a.GetStatus() == berthv1.Alloc_lost) && r.mayRun(g, a) && (o.holder == nil || r.nodeUp(o.holder)) {
			o.holder = a // of two the one that nobody can ask
		}
		if a.GetNextAlloc() == "" {
			o.last = a
		}
	}
	for _, a := range g.ended { // by index, then by creation
		if int64(a.GetIndex()) < int64(count) && list[a.GetIndex()].last == a {
			list[a.GetIndex()].ended = a
		}
	}
	return list
}

// stopLast stops allocations, in order: the last one first, and the next when it has ended.
func (r *reconciler) stopLast(g *group, list []*berthv1.Alloc, reason string) {
	if !inOrder(g.spec) {
		for _, a := range list {
			r.stop(g, a, reason)
		}
		return
	}
	for i, a := range list { // by index
		after := func(o *berthv1.Alloc) bool { return o.GetIndex() > a.GetIndex() }
		ending := func(o *berthv1.Alloc) bool {
			return o.GetIndex() >= a.GetIndex() && !o.Wanted() && !o.Terminal() && r.nodeUp(o)
		}
		switch {
		case i > 0 && list[i-1].GetIndex() == a.GetIndex():
			r.stop(g, a, reasonDuplicate)
		case slices.ContainsFunc(list, after) || slices.ContainsFunc(g.all, ending):
			r.live++
		default:
			r.stop(g, a, reason)
		}
	}
}

// start asks for the instances that are not there.
func (r *reconciler) start(g *group, list []ordinal) {
	for i := range list {
		o := &list[i]
		switch {
		case o.now != nil:
		case o.holder != nil:
			r.held(g, o.holder)
		default:
			r.startOne(g, uint32(i), o)
		}
		if !o.ready && inOrder(g.spec) {
			r.result.Rolling = true
			for k := range list[i+1:] { // they wait for this one
				if list[i+1+k].now == nil {
					r.waiting++
				}
			}
			return
		}
	}
}

// startOne asks for an instance whose index is free.
func (r *reconciler) startOne(g *group, index uint32, o *ordinal) {
	ask := Ask{Index: index, Previous: o.last}
	if o.last.GetMoved() {
		ask.Penalised = o.last.GetNodeId()
	}
	if o.ended != nil && !r.outdated(g, o.ended) {
		switch verdict, at := r.reschedule(g, o.ended); verdict {
		case isDone:
			return
		case givenUp:
			r.failed++
			return
		case waits:
			r.waiting++
			r.wake(at)
			return
		case isDue:
			ask.Penalised, ask.Reschedules = o.ended.GetNodeId(), r.recorded(o.ended)
		}
	}
	if g.spec.GetStateful().GetStickyDisk() && o.last != nil && !o.last.GetMoved() && !r.draining(o.last) {
		ask.Penalised, ask.Preferred = "", o.last.GetNodeId()
	}
	r.ask(g, ask)
}

// replace brings instances to the job's version and off nodes that are drained.
func (r *reconciler) replace(g *group, list []ordinal) {
	var up, down []*berthv1.Alloc // to be replaced, by whether they are up
	settled := true               // all others are up
	for i := range list {
		o := &list[i]
		switch {
		case o.now == nil:
			settled = false
		case r.draining(o.now) && r.drainDue(o.now):
			r.live--
			r.stop(g, o.now, reasonDrainDue)
			settled = false
		case !r.renewable(g, o.now) && !r.draining(o.now):
			settled = settled && o.ready
		case o.ready:
			up = append(up, o.now)
		default:
			down = append(down, o.now)
		}
	}
	room := r.replaceable(g, list, settled && len(down) == 0)
	now := len(down)+len(up) > 0 && r.staggered(g)
	for _, a := range slices.Backward(down) {
		if inOrder(g.spec) && !settled {
			r.result.Rolling = true
			break
		}
		if !r.draining(a) && !now {
			continue
		}
		r.ask(g, r.stoppedFirst(g, a))
		if inOrder(g.spec) {
			break
		}
	}
	for _, a := range slices.Backward(up) {
		most := room.update
		switch {
		case r.draining(a):
			most = room.move
		case !now:
			continue
		}
		if most <= 0 {
			r.result.Rolling = true
			continue
		}
		room.update--
		room.move--
		r.ask(g, r.stoppedFirst(g, a))
	}
}

// renewable says whether an instance is to be replaced by one of the job's version now.
// One that comes to the version in place does so.
func (r *reconciler) renewable(g *group, a *berthv1.Alloc) bool {
	if g.rollout != nil && g.rollout.steady || g.base != nil {
		return false
	}
	switch r.updateOf(g, a) {
	case inPlace:
		r.change(a, &berthv1.AllocChange{JobVersion: r.Job.GetVersion()})
		g.outcome.Updated++
	case resized, replaced:
		return true
	case upToDate:
	}
	return false
}

// stoppedFirst asks for an instance in place of one that runs, and ends before.
func (r *reconciler) stoppedFirst(g *group, a *berthv1.Alloc) Ask {
	ask := r.successor(g, a)
	ask.StopsFirst, ask.Moves = true, r.draining(a)
	if !ask.Moves {
		r.tookTurn(g)
	}
	return ask
}

// room is how many instances that are up may be stopped now, to be updated or moved.
type room struct{ update, move int }

// replaceable is the room of a stateful group: in order one instance at a time, when all
// others are up.
func (r *reconciler) replaceable(g *group, list []ordinal, settled bool) room {
	live := make([]*berthv1.Alloc, 0, len(list))
	missing := 0
	for i := range list {
		if list[i].ready {
			live = append(live, list[i].now)
		} else {
			missing++
		}
	}
	out := room{update: max(1, (len(list)+rollingShare-1)/rollingShare), move: r.disruptable(g, live, len(list))}
	if strategy := g.spec.GetUpdate(); strategy != nil {
		out.update = max(1, scheduler.Share(strategy.GetMaxParallel(), len(list), 1))
	}
	out.update -= missing
	if inOrder(g.spec) {
		most := 0
		if settled {
			most = 1
		}
		out.update, out.move = min(out.update, most), min(out.move, most)
	}
	return out
}

// held notes that an instance waits for what may still run in its place.
func (r *reconciler) held(g *group, holder *berthv1.Alloc) {
	r.waiting++
	if r.nodeUp(holder) {
		return // its agent ends it
	}
	g.outcome.Wanted++
	r.result.Held++
	if g.outcome.Explanation == nil {
		g.outcome.Explanation = r.whyHeld(g, holder)
	}
}

// latest is the later of two times.
func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
