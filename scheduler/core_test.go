package scheduler

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// The core places as Place does, its grants are what the messages say, and releasing
// them leaves the fleet as it was.
func TestPlaceInto(t *testing.T) {
	var res Result // used again all along
	rapid.Check(t, func(t *rapid.T) {
		w := drawFleet(t)
		before := w.snapshot()
		asks := drawAsks(t, w)
		want, unplaced := Place(w.f, asks)
		for i := len(want) - 1; i >= 0; i-- {
			w.f.Undo(asks[want[i].Ask].Group, want[i])
		}
		PlaceInto(&res, w.f, asks)
		if len(res.Placed) != len(want) || len(res.Unplaced) != len(unplaced) {
			t.Fatalf("%d placed and %d not, want %d and %d", len(res.Placed), len(res.Unplaced), len(want), len(unplaced))
		}
		for i, p := range res.Placed {
			a := res.Assignment(i)
			if w.f.NodeAt(p.Slot).GetId() != want[i].NodeID || p.Ask != want[i].Ask || !proto.Equal(a, want[i].Assignment) {
				t.Fatalf("%d of %v: %v, want %v on %s", i, p, a, want[i].Assignment, want[i].NodeID)
			}
			g, err := GrantOf(a)
			if err != nil || fmt.Sprint(g.Ports, g.DiskMiB, g.WholeNode, len(g.Devices)) != fmt.Sprint(res.Grant(i).Ports, res.Grant(i).DiskMiB, res.Grant(i).WholeNode, len(res.Grant(i).Devices)) {
				t.Fatalf("grant %+v, want %+v: %v", res.Grant(i), g, err)
			}
		}
		for i := len(res.Placed) - 1; i >= 0; i-- {
			w.f.Release(asks[res.Placed[i].Ask].Group, res.Placed[i].Slot, res.Grant(i))
		}
		if after := w.snapshot(); after != before {
			t.Fatalf("before:\n%s\nafter:\n%s", before, after)
		}
	})
}
