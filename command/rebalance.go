package command

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

const rebalanceHelp = "Shows moves of service allocations that would free whole nodes: first the GPUs of nodes of which few are granted, then nodes as a whole. " +
	"Each move is possible when those before it are done. System and batch jobs, gangs, whole nodes, and what a disruption budget keeps in its place stay where they are. " +
	"Nothing is moved: this is a plan. To carry a move out, make the node ineligible and stop the allocation; its successor is placed elsewhere."

func (a *app) operatorRebalance() *cobra.Command {
	var o output
	var plan bool
	var pool string
	var most uint32
	cmd := a.leaf("rebalance", "Show what could be moved to free whole nodes", rebalanceHelp, nil)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !plan {
			return usageError(cmd, "give -plan: moves are shown, and not carried out")
		}
		c, err := a.api()
		if err != nil {
			return err
		}
		p, err := c.Operator.PlanRebalance(cmd.Context(), &berthv1.PlanRebalanceRequest{NodePool: pool, MaxMoves: most})
		if err != nil {
			return err
		}
		return a.show(&o, p, func() error { return a.printRebalance(cmd.Context(), p) })
	}
	cmd.Flags().BoolVar(&plan, "plan", false, "show the moves")
	cmd.Flags().StringVar(&pool, "pool", "", "only nodes of this `pool` (default every pool)")
	cmd.Flags().Uint32Var(&most, "max-moves", 0, "most `moves` that are shown (default 1000)")
	o.register(cmd)
	return cmd
}

func (a *app) printRebalance(_ context.Context, p *berthv1.RebalancePlan) error {
	if len(p.GetMoves()) == 0 {
		a.printf("No move would free a node: %s empty", nodesAre(p.GetEmptyBefore()))
		if p.GetFreeGpuNodesBefore() > 0 {
			a.printf(", %s all GPUs free", nodesHave(p.GetFreeGpuNodesBefore()))
		}
		a.printf(".\n")
		a.printKept(p)
		return nil
	}
	t := newTable(column{title: "ALLOC"}, column{title: "JOB", shrink: 8}, column{title: "GROUP", shrink: 8}, column{title: "FROM"}, column{title: "TO"})
	for _, m := range p.GetMoves() {
		t.add(shortID(m.GetAllocId()), m.GetJob(), m.GetGroup()+"["+itoa(m.GetIndex())+"]", m.GetFromNode(), m.GetToNode())
	}
	if err := a.table(t); err != nil {
		return err
	}
	a.printf("\n%s: %s emptied (%d of all are empty then, %d now)", count(len(p.GetMoves()), "move"), count(len(p.GetEmptied()), "node"), p.GetEmptyAfter(), p.GetEmptyBefore())
	if n := len(p.GetGpuNodesFreed()); n > 0 {
		a.printf(", %s (%d then, %d now)", count(n, "whole GPU set"), p.GetFreeGpuNodesAfter(), p.GetFreeGpuNodesBefore())
	}
	a.printf("\n")
	if len(p.GetEmptied()) > 0 {
		a.printf("emptied: %s\n", strings.Join(p.GetEmptied(), " "))
	}
	if len(p.GetGpuNodesFreed()) > 0 {
		a.printf("GPUs freed: %s\n", strings.Join(p.GetGpuNodesFreed(), " "))
	}
	a.printKept(p)
	return nil
}

func (a *app) printKept(p *berthv1.RebalancePlan) {
	for _, why := range sortedKeys(p.GetKept()) {
		a.printf("kept %s: %s\n", count(p.GetKept()[why], "node"), why)
	}
}

func nodesAre(n uint32) string {
	if n == 1 {
		return "1 node is"
	}
	return itoa(n) + " nodes are"
}

func nodesHave(n uint32) string {
	if n == 1 {
		return "1 node has"
	}
	return itoa(n) + " nodes have"
}

func itoa(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
