package api

import (
	"context"
	"iter"
	"strings"

	"github.com/berthd/berth/jobspec"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/state"
)

// jobService is about jobs; job_write.go has what changes them.
type jobService struct {
	berthv1.UnimplementedJobServiceServer
	a *API
}

// findJob gives the newest version of a job.
func findJob(view *state.View, namespace, name string) (*berthv1.Job, error) {
	if name == "" {
		return nil, problem.New(problem.Invalid, "job", "no job was named")
	}
	job := view.Job(namespace, name)
	if job == nil {
		return nil, problem.New(problem.NotFound, "job", "there is no job %q in namespace %q", name, namespace).
			WithRemedy("berth job status shows the jobs of a namespace")
	}
	return job, nil
}

func (s jobService) ListJobs(ctx context.Context, q *berthv1.ListJobsRequest) (*berthv1.ListJobsResponse, error) {
	p, err := newPager(q, &berthv1.JobSummary{})
	if err != nil {
		return nil, err
	}
	topics := []state.Topic{{Table: state.TableJobs}, {Table: state.TableAllocs}, {Table: state.TableEvaluations}}
	return read(ctx, s.a, q, topics, func(view *state.View) (*berthv1.ListJobsResponse, error) {
		jobs, next, err := p.page(ctx, summaries(view, pageOfJobs(view, namespaceOf(q), p)), summaryKey)
		return &berthv1.ListJobsResponse{Jobs: jobs, NextPageToken: next}, err
	})
}

// pageOfJobs is the jobs to look at for a page.
func pageOfJobs(view *state.View, namespace string, p *pager[*berthv1.JobSummary]) iter.Seq[*berthv1.Job] {
	fromNamespace, fromName, _ := strings.Cut(p.from, "/")
	if namespace == anyNamespace {
		return within(view.JobsFrom(fromNamespace, fromName), p.prefix, (*berthv1.Job).GetName, false)
	}
	return within(view.Jobs(namespace, max(fromName, p.prefix)), p.prefix, (*berthv1.Job).GetName, true)
}

func summaryKey(j *berthv1.JobSummary) string { return state.JobKey(j.GetNamespace(), j.GetName()) }

func summaries(view *state.View, jobs iter.Seq[*berthv1.Job]) iter.Seq[*berthv1.JobSummary] {
	return func(yield func(*berthv1.JobSummary) bool) {
		for job := range jobs {
			if !yield(summaryOf(view, job)) {
				return
			}
		}
	}
}

func (s jobService) GetJob(ctx context.Context, q *berthv1.GetJobRequest) (*berthv1.Job, error) {
	ns := namespaceOf(q)
	topics := []state.Topic{{Table: state.TableJobs, Key: state.JobKey(ns, q.GetJob())}}
	return read(ctx, s.a, q, topics, func(view *state.View) (*berthv1.Job, error) {
		job, err := findJob(view, ns, q.GetJob())
		if err != nil || q.GetVersion() == 0 {
			return job, err
		}
		if version := view.JobVersion(ns, q.GetJob(), q.GetVersion()); version != nil {
			return version, nil
		}
		return nil, problem.New(problem.NotFound, "version", "job %q has no version %d any more; its newest is %d",
			q.GetJob(), q.GetVersion(), job.GetVersion()).WithRemedy("berth job history %s shows those that are kept", q.GetJob())
	})
}

func (s jobService) GetJobHistory(ctx context.Context, q *berthv1.GetJobHistoryRequest) (*berthv1.GetJobHistoryResponse, error) {
	ns := namespaceOf(q)
	topics := []state.Topic{{Table: state.TableJobs, Key: state.JobKey(ns, q.GetJob())}}
	return read(ctx, s.a, q, topics, func(view *state.View) (*berthv1.GetJobHistoryResponse, error) {
		if _, err := findJob(view, ns, q.GetJob()); err != nil {
			return nil, err
		}
		versions := view.JobVersions(ns, q.GetJob())
		resp := &berthv1.GetJobHistoryResponse{}
		for i, job := range versions {
			v := &berthv1.JobVersion{Job: job}
			if q.GetDiff() && i+1 < len(versions) {
				v.Diff = jobspec.Diff(versions[i+1], job)
			}
			resp.Versions = append(resp.Versions, v)
		}
		return resp, nil
	})
}

func (s jobService) GetJobStatus(ctx context.Context, q *berthv1.GetJobStatusRequest) (*berthv1.JobStatus, error) {
	ns := namespaceOf(q)
	key := state.JobKey(ns, q.GetJob())
	topics := []state.Topic{
		{Table: state.TableJobs, Key: key}, {Table: state.TableAllocs, Key: key}, {Table: state.TableEvaluations, Key: key},
		{Table: state.TableDeployments, Key: key},
	}
	if s.a.store.View().Job(ns, q.GetJob()).IsParent() {
		topics[0].Key = "" // its children are part of it
	}
	return read(ctx, s.a, q, topics, func(view *state.View) (*berthv1.JobStatus, error) {
		job, err := findJob(view, ns, q.GetJob())
		if err != nil {
			return nil, err
		}
		status := &berthv1.JobStatus{
			Job:        job,
			Groups:     groupsOf(view, job),
			Evaluation: newestEvaluation(view, job),
			Deployment: newestDeployment(view, job),
		}
		addChildren(view, status)
		return status, nil
	})
}
