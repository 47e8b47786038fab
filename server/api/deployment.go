package api

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/state"
)

// deploymentService is about roll-outs.
type deploymentService struct {
	berthv1.UnimplementedDeploymentServiceServer
	a *API
}

var deployments = kind[*berthv1.Deployment]{
	noun: "deployment", field: "deployment_id", list: "berth deployment list",
	get:   func(v *state.View, id string) (*berthv1.Deployment, bool) { d := v.Deployment(id); return d, d != nil },
	from:  func(v *state.View, id string) iter.Seq[*berthv1.Deployment] { return v.Deployments(id) },
	id:    (*berthv1.Deployment).GetId,
	words: func(d *berthv1.Deployment) string { return fmt.Sprintf("%s v%d", d.GetJob(), d.GetJobVersion()) },
}

func (s deploymentService) ListDeployments(ctx context.Context, q *berthv1.ListDeploymentsRequest) (*berthv1.ListDeploymentsResponse, error) {
	p, err := newPager(q, &berthv1.Deployment{})
	if err != nil {
		return nil, err
	}
	ns := namespaceOf(q)
	topic, key := state.Topic{Table: state.TableDeployments}, (*berthv1.Deployment).GetId
	ofJob := q.GetJob() != "" && ns != anyNamespace
	if ofJob {
		topic.Key, key = state.JobKey(ns, q.GetJob()), versionKey
	}
	return read(ctx, s.a, q, []state.Topic{topic}, func(view *state.View) (*berthv1.ListDeploymentsResponse, error) {
		var items iter.Seq[*berthv1.Deployment]
		if ofJob {
			all := slices.Collect(view.DeploymentsByJob(ns, q.GetJob()))
			slices.Reverse(all)
			items = only(slices.Values(all), func(d *berthv1.Deployment) bool { return p.from == "" || versionKey(d) <= p.from })
		} else {
			items = only(view.Deployments(p.start()), func(d *berthv1.Deployment) bool {
				return (ns == anyNamespace || d.GetNamespace() == ns) && (q.GetJob() == "" || d.GetJob() == q.GetJob())
			})
		}
		items = within(items, p.prefix, (*berthv1.Deployment).GetId, !ofJob)
		page, next, err := p.page(ctx, items, key)
		return &berthv1.ListDeploymentsResponse{Deployments: page, NextPageToken: next}, err
	})
}

// versionKey orders a job's deployments by version.
func versionKey(d *berthv1.Deployment) string { return fmt.Sprintf("%020d", d.GetJobVersion()) }

func (s deploymentService) GetDeployment(ctx context.Context, q *berthv1.GetDeploymentRequest) (*berthv1.Deployment, error) {
	d, err := deployments.find(s.a.store.View(), q.GetDeploymentId())
	if err != nil {
		return nil, err
	}
	topics := []state.Topic{{Table: state.TableDeployments, Key: d.GetId()}}
	return read(ctx, s.a, q, topics, func(view *state.View) (*berthv1.Deployment, error) {
		return deployments.find(view, d.GetId())
	})
}

func (s deploymentService) ChangeDeployment(ctx context.Context, q *berthv1.ChangeDeploymentRequest) (*berthv1.ChangeDeploymentResponse, error) {
	d, err := deployments.find(s.a.store.View(), q.GetDeploymentId())
	if err != nil {
		return nil, err
	}
	if len(q.GetGroups()) > 0 && q.GetAction() != berthv1.DeploymentAction_DEPLOYMENT_ACTION_PROMOTE {
		return nil, problem.New(problem.Invalid, "groups", "only promoting is done group by group").WithRemedy("leave the groups out")
	}
	_, err = s.a.propose(ctx, func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_DeploymentChanged{DeploymentChanged: &berthv1.DeploymentChanged{
			DeploymentId: d.GetId(), Action: q.GetAction(), Groups: q.GetGroups(),
		}}
	})
	if err != nil {
		return nil, err
	}
	return &berthv1.ChangeDeploymentResponse{Deployment: s.a.store.View().Deployment(d.GetId())}, nil
}

// newestDeployment is that of a job's newest version that has one; nil: there is none.
func newestDeployment(view *state.View, job *berthv1.Job) (newest *berthv1.Deployment) {
	for d := range view.DeploymentsByJob(job.GetNamespace(), job.GetName()) {
		newest = d
	}
	return newest
}

func (s jobService) RevertJob(ctx context.Context, q *berthv1.RevertJobRequest) (*berthv1.RegisterJobResponse, error) {
	ns := namespaceOf(q)
	return s.register(ctx, q.GetCheck(), q.GetCheckRevision(), func(view *state.View) (registration, error) {
		stored, err := findJob(view, ns, q.GetJob())
		if err != nil {
			return registration{}, err
		}
		to, err := revertTarget(view, stored, q.GetVersion())
		return registration{job: to, stored: stored, revertedTo: to.GetVersion()}, err
	})
}

// revertTarget is the version that a job is to go back to; with version 0 the newest that
// was rolled out well.
func revertTarget(view *state.View, stored *berthv1.Job, version uint64) (*berthv1.Job, error) {
	name := stored.GetName()
	if version == 0 {
		if to := view.StableBelow(stored.GetNamespace(), name, stored.GetVersion()); to != nil {
			return to, nil
		}
		return nil, problem.New(problem.NotFound, "version", "job %q has no older version that was rolled out well", name).
			WithRemedy("name a version; berth job history %s shows those that are kept", name)
	}
	if to := view.JobVersion(stored.GetNamespace(), name, version); to != nil {
		return to, nil
	}
	return nil, problem.New(problem.NotFound, "version", "job %q has no version %d any more; its newest is %d", name, version, stored.GetVersion()).
		WithRemedy("berth job history %s shows those that are kept", name)
}

func (s allocService) SetAllocHealth(ctx context.Context, q *berthv1.SetAllocHealthRequest) (*berthv1.Alloc, error) {
	alloc, err := allocs.find(s.a.store.View(), q.GetAllocId())
	if err != nil {
		return nil, err
	}
	health := berthv1.Alloc_unhealthy
	if q.GetHealthy() {
		health = berthv1.Alloc_healthy
	}
	_, err = s.a.propose(ctx, func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_AllocHealthSet{AllocHealthSet: &berthv1.AllocHealthSet{AllocIds: []string{alloc.GetId()}, Health: health}}
	})
	if err != nil {
		return nil, err
	}
	return s.a.store.View().Alloc(alloc.GetId()), nil
}
