package state

import (
	"bytes"
	"slices"
	"testing"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func TestDeploymentsLiveAsLongAsTheirVersions(t *testing.T) {
	s := New()
	for v := uint64(1); v <= 3; v++ {
		put(s, func(tx *Tx) {
			tx.PutJob(&berthv1.Job{Namespace: "default", Name: "web", Version: v})
			tx.PutDeployment(&berthv1.Deployment{Id: string(rune('d' - v)), Namespace: "default", Job: "web", JobVersion: v})
		})
	}
	put(s, func(tx *Tx) {
		tx.PutDeployment(&berthv1.Deployment{Id: "x", Namespace: "default", Job: "webs", JobVersion: 1})
	})
	if got := deploymentsOf(s.View(), "web"); !slices.Equal(got, []string{"c", "b", "a"}) {
		t.Errorf("by job: %v", got)
	}
	if d := s.View().DeploymentOf("default", "web", 2); d.GetId() != "b" {
		t.Errorf("of version 2: %v", d)
	}
	if d := s.View().DeploymentOf("default", "web", 4); d != nil {
		t.Errorf("of a version that has none: %v", d)
	}
	put(s, func(tx *Tx) { tx.DeleteJobVersion("default", "web", 1) })
	if got := deploymentsOf(s.View(), "web"); !slices.Equal(got, []string{"b", "a"}) {
		t.Errorf("after version 1 was forgotten: %v", got)
	}
	put(s, func(tx *Tx) { tx.DeleteJob("default", "web") })
	if got := deploymentsOf(s.View(), "web"); len(got) != 0 || s.View().Deployment("x") == nil {
		t.Errorf("after the job was forgotten: %v", got)
	}
}

func deploymentsOf(v *View, job string) (ids []string) {
	for d := range v.DeploymentsByJob("default", job) {
		ids = append(ids, d.GetId())
	}
	return ids
}

func TestWatchingTheDeploymentsOfAJob(t *testing.T) {
	s := New()
	d := &berthv1.Deployment{Id: "a", Namespace: "default", Job: "web", JobVersion: 1}
	mine, others := s.Watch(Topic{TableDeployments, JobKey("default", "web")}), s.Watch(Topic{TableDeployments, JobKey("default", "api")})
	defer mine.Close()
	defer others.Close()
	at := put(s, func(tx *Tx) { tx.PutDeployment(d) })
	select {
	case <-mine.C:
	default:
		t.Error("the watch of its job sleeps on")
	}
	select {
	case <-others.C:
		t.Error("the watch of another job woke")
	default:
	}
	put(s, func(tx *Tx) {
		tx.PutDeployment(&berthv1.Deployment{Id: "b", Namespace: "default", Job: "api", JobVersion: 1})
	})
	if got := s.View().Revised(Topic{TableDeployments, JobKey("default", "web")}); got != at {
		t.Errorf("revised at %d, want %d", got, at)
	}
}

func TestStableVersions(t *testing.T) {
	s := New()
	for v := uint64(1); v <= 3; v++ {
		put(s, func(tx *Tx) { tx.PutJob(&berthv1.Job{Namespace: "default", Name: "web", Version: v}) })
	}
	put(s, func(tx *Tx) {
		tx.SetStable("default", "web", 1)
		tx.SetStable("default", "web", 3)
		tx.SetStable("default", "web", 9)
		tx.SetStable("default", "none", 1)
	})
	v := s.View()
	if !v.Job("default", "web").GetStable() || v.JobVersion("default", "web", 2).GetStable() {
		t.Error("versions 1 and 3 are to be stable")
	}
	for below, want := range map[uint64]uint64{1: 0, 2: 1, 3: 1, 4: 3} {
		if got := v.StableBelow("default", "web", below).GetVersion(); got != want {
			t.Errorf("below %d: %d, want %d", below, got, want)
		}
	}
}

// What is looked at often of an allocation is the same in rows, messages and snapshots.
func TestMarksOfRows(t *testing.T) {
	s := New()
	put(s, func(tx *Tx) {
		tx.PutAlloc(&berthv1.Alloc{Id: idA, Namespace: "default", Job: "web", NodeId: "n1", Canary: true, Health: berthv1.Alloc_unhealthy})
		tx.PutAlloc(&berthv1.Alloc{Id: idB, Namespace: "default", Job: "web", NodeId: "n1", Health: berthv1.Alloc_healthy})
	})
	var b bytes.Buffer
	if err := s.View().Write(&b); err != nil {
		t.Fatal(err)
	}
	restored, err := Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]*View{"stored": s.View(), "restored": restored.View()} {
		for row := range v.AllocRows() {
			if a := row.Alloc(); a.GetCanary() != row.Canary() || a.GetHealth() != row.Health() || row.Health() == berthv1.Alloc_undecided {
				t.Errorf("%s: %v is %s, canary %t", name, a, row.Health(), row.Canary())
			}
		}
	}
}
