package scheduler

import (
	"fmt"
	"testing"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Of the nodes that it is shown, the sample takes the one that a scan of only those would.
func TestPlaceSampled(t *testing.T) {
	w := &world{t: t, f: NewFleet(), nodes: map[string]*berthv1.Node{}}
	for i := range 6 {
		w.node(fmt.Sprintf("n%d", i), options{})
		w.cell(fmt.Sprintf("%dx1", i+1), "1000", options{})
	}
	w.flush()
	ask := askOf(t, jobOf(t, "it", options{"cpu": {"2000"}}), options{"cpu": {"2000"}})
	for _, test := range []struct {
		slots []int32
		most  int
		want  string
	}{
		{[]int32{5, 3, 1, 2}, 9, "n1"}, // packed: the smallest that it fits on
		{[]int32{5, 3, 1, 2}, 2, "n3"}, // n1 is not looked at
		{[]int32{0, 5}, 1, "n5"},       // n0 does not count: it does not fit
		{[]int32{0}, 9, ""},
		{nil, 9, ""},
	} {
		var res Result
		PlaceSampled(&res, w.f, ask, test.most, &shown{slots: test.slots})
		name := ""
		for i, p := range res.Placed {
			name += w.f.NodeAt(p.Slot).GetName()
			w.f.Release(ask.Group, p.Slot, res.Grant(i))
		}
		if name != test.want {
			t.Errorf("of %v, at most %d: %q, want %q", test.slots, test.most, name, test.want)
		}
	}
}

// shown gives certain slots, once.
type shown struct{ slots []int32 }

func (s *shown) Start(int) {}

func (s *shown) Next() (int32, bool) {
	if len(s.slots) == 0 {
		return 0, false
	}
	slot := s.slots[0]
	s.slots = s.slots[1:]
	return slot, true
}
