package command

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func (f *fakeCluster) GetRaft(context.Context, *berthv1.GetRaftRequest) (*berthv1.GetRaftResponse, error) {
	return &berthv1.GetRaftResponse{Term: 4, Applied: 99, Committed: 100, Peers: []*berthv1.RaftPeer{
		{Id: "51111111-aaaa", Name: "s1", Address: "10.0.1.1:7462", Leader: true, Voter: true, Alive: true},
		{Id: "52222222-aaaa", Name: "s2", Address: "10.0.1.2:7462", Voter: true, Alive: true, Behind: 2},
		{Id: "53333333-aaaa", Name: "s3", Address: "10.0.1.3:7462", Voter: true},
	}}, nil
}

func (f *fakeCluster) RemoveRaftPeer(context.Context, *berthv1.RemoveRaftPeerRequest) (*berthv1.RemoveRaftPeerResponse, error) {
	return &berthv1.RemoveRaftPeerResponse{}, nil
}

func (f *fakeCluster) TransferLeadership(context.Context, *berthv1.TransferLeadershipRequest) (*berthv1.TransferLeadershipResponse, error) {
	return &berthv1.TransferLeadershipResponse{}, nil
}

func (f *fakeCluster) SaveSnapshot(_ *berthv1.SaveSnapshotRequest, s grpc.ServerStreamingServer[berthv1.SnapshotChunk]) error {
	for _, part := range []string{"snap", "shot", "!"} {
		if err := s.Send(&berthv1.SnapshotChunk{Data: []byte(part)}); err != nil {
			return err
		}
	}
	return nil
}

func (f *fakeCluster) RestoreSnapshot(s grpc.ClientStreamingServer[berthv1.SnapshotChunk, berthv1.RestoreSnapshotResponse]) error {
	var b strings.Builder
	for {
		c, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		b.Write(c.GetData())
	}
	if b.String() != "snapshot!" {
		return problem.New(problem.Invalid, "snapshot", "this is not a snapshot").WithRemedy("give a file that `berth operator snapshot save` wrote")
	}
	return s.SendAndClose(&berthv1.RestoreSnapshotResponse{Revision: 88, ClusterId: "c0000000-aaaa"})
}

func (f *fakeCluster) GetSchedulerConfig(context.Context, *berthv1.GetSchedulerConfigRequest) (*berthv1.SchedulerConfig, error) {
	return f.scheduler, nil
}

func (f *fakeCluster) SetSchedulerConfig(_ context.Context, r *berthv1.SetSchedulerConfigRequest) (*berthv1.SchedulerConfig, error) {
	if !r.GetCheck() || r.GetCheckRevision() != f.scheduler.GetModifyRevision() {
		return nil, problem.New(problem.Conflict, "", "somebody else changed it")
	}
	f.scheduler = r.GetConfig()
	return f.scheduler, nil
}

func (f *fakeCluster) CollectGarbage(context.Context, *berthv1.CollectGarbageRequest) (*berthv1.CollectGarbageResponse, error) {
	return &berthv1.CollectGarbageResponse{Jobs: 1, Allocs: 12, Evaluations: 30}, nil
}

func (f *fakeCluster) GetMembers(context.Context, *berthv1.GetMembersRequest) (*berthv1.GetMembersResponse, error) {
	return &berthv1.GetMembersResponse{Members: []*berthv1.Member{
		{Id: "51111111-aaaa", Name: "s1", State: "alive", GrpcAddress: "10.0.1.1:7461", HttpAddress: "10.0.1.1:7460", RaftAddress: "10.0.1.1:7462", GossipAddress: "10.0.1.1:7463", Version: "0.1.0", Leader: true, Region: "eu"},
		{Id: "52222222-aaaa", Name: "s2", State: "dead", GrpcAddress: "10.0.1.2:7461", Version: "0.1.0", Region: "eu"},
	}}, nil
}

func (f *fakeCluster) JoinServers(_ context.Context, r *berthv1.JoinServersRequest) (*berthv1.JoinServersResponse, error) {
	return &berthv1.JoinServersResponse{Joined: uint32(len(r.GetAddresses()))}, nil
}

func (f *fakeCluster) LeaveServer(context.Context, *berthv1.LeaveServerRequest) (*berthv1.LeaveServerResponse, error) {
	return &berthv1.LeaveServerResponse{}, nil
}

func (f *fakeCluster) GetVersion(context.Context, *berthv1.GetVersionRequest) (*berthv1.Version, error) {
	return &berthv1.Version{Version: "0.1.0", Platform: "linux/arm64", Go: "go1.26", ClusterId: "c0000000-aaaa", Region: "eu"}, nil
}

// StreamEvents sends three events and then loses the connection once, so that going on
// after the last one is seen; it ends with a refusal.
func (f *fakeCluster) StreamEvents(r *berthv1.StreamEventsRequest, s grpc.ServerStreamingServer[berthv1.Event]) error {
	if r.GetIndex() >= 203 {
		return problem.New(problem.Denied, "", "that is all")
	}
	from := max(r.GetIndex(), 200)
	for i := from + 1; i <= 203; i++ {
		e := &berthv1.Event{Index: i, Topic: "job", Type: "updated", Key: "web", Namespace: "default", Item: &berthv1.Event_Job{Job: &berthv1.Job{Name: "web"}}}
		if err := s.Send(e); err != nil {
			return err
		}
		if err := s.Send(&berthv1.Event{Index: i}); err != nil { // a heartbeat
			return err
		}
		if i == 202 {
			return problem.New(problem.Unavailable, "", "the server is going down")
		}
	}
	return nil
}

func (f *fakeCluster) ListSchedulers(_ context.Context, q *berthv1.ListSchedulersRequest) (*berthv1.ListSchedulersResponse, error) {
	if q.GetName() == "none" {
		return &berthv1.ListSchedulersResponse{}, nil
	}
	now := time.Now()
	return &berthv1.ListSchedulersResponse{
		Queues: []*berthv1.SchedulerQueue{
			{Scheduler: "gone", Open: 3, OldestTime: timestamppb.New(now)},
			{Scheduler: "mine", Registered: 1, Claimed: 1, Resting: 2, ClaimTime: timestamppb.New(now.Add(-time.Hour))},
		},
		Schedulers: []*berthv1.Scheduler{{Name: "mine", Instance: "host:1", Description: "by rack", NodePools: []string{"gpu"}, Placed: 7, Conflicts: 1,
			ExpireTime: timestamppb.New(now.Add(time.Hour)), Claims: []*berthv1.SchedulerClaim{{EvaluationId: "e1111111-0000", Job: "web", Left: 2,
				ClaimTime: timestamppb.New(now), ExpireTime: timestamppb.New(now.Add(time.Hour))}}}},
	}, nil
}
