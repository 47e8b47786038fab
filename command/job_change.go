package command

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func (a *app) jobStop() *cobra.Command {
	var purge, yes, detach bool
	cmd := a.leaf("stop JOB", "Stop a job",
		"Stops every allocation of the job. The job and its history stay until they are collected; `berth job run` starts it again. "+
			"With -purge the job is forgotten as well, which asks first.",
		func(ctx context.Context, args []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			if purge {
				if err := a.confirm(yes, "Forget job %s and its history for good?", args[0]); err != nil {
					return err
				}
			}
			r, err := c.Jobs.StopJob(ctx, &berthv1.StopJobRequest{Job: args[0], Purge: purge})
			if err != nil {
				return err
			}
			if detach {
				a.printf("%s is being stopped (evaluation %s).\n", args[0], shortID(r.GetEvaluationId()))
				return nil
			}
			return a.watchStop(ctx, c, args[0], purge)
		})
	cmd.Flags().BoolVar(&purge, "purge", false, "forget the job and its history as well")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask before something is lost for good")
	cmd.Flags().BoolVar(&detach, "detach", false, "do not wait until everything has stopped")
	cmd.ValidArgsFunction = a.completeJobs
	return cmd
}

func (a *app) jobScale() *cobra.Command {
	var o output
	var w watchFlags
	var check checkFlag
	cmd := a.leaf("scale JOB [GROUP] COUNT", "Change how many instances of a group run",
		"GROUP may be left out where the job has one group.", nil)
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) < 2 {
			return usageError(cmd, "%s is missing", []string{"JOB", "COUNT"}[len(args)])
		}
		if len(args) > 3 {
			return usageError(cmd, "%q is one argument too many", args[3])
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		n, err := parseCount(args[len(args)-1])
		if err != nil {
			return err
		}
		c, err := a.api()
		if err != nil {
			return err
		}
		req := &berthv1.ScaleJobRequest{Job: args[0], Count: n, Check: check.given(cmd), CheckRevision: check.revision}
		if len(args) == 3 {
			req.Group = args[1]
		}
		r, err := c.Jobs.ScaleJob(ctx, req)
		if err != nil {
			return err
		}
		if o.forPrograms() {
			return a.show(&o, r, nil)
		}
		job, err := c.Jobs.GetJob(ctx, &berthv1.GetJobRequest{Job: args[0], Version: r.GetVersion()})
		if err != nil {
			return err
		}
		return a.follow(ctx, job, r, &w)
	}
	w.register(cmd)
	check.register(cmd)
	o.register(cmd)
	cmd.ValidArgsFunction = a.completeJobs
	return cmd
}

func parseCount(text string) (uint32, error) {
	var n uint32
	if _, err := fmt.Sscanf(text+"\n", "%d\n", &n); err != nil || strings.TrimLeft(text, "0123456789") != "" {
		return 0, problem.New(problem.Invalid, "COUNT", "%q is not a number of instances", text).
			WithRemedy("give a whole number from 0 to 1000000")
	}
	return n, nil
}

// checkFlag is -check-index: do it only if nobody changed the job since.
type checkFlag struct{ revision uint64 }

func (f *checkFlag) register(cmd *cobra.Command) {
	cmd.Flags().Uint64Var(&f.revision, "check-index", 0, "do it only if the job's spec_revision is still `revision`; 0: only if there is no such job")
}

func (f *checkFlag) given(cmd *cobra.Command) bool { return cmd.Flags().Changed("check-index") }

func (a *app) jobEval() *cobra.Command {
	var o output
	cmd := a.leaf("eval JOB", "Have a job looked at again",
		"Useful after something outside Berth changed. Prints what came of it.",
		func(ctx context.Context, args []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			r, err := c.Jobs.EvaluateJob(ctx, &berthv1.EvaluateJobRequest{Job: args[0]})
			if err != nil {
				return err
			}
			e, err := c.WaitEvaluation(ctx, r.GetEvaluationId())
			if err != nil {
				return err
			}
			return a.show(&o, e, func() error { a.printEvaluation(e); return nil })
		})
	o.register(cmd)
	cmd.ValidArgsFunction = a.completeJobs
	return cmd
}
