package fsm

import (
	"testing"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// A gang in parts is placed with the last of them, whichever that is, or refused whole.
func TestGangInPartsIsPlacedWhole(t *testing.T) {
	f, store := newTestFSM(t)
	serial := uint64(0)
	apply := func(e *berthv1.LogEntry) Result {
		serial++
		e.Version, e.Time = EntryVersion, timestamp(epoch)
		return f.apply(serial, encode(e))
	}
	apply(&berthv1.LogEntry{Fact: &berthv1.LogEntry_ClusterCreated{ClusterCreated: &berthv1.ClusterCreated{ClusterId: "c"}}})
	apply(&berthv1.LogEntry{Fact: &berthv1.LogEntry_JobRegistered{JobRegistered: &berthv1.JobRegistered{
		Job: &berthv1.Job{Namespace: "default", Name: "j", Version: 1}}}})
	apply(&berthv1.LogEntry{Fact: &berthv1.LogEntry_NodeRegistered{NodeRegistered: &berthv1.NodeRegistered{
		Node: &berthv1.Node{Id: "n", Name: "n", Hardware: &berthv1.Hardware{DiskMib: 100}}}}})
	ids := []string{"00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002", "00000000-0000-4000-8000-000000000003"}
	part := func(gang string, parts uint32, id string, disk uint64, stops ...string) Result {
		p := &berthv1.Plan{Atomic: true, Gang: gang, GangParts: parts, Placements: []*berthv1.Alloc{{
			Id: id, Namespace: "default", Job: "j", JobVersion: 1, Group: "g", NodeId: "n", Assignment: &berthv1.Assignment{DiskMib: disk}}}}
		for _, stop := range stops {
			p.Changes = append(p.Changes, &berthv1.AllocChange{AllocId: stop, Desired: berthv1.Alloc_stop.Enum()})
		}
		return apply(&berthv1.LogEntry{Fact: &berthv1.LogEntry_Plan{Plan: p}})
	}
	if r := part("a", 2, ids[0], 60); r.Err != nil || len(r.Refused) != 0 || store.View().AllocCount() != 0 {
		t.Fatalf("the first part: %+v, %d allocations", r, store.View().AllocCount())
	}
	if r := part("a", 2, ids[1], 30); r.Err != nil || len(r.Refused) != 0 || store.View().AllocCount() != 2 {
		t.Fatalf("the last part: %+v, %d allocations", r, store.View().AllocCount())
	}
	part("b", 2, "00000000-0000-4000-8000-000000000004", 5, ids[0])
	if r := part("b", 2, ids[2], 50); len(r.Refused) != 2 || store.View().AllocCount() != 2 || !store.View().Alloc(ids[0]).Wanted() {
		t.Fatalf("a gang that does not fit: %+v, %d allocations, %v", r, store.View().AllocCount(), store.View().Alloc(ids[0]))
	}
	part("c", 2, ids[2], 10)
	apply(&berthv1.LogEntry{Fact: &berthv1.LogEntry_GangsDropped{GangsDropped: &berthv1.GangsDropped{Gangs: []string{"c"}}}})
	if r := part("c", 2, ids[2], 10); len(r.Refused) != 0 || store.View().AllocCount() != 2 {
		t.Fatalf("after it was dropped: %+v, %d allocations", r, store.View().AllocCount())
	}
	for g := range store.View().StagedGangs() {
		if g.GetGang() != "c" || g.GetSeen() != 1 {
			t.Errorf("staged: %v", g)
		}
	}
}
