package command

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// defaultDrain is how long a drain takes at most where nobody says.
const defaultDrain = time.Hour

// drainFlags say what is to be done with a drain.
type drainFlags struct {
	output
	enable, disable, keepIneligible bool
	deadline                        time.Duration
	noDeadline, force, ignoreSystem bool
	reason                          string
	detach, monitor, yes            bool
}

func (a *app) nodeDrain() *cobra.Command {
	var f drainFlags
	cmd := a.leaf("drain NODE", "Empty a node: move what runs there to other nodes",
		"Nothing new is placed on the node, and what runs there is moved: as many of a group at a time as its disruption budget allows, each stopped when its "+
			"successor has been placed elsewhere. What fits nowhere else waits. Batch jobs are left to finish, and system jobs go last. At the deadline all that is left "+
			"is stopped. The node stays ineligible until `berth node drain -disable` or `berth node eligibility -enable`.\n\n"+
			"Exit code: 0 nothing is left, 2 nothing is left and something has found no other place yet, 1 error, 130 watching was interrupted (the drain goes on).", nil)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if why := f.wrong(cmd); why != "" {
			return usageError(cmd, "%s", why)
		}
		return a.drain(cmd.Context(), args[0], &f)
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.enable, "enable", false, "begin to drain (default), or change a drain that goes on")
	flags.BoolVar(&f.disable, "disable", false, "end the drain, and let new work be placed on the node; what was moved does not come back")
	flags.BoolVar(&f.keepIneligible, "keep-ineligible", false, "with -disable: place nothing new on it all the same")
	flags.DurationVar(&f.deadline, "deadline", defaultDrain, "stop what is left after so `long`, whatever disruption budgets say")
	flags.BoolVar(&f.noDeadline, "no-deadline", false, "wait for ever")
	flags.BoolVar(&f.force, "force", false, "stop everything now, batch jobs too; asks first")
	flags.BoolVar(&f.ignoreSystem, "ignore-system", false, "leave the instances of system jobs")
	flags.StringVar(&f.reason, "reason", "", "why, for others to `read`")
	flags.BoolVar(&f.detach, "detach", false, "return at once, without waiting until the node is empty")
	flags.BoolVar(&f.monitor, "monitor", false, "only watch a drain that goes on")
	flags.BoolVar(&f.yes, "yes", false, "do not ask before something is lost for good")
	f.register(cmd)
	cmd.ValidArgsFunction = a.completeNodes
	return cmd
}

// wrong says why the flags make no sense together; "": they do.
func (f *drainFlags) wrong(cmd *cobra.Command) string {
	given := func(name string) bool { return cmd.Flags().Changed(name) }
	deadlines := 0
	for _, name := range []string{"deadline", "no-deadline", "force"} {
		if given(name) {
			deadlines++
		}
	}
	switch {
	case f.enable && f.disable || f.monitor && (f.enable || f.disable):
		return "give one of -enable, -disable and -monitor"
	case deadlines > 1:
		return "give one of -deadline, -no-deadline and -force"
	case (f.disable || f.monitor) && (deadlines > 0 || f.ignoreSystem || f.reason != ""):
		return "-deadline, -no-deadline, -force, -ignore-system and -reason are for a drain that begins"
	case f.keepIneligible && !f.disable:
		return "-keep-ineligible goes with -disable"
	case f.monitor && f.detach:
		return "give either -monitor or -detach"
	case f.deadline < 0:
		return "-deadline is negative"
	}
	return ""
}

func (f *drainFlags) request(node string) *berthv1.DrainNodeRequest {
	req := &berthv1.DrainNodeRequest{NodeId: node, IgnoreSystem: f.ignoreSystem, Disable: f.disable, KeepIneligible: f.keepIneligible, Reason: f.reason}
	switch {
	case f.disable || f.noDeadline:
	case f.force:
		req.Deadline = durationpb.New(0)
	default:
		req.Deadline = durationpb.New(f.deadline)
	}
	return req
}

func (a *app) drain(ctx context.Context, name string, f *drainFlags) error {
	c, err := a.api()
	if err != nil {
		return err
	}
	n, err := c.Nodes.GetNode(ctx, &berthv1.GetNodeRequest{NodeId: name})
	if err != nil {
		return err
	}
	if f.force {
		if err := a.confirm(f.yes, "Stop everything on node %s (%s) now?", nodeWord(n.GetName(), n.GetId()), shortID(n.GetId())); err != nil {
			return err
		}
	}
	w := &drainWatch{app: a, client: c, quiet: f.forPrograms(), known: map[string]*berthv1.Alloc{}, told: map[string]bool{}, jobs: map[string]*berthv1.Job{}}
	if !f.disable && !f.detach {
		if err := w.begin(ctx, n); err != nil { // before the first of it has gone
			return err
		}
	}
	if !f.monitor {
		if n, err = c.Nodes.DrainNode(ctx, f.request(n.GetId())); err != nil {
			return err
		}
	}
	switch {
	case f.disable:
		return a.show(&f.output, n, func() error { a.drainEnded(n); return nil })
	case f.detach:
		return a.show(&f.output, n, func() error { a.printDrain(n); return nil })
	}
	n, err = w.run(ctx, n)
	if f.forPrograms() && n != nil {
		if serr := a.show(&f.output, n, nil); serr != nil {
			return serr
		}
	}
	return err
}

func (a *app) drainEnded(n *berthv1.Node) {
	if n.GetEligibility() == berthv1.Node_ineligible {
		a.printf("%s is not drained any more; nothing new is placed on it.\n", nodeWord(n.GetName(), n.GetId()))
		return
	}
	a.printf("%s is not drained any more; new work may be placed on it.\n", nodeWord(n.GetName(), n.GetId()))
}

// printDrain is what a node's drain is and has come to.
func (a *app) printDrain(n *berthv1.Node) {
	d := n.GetDrain()
	if d == nil {
		return
	}
	now := time.Now()
	switch {
	case d.GetDoneTime() != nil:
		a.printf("%s: nothing is left to be moved since %s", a.paint(warn, "drained"), ago(d.GetDoneTime(), now))
	default:
		a.printf("%s since %s, %s", a.paint(warn, "drained"), ago(d.GetStartTime(), now), deadlineWords(d, now))
	}
	if d.GetIgnoreSystem() {
		a.printf("; system jobs stay")
	}
	if d.GetReason() != "" {
		a.printf("; %s", oneLine(d.GetReason()))
	}
	a.printf("\n")
}

// deadlineWords says how long a drain may still take.
func deadlineWords(d *berthv1.Drain, now time.Time) string {
	switch at := d.GetDeadline(); {
	case at == nil:
		return "without a deadline"
	case !at.AsTime().After(now):
		return "and the deadline has come"
	default:
		return "deadline in " + span(at.AsTime().Sub(now)+time.Second/2)
	}
}
