package fsm

import (
	"testing"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// resize proposes another grant of an allocation and gives why it was refused; nil: it
// was not.
func (s *scripted) resize(id string, version uint64, to *berthv1.Assignment) error {
	r := s.apply(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_Plan{Plan: &berthv1.Plan{Changes: []*berthv1.AllocChange{{AllocId: id, JobVersion: version, Assignment: to}}}}
	})
	if len(r.Refused) > 0 {
		return r.Refused[0].Reason
	}
	return r.Err
}

func TestResize(t *testing.T) {
	s := newScripted(t)
	holding := func(cpus string, memory uint64) *berthv1.Assignment {
		return &berthv1.Assignment{Tasks: []*berthv1.TaskGrant{{Task: "t", Cells: []*berthv1.CellGrant{{Cpus: cpus, MemoryMib: memory}}}}}
	}
	for id, a := range []*berthv1.Assignment{holding("0,2", 1000), holding("1", 1000)} {
		if err := s.place(allocID(id), "j0", "n0", a); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(id, what string, version uint64, to *berthv1.Assignment, kind problem.Kind) {
		t.Helper()
		before := s.store.View().Alloc(id)
		if err := s.resize(id, version, to); !problem.Is(err, kind) {
			t.Errorf("%s: %v", what, err)
		}
		if after := s.store.View().Alloc(id); before != nil && after.GetModifyRevision() != before.GetModifyRevision() {
			t.Errorf("%s: it was written", what)
		}
	}
	refused(allocID(0), "what is held", 1, holding("0-2", 10), problem.Conflict)
	refused(allocID(0), "memory that is not there", 1, holding("0,2", 3097), problem.Conflict)
	refused(allocID(0), "a version that is not kept", 7, holding("0", 10), problem.Conflict)
	refused(allocID(0), "nonsense", 1, holding("0-", 10), problem.Invalid)
	refused(allocID(5), "none", 1, holding("0", 10), problem.NotFound)
	if err := s.resize(allocID(0), 1, holding("0,2-3", 3096)); err != nil {
		t.Fatal(err)
	}
	if a := s.store.View().Alloc(allocID(0)); a.GetAssignment().GetTasks()[0].GetCells()[0].GetMemoryMib() != 3096 || a.GetAssignRevision() != s.index {
		t.Errorf("it is %v", a)
	}
	s.quota(&berthv1.Quota{MemoryMib: 500})
	refused(allocID(1), "above the quota", 1, holding("1", 1001), problem.Exhausted)
	if err := s.resize(allocID(0), 1, holding("0", 600)); err != nil {
		t.Errorf("less, while the quota is exceeded: %v", err)
	}
	refused(allocID(1), "above the quota", 1, holding("1", 1001), problem.Exhausted)
	if errs := s.f.AuditQuotas(); len(errs) > 0 {
		t.Error(errs)
	}
	s.apply(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_Plan{Plan: &berthv1.Plan{Changes: []*berthv1.AllocChange{{AllocId: allocID(0), Desired: berthv1.Alloc_stop.Enum()}}}}
	})
	refused(allocID(0), "what is to be stopped", 1, holding("0", 10), problem.Conflict)
}

// An older server stops at an entry that it would only read a part of.
func TestResizeHasAVersionOfItsOwn(t *testing.T) {
	for want, c := range map[uint32]*berthv1.AllocChange{1: {AllocId: "a", JobVersion: 2}, 3: {AllocId: "a", Assignment: &berthv1.Assignment{}}} {
		e := NewEntry(epoch, func(e *berthv1.LogEntry) {
			e.Fact = &berthv1.LogEntry_Plan{Plan: &berthv1.Plan{Changes: []*berthv1.AllocChange{c}}}
		})
		if e.GetVersion() != want {
			t.Errorf("%v: version %d", c, e.GetVersion())
		}
	}
}
