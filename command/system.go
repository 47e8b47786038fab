package command

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/spf13/cobra"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func (a *app) systemCommands() *cobra.Command {
	return a.group("system", "Look after what the cluster keeps", "", a.systemGC())
}

func (a *app) systemGC() *cobra.Command {
	var o output
	cmd := a.leaf("gc", "Forget now what is over", "Dead jobs, ended allocations, old evaluations and nodes that are down are forgotten by themselves after a while; this does it at once.",
		func(ctx context.Context, _ []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			r, err := c.Operator.CollectGarbage(ctx, &berthv1.CollectGarbageRequest{})
			if err != nil {
				return err
			}
			return a.show(&o, r, func() error {
				a.printf("Forgot %s, %s, %s and %s.\n", count(r.GetJobs(), "job"), count(r.GetAllocs(), "allocation"), count(r.GetEvaluations(), "evaluation"), count(r.GetNodes(), "node"))
				return nil
			})
		})
	o.register(cmd)
	return cmd
}

// eventTopics are those of the API.
var eventTopics = []string{"job", "alloc", "node", "evaluation", "namespace"}

func (a *app) eventsCommand() *cobra.Command {
	var req berthv1.StreamEventsRequest
	cmd := a.leaf("events", "Follow what changes, as one line of JSON per change",
		"Goes on until Ctrl-C, also when a server goes away. Each line has an index; -index goes on after one.", nil)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		for _, t := range req.GetTopics() {
			if !slices.Contains(eventTopics, t) {
				return usageError(cmd, "there is no topic %q; there are job, alloc, node, evaluation and namespace", t)
			}
		}
		c, err := a.api()
		if err != nil {
			return err
		}
		lines := json.NewEncoder(a.Out)
		lines.SetEscapeHTML(false)
		err = c.Events(ctx, &req, func(e *berthv1.Event) error {
			raw, err := encode(e)
			if err != nil {
				return err
			}
			return lines.Encode(raw)
		})
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	cmd.Flags().Uint64Var(&req.Index, "index", 0, "begin after this `revision`; 0: with what happens next")
	cmd.Flags().StringSliceVar(&req.Topics, "topic", nil, "only these `topics`: job, alloc, node, evaluation, namespace")
	cmd.Flags().StringVar(&req.Job, "job", "", "only what concerns this `job`")
	return cmd
}
