package fsm

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
)

func (s *scripted) quota(q *berthv1.Quota) {
	s.t.Helper()
	r := s.apply(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_NamespaceSet{NamespaceSet: &berthv1.Namespace{Name: "default", Quota: q}}
	})
	if r.Err != nil {
		s.t.Fatal(r.Err)
	}
}

func TestQuotaRefuses(t *testing.T) {
	s := newScripted(t)
	gpu := func(cpus string) *berthv1.Assignment {
		return &berthv1.Assignment{Tasks: []*berthv1.TaskGrant{{Task: "t", Cells: []*berthv1.CellGrant{{Cpus: cpus, MemoryMib: 100}},
			Devices: []*berthv1.DeviceGrant{{Kind: "gpu", Id: "g", ShareMilli: 1000}}}}}
	}
	plain := &berthv1.Assignment{DiskMib: 10}
	if err := s.place(allocID(0), "j0", "n0", gpu("0,2")); err != nil {
		t.Fatal(err)
	}
	s.quota(&berthv1.Quota{DevicesMilli: map[string]uint64{"gpu": 1000}}) // what is there already counts
	err := s.place(allocID(1), "j0", "n1", gpu("0"))
	if !problem.Is(err, problem.Exhausted) || !strings.Contains(err.Error(), "namespace default: 1 of 1 gpu are used, 1 more are asked for") {
		t.Errorf("a second GPU: %v", err)
	}
	if err := s.place(allocID(1), "j0", "n1", plain); err != nil {
		t.Errorf("what needs none: %v", err)
	}
	s.quota(&berthv1.Quota{DevicesMilli: map[string]uint64{"gpu": 500}, DiskMib: 5, CpuMilli: 2000}) // nothing is stopped by it
	if n := s.store.View().AllocCount(); n != 2 {
		t.Errorf("%d allocations are left", n)
	}
	if err := s.place(allocID(2), "j0", "n1", plain); err == nil {
		t.Error("placed beyond a quota that was lowered")
	}
	s.quota(nil)
	if err := s.place(allocID(2), "j0", "n1", plain); err != nil {
		t.Errorf("without a quota: %v", err)
	}
	s.quota(&berthv1.Quota{Allocs: 3})
	s.apply(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_AllocsReported{AllocsReported: &berthv1.AllocsReported{Updates: []*berthv1.AllocStatusUpdate{{AllocId: allocID(0), Status: berthv1.Alloc_complete}}}}
	})
	if err := s.place(allocID(3), "j0", "n0", gpu("0,2")); err != nil {
		t.Errorf("after one has ended: %v", err)
	}
	if err := s.place(allocID(4), "j0", "n0", plain); err == nil {
		t.Error("placed a fourth")
	}
}

// Whatever is proposed: what was placed lies within its namespace's quota, and what is
// counted is what is held, after a restore too.
func TestQuotaIsNeverExceeded(t *testing.T) {
	placed, refused := 0, 0
	for seed := range uint64(8) {
		f, store := newTestFSM(t)
		s := newSource(seed+300, store)
		for i := range 1500 {
			e := s.entry()
			r := f.apply(uint64(i+1), encode(e))
			for _, x := range r.Refused {
				if problem.Is(x.Reason, problem.Exhausted) {
					refused++
				}
			}
			quota := store.View().Namespace("default").GetQuota()
			for _, p := range e.GetPlan().GetPlacements() {
				a := store.View().Alloc(p.GetId())
				if quota == nil || a.GetCreateRevision() != uint64(i+1) {
					continue
				}
				placed++
				own, used := scheduler.UseOf(a.GetAssignment()), f.grants.quotas.Used("default")
				if own.CPUMilli > 0 && quota.GetCpuMilli() > 0 && used.GetCpuMilli() > quota.GetCpuMilli() ||
					own.MemoryMiB > 0 && quota.GetMemoryMib() > 0 && used.GetMemoryMib() > quota.GetMemoryMib() ||
					own.DevicesMilli["gpu"] > 0 && quota.GetDevicesMilli()["gpu"] > 0 && used.GetDevicesMilli()["gpu"] > quota.GetDevicesMilli()["gpu"] {
					t.Fatalf("seed %d, entry %d: %v is used of %v", seed, i+1, used, quota)
				}
			}
			for _, err := range f.AuditQuotas() {
				t.Fatalf("seed %d, entry %d: %v", seed, i+1, err)
			}
		}
		if err := f.Restore(io.NopCloser(bytes.NewReader(snapshotOf(t, store)))); err != nil {
			t.Fatal(err)
		}
		for _, err := range f.AuditQuotas() {
			t.Fatalf("seed %d, restored: %v", seed, err)
		}
	}
	if placed == 0 || refused == 0 {
		t.Errorf("%d placed, %d refused: the test is void", placed, refused)
	}
}
