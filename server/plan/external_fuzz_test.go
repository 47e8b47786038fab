package plan

import (
	"context"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// FuzzExternalPlan: whatever plan an external scheduler makes up, each part of it is
// answered, the log has nothing to refuse, the state is sound, and Berth's own jobs are
// placed as before.
func FuzzExternalPlan(f *testing.F) {
	exact := at(2, "n1")
	exact.Assignment = &berthv1.Assignment{Tasks: []*berthv1.TaskGrant{{Task: "main", Cells: []*berthv1.CellGrant{{CpuMilli: 500, MemoryMib: 64}}}}}
	for _, q := range []*berthv1.SubmitPlanRequest{
		{Placements: []*berthv1.PlannedInstance{at(0, "n1"), at(0, "n1"), at(1, ""), exact}},
		{Placements: []*berthv1.PlannedInstance{{Group: "h", Index: 0}, {Group: "h", Index: 1}, {Group: "x"}, {}}, Atomic: true},
		{Stops: []string{"", "x"}, Revision: 1 << 60}, {},
	} {
		data, err := proto.Marshal(q)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		q := &berthv1.SubmitPlanRequest{}
		if proto.Unmarshal(data, q) != nil || len(q.GetPlacements())+len(q.GetStops()) > 50 {
			return
		}
		outside(t, func(c *cluster, b *board) {
			c.node("n1", 4000, 4000)
			c.node("n2", 4000, 4000, func(n *berthv1.Node) { n.Drivers = nil })
			c.register(newJob("web", 3, 500, mine(func(j *berthv1.Job) {
				second := proto.CloneOf(j.Groups[0])
				second.Name, second.Gang, second.Count = "h", true, proto.Uint32(2)
				j.Groups = append(j.Groups, second)
			})))
			c.settle(100 * time.Millisecond)
			r, err := c.loop.Submit(context.Background(), "default", "web", b.offer(t, "web").Evaluation.GetEvaluationId(),
				&Plan{Revision: q.GetRevision(), Placements: q.GetPlacements(), Stops: q.GetStops(), Atomic: q.GetAtomic()})
			if err != nil || len(r.GetPlacements()) != len(q.GetPlacements()) || len(r.GetStops()) != len(q.GetStops()) {
				t.Fatalf("%v, %v", r, err)
			}
			for _, p := range r.GetPlacements() {
				if p.GetResult() == nil {
					t.Fatalf("no answer: %v", r)
				}
			}
			c.register(newJob("own", 1, 500))
			c.settle(100 * time.Millisecond) // audits the state
			if c.refused > 0 || c.loop.Stats().Refused > 0 {
				t.Fatal("the log had to refuse something")
			}
			if n := len(c.allocs("web")); n > 5 {
				t.Fatalf("%d allocations of 5:\n%s", n, c.words("web"))
			}
			c.wantRunning("own", 1)
		})
	})
}
