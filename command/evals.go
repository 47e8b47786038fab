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

func (a *app) evalCommands() *cobra.Command {
	return a.group("eval", "Look at evaluations: why jobs were looked at, and what came of it", "",
		a.evalStatus(), a.evalList())
}

func (a *app) evalStatus() *cobra.Command {
	var o output
	cmd := a.leaf("status EVALUATION", "Show an evaluation, and why it waits", "EVALUATION is an id or a unique prefix of one.",
		func(ctx context.Context, args []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			e, err := c.Evaluations.GetEvaluation(ctx, &berthv1.GetEvaluationRequest{EvaluationId: args[0]})
			if err != nil {
				return err
			}
			return a.show(&o, e, func() error { a.printEvaluation(e); return nil })
		})
	o.register(cmd)
	cmd.ValidArgsFunction = a.completeEvaluations
	return cmd
}

func (a *app) evalList() *cobra.Command {
	var o output
	var long bool
	var job string
	cmd := a.leaf("list", "List evaluations", "",
		func(ctx context.Context, _ []string) error {
			c, err := a.api()
			if err != nil {
				return err
			}
			evals, err := collect(func(token string) ([]*berthv1.Evaluation, string, error) {
				r, err := c.Evaluations.ListEvaluations(ctx, &berthv1.ListEvaluationsRequest{Job: job, PageToken: token})
				return r.GetEvaluations(), r.GetNextPageToken(), err
			})
			if err != nil {
				return err
			}
			return showList(a, &o, evals, func() error { return a.printEvaluations(evals, long) })
		})
	cmd.Flags().StringVar(&job, "job", "", "only those of this `job`")
	registerLong(cmd, &long)
	o.register(cmd)
	return cmd
}

func (a *app) printEvaluations(evals []*berthv1.Evaluation, long bool) error {
	if len(evals) == 0 {
		a.printf("No evaluations.\n")
		return nil
	}
	t := newTable(column{title: "EVALUATION"}, column{title: "JOB", shrink: 10}, column{title: "VERSION", right: true, drop: 3},
		column{title: "TRIGGER", drop: 2}, column{title: "STATUS"}, column{title: "PLACED", right: true, drop: 1}, column{title: "CREATED", drop: 4})
	for _, e := range evals {
		var wanted, placed uint32
		for _, g := range e.GetGroups() {
			wanted, placed = wanted+g.GetWanted(), placed+g.GetPlaced()
		}
		t.add(idOf(e.GetId(), long), e.GetJob(), e.GetJobVersion(), spaced(e.GetTrigger().String()), word(e.GetStatus().String()),
			fmt.Sprintf("%d/%d", placed, wanted), ago(e.GetCreateTime(), time.Now()))
	}
	return a.table(t)
}

// idOf is an id as tables show it.
func idOf(id string, long bool) string {
	if long {
		return id
	}
	return shortID(id)
}

// spaced is the name of an enum's value as words.
func spaced(name string) string { return strings.ReplaceAll(name, "_", " ") }

func (a *app) printEvaluation(e *berthv1.Evaluation) {
	status := e.GetStatus().String()
	a.printf("evaluation %s  %s v%d  %s", shortID(e.GetId()), a.paint(strong, e.GetJob()), e.GetJobVersion(), a.paint(styleOf(status), status))
	if r := e.GetStatusReason(); r != "" {
		a.printf(" (%s)", oneLine(r))
	}
	a.printf("\n%s, %s\n", spaced(e.GetTrigger().String()), ago(e.GetCreateTime(), time.Now()))
	for _, g := range e.GetGroups() {
		a.printf("\n%s: %s\n", g.GetGroup(), outcome(g))
		a.printBlocked(g)
	}
}

// outcome is what was done for a group: "2 of 4 placed, 1 stopped".
func outcome(g *berthv1.GroupOutcome) string {
	var parts []string
	if g.GetWanted() > 0 || g.GetPlaced() > 0 {
		parts = append(parts, fmt.Sprintf("%d of %d placed", g.GetPlaced(), g.GetWanted()))
	}
	if g.GetStopped() > 0 {
		parts = append(parts, fmt.Sprintf("%d stopped", g.GetStopped()))
	}
	if g.GetUpdated() > 0 {
		parts = append(parts, fmt.Sprintf("%d updated in place", g.GetUpdated()))
	}
	return or(strings.Join(parts, ", "), "nothing to do")
}

// notPlaced says how many of a group have no place.
func notPlaced(g *berthv1.GroupOutcome) string {
	missing := g.GetWanted() - min(g.GetPlaced(), g.GetWanted())
	if g.GetPlaced() == 0 && g.GetWanted() > 1 {
		return fmt.Sprintf("none of the %d of %s can be placed now.", missing, g.GetGroup())
	}
	return fmt.Sprintf("%d of %s cannot be placed now.", missing, g.GetGroup())
}

// printBlocked shows what of a group waits: why, and what gives way to it.
func (a *app) printBlocked(g *berthv1.GroupOutcome) {
	if g.GetExplanation() != nil {
		a.printf("\n")
		a.printExplanation(g.GetExplanation())
	}
	a.printPreemptions(g.GetPreemptions())
}

// maxVictims bounds how many allocations that give way are listed.
const maxVictims = 12

// printPreemptions shows which allocations give way.
func (a *app) printPreemptions(list []*berthv1.Preemption) {
	if len(list) == 0 {
		return
	}
	a.printf("  gives way to it      %s\n", count(uint32(len(list)), "allocation"))
	width := 0
	for _, p := range list[:min(len(list), maxVictims)] {
		width = max(width, len(victimWords(p)))
	}
	for _, p := range list[:min(len(list), maxVictims)] {
		a.printf("    %-*s  on %s  priority %d\n", width, victimWords(p), nodeWord(p.GetNode(), p.GetNodeId()), p.GetPriority())
	}
	if more := len(list) - maxVictims; more > 0 {
		a.printf("    and %d more\n", more)
	}
}

// victimWords is an allocation that gives way: "batch.render[3]".
func victimWords(p *berthv1.Preemption) string {
	return fmt.Sprintf("%s.%s[%d]", p.GetJob(), p.GetGroup(), p.GetIndex())
}

// printExplanation shows why an ask was not placed: what it needs, how many nodes failed
// which check, which came nearest, and what would help.
func (a *app) printExplanation(x *berthv1.Explanation) {
	if x.GetNeeds() != "" {
		a.printf("  needs per instance   %s\n", oneLine(x.GetNeeds()))
	}
	a.printf("  %s looked at\n", count(x.GetNodes(), "node"))
	for _, f := range x.GetFailed() {
		a.printf("  %6d  %s\n", f.GetNodes(), oneLine(or(f.GetDetail(), f.GetCheck())))
	}
	if len(x.GetNearest()) > 0 {
		a.printf("  nearest\n")
		width := 0
		for _, n := range x.GetNearest() {
			width = max(width, len(nodeWord(n.GetNode(), n.GetNodeId())))
		}
		for _, n := range x.GetNearest() {
			a.printf("    %-*s  %s\n", width, nodeWord(n.GetNode(), n.GetNodeId()), shortfalls(n.GetShortfalls()))
		}
	}
	if len(x.GetRemedies()) > 0 {
		a.printf("  what would do\n")
		for _, r := range x.GetRemedies() {
			a.printf("    %s\n", oneLine(r))
		}
	}
	if x.GetQueueLength() > 1 {
		a.printf("  place %d of %d in the queue\n", x.GetQueuePlace(), x.GetQueueLength())
	}
}

func nodeWord(name, id string) string { return or(name, shortID(id)) }

func shortfalls(lacks []*berthv1.Shortfall) string {
	var parts []string
	for _, s := range lacks {
		text := or(oneLine(s.GetText()), fmt.Sprintf("%s: %d wanted, %d free", s.GetResource(), s.GetWanted(), s.GetFree()))
		if len(s.GetHeldBy()) > 0 {
			text += " -> " + strings.Join(s.GetHeldBy(), ", ")
		}
		parts = append(parts, text)
	}
	return or(strings.Join(parts, "; "), "fits")
}

// explainCommand shows what the newest evaluation of a job says of what waits.
func (a *app) explainCommand() *cobra.Command {
	var o output
	cmd := a.leaf("explain JOB|EVALUATION", "Say why something of a job waits, and what would help",
		"Takes the name of a job, or the id of one of its evaluations.",
		func(ctx context.Context, args []string) error {
			e, err := a.findEvaluation(ctx, args[0])
			if err != nil {
				return err
			}
			return a.show(&o, e, func() error { a.printExplained(e); return nil })
		})
	o.register(cmd)
	cmd.ValidArgsFunction = a.completeJobs
	return cmd
}

func (a *app) findEvaluation(ctx context.Context, name string) (*berthv1.Evaluation, error) {
	c, err := a.api()
	if err != nil {
		return nil, err
	}
	s, err := c.Jobs.GetJobStatus(ctx, &berthv1.GetJobStatusRequest{Job: name})
	if err == nil {
		if s.GetEvaluation() == nil {
			return nil, problem.New(problem.NotFound, name, "no evaluation of the job is kept").
				WithRemedy("`berth job eval %s` makes one", name)
		}
		return s.GetEvaluation(), nil
	}
	if !problem.Is(err, problem.NotFound) {
		return nil, err
	}
	e, evalErr := c.Evaluations.GetEvaluation(ctx, &berthv1.GetEvaluationRequest{EvaluationId: name})
	if evalErr != nil {
		return nil, err // that there is no such job is the better answer
	}
	return e, nil
}

func (a *app) printExplained(e *berthv1.Evaluation) {
	waits := false
	for _, g := range e.GetGroups() {
		if g.GetExplanation() == nil {
			continue
		}
		waits = true
		a.printf("%s v%d: %s", e.GetJob(), e.GetJobVersion(), notPlaced(g))
		if e.GetModifyTime() != nil {
			a.printf(" Looked at %s.", ago(e.GetModifyTime(), time.Now()))
		}
		a.printf("\n")
		a.printBlocked(g)
	}
	switch {
	case waits:
	case e.GetStatus() == berthv1.Evaluation_pending:
		a.printf("%s v%d has not been looked at yet.\n", e.GetJob(), e.GetJobVersion())
	default:
		a.printf("%s v%d: nothing waits. What was wanted is placed (%s).\n", e.GetJob(), e.GetJobVersion(), ago(e.GetModifyTime(), time.Now()))
	}
}
