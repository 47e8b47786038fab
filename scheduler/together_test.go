package scheduler

import (
	"fmt"
	"strings"
	"testing"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// The first of those who are to lie together goes where there is room for all.
func TestTogether(t *testing.T) {
	// Free cores of the nodes, by rack.
	racks := map[string][]int{"a": {2, 2, 2, 2}, "b": {10}, "c": {5, 4}, "d": {8, 8}}
	for _, test := range []struct {
		name     string
		strategy string
		cores    []int // by group; those of the first are asked for
		count    int
		asked    int
		want     string
	}{
		{"tightest that takes all", "", []int{2}, 4, 4, "a"},
		{"a has no node of four cores", "", []int{4}, 2, 2, "c"},
		{"only d has eight twice", "", []int{8}, 2, 2, "d"},
		{"no rack takes all: the largest part", "", []int{8}, 3, 3, "d"},
		{"others come later: the roomiest", "", []int{2}, 4, 1, "d"},
		{"more are asked for than the group counts", "", []int{2}, 1, 4, "a"},
		{"load evened out: the roomiest", "spread", []int{2}, 4, 4, "d"},
		{"a sibling needs eight", "", []int{1, 8}, 1, 1, "d"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := &world{t: t, f: NewFleet(), nodes: map[string]*berthv1.Node{}}
			w.f.Verify(true)
			for rack, nodes := range racks {
				for i, cores := range nodes {
					w.node(fmt.Sprintf("%s%d", rack, i), options{"node.rack": {rack}})
					w.cell(fmt.Sprintf("%dx1", cores), fmt.Sprint(100*cores), options{})
				}
			}
			w.node("x", options{}) // in no rack
			w.cell("64x1", "1000", options{})
			w.flush()
			job := &berthv1.Job{Name: "it", Namespace: "default", Type: berthv1.Job_batch, Strategy: test.strategy,
				Constraints: []*berthv1.Constraint{{Attribute: "node.rack", Operator: "same_property"}}}
			for i, cores := range test.cores {
				count := uint32(test.count)
				job.Groups = append(job.Groups, &berthv1.Group{Name: fmt.Sprint(i), Count: &count, Tasks: []*berthv1.Task{{
					Name: "main", Driver: "exec", Resources: &berthv1.Resources{Cores: uint32(cores), MemoryMib: 1}}}})
			}
			g, err := Compile(job, job.GetGroups()[0])
			if err != nil {
				t.Fatal(err)
			}
			placed, _ := Place(w.f, []*Ask{{Group: g, Count: test.asked, Silent: true}})
			if len(placed) == 0 {
				t.Fatal("none is placed")
			}
			for _, p := range placed {
				if !strings.HasPrefix(p.NodeName, test.want) {
					t.Errorf("on %s, want rack %s", p.NodeName, test.want)
				}
			}
			if w.f.Mismatches() != 0 {
				t.Error("the scan differs")
			}
		})
	}
}
