package api

import (
	"context"

	"google.golang.org/grpc"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/external"
	"github.com/berthd/berth/server/state"
)

// schedulerService is for schedulers outside of Berth. What they claim and submit is the
// leader's affair (package external); what they read comes from the state, as everywhere.
type schedulerService struct {
	berthv1.UnimplementedSchedulerServiceServer
	a *API
}

// desk is where schedulers are looked after, on the leader.
func (s schedulerService) desk() (*external.Desk, error) {
	if s.a.desk != nil {
		if d := s.a.desk(); d != nil {
			return d, nil
		}
	}
	return nil, NotLeader(nil)
}

// onDesk carries a call out on the leader's desk.
func onDesk[Q, R any](s schedulerService, q Q, call func(*external.Desk, Q) (R, error)) (R, error) {
	d, err := s.desk()
	if err != nil {
		var none R
		return none, err
	}
	return call(d, q)
}

func (s schedulerService) RegisterScheduler(_ context.Context, q *berthv1.RegisterSchedulerRequest) (*berthv1.RegisterSchedulerResponse, error) {
	return onDesk(s, q, (*external.Desk).Register)
}

func (s schedulerService) DeregisterScheduler(_ context.Context, q *berthv1.DeregisterSchedulerRequest) (*berthv1.DeregisterSchedulerResponse, error) {
	return onDesk(s, q, (*external.Desk).Deregister)
}

func (s schedulerService) ListSchedulers(_ context.Context, q *berthv1.ListSchedulersRequest) (*berthv1.ListSchedulersResponse, error) {
	return onDesk(s, q, (*external.Desk).List)
}

func (s schedulerService) RenewLease(_ context.Context, q *berthv1.RenewLeaseRequest) (*berthv1.RenewLeaseResponse, error) {
	return onDesk(s, q, (*external.Desk).Renew)
}

// ClaimEvaluations ends with this server, as other waits do.
func (s schedulerService) ClaimEvaluations(ctx context.Context, q *berthv1.ClaimEvaluationsRequest) (*berthv1.ClaimEvaluationsResponse, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(s.a.life, func() { cancel(errClosing()) })
	defer stop()
	return onDesk(s, q, func(d *external.Desk, q *berthv1.ClaimEvaluationsRequest) (*berthv1.ClaimEvaluationsResponse, error) {
		return d.Claim(ctx, q)
	})
}

func (s schedulerService) ReleaseEvaluation(ctx context.Context, q *berthv1.ReleaseEvaluationRequest) (*berthv1.ReleaseEvaluationResponse, error) {
	return onDesk(s, q, func(d *external.Desk, q *berthv1.ReleaseEvaluationRequest) (*berthv1.ReleaseEvaluationResponse, error) {
		return d.Release(ctx, q)
	})
}

func (s schedulerService) SubmitPlan(ctx context.Context, q *berthv1.SubmitPlanRequest) (*berthv1.SubmitPlanResponse, error) {
	return onDesk(s, q, func(d *external.Desk, q *berthv1.SubmitPlanRequest) (*berthv1.SubmitPlanResponse, error) {
		return d.Submit(ctx, q)
	})
}

// ReadSnapshot tells the fleet at one revision. Whoever reads it slowly holds nobody up:
// the view is a copy.
func (s schedulerService) ReadSnapshot(q *berthv1.ReadSnapshotRequest, stream grpc.ServerStreamingServer[berthv1.FleetRecord]) error {
	view := s.a.store.View()
	send := func(r *berthv1.FleetRecord) error { return stream.Send(r) }
	if err := send(&berthv1.FleetRecord{Record: &berthv1.FleetRecord_Header{Header: &berthv1.FleetHeader{Revision: view.Revision()}}}); err != nil {
		return err
	}
	end := &berthv1.FleetEnd{}
	for node := range view.Nodes("") {
		if q.GetNodePool() != "" && node.GetPool() != q.GetNodePool() {
			continue
		}
		end.Nodes++
		if err := sendNode(view, node, end, send); err != nil {
			return err
		}
	}
	return send(&berthv1.FleetRecord{Record: &berthv1.FleetRecord_End{End: end}})
}

func sendNode(view *state.View, node *berthv1.Node, end *berthv1.FleetEnd, send func(*berthv1.FleetRecord) error) error {
	var held []*berthv1.Alloc
	for a := range view.AllocsByNode(node.GetId()) {
		if a.HoldsGrant() {
			held = append(held, a)
		}
	}
	if err := send(&berthv1.FleetRecord{Record: &berthv1.FleetRecord_Node{Node: external.Usage(node, held)}}); err != nil {
		return err
	}
	for _, a := range held {
		end.Allocs++
		if err := send(&berthv1.FleetRecord{Record: &berthv1.FleetRecord_Alloc{Alloc: a}}); err != nil {
			return err
		}
	}
	return nil
}

// StreamChanges is the event stream of nodes and allocations, in every namespace.
func (s schedulerService) StreamChanges(q *berthv1.StreamChangesRequest, stream grpc.ServerStreamingServer[berthv1.Event]) error {
	return statusService{a: s.a}.StreamEvents(&berthv1.StreamEventsRequest{
		Index: q.GetIndex(), Topics: []string{state.TableNodes.String(), state.TableAllocs.String()}, Namespace: anyNamespace,
	}, stream)
}
