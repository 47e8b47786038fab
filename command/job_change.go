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
	var purge, children, yes, detach bool
	cmd := a.leaf("stop JOB", "Stop a job",
		"Stops every allocation of the job. The job and its history stay until they are collected; `berth job run` starts it again. "+
			"With -purge the job is forgotten as well, which asks first.\n"+
			"Of a job with a schedule or parameters nothing more is run; what runs already goes on, unless -children is given. What was run from a purged job is forgotten when it is over.",
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
			r, err := c.Jobs.StopJob(ctx, &berthv1.StopJobRequest{Job: args[0], Purge: purge, Children: children})
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
	cmd.Flags().BoolVar(&children, "children", false, "stop what was run from it as well")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask before something is lost for good")
	cmd.Flags().BoolVar(&detach, "detach", false, "do not wait until everything has stopped")
	cmd.ValidArgsFunction = a.completeJobs
	return cmd
}

func (a *app) jobScale() *cobra.Command {
	var o output
	var w watchFlags
	var check checkFlag
	var reason string
	var events bool
	cmd := a.leaf("scale JOB [GROUP] COUNT", "Change how many instances of a group run",
		"GROUP may be left out where the job has one group. A group with scaling { min max } stays within these bounds.\n"+
			"`berth job scale -events JOB` shows the newest 20 changes of each group.", nil)
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if events && len(args) == 1 {
			return nil
		}
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
		if events {
			return a.scalingEvents(ctx, &o, args[0])
		}
		n, err := parseCount(args[len(args)-1])
		if err != nil {
			return err
		}
		c, err := a.api()
		if err != nil {
			return err
		}
		req := &berthv1.ScaleJobRequest{Job: args[0], Count: n, Check: check.given(cmd), CheckRevision: check.revision, Reason: reason}
		if len(args) == 3 {
			req.Group = args[1]
		}
		r, err := c.Jobs.ScaleJob(ctx, req)
		if err != nil {
			return err
		}
		return a.followVersion(ctx, c, args[0], r, &o, &w)
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, in `words`; kept with the change")
	cmd.Flags().BoolVar(&events, "events", false, "show the changes that were made")
	w.register(cmd)
	check.register(cmd)
	o.register(cmd)
	cmd.ValidArgsFunction = a.completeJobs
	return cmd
}

func (a *app) scalingEvents(ctx context.Context, o *output, job string) error {
	c, err := a.api()
	if err != nil {
		return err
	}
	r, err := c.Jobs.ListScalingEvents(ctx, &berthv1.ListScalingEventsRequest{Job: job})
	if err != nil {
		return err
	}
	return showList(a, o, r.GetEvents(), func() error { return a.printScaling(r.GetEvents()) })
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
