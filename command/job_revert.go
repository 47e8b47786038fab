package command

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func (a *app) jobRevert() *cobra.Command {
	var o output
	var w watchFlags
	var check checkFlag
	var cmd *cobra.Command
	cmd = a.leaf("revert JOB [VERSION]", "Go back to an older version of a job",
		"Submits what VERSION said as the newest version, and watches it as `berth job run` does. Without VERSION: the newest one before that was rolled out well.",
		func(ctx context.Context, args []string) error {
			q := &berthv1.RevertJobRequest{Job: args[0], Check: check.given(cmd), CheckRevision: check.revision}
			if len(args) == 2 {
				n, err := parseCount(args[1])
				if err != nil || n == 0 {
					return problem.New(problem.Invalid, "VERSION", "%q is not the number of a version", args[1]).
						WithRemedy("berth job history %s shows those that are kept", args[0])
				}
				q.Version = uint64(n)
			}
			c, err := a.api()
			if err != nil {
				return err
			}
			r, err := c.Jobs.RevertJob(ctx, q)
			if err != nil {
				return err
			}
			return a.followVersion(ctx, c, args[0], r, &o, &w)
		})
	w.register(cmd)
	check.register(cmd)
	o.register(cmd)
	cmd.ValidArgsFunction = a.completeJobs
	return cmd
}
