package api

import (
	"context"
	"iter"
	"slices"
	"strings"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/state"
)

// discoveryService is about services: names and who answers to them.
type discoveryService struct {
	berthv1.UnimplementedServiceServiceServer
	a *API
}

func (s discoveryService) ListServices(ctx context.Context, q *berthv1.ListServicesRequest) (*berthv1.ListServicesResponse, error) {
	p, err := newPager(q, &berthv1.ServiceSummary{})
	if err != nil {
		return nil, err
	}
	ns := namespaceOf(q)
	topics := []state.Topic{{Table: state.TableServices}}
	return read(ctx, s.a, q, topics, func(view *state.View) (*berthv1.ListServicesResponse, error) {
		fromNamespace, fromName, _ := strings.Cut(p.from, "/")
		if ns != anyNamespace {
			fromNamespace, fromName = ns, max(fromName, p.prefix)
		}
		items := only(servicesFrom(view, fromNamespace, fromName), func(x *berthv1.ServiceSummary) bool {
			return (ns == anyNamespace || x.GetNamespace() == ns) && strings.HasPrefix(x.GetName(), p.prefix)
		})
		page, next, err := p.page(ctx, items, func(x *berthv1.ServiceSummary) string { return state.JobKey(x.GetNamespace(), x.GetName()) })
		return &berthv1.ListServicesResponse{Services: page, NextPageToken: next}, err
	})
}

// servicesFrom sums the instances of each service up, by namespace and name.
func servicesFrom(view *state.View, namespace, name string) iter.Seq[*berthv1.ServiceSummary] {
	return func(yield func(*berthv1.ServiceSummary) bool) {
		var sum *berthv1.ServiceSummary
		for i := range view.Services(namespace, name) {
			if sum.GetName() != i.GetService() || sum.GetNamespace() != i.GetNamespace() {
				if sum != nil && !yield(sum) {
					return
				}
				sum = &berthv1.ServiceSummary{Namespace: i.GetNamespace(), Name: i.GetService(), CreateRevision: i.GetCreateRevision()}
			}
			add(sum, i)
		}
		if sum != nil {
			yield(sum)
		}
	}
}

func add(sum *berthv1.ServiceSummary, i *berthv1.ServiceInstance) {
	sum.Instances++
	if i.GetReady() {
		sum.Ready++
	}
	for _, tag := range i.GetTags() {
		if at, found := slices.BinarySearch(sum.Tags, tag); !found {
			sum.Tags = slices.Insert(sum.Tags, at, tag)
		}
	}
	sum.CreateRevision = min(sum.GetCreateRevision(), i.GetCreateRevision())
	sum.ModifyRevision = max(sum.GetModifyRevision(), i.GetModifyRevision())
}

func (s discoveryService) GetService(ctx context.Context, q *berthv1.GetServiceRequest) (*berthv1.GetServiceResponse, error) {
	ns := namespaceOf(q)
	topics := []state.Topic{{Table: state.TableServices, Key: state.JobKey(ns, q.GetService())}}
	return read(ctx, s.a, q, topics, func(view *state.View) (*berthv1.GetServiceResponse, error) {
		r := &berthv1.GetServiceResponse{Namespace: ns, Name: q.GetService()}
		known := false
		for i := range view.ServiceInstances(ns, q.GetService()) {
			known = true
			if (q.GetTag() == "" || slices.Contains(i.GetTags(), q.GetTag())) && (i.GetReady() || !q.GetReady()) {
				r.Instances = append(r.Instances, i)
			}
		}
		if !known {
			return nil, problem.New(problem.NotFound, "service", "there is no service %q in namespace %q", q.GetService(), ns).
				WithRemedy("berth service list -namespace '*' shows those that running jobs offer")
		}
		return r, nil
	})
}

func (s discoveryService) ListAllocServices(ctx context.Context, q *berthv1.ListAllocServicesRequest) (*berthv1.ListAllocServicesResponse, error) {
	alloc, err := allocs.find(s.a.store.View(), q.GetAllocId())
	if err != nil {
		return nil, err
	}
	topics := []state.Topic{{Table: state.TableServices}}
	return read(ctx, s.a, q, topics, func(view *state.View) (*berthv1.ListAllocServicesResponse, error) {
		return &berthv1.ListAllocServicesResponse{Instances: slices.Collect(view.ServicesOfAlloc(alloc.GetId()))}, nil
	})
}
