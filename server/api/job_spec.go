package api

import (
	"context"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/berthd/berth/jobspec"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func (s jobService) PlanJob(ctx context.Context, q *berthv1.PlanJobRequest) (*berthv1.PlanJobResponse, error) {
	job, err := canonical(q.GetJob())
	if err != nil {
		return nil, err
	}
	view := s.a.store.View()
	if err := admit(view, job); err != nil {
		return nil, err
	}
	if job, err = resolveImages(view, job); err != nil {
		return nil, err
	}
	stored := view.Job(job.GetNamespace(), job.GetName())
	job = keepCounts(job, q.GetJob(), stored)
	job.Version = stored.GetVersion() + 1
	if stored != nil && !stored.GetStopped() && sameSpec(job, stored) {
		job.Version = stored.GetVersion()
	}
	resp := &berthv1.PlanJobResponse{
		SpecRevision:  stored.GetSpecRevision(),
		Changes:       job.GetVersion() != stored.GetVersion(),
		Warnings:      jobspec.Warnings(job),
		NextScheduled: nextRuns(job),
	}
	if resp.Groups, err = s.a.planner.DryRun(ctx, job); err != nil {
		return nil, err
	}
	if resp.Rollout, err = s.a.planner.Rollout(ctx, job); err != nil {
		return nil, err
	}
	for _, g := range resp.GetGroups() {
		resp.Changes = resp.GetChanges() || g.GetPlaced() > 0 || g.GetStopped() > 0 || g.GetUpdated() > 0
	}
	if q.GetDiff() {
		resp.Diff = jobspec.Diff(stored, job)
	}
	return resp, nil
}

func (s jobService) ValidateJob(_ context.Context, q *berthv1.ValidateJobRequest) (*berthv1.ValidateJobResponse, error) {
	job, err := canonical(q.GetJob())
	if err != nil {
		p := problem.From(err)
		problems := p.Causes
		if len(problems) == 0 {
			problems = []*problem.Error{p}
		}
		resp := &berthv1.ValidateJobResponse{}
		for _, p := range problems {
			resp.Problems = append(resp.Problems, p.Proto())
		}
		return resp, nil
	}
	return &berthv1.ValidateJobResponse{Warnings: jobspec.Warnings(job)}, nil
}

// ParseJob reads a spec as it is: no file beside it, and no environment.
func (s jobService) ParseJob(_ context.Context, q *berthv1.ParseJobRequest) (*berthv1.Job, error) {
	job, err := jobspec.Parse([]byte(q.GetText()), jobspec.Options{
		Filename: q.GetFile(), Format: jobspec.Syntax(q.GetFormat()), Variables: q.GetVariables(),
	})
	if err != nil {
		return nil, err
	}
	job.Source = &berthv1.JobSource{Format: q.GetFormat(), Text: q.GetText(), File: q.GetFile(), Variables: q.GetVariables()}
	return job, nil
}

// canonical gives a copy of a job that a client has sent with every default filled in,
// or what is wrong with it.
func canonical(sent *berthv1.Job) (*berthv1.Job, error) {
	if sent == nil {
		return nil, problem.New(problem.Invalid, "job", "no job was given")
	}
	job := proto.CloneOf(sent)
	clearServerSet(job)
	if err := invalid(jobspec.Validate(job)); err != nil {
		return nil, err
	}
	job = jobspec.Canonicalize(job)
	job.Source = sent.GetSource()
	return job, nil
}

func invalid(problems []*problem.Error) error {
	return problem.Join(problem.Invalid, "the job has several problems", problems)
}

// sameSpec says whether two jobs differ only in what the servers write.
func sameSpec(a, b *berthv1.Job) bool {
	a, b = proto.CloneOf(a), proto.CloneOf(b)
	clearServerSet(a)
	clearServerSet(b)
	return proto.Equal(a, b)
}

// clearServerSet clears the fields of a job that the schema says the servers set; the
// source among them.
func clearServerSet(job *berthv1.Job) {
	m := job.ProtoReflect()
	for _, field := range serverSet {
		m.Clear(field)
	}
}

// serverSet is the fields of Job that the servers set, by the schema.
var serverSet = serverSetFields()

func serverSetFields() []protoreflect.FieldDescriptor {
	var set []protoreflect.FieldDescriptor
	fields := (&berthv1.Job{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		options, _ := proto.GetExtension(fields.Get(i).Options(), berthv1.E_Spec).(*berthv1.SpecOptions)
		if options.GetServerSet() {
			set = append(set, fields.Get(i))
		}
	}
	return set
}
