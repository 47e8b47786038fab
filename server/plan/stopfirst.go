package plan

import (
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
)

// stopFirst is for instances that can only be placed when the ones that they stand in for
// have ended: where they would have a place then, those are told to end, and what follows
// from that is asked for when they have. It gives the asks of which that is not so.
func (l *Loop) stopFirst(j *job, b *batch, same *identical, silent bool) (rest []Ask, why *scheduler.Unplaced) {
	var undo []func()
	one := *same
	for _, ask := range same.asks {
		old := l.view.Alloc(ask.Previous.GetId())
		if old == nil || !ask.Replaces || !old.HoldsGrant() || !old.Wanted() {
			continue
		}
		l.fleet.ChangeAlloc(old, nil)
		one.asks = []Ask{ask}
		placements, unplaced := l.place(j, one.ask(1, silent))
		if len(placements) == 0 {
			l.fleet.ChangeAlloc(nil, old)
			rest = append(rest, ask)
			why = &unplaced[0]
			continue
		}
		undo = append(undo, func() {
			l.fleet.Undo(same.group, placements[0])
			l.fleet.ChangeAlloc(nil, old)
		})
		l.stopReplaced(j, b, ask)
	}
	for _, back := range slices.Backward(undo) {
		back()
	}
	return rest, why
}

// stopAhead stops instances that must end before anything is placed in their stead. Those
// whose successors would have no place go on, and wait.
func (l *Loop) stopAhead(j *job, b *batch, same *identical) int {
	n := same.left
	recalled := l.recallFor(j, same)
	rest, why := l.stopFirst(j, b, same, j.work.silent || recalled != nil)
	if len(rest) == 0 {
		return n
	}
	same.asks, same.left, same.overQuota = rest, len(rest), why.OverQuota
	if recalled == nil {
		recalled = why.Explanation
	}
	j.work.unplaced(same, recalled)
	l.waits(j, same, same.left)
	return n
}

// placePreferred places instances on the node that they would rather have, as far as it
// has room, and gives how many.
func (l *Loop) placePreferred(j *job, b *batch, same *identical) (n int) {
	for same.preferred != "" && same.left > 0 {
		ask := same.ask(1, true)
		ask.Nodes = []string{same.preferred}
		placements, _ := l.place(j, ask)
		if len(placements) == 0 {
			break
		}
		l.propose(j, b, same.take(placements[0]), placements[0])
		n++
	}
	return n
}

// stopReplaced tells the allocation to end that an ask replaces.
func (l *Loop) stopReplaced(j *job, b *batch, ask Ask) {
	b.change(j, &berthv1.AllocChange{AllocId: ask.Previous.GetId(), Desired: berthv1.Alloc_stop.Enum(), DesiredReason: ask.reason(j.work.spec)})
	if o := j.work.outcomes[ask.Group.GetName()]; o != nil {
		o.Stopped++
	}
}
