package scheduler

import (
	"testing"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// Whatever nodes report and jobs ask for: no panic, and what is placed fits.
func FuzzPlace(f *testing.F) {
	node := &berthv1.Node{Id: "n", Name: "n", Status: berthv1.Node_ready, MinPort: 1, MaxPort: 65535, Drivers: []*berthv1.DriverInfo{{Name: "exec", Healthy: true}},
		Hardware: &berthv1.Hardware{DiskMib: 1000, Cells: []*berthv1.Cell{
			{Id: 0, Cores: []string{"0,2", "1,3"}, MemoryMib: 1000, Hugepages: []*berthv1.Hugepages{{SizeKib: 2048, Count: 4}}, Distances: []uint32{10, 20}},
			{Id: 8, Cores: []string{"4,6", "5,7"}, MemoryMib: 1000, ReservedCpus: "4", Distances: []uint32{20, 10}},
		}, Devices: []*berthv1.Device{{Id: "g", Kind: "gpu", Cell: 8, Healthy: true, ShareableMilli: 500}}}}
	for _, o := range []options{
		{"cpu": {"500"}, "port": {"8080", "0"}}, {"cores": {"2"}, "policy": {"single"}, "pages": {"1"}}, {"threads": {"3"}, "policy": {"restricted"}},
		{"device": {"gpu,1"}, "share": {"500"}}, {"constraint": {"node.rack,matches,^a"}, "spread": {"node.rack,a:50"}, "distinct": {"node.id"}},
		{"constraint": {"kernel.version,version,>= 6"}, "affinity": {"a,any_of,b,3"}, "count": {"3"}, "gang": {""}},
	} {
		job := jobOf(f, "j", o)
		n, _ := proto.Marshal(node)
		j, _ := proto.Marshal(job)
		f.Add(n, j)
	}
	f.Fuzz(func(t *testing.T, nodeBytes, jobBytes []byte) {
		n, job := &berthv1.Node{}, &berthv1.Job{}
		if proto.Unmarshal(nodeBytes, n) != nil || proto.Unmarshal(jobBytes, job) != nil {
			return
		}
		fleet := NewFleet()
		fleet.Verify(true)
		if _, err := fleet.UpsertNode(n); err != nil && fleet.Len() != 1 {
			t.Fatal("a node with a bad inventory was not taken in")
		}
		for _, spec := range job.GetGroups() {
			g, err := Compile(job, spec)
			if err != nil {
				continue
			}
			placed, unplaced := Place(fleet, []*Ask{{Group: g, Count: 3}})
			left := 3 - len(placed)
			for _, u := range unplaced {
				left -= u.Count
			}
			if left != 0 {
				t.Fatalf("%d of 3 placed, and %v", len(placed), unplaced)
			}
			usage := topology.NewUsage(fleet.nodes[0].usage.Machine())
			for _, p := range placed {
				grant, err := GrantOf(p.Assignment)
				if err == nil {
					err = usage.Add(&grant)
				}
				if err != nil {
					t.Fatalf("%v: %v", p.Assignment, err)
				}
			}
			for _, p := range placed {
				fleet.Undo(g, p)
			}
			if fleet.Mismatches() > 0 {
				t.Fatalf("%v is not what a full scan finds", placed)
			}
		}
	})
}
