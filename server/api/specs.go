package api

import (
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func canonicalizeSpec(job *berthv1.Job) {
	if job.GetNamespace() == "" {
		job.Namespace = defaultNamespace
	}
	if job.GetPriority() == 0 {
		job.Priority = 50
	}
}

func validateSpec(job *berthv1.Job) []*problem.Error {
	var out []*problem.Error
	if job.GetName() == "" {
		out = append(out, problem.New(problem.Invalid, "name", "the job has no name"))
	}
	if len(job.GetGroups()) == 0 {
		out = append(out, problem.New(problem.Invalid, "groups", "the job has no group"))
	}
	return out
}

func warningsOf(*berthv1.Job) []string { return nil }

func diffOf(before, after *berthv1.Job) []*berthv1.FieldDiff { return nil }

func parseSpec(q *berthv1.ParseJobRequest) (*berthv1.Job, error) {
	return nil, problem.New(problem.Unsupported, "", "parsing is not there yet")
}
