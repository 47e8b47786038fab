package store

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/testing/protocmp"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func TestHealthIsKept(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	fill(t, s)
	u := &berthv1.AllocStatusUpdate{
		AllocId: "alloc-07", Status: berthv1.Alloc_running, Health: berthv1.Alloc_healthy, HealthVersion: 3, HasServices: true,
		Tasks:    []*berthv1.TaskState{{Task: "t"}},
		Services: []*berthv1.ServiceInstance{{Service: "web", Port: 1, Checks: []*berthv1.CheckState{{Service: "web", Check: "c", Status: berthv1.CheckState_passing}}}, {Service: "none"}},
	}
	for _, id := range []string{"alloc-07", "unknown"} {
		u.AllocId = id
		if err := s.SaveHealth(u); err != nil {
			t.Fatal(err)
		}
	}
	u.AllocId = "alloc-07"
	if err := s.Confirm([]*berthv1.AllocStatusUpdate{u}); err != nil { // that ends the report, not what is kept
		t.Fatal(err)
	}
	s = reopen(t, s, dir)
	defer s.Close()
	c, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]*berthv1.AllocStatusUpdate{"alloc-07": {
		AllocId: "alloc-07", Health: berthv1.Alloc_healthy, HealthVersion: 3, HasServices: true,
		Services: []*berthv1.ServiceInstance{{Service: "web", Checks: u.GetServices()[0].GetChecks()}},
	}}
	if diff := cmp.Diff(want, c.Health, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	if len(c.Reports) != 49 {
		t.Errorf("%d reports, want 49", len(c.Reports))
	}
	if err := s.Forget("alloc-07"); err != nil {
		t.Fatal(err)
	}
	if c, err := s.Load(); err != nil || len(c.Health) != 0 {
		t.Errorf("%v, %v", c.Health, err)
	}
}

// TestAFileOfAnOlderAgent has no bucket for health: it is whole all the same.
func TestAFileOfAnOlderAgent(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	fill(t, s)
	if err := s.db.Update(func(tx *bbolt.Tx) error { return root(tx).DeleteBucket(bucketHealth) }); err != nil {
		t.Fatal(err)
	}
	s = reopen(t, s, dir)
	defer s.Close()
	if c, err := s.Load(); err != nil || s.Lost() != "" || len(c.Allocs) != 50 {
		t.Errorf("%v, lost %q", err, s.Lost())
	}
	if err := s.SaveHealth(&berthv1.AllocStatusUpdate{AllocId: "alloc-01"}); err != nil {
		t.Error(err)
	}
}
