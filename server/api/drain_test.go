package api

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func TestDrainNode(t *testing.T) {
	c := newCluster(t, 1)
	m := c.members[0]
	c.alloc("aaaa0001", "web")
	node := func() *berthv1.Node { return m.store.View().Node("node-1") }
	drain := func(body string, status int) {
		t.Helper()
		m.call(t, "POST", "/v1/nodes/n1/drain", body).want(t, status)
	}

	drain(`{"deadline":"3600s","reason":"new disks"}`, 200)
	first := node().GetDrain()
	if d := first.GetDeadline().AsTime().Sub(first.GetStartTime().AsTime()); d != time.Hour || first.GetReason() != "new disks" || node().GetEligibility() != berthv1.Node_ineligible {
		t.Fatalf("%v", node())
	}
	drain(`{"ignore_system":true}`, 200)
	if d := node().GetDrain(); d.GetDeadline() != nil || !d.GetIgnoreSystem() || d.GetReason() != "new disks" || !d.GetStartTime().AsTime().Equal(first.GetStartTime().AsTime()) {
		t.Fatalf("changed: %v", d)
	}
	drain(`{"keep_ineligible":true}`, 400)
	drain(`{"disable":true,"keep_ineligible":true}`, 200)
	if n := node(); n.GetDrain() != nil || n.GetEligibility() != berthv1.Node_ineligible {
		t.Fatalf("ended: %v", n)
	}
	drain(`{"disable":true}`, 200)
	if n := node(); n.GetEligibility() != berthv1.Node_eligible {
		t.Fatalf("ended: %v", n)
	}
	revision := m.store.Revision()
	drain(`{"disable":true}`, 200)
	if m.store.Revision() != revision {
		t.Error("ending no drain was written")
	}
	m.call(t, "POST", "/v1/nodes/none/drain", `{}`).want(t, 404)
}

func TestStopAllocElsewhereAndByForce(t *testing.T) {
	c := newCluster(t, 1)
	m := c.members[0]
	c.alloc("aaaa0001", "web")
	c.alloc("aaaa0002", "web")
	stop := func(id, body string, status int) {
		t.Helper()
		m.call(t, "POST", "/v1/allocs/"+id+"/stop", body).want(t, status)
	}
	stop("aaaa0001", `{"reschedule":true}`, 200)
	if a := m.store.View().Alloc(whole("aaaa0001")); a.Wanted() || !a.GetMoved() {
		t.Fatalf("%v", a)
	}
	stop("aaaa0001", `{"force":true}`, 409) // its node is up
	down := berthv1.Node_down
	c.write(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_NodesChanged{NodesChanged: &berthv1.NodesChanged{NodeIds: []string{"node-1"}, Status: &down}}
	})
	stop("aaaa0001", `{"force":true}`, 200)
	if a := m.store.View().Alloc(whole("aaaa0001")); a.GetStatus() != berthv1.Alloc_failed || a.HoldsGrant() {
		t.Fatalf("%v", a)
	}
	stop("aaaa0001", `{"force":true}`, 409) // it is over
}

func TestDrainDeadlineIsCounted(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	change, err := drainOf(&berthv1.Node{}, &berthv1.DrainNodeRequest{Deadline: durationpb.New(0)}, now)
	if err != nil || !change.GetDrain().GetDeadline().AsTime().Equal(now) {
		t.Fatal(change, err)
	}
}
