package scheduler

import (
	"slices"
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// ReservationHolds says whether a reservation keeps others off its nodes at a time.
func ReservationHolds(r *berthv1.Reservation, now time.Time) bool {
	return !(r.GetStartTime() != nil && now.Before(r.GetStartTime().AsTime())) && !ReservationOver(r, now)
}

// ReservationOver says whether a reservation has ended.
func ReservationOver(r *berthv1.Reservation, now time.Time) bool {
	return r.GetEndTime() != nil && !now.Before(r.GetEndTime().AsTime())
}

// ReservationChange is when a reservation next begins or ends; zero: never again.
func ReservationChange(r *berthv1.Reservation, now time.Time) time.Time {
	if start := r.GetStartTime(); start != nil && now.Before(start.AsTime()) {
		return start.AsTime()
	}
	if end := r.GetEndTime(); end != nil && now.Before(end.AsTime()) {
		return end.AsTime()
	}
	return time.Time{}
}

// ReservationAllows says whether a job may use a reservation.
func ReservationAllows(r *berthv1.Reservation, namespace, job string) bool {
	return slices.Contains(r.GetNamespaces(), namespace) || slices.Contains(r.GetJobs(), namespace+"/"+job)
}

// ReservationsOverlap says whether two reservations want one node at the same time, and
// which.
func ReservationsOverlap(a, b *berthv1.Reservation) (nodeID string, overlap bool) {
	before := func(x, y *berthv1.Reservation) bool { // x ends before y begins
		return x.GetEndTime() != nil && y.GetStartTime() != nil && !x.GetEndTime().AsTime().After(y.GetStartTime().AsTime())
	}
	if before(a, b) || before(b, a) {
		return "", false
	}
	for _, id := range a.GetNodeIds() {
		if slices.Contains(b.GetNodeIds(), id) {
			return id, true
		}
	}
	return "", false
}

// ReservationRefuses says in words why an allocation of a job may not be placed on a
// node that is reserved so (nil: not at all); "" when it may.
func ReservationRefuses(reserved *berthv1.Reservation, job *berthv1.Job) string {
	c := claim{name: job.GetReservation(), namespace: job.GetNamespace(), job: job.GetName()}
	return c.refused(reserved)
}

// claim is what a job says of reservations. Groups of jobs that name none share a view
// of the fleet.
type claim struct {
	name           string // "": only nodes that nobody reserved
	namespace, job string // of a job that names one
}

func newClaim(job *berthv1.Job) claim {
	if job.GetReservation() == "" {
		return claim{}
	}
	return claim{job.GetReservation(), job.GetNamespace(), job.GetName()}
}

func (c claim) refused(reserved *berthv1.Reservation) string {
	switch {
	case reserved == nil && c.name == "":
		return ""
	case reserved == nil || c.name != "" && reserved.GetName() != c.name:
		return "node is not reserved by " + c.name
	case c.name == "":
		return "reserved by " + reserved.GetName()
	case !ReservationAllows(reserved, c.namespace, c.job):
		return "reservation " + c.name + " is not for this job"
	}
	return ""
}

// Reserve says which reservations hold now: those nodes take nothing new but what names
// the reservation. It replaces what was said before, and gives the ids of the nodes for
// which that is something else, in order.
func (f *Fleet) Reserve(holding []*berthv1.Reservation) (changed []string) {
	now := map[string]*berthv1.Reservation{}
	for _, r := range holding {
		for _, id := range r.GetNodeIds() {
			if other := now[id]; other == nil || r.GetName() < other.GetName() {
				now[id] = r
			}
		}
	}
	before := f.reserved
	f.reserved = now
	for id, r := range now {
		if before[id] != r {
			changed = append(changed, id)
		}
	}
	for id := range before {
		if now[id] == nil {
			changed = append(changed, id)
		}
	}
	slices.Sort(changed)
	for _, id := range changed {
		f.touchNode(id)
	}
	return changed
}

// touchNode has the static checks of a node made anew.
func (f *Fleet) touchNode(id string) {
	if slot, known := f.slots[id]; known {
		f.touch(slot)
	}
}
