package fsm

import (
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
)

// reservationSet stores a new reservation; what it says never changes afterwards.
func (a *applier) reservationSet(r *berthv1.Reservation) error {
	switch {
	case r.GetName() == "" || len(r.GetNodeIds()) == 0:
		return problem.New(problem.Invalid, "reservation", "a reservation without a name or without nodes")
	case a.Reservation(r.GetName()) != nil:
		return problem.New(problem.Exists, "reservation.name", "there is a reservation %q already", r.GetName()).
			WithRemedy("choose another name, or berth reservation delete %s", r.GetName())
	case scheduler.ReservationOver(r, a.Time()):
		return problem.New(problem.Invalid, "reservation.end_time", "the reservation is over before it is made")
	}
	for _, id := range r.GetNodeIds() {
		if a.Node(id) == nil {
			return problem.New(problem.NotFound, "reservation.node_ids", "there is no node %q", id)
		}
	}
	for other := range a.Reservations() {
		if scheduler.ReservationOver(other, a.Time()) {
			continue
		}
		if id, overlap := scheduler.ReservationsOverlap(r, other); overlap {
			return problem.New(problem.Conflict, "reservation.node_ids", "node %s is reserved by %q in that time", a.Node(id).GetName(), other.GetName()).
				WithRemedy("choose other nodes or another time, or berth reservation delete %s", other.GetName())
		}
	}
	a.PutReservation(revised(r, func(n *berthv1.Reservation) { n.CreateRevision, n.ModifyRevision = a.Revision(), a.Revision() }))
	return nil
}

func (a *applier) reservationDeleted(f *berthv1.ReservationDeleted) error {
	if a.Reservation(f.GetName()) == nil {
		return problem.New(problem.NotFound, "reservation", "there is no reservation %q", f.GetName())
	}
	a.DeleteReservation(f.GetName())
	return nil
}

// admitted says why a job's allocation may not go to a node for what is reserved there
// when the entry was proposed.
func (a *applier) admitted(job *berthv1.Job, nodeID, node string) error {
	if a.reserved == nil {
		a.reserved = map[string]*berthv1.Reservation{}
		for r := range a.Reservations() {
			if scheduler.ReservationHolds(r, a.Time()) {
				for _, id := range r.GetNodeIds() {
					a.reserved[id] = r
				}
			}
		}
	}
	if why := scheduler.ReservationRefuses(a.reserved[nodeID], job); why != "" {
		return problem.New(problem.Conflict, "node "+node, "%s", why)
	}
	return nil
}
