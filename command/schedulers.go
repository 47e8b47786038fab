package command

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func (a *app) schedulerCommands() *cobra.Command {
	return a.group("scheduler", "Look at schedulers outside of Berth",
		"Jobs that name a scheduler (scheduler = \"mine\") are placed by it, not by Berth. `berth operator scheduler` is how Berth itself places.",
		a.schedulerList())
}

func (a *app) schedulerList() *cobra.Command {
	var o output
	cmd := a.leaf("list [NAME]", "List the schedulers that are registered, what they have claimed, and what waits for whom", "",
		func(ctx context.Context, args []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			q := &berthv1.ListSchedulersRequest{}
			if len(args) > 0 {
				q.Name = args[0]
			}
			r, err := c.Schedulers.ListSchedulers(ctx, q)
			if err != nil {
				return err
			}
			return a.show(&o, r, func() error { return a.printSchedulers(r) })
		})
	cmd.Args = cobra.MaximumNArgs(1)
	o.register(cmd)
	return cmd
}

func (a *app) printSchedulers(r *berthv1.ListSchedulersResponse) error {
	if len(r.GetQueues()) == 0 {
		a.printf("No schedulers but Berth's own.\n")
		return nil
	}
	t := newTable(column{title: "SCHEDULER"}, column{title: "REGISTERED", right: true}, column{title: "OPEN", right: true},
		column{title: "CLAIMED", right: true}, column{title: "RESTING", right: true, drop: 1}, column{title: "LAST CLAIM"})
	now := time.Now()
	for _, q := range r.GetQueues() {
		registered := fmt.Sprint(q.GetRegistered())
		if q.GetRegistered() == 0 && q.GetOpen() > 0 {
			registered = a.paint(warn, "none")
		}
		t.add(q.GetScheduler(), registered, fmt.Sprint(q.GetOpen()), fmt.Sprint(q.GetClaimed()), fmt.Sprint(q.GetResting()), ago(q.GetClaimTime(), now))
	}
	if err := a.table(t); err != nil {
		return err
	}
	for _, s := range r.GetSchedulers() {
		a.printf("\n%s", a.paint(strong, s.GetName()))
		if s.GetInstance() != "" {
			a.printf("  %s", oneLine(s.GetInstance()))
		}
		a.printf("  lease runs out in %s, %d placed, %s", seconds(s.GetExpireTime().AsTime().Sub(now)), s.GetPlaced(), count(uint32(s.GetConflicts()), "conflict"))
		for _, part := range []struct {
			what string
			list []string
		}{{"namespaces", s.GetNamespaces()}, {"node pools", s.GetNodePools()}} {
			if len(part.list) > 0 {
				a.printf(", only %s %s", part.what, oneLine(strings.Join(part.list, ", ")))
			}
		}
		a.printf("\n")
		if s.GetDescription() != "" {
			a.printf("  %s\n", oneLine(s.GetDescription()))
		}
		for _, claim := range s.GetClaims() {
			a.printf("  has %s  %s  %s to place, for %s, lease %s\n", shortID(claim.GetEvaluationId()), claim.GetJob(), count(claim.GetLeft(), "instance"),
				seconds(now.Sub(claim.GetClaimTime().AsTime())), seconds(claim.GetExpireTime().AsTime().Sub(now)))
		}
	}
	return nil
}
