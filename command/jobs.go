package command

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/client"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func (a *app) jobCommands() *cobra.Command {
	return a.group("job", "Write, submit and look after jobs", "",
		a.jobInit(), a.jobValidate(), a.jobFmt(), a.jobPlan(), a.jobRun(),
		a.jobStatus(), a.jobStop(), a.jobHistory(), a.jobRevert(), a.jobScale(), a.jobDispatch(), a.jobPeriodic(), a.jobInspect(), a.jobEval(),
	)
}

func (a *app) jobStatus() *cobra.Command {
	var o output
	var long bool
	cmd := a.leaf("status [JOB]", "Show jobs, or one job with its allocations",
		"Without a name: all jobs of the namespace. With one: the job, its groups, its allocations, and why something waits.",
		func(ctx context.Context, args []string) error {
			if len(args) == 0 {
				return a.listJobs(ctx, &o)
			}
			return a.showJob(ctx, &o, args[0], long)
		})
	o.register(cmd)
	registerLong(cmd, &long)
	cmd.ValidArgsFunction = a.completeJobs
	return cmd
}

// registerLong adds -long: whole ids.
func registerLong(cmd *cobra.Command, long *bool) {
	cmd.Flags().BoolVarP(long, "long", "l", false, "show ids whole")
}

func (a *app) listJobs(ctx context.Context, o *output) error {
	c, err := a.api()
	if err != nil {
		return err
	}
	jobs, err := collect(func(token string) ([]*berthv1.JobSummary, string, error) {
		r, err := c.Jobs.ListJobs(ctx, &berthv1.ListJobsRequest{PageToken: token})
		return r.GetJobs(), r.GetNextPageToken(), err
	})
	if err != nil {
		return err
	}
	return showList(a, o, jobs, func() error {
		if len(jobs) == 0 {
			a.printf("No jobs in namespace %s. `berth job init` writes an example.\n", c.Namespace())
			return nil
		}
		t := newTable(column{title: "JOB", shrink: 12}, column{title: "NAMESPACE", drop: 3, shrink: 9},
			column{title: "TYPE", drop: 2}, column{title: "STATUS"}, column{title: "RUNNING", right: true},
			column{title: "WAITING", right: true, drop: 1}, column{title: "VERSION", right: true, drop: 4}, column{title: "SUBMITTED", drop: 5})
		for _, j := range jobs {
			var sum berthv1.GroupSummary
			for _, g := range j.GetGroups() {
				sum.Wanted, sum.Running, sum.Queued = sum.Wanted+g.GetWanted(), sum.Running+g.GetRunning(), sum.Queued+g.GetQueued()
			}
			namespace := "" // the one that was asked for
			if c.Namespace() == "*" {
				namespace = j.GetNamespace()
			}
			t.add(j.GetName(), namespace, kindOf(j), word(jobWord(j.GetStatus(), j.GetStopped())),
				fmt.Sprintf("%d/%d", sum.GetRunning(), sum.GetWanted()), dash(sum.GetQueued()), j.GetVersion(), ago(j.GetSubmitTime(), time.Now()))
		}
		return a.table(t)
	})
}

// kindOf is a job's type, and how it is run if that is not at once.
func kindOf(j *berthv1.JobSummary) string {
	switch {
	case j.GetScheduled():
		return j.GetType().String() + "/periodic"
	case j.GetParameterized():
		return j.GetType().String() + "/dispatch"
	}
	return j.GetType().String()
}

// jobWord is a job's status, and that somebody stopped it.
func jobWord(s berthv1.Job_Status, stopped bool) string {
	if stopped {
		return "stopped"
	}
	return s.String()
}

// dash is a number that is only worth looking at when it is not 0.
func dash(n uint32) cell {
	if n == 0 {
		return cell{text: "-", style: faint}
	}
	return cell{text: fmt.Sprint(n), style: warn}
}

// collect walks all pages of a list.
func collect[T any](page func(token string) ([]T, string, error)) ([]T, error) {
	var all []T
	for item, err := range client.Pages(page) {
		if err != nil {
			return nil, err
		}
		all = append(all, item)
	}
	return all, nil
}

func (a *app) showJob(ctx context.Context, o *output, name string, long bool) error {
	c, err := a.api()
	if err != nil {
		return err
	}
	s, err := c.Jobs.GetJobStatus(ctx, &berthv1.GetJobStatusRequest{Job: name})
	if err != nil {
		return err
	}
	return a.show(o, s, func() error {
		allocs, err := jobAllocs(ctx, c, s.GetJob().GetNamespace(), name)
		if err != nil {
			return err
		}
		a.printJob(s)
		a.printRollout(s.GetDeployment())
		if err := a.printChildren(s); err != nil {
			return err
		}
		if !s.GetJob().IsParent() {
			if err := a.printGroups(s); err != nil {
				return err
			}
		}
		if len(allocs) > 0 {
			a.printf("\n")
			if err := a.printAllocs(allocs, long, false); err != nil {
				return err
			}
		}
		a.printWaiting(s.GetEvaluation())
		return nil
	})
}

func jobAllocs(ctx context.Context, c *client.Client, namespace, job string) ([]*berthv1.Alloc, error) {
	return collect(func(token string) ([]*berthv1.Alloc, string, error) {
		r, err := c.Allocs.ListAllocs(ctx, &berthv1.ListAllocsRequest{Namespace: namespace, Job: job, PageToken: token})
		return r.GetAllocs(), r.GetNextPageToken(), err
	})
}

func (a *app) printJob(s *berthv1.JobStatus) {
	j := s.GetJob()
	status := jobWord(j.GetStatus(), j.GetStopped())
	a.printf("%s  v%d  %s  %s", a.paint(strong, j.GetName()), j.GetVersion(), j.GetType(), a.paint(styleOf(status), status))
	if r := j.GetStatusReason(); r != "" {
		a.printf(" (%s)", oneLine(r))
	}
	a.printf("\nnamespace %s  priority %d  pool %s  submitted %s\n",
		or(j.GetNamespace(), "default"), j.GetPriority(), or(j.GetNodePool(), "default"), ago(j.GetSubmitTime(), time.Now()))
	if j.GetParent() != "" {
		a.printf("run from %s", j.GetParent())
		if at := j.GetScheduledTime(); at != nil {
			a.printf(" for %s", clock(at))
		}
		a.printf("\n")
	}
}

func (a *app) printGroups(s *berthv1.JobStatus) error {
	if len(s.GetGroups()) == 0 {
		return nil
	}
	a.printf("\n")
	number := func(title string, drop int) column { return column{title: title, right: true, drop: drop} }
	t := newTable(column{title: "GROUP", shrink: 8}, number("WANTED", 0), number("RUNNING", 0), number("PENDING", 5),
		number("COMPLETE", 6), number("FAILED", 3), number("LOST", 7), number("UNKNOWN", 8), number("WAITING", 2))
	for _, g := range s.GetGroups() {
		t.add(g.GetGroup(), g.GetWanted(), g.GetRunning(), dash(g.GetPending()), g.GetComplete(),
			dash(g.GetFailed()), dash(g.GetLost()), dash(g.GetUnknown()), dash(g.GetQueued()))
	}
	return a.table(t)
}

// printWaiting says why something of the newest evaluation waits.
func (a *app) printWaiting(e *berthv1.Evaluation) {
	if e.GetStatus() != berthv1.Evaluation_blocked {
		return
	}
	for _, g := range e.GetGroups() {
		if g.GetExplanation() == nil {
			continue
		}
		a.printf("\n%s\n", notPlaced(g))
		a.printBlocked(g)
	}
}

func (a *app) jobHistory() *cobra.Command {
	var o output
	var diff bool
	cmd := a.leaf("history JOB", "Show the versions of a job", "Newest first. With -diff: what each changed.",
		func(ctx context.Context, args []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			r, err := c.Jobs.GetJobHistory(ctx, &berthv1.GetJobHistoryRequest{Job: args[0], Diff: diff})
			if err != nil {
				return err
			}
			return showList(a, &o, r.GetVersions(), func() error {
				for _, v := range r.GetVersions() {
					a.printf("v%d  %s\n", v.GetJob().GetVersion(), ago(v.GetJob().GetSubmitTime(), time.Now()))
					a.printDiff(v.GetDiff())
				}
				return nil
			})
		})
	cmd.Flags().BoolVar(&diff, "diff", false, "show what each version changed")
	o.register(cmd)
	cmd.ValidArgsFunction = a.completeJobs
	return cmd
}

// printDiff shows fields that differ, + added, - removed, ~ edited.
func (a *app) printDiff(diff []*berthv1.FieldDiff) {
	for _, d := range diff {
		switch d.GetKind() {
		case berthv1.FieldDiff_added:
			a.printf("  %s\n", a.paint(good, "+ "+d.GetPath()+" = "+oneLine(d.GetNew())))
		case berthv1.FieldDiff_removed:
			a.printf("  %s\n", a.paint(bad, "- "+d.GetPath()+" = "+oneLine(d.GetOld())))
		default:
			a.printf("  %s\n", a.paint(warn, "~ "+d.GetPath()+" = "+oneLine(d.GetOld())+" -> "+oneLine(d.GetNew())))
		}
	}
}

func (a *app) jobInspect() *cobra.Command {
	var o output
	var version uint64
	var source bool
	cmd := a.leaf("inspect JOB", "Show a job as the servers keep it",
		"Prints JSON. With -source: the text that was submitted.",
		func(ctx context.Context, args []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			job, err := c.Jobs.GetJob(ctx, &berthv1.GetJobRequest{Job: args[0], Version: version})
			if err != nil {
				return err
			}
			if !source {
				o.json = o.template == ""
				return a.show(&o, job, nil)
			}
			if job.GetSource().GetText() == "" {
				return problem.New(problem.NotFound, args[0], "the job was submitted without its text").
					WithRemedy("leave out -source to see it as JSON")
			}
			a.printf("%s\n", strings.TrimRight(job.GetSource().GetText(), "\n"))
			return nil
		})
	cmd.Flags().Uint64Var(&version, "version", 0, "a `version` of the job; 0: the newest")
	cmd.Flags().BoolVar(&source, "source", false, "print the text that was submitted")
	o.register(cmd)
	cmd.ValidArgsFunction = a.completeJobs
	return cmd
}
