package plan

import (
	"testing"
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func bounded1(j *berthv1.Job) { j.Groups[0].Disruption = &berthv1.Disruption{MaxUnavailable: "1"} }

func onNode(name string) func(*berthv1.Job) {
	return func(j *berthv1.Job) {
		j.Constraints = []*berthv1.Constraint{{Attribute: "node.name", Value: name}}
	}
}

// Two that look for victims before either's are in the state spend one budget together.
func TestDisruptionBudgetIsSpentOnce(t *testing.T) {
	leads(t, func(c *cluster) {
		for _, n := range []string{"n1", "n2", "n3"} {
			c.node(n, 1000, 4000)
		}
		c.register(newJob("low", 3, 1000, priority(20), bounded1))
		c.settle(time.Second)
		c.register(newJob("one", 1, 1000, priority(70), onNode("n1")))
		c.register(newJob("two", 1, 1000, priority(70), onNode("n2")))
		c.register(newJob("three", 1, 1000, priority(80), onNode("n3")))
		c.settle(time.Second)
		if n := len(c.evicted("low")); n != 1 {
			t.Fatalf("%d victims, though the budget is one at a time:\n%s", n, c.words("low"))
		}
		c.node("n4", 1000, 4000) // its successor comes up, and the next may go
		c.settle(time.Second)
		if n := len(c.evicted("low")); n != 2 {
			t.Fatalf("%d victims:\n%s", n, c.words("low"))
		}
	})
}

// What an external scheduler stops counts against the same budget, in one plan or in two,
// and what it may not stop does not.
func TestExternalStopsKeepToTheBudget(t *testing.T) {
	outside(t, func(c *cluster, b *board) {
		c.node("n1", 5000, 5000)
		c.register(newJob("fixed", 1, 1000, priority(20), func(j *berthv1.Job) {
			j.Groups[0].Disruption = &berthv1.Disruption{MaxUnavailable: "0"}
		}))
		c.register(newJob("low", 4, 1000, priority(20), func(j *berthv1.Job) {
			j.Groups[0].Disruption = &berthv1.Disruption{MaxUnavailable: "2"}
		}))
		c.settle(time.Second)
		c.register(newJob("vip", 3, 1000, mine(priority(60))))
		c.register(newJob("equal", 1, 1000, mine(priority(20))))
		c.settle(time.Second)
		low, fixed := c.allocs("low"), c.allocs("fixed")[0].GetId()
		refused := c.submit(b, "equal", &Plan{Stops: []string{low[0].GetId(), low[1].GetId()}})
		c.wantBecame(refused, "[stop:not_preemptable stop:not_preemptable]")
		c.wantBecame(c.submit(b, "vip", &Plan{Stops: []string{fixed, low[0].GetId(), low[1].GetId(), low[2].GetId()}}),
			"[stop:not_preemptable stop stop stop:not_preemptable]")
		c.wantBecame(c.submit(b, "vip", &Plan{Stops: []string{low[3].GetId()}}), "[stop:not_preemptable]")
	})
}

// A namespace's quota is told as such before anything is proposed, whichever way the
// place is left open.
func TestExternalPlanBreaksNoQuota(t *testing.T) {
	outside(t, func(c *cluster, b *board) {
		c.node("n1", 4000, 4000)
		c.must(&berthv1.LogEntry{Fact: &berthv1.LogEntry_NamespaceSet{NamespaceSet: &berthv1.Namespace{
			Name: "default", Quota: &berthv1.Quota{CpuMilli: 1500}}}})
		c.register(newJob("web", 3, 1000, mine()))
		c.register(newJob("gang", 2, 1000, mine(func(j *berthv1.Job) { j.Groups[0].Gang = true })))
		c.settle(time.Second)
		exact := func(i uint32) *berthv1.PlannedInstance {
			p := at(i, "n1")
			p.Assignment = &berthv1.Assignment{Tasks: []*berthv1.TaskGrant{{Task: "main", Cells: []*berthv1.CellGrant{{CpuMilli: 1000, MemoryMib: 64}}}}}
			return p
		}
		c.wantBecame(c.submit(b, "gang", &Plan{Placements: []*berthv1.PlannedInstance{exact(0), at(1, "n1")}}), "[together quota]")
		c.wantBecame(c.submit(b, "web", &Plan{Atomic: true, Placements: []*berthv1.PlannedInstance{exact(0), exact(1)}}), "[together quota]")
		r := c.submit(b, "web", &Plan{Placements: []*berthv1.PlannedInstance{exact(0), exact(1), at(2, "n1")}})
		c.wantBecame(r, "[n1 quota quota]")
		for _, p := range r.GetPlacements()[1:] {
			if x := p.GetConflict().GetProblem(); x.GetField() != "quota" || x.GetKind() != "exhausted" {
				t.Error(x)
			}
		}
		c.wantBecame(c.submit(b, "web", &Plan{Placements: []*berthv1.PlannedInstance{at(2, "")}}), "[quota]")
		c.settle(time.Second)
		c.wantRunning("web", 1)
		if c.loop.Stats().Refused != 0 {
			t.Error("the log had to refuse something")
		}
	})
}
