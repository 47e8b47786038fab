package scheduler

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// limited makes a job with two groups; one takes cores, the other stays apart from it.
func limited(name string, cores uint32, together bool) *berthv1.Job {
	group := func(name string, constraints ...*berthv1.Constraint) *berthv1.Group {
		return &berthv1.Group{Name: name, Constraints: constraints,
			Tasks: []*berthv1.Task{{Name: "main", Driver: "exec", Resources: &berthv1.Resources{CpuMilli: cores * 1000, MemoryMib: 10}}}}
	}
	a := group("a")
	if together {
		a.Constraints = []*berthv1.Constraint{{Attribute: "node.rack", Operator: "same_property"}}
	}
	return &berthv1.Job{Name: name, Namespace: "default", Type: berthv1.Job_batch, Groups: []*berthv1.Group{
		a, group("b", &berthv1.Constraint{Attribute: "node.rack", Operator: "apart_from", Value: "a"}),
	}}
}

// Whatever comes, the index finds what the scan finds, instances that belong together
// share a rack, and those that are to be apart share none with the others; what is not
// placed has no rack that would take it.
func TestLimits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{f: NewFleet()}
		w.f.Verify(true)
		racks := rapid.IntRange(1, 4).Draw(t, "racks")
		rackOf := map[string]string{}
		for i := range rapid.IntRange(1, 8).Draw(t, "nodes") {
			n := &berthv1.Node{Id: fmt.Sprintf("n%d", i), Name: fmt.Sprintf("n%d", i), Status: berthv1.Node_ready,
				Drivers: []*berthv1.DriverInfo{{Name: "exec", Healthy: true}}, Attributes: map[string]string{},
				Hardware: &berthv1.Hardware{Cells: []*berthv1.Cell{{MemoryMib: 1000, Cores: []string{"0", "1", "2", "3"}}}}}
			if rapid.IntRange(0, 9).Draw(t, "nowhere") > 0 {
				rackOf[n.Id] = fmt.Sprint(i % racks)
				n.Attributes["node.rack"] = rackOf[n.Id]
			}
			if _, err := w.f.UpsertNode(n); err != nil {
				t.Fatal(err)
			}
		}
		job := limited("it", uint32(rapid.IntRange(1, 4).Draw(t, "cores")), true)
		var groups []*Group
		for _, g := range job.GetGroups() {
			compiled, err := Compile(job, g)
			if err != nil {
				t.Fatal(err)
			}
			groups = append(groups, compiled)
		}
		var live []Placement
		var of []int
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			if len(live) > 0 && rapid.IntRange(0, 2).Draw(t, "release") == 0 {
				k := rapid.IntRange(0, len(live)-1).Draw(t, "which")
				w.f.Undo(groups[of[k]], live[k])
				live, of = append(live[:k], live[k+1:]...), append(of[:k], of[k+1:]...)
				continue
			}
			k := rapid.IntRange(0, 1).Draw(t, "group")
			placed, unplaced := Place(w.f, []*Ask{{Group: groups[k], Count: rapid.IntRange(1, 3).Draw(t, "count")}})
			for _, p := range placed {
				live, of = append(live, p), append(of, k)
			}
			if len(unplaced) > 0 {
				requireExplained(t, w.f, unplaced[0].Explanation)
			}
			requireLimits(t, live, of, rackOf)
		}
		if n := w.f.Mismatches(); n > 0 {
			t.Fatalf("the index and the scan differ %d times", n)
		}
	})
}

// requireLimits: a's are in one rack; b's were placed where no a was then, which holds
// at the end only for those placed after the last a.
func requireLimits(t *rapid.T, live []Placement, of []int, rackOf map[string]string) {
	rack := ""
	for i, p := range live {
		here, known := rackOf[p.NodeID]
		switch {
		case !known:
			t.Fatalf("%s has no rack, and got one", p.NodeName)
		case of[i] == 0 && rack == "":
			rack = here
		case of[i] == 0 && rack != here:
			t.Fatalf("two racks: %q and %q", rack, here)
		}
	}
	if last := len(live) - 1; last >= 0 && of[last] == 1 && rackOf[live[last].NodeID] == rack {
		t.Fatalf("b is placed in rack %q, where a is", rack)
	}
}

func TestLimitsRefused(t *testing.T) {
	job := limited("it", 1, false)
	job.Groups[1].Constraints[0].Value = "a, nobody"
	if _, err := Compile(job, job.GetGroups()[1]); err == nil || !strings.Contains(err.Error(), `"nobody" is not a group`) {
		t.Errorf("%v", err)
	}
}

// A limit above 1 lets a node take several: with less left it comes before the others.
func TestLimitOfSeveral(t *testing.T) {
	f := NewFleet()
	for _, id := range []string{"n0", "n1", "n2"} {
		if _, err := f.UpsertNode(&berthv1.Node{Id: id, Name: id, Status: berthv1.Node_ready, Attributes: map[string]string{"node.rack": "r-" + id},
			Drivers:  []*berthv1.DriverInfo{{Name: "exec", Healthy: true}},
			Hardware: &berthv1.Hardware{Cells: []*berthv1.Cell{{MemoryMib: 1000, Cores: []string{"0", "1", "2", "3"}}}}}); err != nil {
			t.Fatal(err)
		}
	}
	job := limited("it", 1, false)
	job.Groups[0].Constraints = []*berthv1.Constraint{{Attribute: "node.rack", Operator: "distinct_property", Value: "3"}}
	g, err := Compile(job, job.GetGroups()[0])
	if err != nil {
		t.Fatal(err)
	}
	f.Verify(true)
	placed, unplaced := Place(f, []*Ask{{Group: g, Count: 10, Silent: true}})
	on := map[string]int{}
	for _, p := range placed {
		on[p.NodeID]++
	}
	if len(unplaced) != 1 || unplaced[0].Count != 1 || on["n0"] != 3 || on["n1"] != 3 || on["n2"] != 3 || f.Mismatches() != 0 {
		t.Errorf("%v placed, %v not, %d mismatches", on, unplaced, f.Mismatches())
	}
}
