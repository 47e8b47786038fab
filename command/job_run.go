package command

import (
	"context"

	"github.com/spf13/cobra"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// annotationPlan marks `job plan`, whose errors have an exit code of their own.
const annotationPlan = "plan"

func (a *app) jobPlan() *cobra.Command {
	var f specFlags
	var o output
	diff := true
	cmd := a.leaf("plan FILE", "Say what running a job spec would do, and do nothing",
		"Exit codes: 0 nothing would change, 1 something would, 255 the plan could not be made. The last line names the revision for `berth job run -check-index`.",
		func(ctx context.Context, args []string) error {
			job, err := a.loadJob(args[0], &f)
			if err != nil {
				return err
			}
			c, err := a.api()
			if err != nil {
				return err
			}
			r, err := c.Jobs.PlanJob(ctx, &berthv1.PlanJobRequest{Job: job, Diff: diff})
			if err != nil {
				return err
			}
			if err := a.show(&o, r, func() error { a.printPlan(job, f.words()+" "+shellWord(args[0]), r); return nil }); err != nil {
				return err
			}
			if r.GetChanges() {
				return &exitStatus{code: exitChanges}
			}
			return nil
		})
	cmd.Annotations = map[string]string{annotationPlan: "yes"}
	f.register(cmd)
	cmd.Flags().BoolVar(&diff, "diff", true, "show the fields that would change")
	o.register(cmd)
	return cmd
}

func (a *app) printPlan(job *berthv1.Job, spec string, r *berthv1.PlanJobResponse) {
	a.warn(r.GetWarnings())
	switch {
	case !r.GetChanges():
		a.printf("%s: nothing would change.\n", job.GetName())
		return
	case r.GetSpecRevision() == 0:
		a.printf("%s: a new job.\n", job.GetName())
	default:
		a.printf("%s would change:\n", job.GetName())
	}
	a.printDiff(r.GetDiff())
	for _, g := range r.GetGroups() {
		a.printf("%s: %s\n", g.GetGroup(), outcome(g))
		a.printBlocked(g)
	}
	for _, line := range r.GetRollout() {
		a.printf("rollout %s\n", line)
	}
	for _, at := range r.GetNextScheduled() {
		a.printf("runs at %s\n", clock(at))
	}
	a.printf("\nberth job run -check-index %d%s   does this, unless the job is changed before\n", r.GetSpecRevision(), spec)
}

func (a *app) jobRun() *cobra.Command {
	var f specFlags
	var o output
	var w watchFlags
	var check checkFlag
	var rows string
	var cmd *cobra.Command
	cmd = a.leaf("run FILE", "Submit a job spec and watch it start",
		"FILE is a job spec in HCL, JSON or YAML; - is stdin. Shows how far it is until everything runs; Ctrl-C stops watching, not the job.\n"+
			"Exit codes: 0 everything is placed and running (or accepted, with -detach, or waits to be promoted), 2 something cannot be placed now, 1 an error, or a task failed; 130 watching was stopped.",
		func(ctx context.Context, args []string) error {
			if rows != "" {
				return a.runRows(ctx, args[0], rows, &f, &o, w.detach)
			}
			job, err := a.loadJob(args[0], &f)
			if err != nil {
				return nothingSubmitted(err)
			}
			c, err := a.api()
			if err != nil {
				return err
			}
			r, err := c.Jobs.RegisterJob(ctx, &berthv1.RegisterJobRequest{Job: job, Check: check.given(cmd), CheckRevision: check.revision})
			if err != nil {
				return err
			}
			if o.forPrograms() {
				return a.show(&o, r, nil)
			}
			a.warn(r.GetWarnings())
			if job.IsParent() {
				s, err := c.Jobs.GetJobStatus(ctx, &berthv1.GetJobStatusRequest{Namespace: job.GetNamespace(), Job: job.GetName()})
				if err != nil {
					return err
				}
				a.printf("%s\n", jobWords(job, r.GetVersion()))
				a.tellParent(job, s)
				return nil
			}
			return a.follow(ctx, job, r, &w)
		})
	f.register(cmd)
	w.register(cmd)
	check.register(cmd)
	o.register(cmd)
	cmd.Flags().StringVar(&rows, "rows", "", "run the spec once for each row of a CSV `file`, whose first line names the variables that its columns fill in; nothing is submitted unless every row is valid")
	cmd.MarkFlagsMutuallyExclusive("rows", "check-index")
	return cmd
}
