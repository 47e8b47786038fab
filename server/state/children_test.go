package state

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func childNames(v *View, parent string) (names []string) {
	for j := range v.Children("default", parent) {
		names = append(names, j.GetName())
	}
	return names
}

func TestChildrenAreFoundNewestFirst(t *testing.T) {
	s := New()
	put(s, func(tx *Tx) {
		tx.PutJob(&berthv1.Job{Namespace: "default", Name: "tick", Version: 1, Schedule: &berthv1.Schedule{Crons: []string{"@daily"}}})
	})
	for i, name := range []string{"tick.c", "tick.a", "tick.b"} {
		put(s, func(tx *Tx) {
			tx.PutJob(&berthv1.Job{Namespace: "default", Name: name, Parent: "tick", Version: 1, CreateRevision: tx.Revision(), DispatchToken: fmt.Sprint("t", i)})
		})
	}
	put(s, func(tx *Tx) {
		tx.PutJob(&berthv1.Job{Namespace: "default", Name: "other.a", Parent: "other", Version: 1, CreateRevision: tx.Revision()})
		tx.PutJob(&berthv1.Job{Namespace: "z", Name: "tick.a", Parent: "tick", Version: 1, CreateRevision: tx.Revision()})
	})
	v := s.View()
	if got := childNames(v, "tick"); !slices.Equal(got, []string{"tick.b", "tick.a", "tick.c"}) {
		t.Errorf("children %v", got)
	}
	if got := v.Dispatched("default", "tick", "t1").GetName(); got != "tick.a" || v.Dispatched("default", "tick", "t9") != nil || v.Dispatched("z", "tick", "t1") != nil {
		t.Errorf("dispatched with t1: %q", got)
	}
	put(s, func(tx *Tx) { tx.DeleteJob("default", "tick.a") })
	if got := childNames(s.View(), "tick"); !slices.Equal(got, []string{"tick.b", "tick.c"}) || s.View().Dispatched("default", "tick", "t1") != nil {
		t.Errorf("children after one is gone: %v", got)
	}
	if got := childNames(v, "tick"); len(got) != 3 {
		t.Errorf("the old view has %v", got)
	}
}

func TestScheduledJobsCanBeWatched(t *testing.T) {
	s := New()
	watch := s.Watch(Topic{Table: TableSchedules})
	defer watch.Close()
	put(s, func(tx *Tx) { tx.PutJob(&berthv1.Job{Namespace: "default", Name: "plain", Version: 1}) })
	select {
	case <-watch.C:
		t.Fatal("a job without a schedule woke the watch")
	default:
	}
	schedule := &berthv1.Schedule{Crons: []string{"@daily"}}
	put(s, func(tx *Tx) {
		tx.PutJob(&berthv1.Job{Namespace: "default", Name: "tick", Version: 1, Schedule: schedule})
	})
	<-watch.C
	if jobs := slices.Collect(s.View().ScheduledJobs()); len(jobs) != 1 || jobs[0].GetName() != "tick" {
		t.Errorf("scheduled %v", jobs)
	}
	again := s.Watch(Topic{Table: TableSchedules})
	defer again.Close()
	put(s, func(tx *Tx) { tx.PutJob(&berthv1.Job{Namespace: "default", Name: "tick", Version: 2}) })
	<-again.C
	if jobs := slices.Collect(s.View().ScheduledJobs()); len(jobs) != 0 {
		t.Errorf("scheduled %v", jobs)
	}
}

func TestScalingEventsAreBounded(t *testing.T) {
	s := New()
	for i := range 3 * ScalingEventsKept {
		put(s, func(tx *Tx) {
			tx.AddScalingEvent(&berthv1.ScalingEvent{Namespace: "default", Job: "web", Group: fmt.Sprint("g", i%2), Count: uint32(i), CreateRevision: tx.Revision()})
		})
	}
	events := slices.Collect(s.View().ScalingEvents("default", "web"))
	if len(events) != 2*ScalingEventsKept || events[0].GetCount() != 20 || events[ScalingEventsKept].GetCount() != 21 {
		t.Errorf("%d events, of group 0 from %d, of group 1 from %d", len(events), events[0].GetCount(), events[ScalingEventsKept].GetCount())
	}
	put(s, func(tx *Tx) { tx.DeleteJob("default", "web") })
	if events := slices.Collect(s.View().ScalingEvents("default", "web")); len(events) != 0 {
		t.Errorf("%d events of a job that is gone", len(events))
	}
}

func TestFamiliesAndVariablesAreInSnapshots(t *testing.T) {
	s := New()
	put(s, func(tx *Tx) {
		tx.PutJob(&berthv1.Job{Namespace: "default", Name: "tick", Version: 1, Schedule: &berthv1.Schedule{Crons: []string{"@daily"}}})
		tx.PutJob(&berthv1.Job{Namespace: "default", Name: "tick.a", Parent: "tick", Version: 1, CreateRevision: 1, DispatchToken: "t"})
		tx.AddScalingEvent(&berthv1.ScalingEvent{Namespace: "default", Job: "tick", Group: "g", CreateRevision: 1})
		tx.PutVariable(&berthv1.Variable{Namespace: "default", Name: "a/b", Items: map[string]string{"k": "v"}, ModifyRevision: 1})
	})
	var b bytes.Buffer
	if err := s.View().Write(&b); err != nil {
		t.Fatal(err)
	}
	restored, err := Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	v := restored.View()
	if !bytes.Equal(v.Hash(), s.View().Hash()) || v.Dispatched("default", "tick", "t") == nil || len(childNames(v, "tick")) != 1 ||
		len(slices.Collect(v.ScheduledJobs())) != 1 || len(slices.Collect(v.ScalingEvents("default", "tick"))) != 1 {
		t.Error("the restored state is another")
	}
	if got := v.Variable("default", "a/b"); got.GetItems()["k"] != "v" || v.Revised(Topic{TableVariables, JobKey("default", "a/b")}) != 1 {
		t.Errorf("the variable is %v", got)
	}
}
