package plan

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// What the worlds of the transcripts say of moves:
//
//	node ... [drain[=DEADLINE] ignore_system occupied]   occupied: it has more than system jobs
//	job ...  [unavailable=N gang healthy_deadline=DURATION stateful[=parallel] sticky stop_after=DURATION]
//	alloc ... [health=HEALTH age=DURATION told moved]    told: an entry on its way ends it

func (w *world) drainOf(n *berthv1.Node, o map[string]string) {
	if at, drained := o["drain"]; drained {
		n.Drain, n.Eligibility = &berthv1.Drain{StartTime: timestamppb.New(now), IgnoreSystem: o["ignore_system"] != ""}, berthv1.Node_ineligible
		if at != "drain" {
			n.Drain.Deadline = timestamppb.New(now.Add(w.duration(at)))
		}
	}
	if o["occupied"] != "" {
		before := w.in.Occupied
		w.in.Occupied = func(id string) bool { return id == n.Id || before != nil && before(id) }
	}
}

func movesOf(g *berthv1.Group, o map[string]string, w *world) {
	g.Gang = o["gang"] != ""
	if most := o["unavailable"]; most != "" {
		g.Disruption = &berthv1.Disruption{MaxUnavailable: most}
	}
	if order, is := o["stateful"]; is {
		g.Stateful = &berthv1.Stateful{StickyDisk: o["sticky"] != ""}
		if order != "stateful" {
			g.Stateful.Order = order
		}
	}
	if d := o["stop_after"]; d != "" {
		if g.OnDisconnect == nil {
			g.OnDisconnect = &berthv1.DisconnectPolicy{}
		}
		g.OnDisconnect.StopAfter = durationpb.New(w.duration(d))
	}
	if d := o["healthy_deadline"]; d != "" {
		g.Update = &berthv1.UpdateStrategy{HealthyDeadline: durationpb.New(w.duration(d))}
	}
}

func (w *world) movesOfAlloc(a *berthv1.Alloc, o map[string]string) {
	a.Health = berthv1.Alloc_Health(berthv1.Alloc_Health_value[o["health"]])
	if o["moved"] != "" {
		a.Desired, a.Moved = berthv1.Alloc_stop, true
	}
	a.CreateTime = timestamppb.New(now.Add(-w.duration(o["age"])))
	if o["told"] != "" {
		before := w.in.Told
		w.in.Told = func(id string) bool { return id == a.Id || before != nil && before(id) }
	}
}

func drawIdentity(a Ask, out *strings.Builder) {
	if a.StopsFirst {
		out.WriteString(" first")
	}
	if a.Preferred != "" {
		fmt.Fprintf(out, "  rather on %s", a.Preferred)
	}
}

func drawHeld(r Result, out *strings.Builder) {
	if r.Held == 0 {
		return
	}
	fmt.Fprintf(out, "  held    %d\n", r.Held)
	for _, g := range r.Groups {
		if x := g.GetExplanation(); x != nil {
			fmt.Fprintf(out, "          %s\n", x.GetNeeds())
			for _, remedy := range x.GetRemedies() {
				fmt.Fprintf(out, "          - %s\n", remedy)
			}
		}
	}
}

// Nothing of a stateful group is placed while anything may run that has its index.
func TestNeverTwoOfOneIndex(t *testing.T) {
	asked, fenced := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		for _, j := range w.jobs {
			j.Groups[0].Stateful = &berthv1.Stateful{Order: rapid.SampledFrom([]string{"ordered", "parallel"}).Draw(t, "order")}
		}
		if w.in.Job.GetType() != berthv1.Job_service {
			t.Skip()
		}
		for _, ask := range Reconcile(w.in).Asks {
			if ask.StopsFirst {
				continue
			}
			asked++
			for _, a := range w.allocs {
				node := w.nodes[a.GetNodeId()]
				if a.GetGroup() != "g" || a.GetIndex() != ask.Index || a.Ended() || node == nil {
					continue
				}
				fence := w.jobs[a.GetJobVersion()].GetGroups()[0].GetOnDisconnect().GetStopAfter().AsDuration()
				if node.GetStatus() == berthv1.Node_down && fence > 0 && now.Sub(node.GetStatusTime().AsTime()) >= fence+35*time.Second {
					fenced++
					continue
				}
				t.Fatalf("index %d is asked for, and %s may run on %s", ask.Index, a.GetId(), node)
			}
		}
	})
	if asked == 0 {
		t.Error("nothing was asked for: the test is void")
	}
	t.Logf("%d asked for, %d after what their agents have stopped", asked, fenced)
}
