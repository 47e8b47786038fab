package api

import (
	"context"
	"iter"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/state"
)

// allocService is about allocations; alloc_access.go has what happens inside of them.
type allocService struct {
	berthv1.UnimplementedAllocServiceServer
	a *API
}

func (s allocService) ListAllocs(ctx context.Context, q *berthv1.ListAllocsRequest) (*berthv1.ListAllocsResponse, error) {
	p, err := newPager(q, &berthv1.Alloc{})
	if err != nil {
		return nil, err
	}
	return read(ctx, s.a, q, topicsOfAllocs(q), func(view *state.View) (*berthv1.ListAllocsResponse, error) {
		items, next, err := p.page(ctx, pageOfAllocs(view, q, p), (*berthv1.Alloc).GetId)
		return &berthv1.ListAllocsResponse{Allocs: items, NextPageToken: next}, err
	})
}

// topicsOfAllocs is the narrowest topic that a list of allocations depends on.
func topicsOfAllocs(q *berthv1.ListAllocsRequest) []state.Topic {
	topic := state.Topic{Table: state.TableAllocs}
	switch ns := namespaceOf(q); {
	case q.GetJob() != "" && ns != anyNamespace:
		topic.Key = state.JobKey(ns, q.GetJob())
	case q.GetNodeId() != "":
		topic.Key = state.NodeKey(q.GetNodeId())
	}
	return []state.Topic{topic}
}

// pageOfAllocs is the allocations to look at for a page, by id: through the index that
// leaves the fewest, and then what else was asked for.
func pageOfAllocs(view *state.View, q *berthv1.ListAllocsRequest, p *pager[*berthv1.Alloc]) iter.Seq[*berthv1.Alloc] {
	ns := namespaceOf(q)
	var items iter.Seq[*berthv1.Alloc]
	switch {
	case q.GetJob() != "" && ns != anyNamespace:
		items = view.AllocsByJobFrom(ns, q.GetJob(), p.start())
	case q.GetNodeId() != "":
		items = from(view.AllocsByNode(q.GetNodeId()), p.start(), (*berthv1.Alloc).GetId)
	case q.GetEvalId() != "":
		items = from(view.AllocsByEval(q.GetEvalId()), p.start(), (*berthv1.Alloc).GetId)
	default:
		items = view.Allocs(p.start())
	}
	return only(within(items, p.prefix, (*berthv1.Alloc).GetId, true), func(a *berthv1.Alloc) bool {
		return (ns == anyNamespace || a.GetNamespace() == ns) &&
			(q.GetJob() == "" || a.GetJob() == q.GetJob()) &&
			(q.GetNodeId() == "" || a.GetNodeId() == q.GetNodeId()) &&
			(q.GetEvalId() == "" || a.GetEvalId() == q.GetEvalId())
	})
}

func (s allocService) GetAlloc(ctx context.Context, q *berthv1.GetAllocRequest) (*berthv1.Alloc, error) {
	alloc, err := allocs.find(s.a.store.View(), q.GetAllocId())
	if err != nil {
		return nil, err
	}
	topics := []state.Topic{{Table: state.TableAllocs, Key: alloc.GetId()}}
	return read(ctx, s.a, q, topics, func(view *state.View) (*berthv1.Alloc, error) {
		return allocs.find(view, alloc.GetId())
	})
}

func (s allocService) StopAlloc(ctx context.Context, q *berthv1.StopAllocRequest) (*berthv1.StopAllocResponse, error) {
	view := s.a.store.View()
	alloc, err := allocs.find(view, q.GetAllocId())
	if err != nil {
		return nil, err
	}
	if alloc.Ended() || alloc.Terminal() && !q.GetForce() {
		return nil, problem.New(problem.Conflict, "alloc_id", "allocation %s is over already: %s", alloc.GetId(), alloc.GetStatus())
	}
	job, err := findJob(view, alloc.GetNamespace(), alloc.GetJob())
	if err != nil {
		return nil, err
	}
	change, err := stopByHand(alloc, job, view.Node(alloc.GetNodeId()), q)
	if err != nil {
		return nil, err
	}
	eval := newEvaluation(job, berthv1.Evaluation_requested)
	_, err = s.a.propose(ctx, func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_Plan{Plan: &berthv1.Plan{Changes: []*berthv1.AllocChange{change}, Evaluations: []*berthv1.Evaluation{eval}}}
	})
	return &berthv1.StopAllocResponse{EvaluationId: eval.GetId()}, err
}

// stopByHand is what an operator's stop changes of an allocation.
func stopByHand(alloc *berthv1.Alloc, job *berthv1.Job, node *berthv1.Node, q *berthv1.StopAllocRequest) (*berthv1.AllocChange, error) {
	change := &berthv1.AllocChange{AllocId: alloc.GetId(), Desired: berthv1.Alloc_stop.Enum(), DesiredReason: "stopped by hand"}
	if q.GetReschedule() {
		if t := job.GetType(); t == berthv1.Job_system || t == berthv1.Job_sysbatch {
			return nil, problem.New(problem.Invalid, "reschedule", "%s is of a %s job, which has one instance on every node", alloc.Name(), t).
				WithRemedy("stop it without, or drain the node")
		}
		change.DesiredReason, change.Moved = "moved by hand", true
	}
	if q.GetForce() {
		if s := node.GetStatus(); s != berthv1.Node_down && s != berthv1.Node_disconnected && node != nil {
			return nil, problem.New(problem.Conflict, "force", "node %s is %s: its agent stops the allocation itself", node.GetName(), s).
				WithRemedy("stop it without force; force is for nodes that are down")
		}
		change.Status, change.StatusReason = berthv1.Alloc_failed.Enum(), "over by an operator's word, while its node was down"
	}
	return change, nil
}

// from skips the items, which come in order, whose id is below start.
func from[T any](items iter.Seq[T], start string, id func(T) string) iter.Seq[T] {
	if start == "" {
		return items
	}
	return only(items, func(item T) bool { return id(item) >= start })
}
