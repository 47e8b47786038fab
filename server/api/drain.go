package api

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// DrainNode begins a drain, changes one that is there, or ends it. The plan loop does the
// rest (package plan, drain.go).
func (s nodeService) DrainNode(ctx context.Context, q *berthv1.DrainNodeRequest) (*berthv1.Node, error) {
	node, err := findNode(s.a.store.View(), q.GetNodeId())
	if err != nil {
		return nil, err
	}
	change, err := drainOf(node, q, time.Now())
	if err != nil {
		return nil, err
	}
	if change == nil {
		return node, nil
	}
	change.NodeIds = []string{node.GetId()}
	if _, err = s.a.propose(ctx, func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_NodesChanged{NodesChanged: change}
	}); err != nil {
		return nil, err
	}
	return nodes.find(s.a.store.View(), node.GetId())
}

// drainOf is what a request changes of a node; nil: nothing. A drain that goes on keeps
// the time of its begin, and its reason where no other is given.
func drainOf(node *berthv1.Node, q *berthv1.DrainNodeRequest, now time.Time) (*berthv1.NodesChanged, error) {
	if q.GetDisable() {
		change := &berthv1.NodesChanged{EndDrain: true}
		if !q.GetKeepIneligible() {
			change.Eligibility = berthv1.Node_eligible.Enum()
		}
		if node.GetDrain() == nil && (q.GetKeepIneligible() || node.GetEligibility() == berthv1.Node_eligible) {
			return nil, nil
		}
		return change, nil
	}
	if q.GetKeepIneligible() {
		return nil, problem.New(problem.Invalid, "keep_ineligible", "it goes with disable: a node that is drained is ineligible anyway")
	}
	drain := &berthv1.Drain{StartTime: timestamppb.New(now), IgnoreSystem: q.GetIgnoreSystem(), Reason: q.GetReason()}
	if before := node.GetDrain(); before != nil && before.GetDoneTime() == nil {
		drain.StartTime = before.GetStartTime()
		if drain.Reason == "" {
			drain.Reason = before.GetReason()
		}
	}
	if q.GetDeadline() != nil {
		drain.Deadline = timestamppb.New(now.Add(q.GetDeadline().AsDuration()))
	}
	return &berthv1.NodesChanged{Drain: drain}, nil
}
