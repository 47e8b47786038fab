package plan

import (
	"iter"
	"maps"
	"slices"
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
	"github.com/berthd/berth/server/state"
)

// What keeps jobs off nodes whatever is free there: reservations, which begin and end by
// the clock, and namespaces' quotas. The fleet knows both and places nothing against
// them; here it is told, and those that wait for them are looked at again.

// holding are the reservations that hold now, and when that next changes (zero: never).
func holding(view *state.View, now time.Time) (hold []*berthv1.Reservation, next time.Time) {
	for r := range view.Reservations() {
		if scheduler.ReservationHolds(r, now) {
			hold = append(hold, r)
		}
		if at := scheduler.ReservationChange(r, now); !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return hold, next
}

// reserve tells the fleet what is reserved now. Who could fit on a node that is for
// others than before is looked at.
func (l *Loop) reserve(now time.Time) {
	hold, next := holding(l.view, now)
	l.reserveAt = next
	changed := l.fleet.Reserve(hold)
	for _, node := range changed {
		l.freed(node)
	}
	if len(changed) > 0 {
		for j := range l.system {
			l.mark(j, now.Add(systemDebounce), berthv1.Evaluation_node_changed)
		}
	}
}

// limit tells the fleet the quotas of namespaces that have changed, when everything else
// is caught up with the view.
func (l *Loop) limit(now time.Time) {
	for _, namespace := range slices.Sorted(maps.Keys(l.limits)) {
		quota := l.view.Namespace(namespace).GetQuota()
		l.fleet.SetQuota(namespace, quota, l.allocsIn(namespace))
		l.afforded(namespace, now)
	}
	clear(l.limits)
}

// allocsIn are all allocations of a namespace, those on the way among them.
func (l *Loop) allocsIn(namespace string) iter.Seq[*berthv1.Alloc] {
	return func(yield func(*berthv1.Alloc) bool) {
		for spec := range l.view.Jobs(namespace, "") {
			for a := range l.view.AllocsByJob(namespace, spec.GetName()) {
				if !yield(a) {
					return
				}
			}
		}
		for _, p := range l.pending {
			if p.alloc().GetNamespace() == namespace && !yield(p.alloc()) {
				return
			}
		}
	}
}

// afforded has the jobs of a namespace looked at that wait for its quota, after
// something of it was freed or it was raised.
func (l *Loop) afforded(namespace string, now time.Time) {
	l.wakeWhere(now, func(j *job) bool { return j.overQuota && j.key.namespace == namespace })
}

// heldLess notes that something that a namespace held is free.
func (l *Loop) heldLess(namespace string, now time.Time) {
	if l.fleet.Quotas().Counts(namespace) {
		l.afforded(namespace, now)
	}
}

// limitFleet tells a fleet of its own what the view says of reservations and quotas;
// before any allocation is taken in.
func limitFleet(fleet *scheduler.Fleet, view *state.View, now time.Time) (next time.Time) {
	hold, next := holding(view, now)
	fleet.Reserve(hold)
	for ns := range view.Namespaces() {
		fleet.SetQuota(ns.GetName(), ns.GetQuota(), func(func(*berthv1.Alloc) bool) {})
	}
	return next
}
