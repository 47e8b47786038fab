package api

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// statusService is about the server that is asked, and its cluster; events.go has its
// event stream.
type statusService struct {
	berthv1.UnimplementedStatusServiceServer
	a *API
}

// outOfTouch is for how long a server may not hear its leader and still call itself
// healthy. Elections are over long before.
const outOfTouch = 10 * time.Second

func (s statusService) GetMembers(context.Context, *berthv1.GetMembersRequest) (*berthv1.GetMembersResponse, error) {
	return &berthv1.GetMembersResponse{Members: s.a.gossip.Members()}, nil
}

func (s statusService) JoinServers(ctx context.Context, q *berthv1.JoinServersRequest) (*berthv1.JoinServersResponse, error) {
	if len(q.GetAddresses()) == 0 {
		return nil, problem.New(problem.Invalid, "addresses", "no address was given").
			WithRemedy("give the gossip address of a server, such as 10.0.0.1:7463")
	}
	n, err := s.a.gossip.Join(ctx, q.GetAddresses())
	if n > 0 { // one that answers is enough: gossip tells of the others
		return &berthv1.JoinServersResponse{Joined: uint32(n)}, nil
	}
	return &berthv1.JoinServersResponse{}, err
}

func (s statusService) LeaveServer(ctx context.Context, _ *berthv1.LeaveServerRequest) (*berthv1.LeaveServerResponse, error) {
	return &berthv1.LeaveServerResponse{}, s.a.gossip.Leave(ctx)
}

func (s statusService) GetHealth(context.Context, *berthv1.GetHealthRequest) (*berthv1.Health, error) {
	address, _ := s.a.leadership.Leader()
	contact := s.a.leadership.LastContact()
	h := &berthv1.Health{
		Healthy:       true,
		Leader:        s.a.leadership.IsLeader(),
		LeaderAddress: address,
		LastContact:   durationpb.New(contact),
		Applied:       s.a.store.Revision(),
	}
	switch {
	case h.GetLeader():
	case address == "":
		h.Healthy, h.Reason = false, "there is no leader"
	case contact > outOfTouch:
		h.Healthy, h.Reason = false, "the leader was last heard "+contact.Round(time.Second).String()+" ago"
	}
	return h, nil
}

func (s statusService) GetVersion(context.Context, *berthv1.GetVersionRequest) (*berthv1.Version, error) {
	v := proto.CloneOf(s.a.version)
	v.ClusterId = s.a.store.View().ClusterID()
	return v, nil
}
