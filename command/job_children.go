package command

import (
	"context"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/client"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func (a *app) jobDispatch() *cobra.Command {
	var o output
	var w watchFlags
	var meta []string
	var payload, token string
	cmd := a.leaf("dispatch JOB", "Run a job with parameters",
		"Each run is a job of its own. Shows how far it is until everything runs; Ctrl-C stops watching, not the job. Exit codes are those of `berth job run`.\n"+
			"With -once a second dispatch with the same token runs nothing: it follows the first.",
		func(ctx context.Context, args []string) error {
			q := &berthv1.DispatchJobRequest{Job: args[0], Token: token}
			var err error
			if q.Meta, err = metaOf(meta); err != nil {
				return err
			}
			if q.Payload, err = a.readPayload(payload); err != nil {
				return err
			}
			c, err := a.api()
			if err != nil {
				return err
			}
			r, err := c.Jobs.DispatchJob(ctx, q)
			if err != nil {
				return err
			}
			if o.forPrograms() {
				return a.show(&o, r, nil)
			}
			return a.followChild(ctx, c, r.GetJob(), r.GetEvaluationId(), r.GetRepeatedToken(), &w)
		})
	cmd.Flags().StringArrayVar(&meta, "meta", nil, "`key=value` that the job takes; may be repeated")
	cmd.Flags().StringVar(&payload, "payload", "", "`file` that the job gets as its payload, at most 16 KiB; - is stdin")
	cmd.Flags().StringVar(&token, "once", "", "`token` by which this dispatch is known if it is made again")
	w.register(cmd)
	o.register(cmd)
	cmd.ValidArgsFunction = a.completeJobs
	return cmd
}

// maxPayload is a little more than servers take: they say that it is too much.
const maxPayload = 32 << 10

func (a *app) readPayload(name string) ([]byte, error) {
	if name == "" {
		return nil, nil
	}
	in := a.In
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, problem.New(problem.Invalid, "-payload", "the payload cannot be read: %w", unpath(err))
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxPayload))
	if err != nil {
		return nil, problem.New(problem.Invalid, "-payload", "the payload cannot be read: %w", unpath(err))
	}
	return data, nil
}

// metaOf reads flags of key=value.
func metaOf(pairs []string) (map[string]string, error) {
	meta := map[string]string{}
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, problem.New(problem.Invalid, "-meta", "%q is not key=value", pair)
		}
		meta[key] = value
	}
	return meta, nil
}

// followChild watches a job that was just run from another.
func (a *app) followChild(ctx context.Context, c *client.Client, name, evalID string, again bool, w *watchFlags) error {
	job, err := c.Jobs.GetJob(ctx, &berthv1.GetJobRequest{Job: name})
	if err != nil {
		return err
	}
	if again {
		a.printf("Dispatched before with this token.\n")
	}
	return a.follow(ctx, job, &berthv1.RegisterJobResponse{EvaluationId: evalID, Version: job.GetVersion()}, w)
}

func (a *app) jobPeriodic() *cobra.Command {
	return a.group("periodic", "Look after jobs with a schedule", "", a.periodicList(), a.periodicForce())
}

func (a *app) periodicForce() *cobra.Command {
	var o output
	var w watchFlags
	cmd := a.leaf("force JOB", "Run a job with a schedule now",
		"The schedule goes on as it was. Where it says overlap = \"skip\" and a run is not over, this is refused; with \"replace\" that run is stopped.",
		func(ctx context.Context, args []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			r, err := c.Jobs.ForceSchedule(ctx, &berthv1.ForceScheduleRequest{Job: args[0]})
			if err != nil {
				return err
			}
			if o.forPrograms() {
				return a.show(&o, r, nil)
			}
			return a.followChild(ctx, c, r.GetJob(), r.GetEvaluationId(), false, &w)
		})
	w.register(cmd)
	o.register(cmd)
	cmd.ValidArgsFunction = a.completeJobs
	return cmd
}

func (a *app) periodicList() *cobra.Command {
	var o output
	cmd := a.leaf("list", "List jobs with a schedule, and when they are run next", "", func(ctx context.Context, _ []string) error {
		c, err := a.api()
		if err != nil {
			return err
		}
		jobs, err := collect(func(token string) ([]*berthv1.JobSummary, string, error) {
			r, err := c.Jobs.ListJobs(ctx, &berthv1.ListJobsRequest{PageToken: token, Filter: "scheduled == true"})
			return r.GetJobs(), r.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		return showList(a, &o, jobs, func() error {
			t := newTable(column{title: "JOB", shrink: 12}, column{title: "STATUS"}, column{title: "NEXT"}, column{title: "IN", right: true})
			for _, j := range jobs {
				t.add(j.GetName(), word(jobWord(j.GetStatus(), j.GetStopped())), clock(j.GetNextScheduled()), until(j.GetNextScheduled()))
			}
			return a.table(t)
		})
	})
	o.register(cmd)
	return cmd
}

// clock is a time as this machine's clock shows it.
func clock(t *timestamppb.Timestamp) string {
	if t == nil {
		return "never"
	}
	return t.AsTime().Local().Format("2006-01-02 15:04:05 MST")
}

// until is how long it is to a time.
func until(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return span(max(0, time.Until(t.AsTime())))
}

// tellParent says what becomes of a job that runs nothing itself.
func (a *app) tellParent(job *berthv1.Job, s *berthv1.JobStatus) {
	switch {
	case job.GetParameters() != nil:
		a.printf("It is run by berth job dispatch %s\n", job.GetName())
	case s.GetNextScheduled() == nil:
		a.printf("It is not run: its schedule is paused, or has no more times.\n")
	default:
		a.printf("It is run next at %s, in %s. berth job status %s\n", clock(s.GetNextScheduled()), until(s.GetNextScheduled()), job.GetName())
	}
}

// printChildren shows what was run from a job.
func (a *app) printChildren(s *berthv1.JobStatus) error {
	j := s.GetJob()
	if j.GetSchedule() != nil {
		a.printf("schedule %s  %s  next %s\n", strings.Join(j.GetSchedule().GetCrons(), ", "), or(j.GetSchedule().GetTimeZone(), "UTC"), clock(s.GetNextScheduled()))
		if skipped := j.GetLastSkipped(); skipped != nil {
			a.printf("passed over %s: %s\n", clock(skipped.GetTime()), oneLine(skipped.GetReason()))
		}
	}
	if !j.IsParent() && len(s.GetChildren()) == 0 {
		return nil
	}
	a.printf("runs: %d pending, %d running, %d over\n", s.GetChildrenPending(), s.GetChildrenRunning(), s.GetChildrenDead())
	if len(s.GetChildren()) == 0 {
		return nil
	}
	a.printf("\n")
	t := newTable(column{title: "RUN", shrink: 12}, column{title: "STATUS"}, column{title: "RUNNING", right: true, drop: 2}, column{title: "COMPLETE", right: true}, column{title: "FAILED", right: true}, column{title: "STARTED", drop: 1})
	for _, child := range s.GetChildren() {
		var sum berthv1.GroupSummary
		for _, g := range child.GetGroups() {
			sum.Running, sum.Complete, sum.Failed = sum.Running+g.GetRunning(), sum.Complete+g.GetComplete(), sum.Failed+g.GetFailed()
		}
		t.add(child.GetName(), word(jobWord(child.GetStatus(), child.GetStopped())), sum.GetRunning(), sum.GetComplete(), dash(sum.GetFailed()), ago(child.GetSubmitTime(), time.Now()))
	}
	return a.table(t)
}

// printScaling shows the changes of a job's counts.
func (a *app) printScaling(events []*berthv1.ScalingEvent) error {
	t := newTable(column{title: "GROUP"}, column{title: "FROM", right: true}, column{title: "TO", right: true}, column{title: "VERSION", right: true, drop: 1}, column{title: "WHEN"}, column{title: "REASON", shrink: 10})
	for _, e := range events {
		t.add(e.GetGroup(), e.GetPrevious(), e.GetCount(), e.GetJobVersion(), ago(e.GetTime(), time.Now()), oneLine(e.GetReason()))
	}
	return a.table(t)
}
