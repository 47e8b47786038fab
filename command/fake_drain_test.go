package command

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// DrainNode empties a node at once: what is on n1 goes to n2, elsewhere it has no place.
func (f *fakeCluster) DrainNode(_ context.Context, q *berthv1.DrainNodeRequest) (*berthv1.Node, error) {
	n, err := f.node(q.GetNodeId())
	if err != nil {
		return nil, err
	}
	if q.GetDisable() {
		if n.Drain = nil; !q.GetKeepIneligible() {
			n.Eligibility = berthv1.Node_eligible
		}
		return n, nil
	}
	begun := time.Now()
	n.Eligibility, n.Drain = berthv1.Node_ineligible, &berthv1.Drain{StartTime: timestamppb.New(begun), IgnoreSystem: q.GetIgnoreSystem(), Reason: q.GetReason()}
	if q.GetDeadline() != nil {
		n.Drain.Deadline = timestamppb.New(begun.Add(q.GetDeadline().AsDuration()))
	}
	answer := proto.Clone(n).(*berthv1.Node)
	f.revision++
	for id, a := range f.allocs {
		if a.GetNodeId() != n.GetId() || a.Terminal() {
			continue
		}
		old := proto.Clone(a).(*berthv1.Alloc)
		old.Desired, old.Status, old.DesiredReason, old.ModifyRevision = berthv1.Alloc_stop, berthv1.Alloc_complete, "its node is drained", f.revision
		if f.allocs[id] = old; n.GetName() == "n1" {
			next := proto.Clone(a).(*berthv1.Alloc)
			next.Id, next.NodeId, next.NodeName, next.PreviousAlloc = "b"+id[1:], f.nodes[1].GetId(), f.nodes[1].GetName(), id
			f.allocs[next.Id], old.NextAlloc = next, next.Id
		}
	}
	n.Drain.DoneTime = timestamppb.Now()
	return answer, nil
}
