package command

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// fakeReservations are the reservations of a fake cluster.
type fakeReservations struct {
	berthv1.UnimplementedReservationServiceServer
	f    *fakeCluster
	list map[string]*berthv1.Reservation
}

func (s *fakeReservations) ListReservations(context.Context, *berthv1.ListReservationsRequest) (*berthv1.ListReservationsResponse, error) {
	r := &berthv1.ListReservationsResponse{}
	for _, name := range slices.Sorted(maps.Keys(s.list)) {
		r.Reservations = append(r.Reservations, s.list[name])
	}
	return r, nil
}

func (s *fakeReservations) GetReservation(_ context.Context, q *berthv1.GetReservationRequest) (*berthv1.Reservation, error) {
	if r := s.list[q.GetName()]; r != nil {
		return r, nil
	}
	return nil, notFound("reservation", q.GetName())
}

func (s *fakeReservations) CreateReservation(_ context.Context, q *berthv1.CreateReservationRequest) (*berthv1.Reservation, error) {
	r := q.GetReservation()
	if s.list[r.GetName()] != nil {
		return nil, problem.New(problem.Exists, "reservation.name", "there is a reservation %q already", r.GetName())
	}
	var ids []string
	for i, n := range s.f.nodes {
		if q.GetCount() > uint32(i) && len(q.GetConstraints()) == 1 && q.GetConstraints()[0].GetValue() == n.GetArch() || slices.Contains(r.GetNodeIds(), n.GetName()) {
			ids = append(ids, n.GetId())
		}
	}
	r.NodeIds = ids
	s.list[r.GetName()] = r
	return r, nil
}

func (s *fakeReservations) DeleteReservation(_ context.Context, q *berthv1.DeleteReservationRequest) (*berthv1.DeleteReservationResponse, error) {
	delete(s.list, q.GetName())
	return &berthv1.DeleteReservationResponse{}, nil
}

func (f *fakeCluster) SetNodeTaints(_ context.Context, q *berthv1.SetNodeTaintsRequest) (*berthv1.Node, error) {
	for _, n := range f.nodes {
		if n.GetName() == q.GetNodeId() {
			n.OperatorTaints = slices.DeleteFunc(append(n.OperatorTaints, q.GetAdd()...), func(t *berthv1.Taint) bool {
				return slices.ContainsFunc(q.GetRemove(), func(r string) bool { return strings.HasPrefix(r, t.GetKey()) })
			})
			return n, nil
		}
	}
	return nil, notFound("node", q.GetNodeId())
}

func (f *fakeCluster) GetNamespaceUsage(_ context.Context, q *berthv1.GetNamespaceUsageRequest) (*berthv1.NamespaceUsage, error) {
	return &berthv1.NamespaceUsage{Namespace: q.GetName(), Quota: f.namespaces[q.GetName()].GetQuota(),
		Used: &berthv1.Quota{CpuMilli: 12500, MemoryMib: 2048, DiskMib: 300, Allocs: 3, DevicesMilli: map[string]uint64{"gpu": 12000}}}, nil
}
