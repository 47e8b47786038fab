package command

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// child makes a job that is run from another one.
func (f *fakeCluster) child(parent, name string) (*berthv1.Job, string) {
	f.revision++
	j := proto.CloneOf(f.jobs[parent])
	j.Name, j.Parent, j.Schedule, j.Parameters, j.Version = parent+"."+name, parent, nil, nil, 1
	j.SubmitTime, j.Status = timestamppb.Now(), berthv1.Job_running
	f.jobs[j.Name] = j
	return j, f.evaluate(j)
}

func (f *fakeCluster) DispatchJob(_ context.Context, r *berthv1.DispatchJobRequest) (*berthv1.DispatchJobResponse, error) {
	if f.jobs[r.GetJob()] == nil {
		return nil, notFound("job", r.GetJob())
	}
	if _, ok := r.GetMeta()["input"]; !ok {
		return nil, problem.New(problem.Invalid, "meta.input", "job %q must be dispatched with the meta key %q", r.GetJob(), "input")
	}
	if again := f.jobs[r.GetJob()+"."+r.GetToken()]; r.GetToken() != "" && again != nil {
		return &berthv1.DispatchJobResponse{Job: again.GetName(), EvaluationId: f.evaluate(again), RepeatedToken: true}, nil
	}
	name := r.GetToken()
	if name == "" {
		name = fmt.Sprintf("%08x", len(r.GetPayload()))
	}
	j, eval := f.child(r.GetJob(), name)
	return &berthv1.DispatchJobResponse{Job: j.GetName(), EvaluationId: eval}, nil
}

func (f *fakeCluster) ForceSchedule(_ context.Context, r *berthv1.ForceScheduleRequest) (*berthv1.ForceScheduleResponse, error) {
	if f.jobs[r.GetJob()].GetSchedule() == nil {
		return nil, problem.New(problem.Invalid, "job", "job %q has no schedule", r.GetJob())
	}
	j, eval := f.child(r.GetJob(), "force-0badcafe")
	return &berthv1.ForceScheduleResponse{Job: j.GetName(), EvaluationId: eval}, nil
}

func (f *fakeCluster) ListScalingEvents(_ context.Context, r *berthv1.ListScalingEventsRequest) (*berthv1.ListScalingEventsResponse, error) {
	return &berthv1.ListScalingEventsResponse{Events: []*berthv1.ScalingEvent{
		{Group: "web", Previous: 2, Count: 3, JobVersion: 4, Reason: "more visitors", Time: timestamppb.New(time.Now().Add(-time.Hour))},
	}}, nil
}

// children fills in what a job's status says of its runs.
func (f *fakeCluster) children(s *berthv1.JobStatus) {
	if s.GetJob().GetSchedule() != nil {
		s.NextScheduled = timestamppb.New(time.Now().Add(90 * time.Minute))
	}
	for _, name := range slices.Sorted(maps.Keys(f.jobs)) {
		if j := f.jobs[name]; j.GetParent() == s.GetJob().GetName() {
			s.ChildrenRunning++
			s.Children = append(s.Children, &berthv1.JobSummary{Name: name, Status: j.GetStatus(), Parent: j.GetParent(), Groups: f.summaries(j), SubmitTime: j.GetSubmitTime()})
		}
	}
}

// fakeVariables are the variables of a fake cluster.
type fakeVariables struct {
	berthv1.UnimplementedVariableServiceServer
	list     map[string]*berthv1.Variable
	revision uint64
}

func (s *fakeVariables) ListVariables(_ context.Context, q *berthv1.ListVariablesRequest) (*berthv1.ListVariablesResponse, error) {
	r := &berthv1.ListVariablesResponse{}
	for _, name := range slices.Sorted(maps.Keys(s.list)) {
		if strings.HasPrefix(name, q.GetPrefix()) {
			r.Variables = append(r.Variables, s.list[name])
		}
	}
	return r, nil
}

func (s *fakeVariables) GetVariable(_ context.Context, q *berthv1.GetVariableRequest) (*berthv1.Variable, error) {
	if v := s.list[q.GetName()]; v != nil {
		return v, nil
	}
	return nil, notFound("variable", q.GetName())
}

func (s *fakeVariables) SetVariable(_ context.Context, q *berthv1.SetVariableRequest) (*berthv1.Variable, error) {
	v := proto.CloneOf(q.GetVariable())
	if now := s.list[v.GetName()].GetModifyRevision(); q.GetCheck() && now != q.GetCheckRevision() {
		return nil, problem.New(problem.Conflict, "check_revision", "variable %q is to be at revision %d, and is at %d", v.GetName(), q.GetCheckRevision(), now)
	}
	s.revision++
	v.ModifyRevision, v.ModifyTime = s.revision, timestamppb.Now()
	s.list[v.GetName()] = v
	return v, nil
}

func (s *fakeVariables) DeleteVariable(_ context.Context, q *berthv1.DeleteVariableRequest) (*berthv1.DeleteVariableResponse, error) {
	delete(s.list, q.GetName())
	return &berthv1.DeleteVariableResponse{}, nil
}
