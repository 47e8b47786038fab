package scheduler

import (
	"fmt"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// A fleet that was changed step by step places as one that was made anew does: its
// slots, sums, cached checks and counts are caught up.
func TestFleetIsIncremental(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: &testing.T{}, f: NewFleet(), nodes: map[string]*berthv1.Node{}}
		asks := []options{
			{"cpu": {"300"}, "constraint": {"node.rack,=,a"}},
			{"cpu": {"300"}, "spread": {"node.rack"}, "count": {"3"}},
			{"cores": {"1"}, "distinct": {"node.rack"}, "count": {"2"}, "affinity": {"node.rack,=,b,50"}},
			{"cpu": {"100"}, "port": {"8080"}, "distinct": {""}, "count": {"4"}},
		}
		var held []*berthv1.Alloc
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0, 1:
				name := fmt.Sprintf("n%d", rapid.IntRange(0, 5).Draw(t, "node"))
				o := options{"node.rack": {rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "rack")}}
				if rapid.IntRange(0, 3).Draw(t, "down") == 0 {
					o["status"] = []string{"down"}
				}
				w.node(name, o)
				w.cell(fmt.Sprintf("%dx1", rapid.IntRange(1, 4).Draw(t, "cores")), "2000", options{})
				n := w.last
				w.last = nil
				if anew, err := w.f.UpsertNode(n); err != nil {
					t.Fatal(err)
				} else if anew {
					w.f.Regrant(n.GetId(), onNode(held, n.GetId()))
				}
			case 2:
				if names := sortedKeys(w.nodes); len(names) > 0 {
					id := "id-" + rapid.SampledFrom(names).Draw(t, "gone")
					delete(w.nodes, id[3:])
					w.f.RemoveNode(id)
					held = slices.DeleteFunc(held, func(a *berthv1.Alloc) bool { return a.GetNodeId() == id })
				}
			case 3:
				if len(held) > 0 {
					i := rapid.IntRange(0, len(held)-1).Draw(t, "which")
					after := proto.Clone(held[i]).(*berthv1.Alloc)
					after.Desired = rapid.SampledFrom([]berthv1.Alloc_Desired{berthv1.Alloc_run, berthv1.Alloc_stop}).Draw(t, "desired")
					after.Status = rapid.SampledFrom([]berthv1.Alloc_Status{berthv1.Alloc_running, berthv1.Alloc_failed, berthv1.Alloc_lost}).Draw(t, "status")
					w.f.ChangeAlloc(held[i], after)
					held[i] = after
				}
			case 4:
				o := rapid.SampledFrom(asks).Draw(t, "ask")
				ask := askOf(w.t, jobOf(w.t, "held", o), o)
				placed, _ := Place(w.f, []*Ask{ask})
				for _, p := range placed {
					held = append(held, &berthv1.Alloc{Id: fmt.Sprint(len(held)), NodeId: p.NodeID, Namespace: "default", Job: "held", Group: "held", Assignment: p.Assignment})
				}
			}
		}
		fresh := NewFleet()
		for _, name := range sortedKeys(w.nodes) {
			if _, err := fresh.UpsertNode(w.nodes[name]); err != nil {
				t.Fatal(err)
			}
		}
		for _, a := range held {
			fresh.ChangeAlloc(nil, a)
		}
		for i, o := range asks {
			ask := askOf(w.t, jobOf(w.t, "held", o), o)
			if a, b := answer(w.f, ask), answer(fresh, ask); a != b {
				t.Fatalf("ask %d: changed step by step:\n%s\nmade anew:\n%s", i, a, b)
			}
		}
	})
}

func onNode(allocs []*berthv1.Alloc, id string) func(func(*berthv1.Alloc) bool) {
	return func(yield func(*berthv1.Alloc) bool) {
		for _, a := range allocs {
			if a.GetNodeId() == id && !yield(a) {
				return
			}
		}
	}
}

// answer places an ask and takes it back.
func answer(f *Fleet, ask *Ask) string {
	placed, unplaced := Place(f, []*Ask{ask})
	out := fmt.Sprintln(f.Feasible(ask.Group))
	for _, p := range placed {
		out += p.NodeName + " " + assignmentWords(p.Assignment) + "\n"
		f.Undo(ask.Group, p)
	}
	for _, u := range unplaced {
		out += fmt.Sprintln(u.Count, u.Explanation.GetFailed())
	}
	return out
}
