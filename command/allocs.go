package command

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func (a *app) allocCommands() *cobra.Command {
	cmd := a.group("alloc", "Look into allocations and act on them", "",
		a.allocStatus(), a.allocLogs(), a.allocExec(), a.allocStop(), a.allocRestart(), a.allocSignal(), a.allocFS(),
		a.allocConsole(), a.allocScreenshot(), a.allocSnapshots())
	cmd.AddCommand(a.allocControls()...)
	return cmd
}

// printAllocs is the table of allocations; withJob says whose they are.
func (a *app) printAllocs(allocs []*berthv1.Alloc, long, withJob bool) error {
	jobDrop := 9
	if withJob {
		jobDrop = 0
	}
	t := newTable(column{title: "ALLOC"}, column{title: "JOB", shrink: 8, drop: jobDrop}, column{title: "GROUP", shrink: 8, drop: 3}, column{title: "NODE", shrink: 6, drop: 2},
		column{title: "VERSION", right: true, drop: 5}, column{title: "WANTED", drop: 6}, column{title: "STATUS"}, column{title: "SINCE", drop: 4}, column{title: "REASON", shrink: 8, drop: 1})
	if !withJob {
		t.columns = append(t.columns[:1], t.columns[2:]...)
	}
	for _, alloc := range allocs {
		row := []any{idOf(alloc.GetId(), long), alloc.GetJob(), instanceWord(alloc),
			nodeWord(alloc.GetNodeName(), alloc.GetNodeId()), alloc.GetJobVersion(), alloc.GetDesired(), word(alloc.GetStatus().String()),
			ago(or2(alloc.GetStatusTime(), alloc.GetCreateTime()), time.Now()), reason(alloc)}
		if !withJob {
			row = append(row[:1], row[2:]...)
		}
		t.add(row...)
	}
	return a.table(t)
}

// instanceWord names an instance, "web[2]", and says whether it is a canary.
func instanceWord(alloc *berthv1.Alloc) string {
	name := fmt.Sprintf("%s[%d]", alloc.GetGroup(), alloc.GetIndex())
	if alloc.GetCanary() {
		name += " canary"
	}
	return name
}

func or2[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}

func reason(alloc *berthv1.Alloc) string {
	if alloc.GetDesired() != berthv1.Alloc_run && alloc.GetDesiredReason() != "" {
		return alloc.GetDesiredReason()
	}
	return alloc.GetStatusReason()
}

func (a *app) allocStatus() *cobra.Command {
	var o output
	var long bool
	var filter string
	cmd := a.leaf("status [ALLOC]", "Show allocations, or one with its tasks",
		"ALLOC is an id or a unique prefix of one. Without it: all allocations of the namespace.",
		func(ctx context.Context, args []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				alloc, err := c.Allocs.GetAlloc(ctx, &berthv1.GetAllocRequest{AllocId: args[0]})
				if err != nil {
					return err
				}
				return a.show(&o, alloc, func() error {
					a.printAlloc(alloc)
					s, err := c.Services.ListAllocServices(ctx, &berthv1.ListAllocServicesRequest{AllocId: alloc.GetId()})
					if err != nil {
						return err
					}
					return a.printAllocServices(s.GetInstances())
				})
			}
			allocs, err := collect(func(token string) ([]*berthv1.Alloc, string, error) {
				r, err := c.Allocs.ListAllocs(ctx, &berthv1.ListAllocsRequest{Filter: filter, PageToken: token})
				return r.GetAllocs(), r.GetNextPageToken(), err
			})
			if err != nil {
				return err
			}
			return showList(a, &o, allocs, func() error {
				if len(allocs) == 0 {
					a.printf("No allocations in namespace %s.\n", c.Namespace())
					return nil
				}
				return a.printAllocs(allocs, long, true)
			})
		})
	registerFilter(cmd, &filter)
	registerLong(cmd, &long)
	o.register(cmd)
	cmd.ValidArgsFunction = a.completeAllocs
	return cmd
}

func (a *app) printAlloc(alloc *berthv1.Alloc) {
	status := alloc.GetStatus().String()
	a.printf("%s[%d] of %s v%d  %s", a.paint(strong, alloc.GetGroup()), alloc.GetIndex(), alloc.GetJob(), alloc.GetJobVersion(), a.paint(styleOf(status), status))
	if r := alloc.GetStatusReason(); r != "" {
		a.printf(" (%s)", oneLine(r))
	}
	a.printf("\nid %s  on %s  placed %s\n", alloc.GetId(), nodeWord(alloc.GetNodeName(), alloc.GetNodeId()), ago(alloc.GetCreateTime(), time.Now()))
	if alloc.GetCanary() {
		a.printf("a canary: it waits to be promoted\n")
	}
	if h := alloc.GetHealth(); h != berthv1.Alloc_undecided {
		a.printf("%s since %s\n", a.paint(styleOf(h.String()), h.String()), ago(alloc.GetHealthTime(), time.Now()))
	}
	if alloc.GetDesired() != berthv1.Alloc_run {
		verb := "to " + alloc.GetDesired().String()
		if alloc.GetDesired() == berthv1.Alloc_evict {
			verb = "evicted"
		}
		a.printf("%s: %s\n", verb, or(oneLine(alloc.GetDesiredReason()), "no reason given"))
	}
	if p := alloc.GetPreviousAlloc(); p != "" {
		a.printf("replaces %s\n", shortID(p))
	}
	if n := alloc.GetNextAlloc(); n != "" {
		a.printf("replaced by %s\n", shortID(n))
	}
	for _, p := range alloc.GetAssignment().GetPorts() {
		a.printf("port %s  %s:%d", p.GetName(), or(p.GetAddress(), "*"), p.GetPort())
		if p.GetTo() != 0 && p.GetTo() != p.GetPort() {
			a.printf(" -> %d", p.GetTo())
		}
		a.printf("\n")
	}
	grants := map[string]*berthv1.TaskGrant{}
	for _, g := range alloc.GetAssignment().GetTasks() {
		grants[g.GetTask()] = g
	}
	for _, t := range alloc.GetTasks() {
		a.printTask(t, grants[t.GetTask()])
	}
}

func (a *app) printTask(t *berthv1.TaskState, grant *berthv1.TaskGrant) {
	phase := t.GetPhase().String()
	if t.GetFailed() {
		phase = "failed"
	}
	a.printf("\ntask %s  %s", a.paint(strong, t.GetTask()), a.paint(styleOf(phase), phase))
	if t.GetPid() != 0 {
		a.printf("  pid %d", t.GetPid())
	}
	if c := t.GetCondition(); c != "" {
		a.printf("  %s", a.paint(styleOf(c), c))
	}
	if t.GetRestarts() > 0 {
		a.printf("  %s", count(t.GetRestarts(), "restart"))
	}
	a.printf("\n")
	if g := guestWords(t.GetGuest()); g != "" {
		a.printf("  guest %s\n", g)
	}
	if g := grantWords(grant); g != "" {
		a.printf("  has %s\n", g)
	}
	for _, e := range t.GetEvents() {
		a.printf("  %-9s  %s\n", ago(e.GetTime(), time.Now()), eventWords(e))
	}
}

// guestWords is what a guest says of itself.
func guestWords(g *berthv1.Guest) string {
	var parts []string
	for _, words := range append([]string{g.GetHostname(), g.GetOs()}, g.GetAddresses()...) {
		if words != "" {
			parts = append(parts, words)
		}
	}
	return strings.Join(parts, ", ")
}

// grantWords is what a task was given, exactly.
func grantWords(g *berthv1.TaskGrant) string {
	var parts []string
	for _, c := range g.GetCells() {
		var what []string
		if c.GetCpus() != "" {
			what = append(what, "CPUs "+c.GetCpus())
		}
		if c.GetCpuMilli() > 0 {
			what = append(what, milli(c.GetCpuMilli())+" shared")
		}
		if c.GetMemoryMib() > 0 {
			what = append(what, mebibytes(c.GetMemoryMib()))
		}
		for _, h := range c.GetHugepages() {
			what = append(what, fmt.Sprintf("%d pages of %s", h.GetCount(), bytesIn(h.GetSizeKib()<<10)))
		}
		parts = append(parts, strings.Join(what, " + ")+fmt.Sprintf(" on cell %d", c.GetCell()))
	}
	for _, d := range g.GetDevices() {
		parts = append(parts, d.GetKind()+" "+d.GetId())
	}
	return strings.Join(parts, "; ")
}

func (a *app) allocStop() *cobra.Command {
	var detach, reschedule, force, yes bool
	cmd := a.leaf("stop ALLOC", "Stop an allocation; its job replaces it",
		"To have nothing in its place, stop the job or scale it down. With -force an allocation counts as over whose node is down and cannot say so: "+
			"the successors of stateful groups wait for that. Make sure that it does not run there any more.",
		func(ctx context.Context, args []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			if force {
				if err := a.confirm(yes, "Is it certain that %s does not run any more?", args[0]); err != nil {
					return err
				}
			}
			r, err := c.Allocs.StopAlloc(ctx, &berthv1.StopAllocRequest{AllocId: args[0], Reschedule: reschedule, Force: force})
			if err != nil {
				return err
			}
			if detach || r.GetEvaluationId() == "" {
				a.printf("%s is being stopped.\n", args[0])
				return nil
			}
			e, err := c.WaitEvaluation(ctx, r.GetEvaluationId())
			if err != nil {
				return err
			}
			a.printEvaluation(e)
			return nil
		})
	cmd.Flags().BoolVar(&detach, "detach", false, "do not wait for what comes of it")
	cmd.Flags().BoolVar(&reschedule, "reschedule", false, "place the next one on another node, if any other has room")
	cmd.Flags().BoolVar(&force, "force", false, "its node is down: take it for over, which asks first")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask before something is lost for good")
	cmd.ValidArgsFunction = a.completeAllocs
	return cmd
}

func (a *app) allocRestart() *cobra.Command {
	var task string
	cmd := a.leaf("restart ALLOC", "Restart an allocation's tasks where they are", "",
		func(ctx context.Context, args []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			if _, err := c.Allocs.RestartAlloc(ctx, &berthv1.RestartAllocRequest{AllocId: args[0], Task: task}); err != nil {
				return err
			}
			a.printf("%s was restarted.\n", or(task, "Every task of "+args[0]))
			return nil
		})
	registerTask(cmd, &task, "every task")
	cmd.ValidArgsFunction = a.completeAllocs
	return cmd
}

func registerTask(cmd *cobra.Command, task *string, empty string) {
	cmd.Flags().StringVar(task, "task", "", "`task` of the allocation (default "+empty+")")
}

func (a *app) allocSignal() *cobra.Command {
	var task string
	signal := "SIGHUP"
	cmd := a.leaf("signal ALLOC", "Send a signal to an allocation's tasks", "",
		func(ctx context.Context, args []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			if _, err := c.Allocs.SignalAlloc(ctx, &berthv1.SignalAllocRequest{AllocId: args[0], Task: task, Signal: signalName(signal)}); err != nil {
				return err
			}
			a.printf("%s was sent to %s.\n", signalName(signal), or(task, "every task of "+args[0]))
			return nil
		})
	cmd.Flags().StringVarP(&signal, "signal", "s", "SIGHUP", "`signal` to send, such as SIGHUP or USR1")
	registerTask(cmd, &task, "every task")
	cmd.ValidArgsFunction = a.completeAllocs
	return cmd
}

// signalName lets the SIG of a signal's name be left out.
func signalName(s string) string {
	s = strings.ToUpper(strings.TrimSpace(s))
	if s == "" || strings.HasPrefix(s, "SIG") || strings.Trim(s, "0123456789") == "" {
		return s
	}
	return "SIG" + s
}
