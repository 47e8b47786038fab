package command

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/berthd/berth/client"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func (a *app) deploymentCommands() *cobra.Command {
	return a.group("deployment", "Look at roll-outs and act on them", "",
		a.deploymentList(), a.deploymentStatus(),
		a.deploymentAct("promote", "Let the canaries of a roll-out take over", "All canaries must be healthy. With -group: only those of some groups.",
			berthv1.DeploymentAction_DEPLOYMENT_ACTION_PROMOTE),
		a.deploymentAct("pause", "Have a roll-out replace nothing more until it is resumed", "",
			berthv1.DeploymentAction_DEPLOYMENT_ACTION_PAUSE),
		a.deploymentAct("resume", "Let a roll-out that was paused go on", "",
			berthv1.DeploymentAction_DEPLOYMENT_ACTION_RESUME),
		a.deploymentAct("fail", "End a roll-out as one that failed", "Canaries are stopped. A job with auto_revert goes back to the newest version that was rolled out well.",
			berthv1.DeploymentAction_DEPLOYMENT_ACTION_FAIL))
}

func (a *app) deploymentList() *cobra.Command {
	var o output
	var job, filter string
	cmd := a.leaf("list", "List roll-outs", "", func(ctx context.Context, _ []string) error {
		c, err := a.api()
		if err != nil {
			return err
		}
		list, err := collect(func(token string) ([]*berthv1.Deployment, string, error) {
			r, err := c.Deployments.ListDeployments(ctx, &berthv1.ListDeploymentsRequest{Job: job, Filter: filter, PageToken: token})
			return r.GetDeployments(), r.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		return showList(a, &o, list, func() error {
			if len(list) == 0 {
				a.printf("No roll-outs in namespace %s. Jobs with an update strategy have them.\n", c.Namespace())
				return nil
			}
			t := newTable(column{title: "DEPLOYMENT"}, column{title: "JOB", shrink: 8}, column{title: "VERSION", right: true},
				column{title: "STATUS"}, column{title: "HEALTHY", right: true}, column{title: "BEGUN", drop: 2}, column{title: "REASON", shrink: 8, drop: 1})
			for _, d := range list {
				healthy, desired := tallies(d)
				t.add(shortID(d.GetId()), d.GetJob(), d.GetJobVersion(), word(d.GetStatus().String()), fmt.Sprintf("%d/%d", healthy, desired),
					ago(d.GetCreateTime(), time.Now()), d.GetStatusReason())
			}
			return a.table(t)
		})
	})
	cmd.Flags().StringVar(&job, "job", "", "only those of a `job`")
	registerFilter(cmd, &filter)
	o.register(cmd)
	return cmd
}

// tallies are how many instances of all groups are healthy and wanted.
func tallies(d *berthv1.Deployment) (healthy, desired uint32) {
	for _, g := range d.GetGroups() {
		healthy, desired = healthy+g.GetHealthy(), desired+g.GetDesired()
	}
	return healthy, desired
}

func (a *app) deploymentStatus() *cobra.Command {
	var o output
	var monitor bool
	cmd := a.leaf("status DEPLOYMENT", "Show how far a roll-out is",
		"DEPLOYMENT is an id or a unique prefix of one. With -monitor: follows it until it is over; the exit code is 0 if it was successful, 1 if not, 130 if watching was stopped.",
		func(ctx context.Context, args []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			d, err := c.Deployments.GetDeployment(ctx, &berthv1.GetDeploymentRequest{DeploymentId: args[0]})
			if err != nil {
				return err
			}
			if monitor {
				return a.monitorDeployment(ctx, c, &o, d)
			}
			return a.show(&o, d, func() error { return a.printDeployment(d) })
		})
	cmd.Flags().BoolVar(&monitor, "monitor", false, "follow it until it is over")
	o.register(cmd)
	cmd.ValidArgsFunction = a.completeDeployments
	return cmd
}

func (a *app) printDeployment(d *berthv1.Deployment) error {
	status := d.GetStatus().String()
	a.printf("%s v%d  %s", a.paint(strong, d.GetJob()), d.GetJobVersion(), a.paint(styleOf(status), status))
	if r := d.GetStatusReason(); r != "" {
		a.printf(" (%s)", oneLine(r))
	}
	a.printf("\nid %s  begun %s\n\n", d.GetId(), ago(d.GetCreateTime(), time.Now()))
	number := func(title string, drop int) column { return column{title: title, right: true, drop: drop} }
	t := newTable(column{title: "GROUP", shrink: 8}, number("WANTED", 0), number("PLACED", 3), number("HEALTHY", 0), number("UNHEALTHY", 2),
		number("CANARIES", 1), column{title: "PROMOTED", drop: 4}, column{title: "DEADLINE", drop: 5})
	for _, g := range d.GetGroups() {
		promoted := "-"
		switch {
		case g.GetPromoted():
			promoted = "yes"
		case g.GetCanaries() > 0:
			promoted = "no"
		}
		deadline := "-"
		if g.GetProgressBy() != nil {
			deadline = ago(g.GetProgressBy(), time.Now())
		}
		t.add(g.GetGroup(), g.GetDesired(), g.GetPlaced(), g.GetHealthy(), dash(g.GetUnhealthy()), g.GetCanaries(), promoted, deadline)
	}
	if err := a.table(t); err != nil {
		return err
	}
	if line := waitsForPeople(d); line != "" && d.Active() {
		a.printf("\n%s\n", line)
	}
	return nil
}

// monitorDeployment shows how a roll-out goes on until it is over.
func (a *app) monitorDeployment(ctx context.Context, c *client.Client, o *output, d *berthv1.Deployment) error {
	p, told := a.newProgress(), ""
	if !o.forPrograms() {
		a.printf("%s v%d\n", d.GetJob(), d.GetJobVersion())
	}
	err := client.Watch(ctx, func(index uint64, wait *durationpb.Duration) (uint64, bool, error) {
		var header metadata.MD
		now, err := c.Deployments.GetDeployment(ctx, &berthv1.GetDeploymentRequest{DeploymentId: d.GetId(), Index: index, Wait: wait}, grpc.Header(&header))
		if err != nil {
			return 0, false, err
		}
		d = now
		if !o.forPrograms() {
			p.update(rolloutStages(d))
			if line := waitsForPeople(d); line != "" && line != told && d.Active() {
				told = line
				p.say("  %s", line)
			}
		}
		return client.FreshnessOf(header).Index, !d.Active(), nil
	})
	if ctx.Err() != nil {
		a.printf("Stopped watching; the roll-out goes on. berth deployment status %s\n", shortID(d.GetId()))
		return &exitStatus{code: exitInterrupted}
	}
	if err != nil {
		return err
	}
	if err := a.show(o, d, func() error { a.tellEnd(d); return nil }); err != nil {
		return err
	}
	if d.GetStatus() != berthv1.Deployment_successful {
		return &exitStatus{code: exitError}
	}
	return nil
}

func (a *app) tellEnd(d *berthv1.Deployment) {
	a.printf("%s", a.paint(styleOf(d.GetStatus().String()), d.GetStatus().String()))
	if r := d.GetStatusReason(); r != "" {
		a.printf(": %s", oneLine(r))
	}
	a.printf("\n")
}

func (a *app) deploymentAct(name, short, long string, action berthv1.DeploymentAction) *cobra.Command {
	var o output
	var groups []string
	cmd := a.leaf(name+" DEPLOYMENT", short, long, func(ctx context.Context, args []string) error {
		c, err := a.api()
		if err != nil {
			return err
		}
		r, err := c.Deployments.ChangeDeployment(ctx, &berthv1.ChangeDeploymentRequest{DeploymentId: args[0], Action: action, Groups: groups})
		if err != nil {
			return err
		}
		return a.show(&o, r.GetDeployment(), func() error { a.tellDeploymentChanged(action, r.GetDeployment()); return nil })
	})
	if action == berthv1.DeploymentAction_DEPLOYMENT_ACTION_PROMOTE {
		cmd.Flags().StringArrayVar(&groups, "group", nil, "`group` whose canaries take over; may be repeated (default all)")
	}
	o.register(cmd)
	cmd.ValidArgsFunction = a.completeDeployments
	return cmd
}

// tellDeploymentChanged says what an operator has done. How many instances there are is not
// counted anew by that.
func (a *app) tellDeploymentChanged(action berthv1.DeploymentAction, d *berthv1.Deployment) {
	id, what := shortID(d.GetId()), ""
	switch action {
	case berthv1.DeploymentAction_DEPLOYMENT_ACTION_PROMOTE:
		what = fmt.Sprintf("is promoted: its canaries take over. berth deployment status %s -monitor", id)
	case berthv1.DeploymentAction_DEPLOYMENT_ACTION_PAUSE:
		what = fmt.Sprintf("is paused: nothing more is replaced. berth deployment resume %s", id)
	case berthv1.DeploymentAction_DEPLOYMENT_ACTION_RESUME:
		what = fmt.Sprintf("goes on. berth deployment status %s -monitor", id)
	case berthv1.DeploymentAction_DEPLOYMENT_ACTION_FAIL:
		what = fmt.Sprintf("is ended as one that failed. berth job status %s", d.GetJob())
	case berthv1.DeploymentAction_DEPLOYMENT_ACTION_NONE:
	}
	a.printf("The roll-out of %s v%d %s\n", d.GetJob(), d.GetJobVersion(), what)
}

func (a *app) completeDeployments(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return a.complete(func(ctx context.Context, c *client.Client, prefix string) ([]string, error) {
		r, err := c.Deployments.ListDeployments(ctx, &berthv1.ListDeploymentsRequest{Prefix: prefix, PageSize: completeCount, Stale: true})
		var names []string
		for _, d := range r.GetDeployments() {
			names = append(names, fmt.Sprintf("%s\t%s v%d, %s", d.GetId(), d.GetJob(), d.GetJobVersion(), d.GetStatus()))
		}
		return names, err
	})(cmd, args, typed)
}

// printRollout says how the roll-out of the newest version is.
func (a *app) printRollout(d *berthv1.Deployment) {
	if d == nil {
		return
	}
	healthy, desired := tallies(d)
	status := d.GetStatus().String()
	a.printf("roll-out of v%d  %s  %d/%d healthy", d.GetJobVersion(), a.paint(styleOf(status), status), healthy, desired)
	if r := d.GetStatusReason(); r != "" {
		a.printf("  (%s)", oneLine(r))
	}
	a.printf("  berth deployment status %s\n", shortID(d.GetId()))
}
