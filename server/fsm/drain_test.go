package fsm

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func (s *scripted) nodes(change *berthv1.NodesChanged) *berthv1.Node {
	s.t.Helper()
	change.NodeIds = []string{"n0"}
	if r := s.apply(func(e *berthv1.LogEntry) { e.Fact = &berthv1.LogEntry_NodesChanged{NodesChanged: change} }); r.Err != nil {
		s.t.Fatal(r.Err)
	}
	return s.store.View().Node("n0")
}

func TestADrainKeepsTheNodeEmptyUntilItEnds(t *testing.T) {
	s := newScripted(t)
	first := &berthv1.Drain{StartTime: timestamp(s.at), Deadline: timestamp(s.at.Add(time.Hour))}
	n := s.nodes(&berthv1.NodesChanged{Drain: first})
	if !proto.Equal(n.GetDrain(), first) || n.GetEligibility() != berthv1.Node_ineligible {
		t.Fatalf("after its begin: %v", n)
	}
	s.apply(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_NodeRegistered{NodeRegistered: &berthv1.NodeRegistered{Node: &berthv1.Node{Id: "n0", Name: "n0", Version: "2"}}}
	})
	if n = s.store.View().Node("n0"); !proto.Equal(n.GetDrain(), first) || n.GetVersion() != "2" {
		t.Fatalf("after the agent has registered again: %v", n)
	}
	if err := s.place(allocID(0), "j0", "n0", &berthv1.Assignment{DiskMib: 1}); err == nil {
		t.Fatal("something was placed on it")
	}
	second := &berthv1.Drain{StartTime: timestamp(s.at), IgnoreSystem: true}
	s.nodes(&berthv1.NodesChanged{Drain: second})
	done := func(d *berthv1.Drain) *berthv1.Drain {
		return revised(d, func(d *berthv1.Drain) { d.DoneTime = timestamp(s.at) })
	}
	if n = s.nodes(&berthv1.NodesChanged{Drain: done(first)}); !proto.Equal(n.GetDrain(), second) {
		t.Fatalf("that an older drain was done counted: %v", n.GetDrain())
	}
	if n = s.nodes(&berthv1.NodesChanged{Drain: done(second)}); n.GetDrain().GetDoneTime() == nil || n.GetEligibility() != berthv1.Node_ineligible {
		t.Fatalf("after it was done: %v", n)
	}
	if n = s.nodes(&berthv1.NodesChanged{EndDrain: true}); n.GetDrain() != nil || n.GetEligibility() != berthv1.Node_ineligible {
		t.Fatalf("after its end: %v", n)
	}
	s.nodes(&berthv1.NodesChanged{Drain: first})
	if n = s.nodes(&berthv1.NodesChanged{Eligibility: berthv1.Node_eligible.Enum()}); n.GetDrain() != nil || n.GetEligibility() != berthv1.Node_eligible {
		t.Fatalf("after it was made eligible: %v", n)
	}
	if n = s.nodes(&berthv1.NodesChanged{Drain: done(first)}); n.GetDrain() != nil {
		t.Fatalf("that a drain was done began one: %v", n)
	}
}

func TestWhatIsMovedIsNoted(t *testing.T) {
	s := newScripted(t)
	if err := s.place(allocID(0), "j0", "n0", &berthv1.Assignment{DiskMib: 1}); err != nil {
		t.Fatal(err)
	}
	s.apply(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_Plan{Plan: &berthv1.Plan{Changes: []*berthv1.AllocChange{{AllocId: allocID(0), Desired: berthv1.Alloc_stop.Enum(), Moved: true}}}}
	})
	if a := s.store.View().Alloc(allocID(0)); !a.GetMoved() || a.Wanted() {
		t.Fatalf("%v", a)
	}
}
