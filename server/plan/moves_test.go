package plan

import (
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// What the worlds of the transcripts say of moves:
//
//	node ... [drain[=DEADLINE] ignore_system occupied]   occupied: it has more than system jobs
//	job ...  [unavailable=N gang healthy_deadline=DURATION]
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
