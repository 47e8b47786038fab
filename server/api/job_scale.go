package api

import (
	"cmp"
	"context"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/jobspec"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/state"
)

// maxReason bounds the words kept with a scaling event, in bytes.
const maxReason = 1024

// ScaleJob changes the count of a group, within the bounds of its scaling.
func (s jobService) ScaleJob(ctx context.Context, q *berthv1.ScaleJobRequest) (*berthv1.RegisterJobResponse, error) {
	if len(q.GetReason()) > maxReason {
		return nil, problem.New(problem.Invalid, "reason", "the reason has %d bytes, and at most %d are kept", len(q.GetReason()), maxReason)
	}
	return s.register(ctx, q.GetCheck(), q.GetCheckRevision(), func(view *state.View) (registration, error) {
		stored, err := findJob(view, namespaceOf(q), q.GetJob())
		if err != nil {
			return registration{}, err
		}
		r := registration{stored: stored, scaling: &berthv1.ScalingEvent{Group: q.GetGroup(), Count: q.GetCount(), Reason: q.GetReason()}}
		r.job, err = scale(stored, r.scaling)
		return r, err
	})
}

// scale gives the job with another count for a group, and completes the event of it.
func scale(stored *berthv1.Job, event *berthv1.ScalingEvent) (*berthv1.Job, error) {
	switch stored.GetType() {
	case berthv1.Job_system, berthv1.Job_sysbatch:
		return nil, problem.New(problem.Invalid, "count", "a %s job runs once on every node that fits", stored.GetType()).
			WithRemedy("use constraints to choose the nodes")
	}
	if stored.GetStopped() {
		return nil, stoppedJob(stored)
	}
	scaled := proto.CloneOf(stored)
	if event.GetGroup() == "" && len(scaled.GetGroups()) == 1 {
		event.Group = scaled.GetGroups()[0].GetName()
	}
	var names []string
	for _, g := range scaled.GetGroups() {
		names = append(names, g.GetName())
		if g.GetName() != event.GetGroup() {
			continue
		}
		if b := g.GetScaling(); b != nil && (event.GetCount() < b.GetMin() || event.GetCount() > b.GetMax()) {
			return nil, problem.New(problem.Invalid, "count", "group %q may have %d to %d instances, not %d", g.GetName(), b.GetMin(), b.GetMax(), event.GetCount()).
				WithRemedy("stay within its scaling { min max }, or submit the job with other bounds")
		}
		event.Previous = countOf(g)
		g.Count = proto.Uint32(event.GetCount())
		return scaled, invalid(jobspec.Validate(scaled))
	}
	if event.GetGroup() == "" {
		return nil, problem.New(problem.Invalid, "group", "job %q has several groups", stored.GetName()).WithRemedy("name one: %s", orList(names))
	}
	return nil, problem.New(problem.NotFound, "group", "job %q has no group %q", stored.GetName(), event.GetGroup()).WithRemedy("it has %s", orList(names))
}

// keepCounts gives groups with scaling for which the submitted job says no count the count
// that they have, within the bounds: berth job run does not undo berth job scale.
func keepCounts(job, sent, stored *berthv1.Job) *berthv1.Job {
	var kept *berthv1.Job
	for i, g := range sent.GetGroups() {
		if g.Count != nil || g.GetScaling() == nil {
			continue
		}
		count := uint32(1)
		for _, old := range stored.GetGroups() {
			if old.GetName() == g.GetName() {
				count = countOf(old)
			}
		}
		if kept == nil {
			kept = proto.CloneOf(job)
		}
		kept.Groups[i].Count = proto.Uint32(min(max(count, g.GetScaling().GetMin()), g.GetScaling().GetMax()))
	}
	if kept != nil {
		return kept
	}
	return job
}

func (s jobService) ListScalingEvents(ctx context.Context, q *berthv1.ListScalingEventsRequest) (*berthv1.ListScalingEventsResponse, error) {
	ns := namespaceOf(q)
	topics := []state.Topic{{Table: state.TableJobs, Key: state.JobKey(ns, q.GetJob())}}
	return read(ctx, s.a, q, topics, func(view *state.View) (*berthv1.ListScalingEventsResponse, error) {
		if _, err := findJob(view, ns, q.GetJob()); err != nil {
			return nil, err
		}
		events := slices.Collect(view.ScalingEvents(ns, q.GetJob()))
		slices.SortStableFunc(events, func(a, b *berthv1.ScalingEvent) int { return cmp.Compare(b.GetCreateRevision(), a.GetCreateRevision()) })
		return &berthv1.ListScalingEventsResponse{Events: events}, nil
	})
}
