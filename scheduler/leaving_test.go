package scheduler

import (
	"fmt"
	"testing"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// A job that is rolled one instance after the other, each placed before the one ends that
// it stands in for, lies as it did: one on each node, and as many in each rack.
func TestRolledInstancesStaySpread(t *testing.T) {
	for _, by := range []string{"node.id", "node.rack"} {
		w := &world{t: t, f: NewFleet(), nodes: map[string]*berthv1.Node{}}
		for i := range 6 {
			w.node(fmt.Sprintf("n%d", i), options{"node.rack": {string(rune('a' + i%3))}})
			w.cell("8x1", "8000", nil)
			w.flush()
		}
		o := options{"cpu": {"500"}, "mem": {"100"}, "spread": {by}, "type": {"batch"}, "count": {"6"}}
		ask := *askOf(t, jobOf(t, "web", o), o)
		ask.Count = 6
		w.f.Verify(true)
		old, _ := Place(w.f, []*Ask{&ask})
		for range 3 {
			for i := range old {
				next := Ask{Group: ask.Group, Count: 1, Leaving: []string{old[i].NodeID}}
				placed, _ := Place(w.f, []*Ask{&next})
				w.f.Undo(ask.Group, old[i])
				old[i] = placed[0]
			}
			own, perRack := w.f.groups[ask.Group.Key], map[string]int32{}
			for slot, n := range own.on.all() {
				perRack[w.f.NodeAt(slot).GetAttributes()["node.rack"]] += n
				if by == "node.id" && n != 1 {
					t.Errorf("%d on %s", n, w.f.NodeAt(slot).GetName())
				}
			}
			if own.sum() != 6 || perRack["a"] != 2 || perRack["b"] != 2 || perRack["c"] != 2 {
				t.Errorf("by %s: %d, in racks %v", by, own.sum(), perRack)
			}
		}
		if w.f.Mismatches() != 0 {
			t.Errorf("%d mismatches", w.f.Mismatches())
		}
	}
}
