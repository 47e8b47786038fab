package command

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func (a *app) nodeCommands() *cobra.Command {
	return a.group("node", "Look at nodes, and say whether work is placed on them", "",
		a.nodeStatus(), a.nodeEligibility(), a.nodeDrain(), a.nodeTaint(), a.nodeRemove())
}

func (a *app) nodeStatus() *cobra.Command {
	var o output
	var long bool
	var filter string
	cmd := a.leaf("status [NODE]", "Show nodes, or one node with what runs on it",
		"NODE is a name, an id or a unique prefix of an id. Without it: all nodes.",
		func(ctx context.Context, args []string) error {
			if len(args) == 0 {
				return a.listNodes(ctx, &o, filter, long)
			}
			return a.showNode(ctx, &o, args[0], long)
		})
	registerFilter(cmd, &filter)
	registerLong(cmd, &long)
	o.register(cmd)
	cmd.ValidArgsFunction = a.completeNodes
	return cmd
}

// registerFilter adds -filter to a command that lists.
func registerFilter(cmd *cobra.Command, filter *string) {
	cmd.Flags().StringVar(filter, "filter", "", "only those for which the `expression` is true, such as 'status == \"ready\"'; -json shows the fields")
}

func (a *app) listNodes(ctx context.Context, o *output, filter string, long bool) error {
	c, err := a.api()
	if err != nil {
		return err
	}
	nodes, err := collect(func(token string) ([]*berthv1.Node, string, error) {
		r, err := c.Nodes.ListNodes(ctx, &berthv1.ListNodesRequest{Filter: filter, PageToken: token})
		return r.GetNodes(), r.GetNextPageToken(), err
	})
	if err != nil {
		return err
	}
	return showList(a, o, nodes, func() error {
		if len(nodes) == 0 {
			a.printf("No nodes. `berth agent` on a host makes it one.\n")
			return nil
		}
		t := newTable(column{title: "NODE"}, column{title: "NAME", shrink: 8}, column{title: "STATUS"}, column{title: "ELIGIBLE", drop: 5},
			column{title: "POOL", drop: 4}, column{title: "ARCH", drop: 6}, column{title: "CORES", right: true, drop: 3},
			column{title: "MEMORY", right: true, drop: 3}, column{title: "DRIVERS", drop: 2, shrink: 8}, column{title: "ADDRESS", drop: 7}, column{title: "VERSION", drop: 8})
		for _, n := range nodes {
			cores, _, memory := hardwareSums(n.GetHardware())
			t.add(idOf(n.GetId(), long), n.GetName(), word(n.GetStatus().String()), eligibleWord(n), n.GetPool(), n.GetArch(),
				cores, mebibytes(memory), strings.Join(healthyDrivers(n), " "), n.GetAddress(), n.GetVersion())
		}
		return a.table(t)
	})
}

func eligibleWord(n *berthv1.Node) cell {
	switch {
	case n.GetEligibility() == berthv1.Node_eligible:
		return cell{text: "yes", style: plain}
	case n.GetDrain().GetDoneTime() != nil:
		return cell{text: "drained", style: warn}
	case n.GetDrain() != nil:
		return cell{text: "draining", style: warn}
	}
	return cell{text: "no", style: warn}
}

// hardwareSums adds up cores, threads and memory (MiB) over a node's cells.
func hardwareSums(h *berthv1.Hardware) (cores, threads int, memory uint64) {
	for _, c := range h.GetCells() {
		cores += len(c.GetCores())
		for _, list := range c.GetCores() {
			threads += listSize(list)
		}
		memory += c.GetMemoryMib()
	}
	return cores, threads, memory
}

// listSize counts the CPUs of a list in the kernel's format; what is not one counts 0.
func listSize(list string) int {
	n := 0
	for part := range strings.SplitSeq(list, ",") {
		var from, to int
		switch k, _ := fmt.Sscanf(part, "%d-%d", &from, &to); k {
		case 1:
			n++
		case 2:
			n += max(0, to-from+1)
		}
	}
	return n
}

func healthyDrivers(n *berthv1.Node) []string {
	var names []string
	for _, d := range n.GetDrivers() {
		if d.GetHealthy() {
			names = append(names, d.GetName())
		}
	}
	return names
}

func (a *app) showNode(ctx context.Context, o *output, name string, long bool) error {
	c, err := a.api()
	if err != nil {
		return err
	}
	n, err := c.Nodes.GetNode(ctx, &berthv1.GetNodeRequest{NodeId: name})
	if err != nil {
		return err
	}
	return a.show(o, n, func() error {
		allocs, err := collect(func(token string) ([]*berthv1.Alloc, string, error) {
			r, err := c.Allocs.ListAllocs(ctx, &berthv1.ListAllocsRequest{Namespace: "*", NodeId: n.GetId(), PageToken: token})
			return r.GetAllocs(), r.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		a.printNode(n)
		if err := a.printDrivers(n); err != nil {
			return err
		}
		if len(allocs) == 0 {
			a.printf("\nNothing is placed on it.\n")
			return nil
		}
		a.printf("\n")
		return a.printAllocs(allocs, long, true)
	})
}

func (a *app) printNode(n *berthv1.Node) {
	cores, threads, memory := hardwareSums(n.GetHardware())
	status := n.GetStatus().String()
	a.printf("%s  %s", a.paint(strong, nodeWord(n.GetName(), n.GetId())), a.paint(styleOf(status), status))
	if r := n.GetStatusReason(); r != "" {
		a.printf(" (%s)", oneLine(r))
	}
	a.printf("  %s  %s, %s, %s, %s, %s\n", n.GetArch(), count(max(n.GetHardware().GetSockets(), 1), "socket"),
		count(len(n.GetHardware().GetCells()), "cell"), count(cores, "core"), count(threads, "thread"), mebibytes(memory))
	a.printf("id %s  pool %s  address %s  since %s\n", n.GetId(), or(n.GetPool(), "default"), or(n.GetAddress(), "-"), ago(n.GetStatusTime(), time.Now()))
	a.printDrain(n)
	if n.GetEligibility() == berthv1.Node_ineligible {
		a.printf("%s: nothing new is placed on it; berth node eligibility -enable %s\n", a.paint(warn, "ineligible"), nodeWord(n.GetName(), n.GetId()))
	}
	a.printTaints(n)
	for _, c := range n.GetHardware().GetCells() {
		a.printf("cell %d  cores %s  %s", c.GetId(), or(coreList(c), "none"), mebibytes(c.GetMemoryMib()))
		for _, h := range c.GetHugepages() {
			a.printf("  %d pages of %s", h.GetCount(), bytesIn(h.GetSizeKib()<<10))
		}
		a.printf("\n")
	}
	for _, d := range n.GetHardware().GetDevices() {
		a.printf("device %s  %s %s  cell %d", d.GetId(), d.GetKind(), d.GetModel(), d.GetCell())
		if !d.GetHealthy() {
			a.printf("  %s: %s", a.paint(bad, "unhealthy"), oneLine(d.GetHealthReason()))
		}
		a.printf("\n")
	}
}

// coreList is a cell's CPUs, as far as they can be said in a line.
func coreList(c *berthv1.Cell) string {
	return cut(strings.Join(c.GetCores(), ","), 40)
}

func (a *app) printDrivers(n *berthv1.Node) error {
	if len(n.GetDrivers()) == 0 {
		return nil
	}
	a.printf("\n")
	t := newTable(column{title: "DRIVER"}, column{title: "HEALTH"}, column{title: "VERSION", drop: 2}, column{title: "CAN", drop: 1, shrink: 6}, column{title: "MESSAGE", shrink: 10})
	for _, d := range n.GetDrivers() {
		health := word("healthy")
		if !d.GetHealthy() {
			health = word("unhealthy")
		}
		t.add(d.GetName(), health, or(d.GetVersion(), "-"), strings.Join(d.GetCapabilities(), " "), d.GetMessage())
	}
	return a.table(t)
}

func (a *app) nodeEligibility() *cobra.Command {
	var enable, disable bool
	cmd := a.leaf("eligibility NODE", "Say whether new work is placed on a node",
		"Give -enable or -disable. What runs on the node is not touched either way.", nil)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if enable == disable {
			return usageError(cmd, "give either -enable or -disable")
		}
		c, err := a.api()
		if err != nil {
			return err
		}
		to := berthv1.Node_eligible
		if disable {
			to = berthv1.Node_ineligible
		}
		if _, err := c.Nodes.SetNodeEligibility(cmd.Context(), &berthv1.SetNodeEligibilityRequest{NodeId: args[0], Eligibility: to}); err != nil {
			return err
		}
		if enable {
			a.printf("New work may be placed on %s.\n", args[0])
			return nil
		}
		a.printf("Nothing new is placed on %s; what runs there goes on.\n", args[0])
		return nil
	}
	cmd.Flags().BoolVar(&enable, "enable", false, "place new work on it")
	cmd.Flags().BoolVar(&disable, "disable", false, "place nothing new on it")
	cmd.ValidArgsFunction = a.completeNodes
	return cmd
}

func (a *app) nodeRemove() *cobra.Command {
	var yes bool
	cmd := a.leaf("remove NODE", "Forget a node that is down for good", "A node that comes back later registers itself again.",
		func(ctx context.Context, args []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			n, err := c.Nodes.GetNode(ctx, &berthv1.GetNodeRequest{NodeId: args[0]})
			if err != nil {
				return err
			}
			if n.GetStatus() != berthv1.Node_down {
				return problem.New(problem.Conflict, args[0], "the node is %s, and only nodes that are down are forgotten", n.GetStatus()).
					WithRemedy("stop its agent first")
			}
			if err := a.confirm(yes, "Forget node %s (%s)?", nodeWord(n.GetName(), n.GetId()), shortID(n.GetId())); err != nil {
				return err
			}
			if _, err := c.Nodes.RemoveNode(ctx, &berthv1.RemoveNodeRequest{NodeId: n.GetId()}); err != nil {
				return err
			}
			a.printf("%s is forgotten.\n", nodeWord(n.GetName(), n.GetId()))
			return nil
		})
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask before something is lost for good")
	cmd.ValidArgsFunction = a.completeNodes
	return cmd
}
