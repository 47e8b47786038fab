package api

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
	"github.com/berthd/berth/server/state"
)

// namespaceService is about namespaces.
type namespaceService struct {
	berthv1.UnimplementedNamespaceServiceServer
	a *API
}

func (s namespaceService) ListNamespaces(ctx context.Context, q *berthv1.ListNamespacesRequest) (*berthv1.ListNamespacesResponse, error) {
	p, err := newPager(q, &berthv1.Namespace{})
	if err != nil {
		return nil, err
	}
	topics := []state.Topic{{Table: state.TableNamespaces}}
	return read(ctx, s.a, q, topics, func(view *state.View) (*berthv1.ListNamespacesResponse, error) {
		items := from(view.Namespaces(), p.start(), (*berthv1.Namespace).GetName)
		items = within(items, p.prefix, (*berthv1.Namespace).GetName, true)
		page, next, err := p.page(ctx, items, (*berthv1.Namespace).GetName)
		return &berthv1.ListNamespacesResponse{Namespaces: page, NextPageToken: next}, err
	})
}

func (s namespaceService) GetNamespace(ctx context.Context, q *berthv1.GetNamespaceRequest) (*berthv1.Namespace, error) {
	topics := []state.Topic{{Table: state.TableNamespaces, Key: q.GetName()}}
	return read(ctx, s.a, q, topics, func(view *state.View) (*berthv1.Namespace, error) {
		return findNamespace(view, q.GetName())
	})
}

// GetNamespaceUsage counts what is held now; it looks at every allocation of the
// namespace.
func (s namespaceService) GetNamespaceUsage(ctx context.Context, q *berthv1.GetNamespaceUsageRequest) (*berthv1.NamespaceUsage, error) {
	view := s.a.store.View()
	ns, err := findNamespace(view, q.GetName())
	if err != nil {
		return nil, err
	}
	var used scheduler.Use
	for job := range view.Jobs(ns.GetName(), "") {
		if ctx.Err() != nil {
			return nil, problem.From(context.Cause(ctx))
		}
		for a := range view.AllocRowsByJob(ns.GetName(), job.GetName()) {
			if a.HoldsGrant() && view.Node(a.NodeID()) != nil {
				used.Add(scheduler.UseOf(a.Assignment()))
			}
		}
	}
	return &berthv1.NamespaceUsage{Namespace: ns.GetName(), Quota: ns.GetQuota(), Used: used.Quota()}, nil
}

func findNamespace(view *state.View, name string) (*berthv1.Namespace, error) {
	if ns := view.Namespace(name); ns != nil {
		return ns, nil
	}
	return nil, problem.New(problem.NotFound, "name", "there is no namespace %q", name).WithRemedy("berth namespace list shows them")
}

func (s namespaceService) SetNamespace(ctx context.Context, q *berthv1.SetNamespaceRequest) (*berthv1.Namespace, error) {
	name := q.GetNamespace().GetName()
	if err := checkNamespaceName("namespace.name", name); err != nil {
		return nil, err
	}
	ns := proto.CloneOf(q.GetNamespace())
	ns.CreateRevision, ns.ModifyRevision = 0, 0
	_, err := s.a.propose(ctx, func(e *berthv1.LogEntry) { e.Fact = &berthv1.LogEntry_NamespaceSet{NamespaceSet: ns} })
	if err != nil {
		return nil, err
	}
	return findNamespace(s.a.store.View(), name)
}

func (s namespaceService) DeleteNamespace(ctx context.Context, q *berthv1.DeleteNamespaceRequest) (*berthv1.DeleteNamespaceResponse, error) {
	if q.GetName() == defaultNamespace {
		return nil, problem.New(problem.Invalid, "name", "the namespace %q cannot be deleted", defaultNamespace)
	}
	if _, err := findNamespace(s.a.store.View(), q.GetName()); err != nil {
		return nil, err
	}
	_, err := s.a.propose(ctx, func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_NamespaceDeleted{NamespaceDeleted: &berthv1.NamespaceDeleted{Name: q.GetName()}}
	})
	return &berthv1.DeleteNamespaceResponse{}, err
}
