package api

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
	"github.com/berthd/berth/server/state"
)

// reservationService is about nodes that are kept for some jobs.
type reservationService struct {
	berthv1.UnimplementedReservationServiceServer
	a *API
}

func (s reservationService) ListReservations(ctx context.Context, q *berthv1.ListReservationsRequest) (*berthv1.ListReservationsResponse, error) {
	p, err := newPager(q, &berthv1.Reservation{})
	if err != nil {
		return nil, err
	}
	topics := []state.Topic{{Table: state.TableReservations}}
	return read(ctx, s.a, q, topics, func(view *state.View) (*berthv1.ListReservationsResponse, error) {
		items := from(view.Reservations(), p.start(), (*berthv1.Reservation).GetName)
		items = within(items, p.prefix, (*berthv1.Reservation).GetName, true)
		page, next, err := p.page(ctx, items, (*berthv1.Reservation).GetName)
		return &berthv1.ListReservationsResponse{Reservations: page, NextPageToken: next}, err
	})
}

func (s reservationService) GetReservation(ctx context.Context, q *berthv1.GetReservationRequest) (*berthv1.Reservation, error) {
	topics := []state.Topic{{Table: state.TableReservations, Key: q.GetName()}}
	return read(ctx, s.a, q, topics, func(view *state.View) (*berthv1.Reservation, error) {
		return findReservation(view, "name", q.GetName())
	})
}

func findReservation(view *state.View, field, name string) (*berthv1.Reservation, error) {
	if r := view.Reservation(name); r != nil {
		return r, nil
	}
	return nil, problem.New(problem.NotFound, field, "there is no reservation %q", name).WithRemedy("berth reservation list shows them")
}

func (s reservationService) CreateReservation(ctx context.Context, q *berthv1.CreateReservationRequest) (*berthv1.Reservation, error) {
	if err := checkReservation(q.GetReservation()); err != nil {
		return nil, err
	}
	view := s.a.store.View()
	r := proto.CloneOf(q.GetReservation())
	r.CreateRevision, r.ModifyRevision = 0, 0
	var err error
	switch {
	case q.GetCount() == 0 && len(r.GetNodeIds()) == 0:
		return nil, problem.New(problem.Invalid, "reservation.node_ids", "the reservation has no nodes").WithRemedy("name nodes, or say how many with count")
	case q.GetCount() > 0 && len(r.GetNodeIds()) > 0:
		return nil, problem.New(problem.Invalid, "count", "both nodes and a count were given").WithRemedy("leave one of them out")
	case q.GetCount() > 0:
		r.NodeIds, err = s.choose(view, q)
	default:
		r.NodeIds, err = nodeIDs(view, r.GetNodeIds())
	}
	if err != nil {
		return nil, err
	}
	_, err = s.a.propose(ctx, func(e *berthv1.LogEntry) { e.Fact = &berthv1.LogEntry_ReservationSet{ReservationSet: r} })
	if err != nil {
		return nil, err
	}
	return findReservation(s.a.store.View(), "name", r.GetName())
}

// checkReservation refuses what makes no sense whatever the state.
func checkReservation(r *berthv1.Reservation) error {
	const field = "reservation"
	switch {
	case !namePattern.MatchString(r.GetName()):
		return problem.New(problem.Invalid, field+".name", "%q is not a name for a reservation", r.GetName()).
			WithRemedy("use 1 to 64 lower-case letters, digits and hyphens")
	case len(r.GetJobs())+len(r.GetNamespaces()) == 0:
		return problem.New(problem.Invalid, field+".jobs", "nobody may use the reservation").WithRemedy(`name jobs as "namespace/job", or namespaces`)
	case r.GetStartTime() != nil && r.GetEndTime() != nil && !r.GetStartTime().AsTime().Before(r.GetEndTime().AsTime()):
		return problem.New(problem.Invalid, field+".end_time", "the reservation ends before it begins")
	}
	for _, job := range r.GetJobs() {
		if namespace, name, ok := strings.Cut(job, "/"); !ok || namespace == "" || name == "" {
			return problem.New(problem.Invalid, field+".jobs", "%q is not a job", job).WithRemedy(`write "namespace/job", such as "default/%s"`, strings.Trim(job, "/"))
		}
	}
	return nil
}

// nodeIDs are the ids of nodes that were named somehow, each once.
func nodeIDs(view *state.View, given []string) ([]string, error) {
	var ids []string
	for _, name := range given {
		node, err := findNode(view, name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(ids, node.GetId()) {
			ids = append(ids, node.GetId())
		}
	}
	return ids, nil
}

// choose gives the emptiest nodes that meet the request and are free in its time.
func (s reservationService) choose(view *state.View, q *berthv1.CreateReservationRequest) ([]string, error) {
	taken := map[string]bool{}
	for other := range view.Reservations() {
		for _, id := range other.GetNodeIds() {
			one := &berthv1.Reservation{NodeIds: []string{id}, StartTime: q.GetReservation().GetStartTime(), EndTime: q.GetReservation().GetEndTime()}
			if _, overlap := scheduler.ReservationsOverlap(one, other); overlap && !scheduler.ReservationOver(other, time.Now()) {
				taken[id] = true
			}
		}
	}
	var free []*berthv1.Node
	for n := range view.Nodes("") {
		if !taken[n.GetId()] {
			free = append(free, n)
		}
	}
	chosen, err := scheduler.Emptiest(free, q.GetNodePool(), q.GetConstraints(), func(id string) (granted scheduler.Use) {
		for alloc := range view.AllocsByNode(id) {
			if alloc.HoldsGrant() {
				granted.Add(scheduler.UseOf(alloc.GetAssignment()))
			}
		}
		return granted
	})
	if err != nil {
		return nil, err
	}
	if n := int(q.GetCount()); n > len(chosen) {
		return nil, problem.New(problem.Exhausted, "count", "%d nodes are wanted, and %d are ready, meet the constraints and are not reserved in that time", n, len(chosen)).
			WithRemedy("ask for fewer, relax the constraints, or choose another time")
	}
	return chosen[:q.GetCount()], nil
}

func (s reservationService) DeleteReservation(ctx context.Context, q *berthv1.DeleteReservationRequest) (*berthv1.DeleteReservationResponse, error) {
	if _, err := findReservation(s.a.store.View(), "name", q.GetName()); err != nil {
		return nil, err
	}
	_, err := s.a.propose(ctx, func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_ReservationDeleted{ReservationDeleted: &berthv1.ReservationDeleted{Name: q.GetName()}}
	})
	return &berthv1.DeleteReservationResponse{}, err
}

// checkClaim refuses a job that names a reservation which is not there or not for it.
func checkClaim(view *state.View, job *berthv1.Job) error {
	if job.GetReservation() == "" {
		return nil
	}
	r, err := findReservation(view, "job.reservation", job.GetReservation())
	if err != nil {
		return err
	}
	if !scheduler.ReservationAllows(r, job.GetNamespace(), job.GetName()) {
		return problem.New(problem.Denied, "job.reservation", "reservation %q is not for job %q of namespace %q", r.GetName(), job.GetName(), job.GetNamespace()).
			WithRemedy("it is for %s", orList(slices.Concat(r.GetJobs(), r.GetNamespaces())))
	}
	return nil
}
