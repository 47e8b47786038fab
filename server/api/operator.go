package api

import (
	"bufio"
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// chunkSize is how much of a file a frame carries, in bytes.
const chunkSize = 64 << 10

// operatorService is about the servers themselves.
type operatorService struct {
	berthv1.UnimplementedOperatorServiceServer
	a *API
}

func (s operatorService) GetRaft(ctx context.Context, _ *berthv1.GetRaftRequest) (*berthv1.GetRaftResponse, error) {
	return s.a.raft.Status(ctx)
}

func (s operatorService) RemoveRaftPeer(ctx context.Context, q *berthv1.RemoveRaftPeerRequest) (*berthv1.RemoveRaftPeerResponse, error) {
	if err := s.checkPeer(ctx, q.GetServerId()); err != nil {
		return nil, err
	}
	return &berthv1.RemoveRaftPeerResponse{}, s.a.raft.RemovePeer(ctx, q.GetServerId())
}

func (s operatorService) TransferLeadership(ctx context.Context, q *berthv1.TransferLeadershipRequest) (*berthv1.TransferLeadershipResponse, error) {
	if id := q.GetServerId(); id != "" {
		if err := s.checkPeer(ctx, id); err != nil {
			return nil, err
		}
	}
	return &berthv1.TransferLeadershipResponse{}, s.a.raft.Transfer(ctx, q.GetServerId())
}

// checkPeer refuses an id that is not in the Raft set.
func (s operatorService) checkPeer(ctx context.Context, id string) error {
	status, err := s.a.raft.Status(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, p := range status.GetPeers() {
		if p.GetId() == id {
			return nil
		}
		names = append(names, p.GetId()+" ("+p.GetName()+")")
	}
	return problem.New(problem.NotFound, "server_id", "there is no server %q in the Raft set", id).WithRemedy("it has %s", orList(names))
}

func (s operatorService) SaveSnapshot(_ *berthv1.SaveSnapshotRequest, stream grpc.ServerStreamingServer[berthv1.SnapshotChunk]) error {
	out := bufio.NewWriterSize(chunkWriter{stream}, chunkSize)
	if err := s.a.raft.Save(stream.Context(), out); err != nil {
		return err
	}
	return out.Flush()
}

// chunkWriter sends what is written to it.
type chunkWriter struct {
	stream grpc.ServerStreamingServer[berthv1.SnapshotChunk]
}

func (w chunkWriter) Write(data []byte) (int, error) {
	for rest := data; len(rest) > 0; rest = rest[min(len(rest), chunkSize):] {
		if err := w.stream.Send(&berthv1.SnapshotChunk{Data: rest[:min(len(rest), chunkSize)]}); err != nil {
			return 0, err
		}
	}
	return len(data), nil
}

func (s operatorService) RestoreSnapshot(stream grpc.ClientStreamingServer[berthv1.SnapshotChunk, berthv1.RestoreSnapshotResponse]) error {
	if err := s.a.raft.Restore(stream.Context(), &chunkReader{stream: stream}); err != nil {
		return err
	}
	view := s.a.store.View()
	return stream.SendAndClose(&berthv1.RestoreSnapshotResponse{Revision: view.Revision(), ClusterId: view.ClusterID()})
}

// chunkReader reads what a stream brings.
type chunkReader struct {
	stream grpc.ClientStreamingServer[berthv1.SnapshotChunk, berthv1.RestoreSnapshotResponse]
	rest   []byte
}

func (r *chunkReader) Read(into []byte) (int, error) {
	for len(r.rest) == 0 {
		chunk, err := r.stream.Recv()
		if errors.Is(err, io.EOF) {
			return 0, io.EOF
		}
		if err != nil {
			return 0, err
		}
		r.rest = chunk.GetData()
	}
	n := copy(into, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (s operatorService) GetSchedulerConfig(context.Context, *berthv1.GetSchedulerConfigRequest) (*berthv1.SchedulerConfig, error) {
	return s.a.store.View().SchedulerConfig(), nil
}

func (s operatorService) SetSchedulerConfig(ctx context.Context, q *berthv1.SetSchedulerConfigRequest) (*berthv1.SchedulerConfig, error) {
	if q.GetConfig() == nil {
		return nil, problem.New(problem.Invalid, "config", "no configuration was given")
	}
	select { // one at a time, so that nothing changes between the check and the write
	case s.a.configTurn <- struct{}{}:
		defer func() { <-s.a.configTurn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	stored := s.a.store.View().SchedulerConfig().GetModifyRevision()
	if q.GetCheck() && stored != q.GetCheckRevision() {
		return nil, problem.New(problem.Conflict, "check_revision", "the configuration is to be at revision %d, and is at %d", q.GetCheckRevision(), stored).
			WithRemedy("somebody has changed it: read it again and decide anew")
	}
	config := proto.CloneOf(q.GetConfig())
	config.ModifyRevision = 0
	_, err := s.a.propose(ctx, func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_SchedulerConfigSet{SchedulerConfigSet: config}
	})
	if err != nil {
		return nil, err
	}
	return s.a.store.View().SchedulerConfig(), nil
}

func (s operatorService) PlanRebalance(ctx context.Context, q *berthv1.PlanRebalanceRequest) (*berthv1.RebalancePlan, error) {
	return s.a.planner.Rebalance(ctx, q)
}

func (s operatorService) CollectGarbage(ctx context.Context, _ *berthv1.CollectGarbageRequest) (*berthv1.CollectGarbageResponse, error) {
	return s.a.planner.CollectGarbage(ctx)
}
