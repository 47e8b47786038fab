package api

import (
	"context"
	"slices"
	"strings"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/state"
)

// nodeService is about nodes.
type nodeService struct {
	berthv1.UnimplementedNodeServiceServer
	a *API
}

func (s nodeService) ListNodes(ctx context.Context, q *berthv1.ListNodesRequest) (*berthv1.ListNodesResponse, error) {
	p, err := newPager(q, &berthv1.Node{})
	if err != nil {
		return nil, err
	}
	topics := []state.Topic{{Table: state.TableNodes}}
	return read(ctx, s.a, q, topics, func(view *state.View) (*berthv1.ListNodesResponse, error) {
		items := within(view.Nodes(p.start()), p.prefix, (*berthv1.Node).GetId, true)
		page, next, err := p.page(ctx, items, (*berthv1.Node).GetId)
		return &berthv1.ListNodesResponse{Nodes: page, NextPageToken: next}, err
	})
}

func (s nodeService) GetNode(ctx context.Context, q *berthv1.GetNodeRequest) (*berthv1.Node, error) {
	node, err := findNode(s.a.store.View(), q.GetNodeId())
	if err != nil {
		return nil, err
	}
	topics := []state.Topic{{Table: state.TableNodes, Key: node.GetId()}}
	return read(ctx, s.a, q, topics, func(view *state.View) (*berthv1.Node, error) {
		return nodes.find(view, node.GetId())
	})
}

func (s nodeService) SetNodeEligibility(ctx context.Context, q *berthv1.SetNodeEligibilityRequest) (*berthv1.SetNodeEligibilityResponse, error) {
	node, err := findNode(s.a.store.View(), q.GetNodeId())
	if err != nil {
		return nil, err
	}
	if node.GetEligibility() == q.GetEligibility() {
		return &berthv1.SetNodeEligibilityResponse{}, nil
	}
	_, err = s.a.propose(ctx, func(e *berthv1.LogEntry) {
		eligibility := q.GetEligibility()
		e.Fact = &berthv1.LogEntry_NodesChanged{NodesChanged: &berthv1.NodesChanged{
			NodeIds: []string{node.GetId()}, Eligibility: &eligibility,
		}}
	})
	return &berthv1.SetNodeEligibilityResponse{}, err
}

func (s nodeService) SetNodeTaints(ctx context.Context, q *berthv1.SetNodeTaintsRequest) (*berthv1.Node, error) {
	node, err := findNode(s.a.store.View(), q.GetNodeId())
	if err != nil {
		return nil, err
	}
	for _, t := range q.GetAdd() {
		if t.GetKey() == "" || strings.ContainsAny(t.GetKey(), "=:") || strings.Contains(t.GetValue(), ":") {
			return nil, problem.New(problem.Invalid, "add", "%q with the value %q is not a taint", t.GetKey(), t.GetValue()).
				WithRemedy("a key has letters but no = and no :, a value has no :")
		}
	}
	for _, r := range q.GetRemove() {
		has := slices.ContainsFunc(node.GetOperatorTaints(), func(t *berthv1.Taint) bool { return r == t.GetKey() || r == t.GetKey()+"="+t.GetValue() })
		if agents := slices.ContainsFunc(node.GetTaints(), func(t *berthv1.Taint) bool { return r == t.GetKey() || r == t.GetKey()+"="+t.GetValue() }); !has && agents {
			return nil, problem.New(problem.Conflict, "remove", "the taint %q of node %s comes from its agent's configuration", r, node.GetName()).
				WithRemedy("take it out of taints in the agent's configuration and reload it")
		}
	}
	if len(q.GetAdd())+len(q.GetRemove()) == 0 {
		return node, nil
	}
	_, err = s.a.propose(ctx, func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_NodesChanged{NodesChanged: &berthv1.NodesChanged{
			NodeIds: []string{node.GetId()}, AddTaints: q.GetAdd(), RemoveTaints: q.GetRemove(),
		}}
	})
	if err != nil {
		return nil, err
	}
	return nodes.find(s.a.store.View(), node.GetId())
}

func (s nodeService) RemoveNode(ctx context.Context, q *berthv1.RemoveNodeRequest) (*berthv1.RemoveNodeResponse, error) {
	node, err := findNode(s.a.store.View(), q.GetNodeId())
	if err != nil {
		return nil, err
	}
	if node.GetStatus() != berthv1.Node_down {
		return nil, problem.New(problem.Conflict, "node_id", "node %s is %s; only a node that is down can be removed", node.GetName(), node.GetStatus()).
			WithRemedy("stop its agent and wait until it is down")
	}
	_, err = s.a.propose(ctx, func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_NodesChanged{NodesChanged: &berthv1.NodesChanged{NodeIds: []string{node.GetId()}, Remove: true}}
	})
	return &berthv1.RemoveNodeResponse{}, err
}
