package command

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
	picture "github.com/berthd/berth/scheduler/sim/draw"
	"github.com/berthd/berth/scheduler/sim/whatif"
	"github.com/berthd/berth/server/state"
)

// whatIf is what `sim whatif` is asked.
type whatIf struct {
	snapshot   string
	live       bool
	spec       string
	flags      specFlags
	question   whatif.Question
	svg        string
	byPriority bool
	asJSON     bool
}

func (a *app) simWhatif() *cobra.Command {
	var w whatIf
	cmd := a.leaf("whatif", "Ask what would be if nodes came or went, or a job ran",
		"Takes the state of a cluster, from a file that `berth operator snapshot save` has written or from the servers now, applies the change to a copy, and places with the servers' own code: the job's instances, those that lose their node, and those that wait now. Nothing is changed, and nothing is sent to the servers but the question for their state.\n"+
			"-svg draws the fleet as it would be: cells, cores, memory, hugepages and devices, by who holds them; open it in a browser, and point at things.\n"+
			"Exit codes: 0 everything would find a place, 2 something would not, 1 an error.",
		func(ctx context.Context, _ []string) error { return a.whatIf(ctx, &w) })
	f := cmd.Flags()
	f.StringVar(&w.snapshot, "snapshot", "", "`file` with a snapshot of the servers' state")
	f.BoolVar(&w.live, "live", false, "ask the servers for their state")
	f.IntVar(&w.question.Add, "add-nodes", 0, "`number` of nodes that come")
	f.StringVar(&w.question.Like, "like", "", "`node` of the cluster that they are like")
	f.StringSliceVar(&w.question.Remove, "remove-nodes", nil, "`nodes` that go, by name or id, separated by commas")
	f.StringSliceVar(&w.question.Drain, "drain", nil, "`nodes` that are emptied")
	f.StringVar(&w.spec, "job", "", "`file` with the spec of a job that is to run; where it runs already, in a new version")
	f.StringVar(&w.svg, "svg", "", "`file` to draw the fleet into; - is stdout")
	f.BoolVar(&w.byPriority, "by-priority", false, "colour by priority instead of by job")
	f.BoolVar(&w.asJSON, "json", false, "print the answer as JSON")
	w.flags.register(cmd)
	return cmd
}

func (a *app) whatIf(ctx context.Context, w *whatIf) error {
	if w.live == (w.snapshot != "") {
		return problem.New(problem.Invalid, "sim whatif", "one of -snapshot FILE and -live says whose state it is about")
	}
	view, err := a.stateFor(ctx, w)
	if err != nil {
		return err
	}
	if w.spec != "" {
		if w.question.Job, err = a.loadJob(w.spec, &w.flags); err != nil {
			return err
		}
	}
	s := stateOf(view, time.Now())
	answer, err := whatif.Ask(s, &w.question)
	if err != nil {
		return err
	}
	if err := a.drawTo(w, picture.SVG(answer.Picture(s, w.title(view), w.byPriority))); err != nil {
		return err
	}
	switch {
	case w.asJSON:
		err = printWhatIfJSON(a.Out, answer)
	case w.svg != "-":
		a.printWhatIf(answer)
	}
	if err == nil && len(answer.Unplaced) > 0 {
		return &exitStatus{code: exitNotPlaced}
	}
	return err
}

// stateFor reads the state that the question is about.
func (a *app) stateFor(ctx context.Context, w *whatIf) (*state.View, error) {
	if !w.live {
		f, err := os.Open(w.snapshot)
		if err != nil {
			return nil, problem.New(problem.Invalid, w.snapshot, "the snapshot cannot be read: %w", unpath(err))
		}
		defer f.Close()
		_, view, err := readSnapshot(f, w.snapshot)
		return view, err
	}
	c, err := a.api()
	if err != nil {
		return nil, err
	}
	var saved bytes.Buffer
	if _, err := c.SaveSnapshot(ctx, &saved); err != nil {
		return nil, err
	}
	_, view, err := readSnapshot(&saved, "the servers' snapshot")
	return view, err
}

func stateOf(v *state.View, now time.Time) *whatif.State {
	reservations := slices.Collect(v.Reservations())
	return &whatif.State{
		Namespaces:   slices.Collect(v.Namespaces()),
		Reservations: slices.DeleteFunc(reservations, func(r *berthv1.Reservation) bool { return !scheduler.ReservationHolds(r, now) }),
		Config:       v.SchedulerConfig(),
		Nodes:        slices.Collect(v.Nodes("")), Allocs: slices.Collect(v.Allocs("")), Jobs: slices.Collect(v.Jobs("", "")),
	}
}

func (w *whatIf) title(v *state.View) string {
	var parts []string
	if w.question.Add > 0 {
		parts = append(parts, fmt.Sprintf("%s more like %s", count(w.question.Add, "node"), w.question.Like))
	}
	if len(w.question.Remove) > 0 {
		parts = append(parts, "without "+strings.Join(w.question.Remove, ", "))
	}
	if len(w.question.Drain) > 0 {
		parts = append(parts, "with "+strings.Join(w.question.Drain, ", ")+" drained")
	}
	if w.question.Job != nil {
		parts = append(parts, "running "+w.question.Job.GetName())
	}
	if len(parts) == 0 {
		return fmt.Sprintf("The fleet at revision %d", v.Revision())
	}
	return fmt.Sprintf("What if: %s (at revision %d)", strings.Join(parts, ", "), v.Revision())
}

func (a *app) drawTo(w *whatIf, svg []byte) error {
	switch w.svg {
	case "":
		return nil
	case "-":
		_, err := a.Out.Write(svg)
		return err
	}
	if err := os.WriteFile(w.svg, svg, 0o666); err != nil { //nolint:gosec // a picture for whoever may read it, as the umask says
		return problem.New(problem.Invalid, "-svg", "the picture cannot be written: %w", unpath(err))
	}
	return nil
}

// printWhatIf is the answer for people: what is placed where, by group and node, and why
// the rest is not.
func (a *app) printWhatIf(answer *whatif.Answer) {
	if len(answer.Stopped) > 0 {
		a.printf("%s of the older version end first.\n", count(len(answer.Stopped), "instance"))
	}
	t := newTable(column{title: "JOB", shrink: 8}, column{title: "GROUP", shrink: 6}, column{title: "FOR", drop: 1}, column{title: "NODE", shrink: 8}, column{title: "PLACED", right: true})
	type row struct{ job, group, why, node string }
	counts, order := map[row]int{}, []row(nil)
	for i := range answer.Placements {
		p := &answer.Placements[i]
		r := row{p.Job, p.Group, p.Why, p.Node}
		if counts[r]++; counts[r] == 1 {
			order = append(order, r)
		}
	}
	for _, r := range order {
		t.add(r.job, r.group, r.why, r.node, counts[r])
	}
	if len(order) > 0 {
		_ = a.table(t)
	} else if len(answer.Unplaced) == 0 {
		a.printf("Nothing needs a place.\n")
	}
	for i := range answer.Unplaced {
		u := &answer.Unplaced[i]
		a.printf("\n%s.%s: %s (%s) cannot be placed\n", u.Job, u.Group, count(u.Count, "instance"), u.Why)
		a.printExplanation(u.Explanation)
		for _, way := range u.Ways {
			var names []string
			for _, v := range way.Victims {
				names = append(names, fmt.Sprintf("%s.%s[%d]", v.Alloc.GetJob(), v.Alloc.GetGroup(), v.Alloc.GetIndex()))
			}
			a.printf("  on %s if %s gave way\n", way.NodeName, strings.Join(names, ", "))
		}
	}
	a.printf("\nbefore  %s\nafter   %s\n", loadWords(&answer.Before), loadWords(&answer.After))
}

func loadWords(l *whatif.Load) string {
	part := func(used, all uint64) uint64 { return used * 100 / max(all, 1) }
	words := fmt.Sprintf("%s, %d empty; %s; CPU %d %%, memory %d %%", count(l.Nodes, "node"), l.EmptyNodes, count(l.Allocs, "allocation"),
		part(l.MilliUsed, l.Milli), part(l.MemoryUsed, l.MemoryMiB))
	if l.Devices > 0 {
		words += fmt.Sprintf(", devices %.1f of %d", l.DevicesUse, l.Devices)
	}
	return words
}

// message is a proto message in the answer for programs.
type message struct{ proto.Message }

func (m message) MarshalJSON() ([]byte, error) {
	return protojson.MarshalOptions{UseProtoNames: true}.Marshal(m.Message)
}

func printWhatIfJSON(w io.Writer, answer *whatif.Answer) error {
	type placement struct {
		Namespace  string  `json:"namespace"`
		Job        string  `json:"job"`
		Group      string  `json:"group"`
		For        string  `json:"for"`
		NodeID     string  `json:"node_id"`
		Node       string  `json:"node"`
		Assignment message `json:"assignment"`
	}
	type way struct {
		NodeID  string   `json:"node_id"`
		Node    string   `json:"node"`
		Victims []string `json:"victims"`
	}
	type unplaced struct {
		Namespace   string  `json:"namespace"`
		Job         string  `json:"job"`
		Group       string  `json:"group"`
		For         string  `json:"for"`
		Count       int     `json:"count"`
		Explanation message `json:"explanation"`
		Preempting  []way   `json:"preempting,omitempty"`
	}
	out := struct {
		Placements []placement `json:"placements"`
		Unplaced   []unplaced  `json:"unplaced"`
		Stopped    []string    `json:"stopped"`
		Added      []string    `json:"added"`
		Before     whatif.Load `json:"before"`
		After      whatif.Load `json:"after"`
	}{Placements: []placement{}, Unplaced: []unplaced{}, Stopped: []string{}, Added: []string{}, Before: answer.Before, After: answer.After}
	for _, p := range answer.Placements {
		out.Placements = append(out.Placements, placement{p.Namespace, p.Job, p.Group, p.Why, p.NodeID, p.Node, message{p.Assignment}})
	}
	for _, u := range answer.Unplaced {
		x := unplaced{u.Namespace, u.Job, u.Group, u.Why, u.Count, message{u.Explanation}, nil}
		for _, w := range u.Ways {
			x.Preempting = append(x.Preempting, way{w.NodeID, w.NodeName, victimIDs(w.Victims)})
		}
		out.Unplaced = append(out.Unplaced, x)
	}
	for _, s := range answer.Stopped {
		out.Stopped = append(out.Stopped, s.GetId())
	}
	for _, n := range answer.Added {
		out.Added = append(out.Added, n.GetName())
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}

func victimIDs(victims []scheduler.Holder) []string {
	ids := []string{}
	for _, v := range victims {
		ids = append(ids, v.Alloc.GetId())
	}
	return ids
}
