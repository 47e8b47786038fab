package state

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

const (
	idA = "00000000-0000-4000-8000-00000000000a"
	idB = "00000000-0000-4000-8000-00000000000b"
)

func put(s *Store, fn func(tx *Tx)) uint64 {
	s.Update(s.Revision()+1, time.Unix(0, 0), fn)
	return s.Revision()
}

func TestViewsNeverChange(t *testing.T) {
	s := New()
	put(s, func(tx *Tx) { tx.PutAlloc(&berthv1.Alloc{Id: idA, Namespace: "default", Job: "web", NodeId: "n1"}) })
	before := s.View()
	put(s, func(tx *Tx) {
		tx.PutAlloc(&berthv1.Alloc{Id: idB, Namespace: "default", Job: "web", NodeId: "n1"})
		tx.DeleteAlloc(idA)
	})
	if before.Alloc(idA) == nil || before.Alloc(idB) != nil || before.AllocCount() != 1 {
		t.Error("an old view shows a later change")
	}
	now := s.View()
	ids := []string{}
	for a := range now.AllocsByNode("n1") {
		ids = append(ids, a.GetId())
	}
	if !slices.Equal(ids, []string{idB}) {
		t.Errorf("the index by node gives %v", ids)
	}
}

func TestJobVersionsAreKept(t *testing.T) {
	s := New()
	for v := uint64(1); v <= 3; v++ {
		put(s, func(tx *Tx) { tx.PutJob(&berthv1.Job{Namespace: "default", Name: "web", Version: v}) })
	}
	put(s, func(tx *Tx) { tx.PutJob(&berthv1.Job{Namespace: "default", Name: "web", Version: 3, Stopped: true}) })
	got := ""
	for _, j := range s.View().JobVersions("default", "web") {
		got += fmt.Sprint(j.GetVersion())
	}
	if got != "321" || !s.View().JobVersion("default", "web", 3).GetStopped() {
		t.Errorf("versions %q", got)
	}
	put(s, func(tx *Tx) { tx.DeleteJob("default", "web") })
	if n := len(s.View().JobVersions("default", "web")); n != 0 {
		t.Errorf("%d versions outlive their job", n)
	}
}

func TestWatchWakesForItsTopicOnly(t *testing.T) {
	alloc := &berthv1.Alloc{Id: idA, Namespace: "default", Job: "web", NodeId: "n1"}
	cases := []struct {
		topic Topic
		woken bool
	}{
		{Topic{Table: TableAny}, true},
		{Topic{Table: TableAllocs}, true},
		{Topic{TableAllocs, idA}, true},
		{Topic{TableAllocs, JobKey("default", "web")}, true},
		{Topic{TableAllocs, NodeKey("n1")}, true},
		{Topic{TableAllocs, idB}, false},
		{Topic{TableAllocs, JobKey("default", "api")}, false},
		{Topic{TableAllocs, NodeKey("n2")}, false},
		{Topic{Table: TableJobs}, false},
		{Topic{TableJobs, JobKey("default", "web")}, false},
	}
	for _, c := range cases {
		s := New()
		w := s.Watch(c.topic)
		put(s, func(tx *Tx) { tx.PutAlloc(alloc) })
		select {
		case <-w.C:
			if !c.woken {
				t.Errorf("%v was woken", c.topic)
			}
		default:
			if c.woken {
				t.Errorf("%v was not woken", c.topic)
			}
		}
		w.Close()
		w.Close()
		if len(s.watchers.byTopic) != 0 || s.watchers.keyed != [tableCount]int{} {
			t.Errorf("%v left a registration", c.topic)
		}
	}
}

func TestRevisedIsNeverTooEarly(t *testing.T) {
	s := New()
	put(s, func(tx *Tx) {
		tx.PutAlloc(&berthv1.Alloc{Id: idA, Namespace: "default", Job: "web", NodeId: "n1", ModifyRevision: tx.Revision()})
	})
	put(s, func(tx *Tx) {
		tx.PutAlloc(&berthv1.Alloc{Id: idB, Namespace: "default", Job: "api", NodeId: "n2", ModifyRevision: tx.Revision()})
	})
	v := s.View()
	for topic, want := range map[Topic]uint64{
		{Table: TableAllocs}:                         2,
		{TableAllocs, idA}:                           1,
		{TableAllocs, JobKey("default", "web")}:      1,
		{TableAllocs, NodeKey("n2")}:                 2,
		{TableAllocs, JobKey("default", "none")}:     2, // not known: the table's
		{Table: TableJobs}:                           0,
		{TableEvaluations, JobKey("default", "web")}: 0,
	} {
		if got := v.Revised(topic); got != want {
			t.Errorf("%v: %d, want %d", topic, got, want)
		}
	}
	put(s, func(tx *Tx) { tx.DeleteAlloc(idA) })
	if got := s.View().Revised(Topic{TableAllocs, JobKey("default", "web")}); got != 3 {
		t.Errorf("a deletion is at %d, want 3", got)
	}
	if got := v.Revised(Topic{Table: TableAllocs}); got != 2 {
		t.Errorf("an old view says %d, beyond itself", got)
	}
}

func TestChanges(t *testing.T) {
	s := NewSized(4)
	for i := range 3 {
		put(s, func(tx *Tx) {
			tx.PutNode(&berthv1.Node{Id: fmt.Sprint("n", i)})
			tx.PutNode(&berthv1.Node{Id: fmt.Sprint("m", i)})
		})
	}
	if _, ok := s.Changes(0, 10); ok {
		t.Error("the history pretends to go back to the start")
	}
	got, ok := s.Changes(1, 1)
	if !ok || len(got) != 2 || got[0].Revision != 2 || got[1].Key() != "m1" {
		t.Errorf("after 1: %v %v", got, ok)
	}
	put(s, func(tx *Tx) { tx.DeleteNode("n0") })
	got, ok = s.Changes(3, 10)
	if !ok || len(got) != 1 || got[0].Kind != Deleted || got[0].Before().(*berthv1.Node).GetId() != "n0" {
		t.Errorf("after 3: %v %v", got, ok)
	}
	if got, ok = s.Changes(4, 10); !ok || len(got) != 0 {
		t.Errorf("after the last: %v %v", got, ok)
	}
}

// Whoever applies the changes to an older copy comes to the newest state.
func TestChangesReplayToTheSameState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New()
		copied := map[string]string{}
		seen := uint64(0)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			id := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "id")
			switch rapid.IntRange(0, 2).Draw(t, "op") {
			case 0:
				name := rapid.SampledFrom([]string{"x", "y"}).Draw(t, "name")
				put(s, func(tx *Tx) { tx.PutNode(&berthv1.Node{Id: id, Name: name}) })
			case 1:
				put(s, func(tx *Tx) { tx.DeleteNode(id) })
			case 2:
				changes, ok := s.Changes(seen, 2)
				if !ok {
					t.Fatal("history lost")
				}
				for _, c := range changes {
					seen = c.Revision
					if c.Kind == Deleted {
						delete(copied, c.Key())
					} else {
						copied[c.Key()] = c.Item().(*berthv1.Node).GetName()
					}
				}
			}
		}
		changes, _ := s.Changes(seen, 1000)
		for _, c := range changes {
			if c.Kind == Deleted {
				delete(copied, c.Key())
			} else {
				copied[c.Key()] = c.Item().(*berthv1.Node).GetName()
			}
		}
		real := map[string]string{}
		for n := range s.View().Nodes("") {
			real[n.GetId()] = n.GetName()
		}
		if fmt.Sprint(real) != fmt.Sprint(copied) {
			t.Fatalf("replayed %v, real %v", copied, real)
		}
	})
}

func TestReplaceWakesEverybodyAndForgetsHistory(t *testing.T) {
	s := New()
	put(s, func(tx *Tx) { tx.PutNode(&berthv1.Node{Id: "n"}) })
	var b bytes.Buffer
	if err := s.View().Write(&b); err != nil {
		t.Fatal(err)
	}
	other, err := Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	w := s.Watch(Topic{TableNodes, "n"})
	s.Replace(other)
	select {
	case <-w.C:
	default:
		t.Error("not woken")
	}
	for _, after := range []uint64{0, 1} {
		if _, ok := s.Changes(after, 10); ok {
			t.Errorf("whoever had seen revision %d of the state before was not told to begin anew", after)
		}
	}
	s.Update(2, time.Unix(0, 0), func(tx *Tx) { tx.PutNode(&berthv1.Node{Id: "m"}) })
	if changes, ok := s.Changes(s.Revision(), 10); !ok || len(changes) != 0 {
		t.Error("nobody can follow the restored state")
	}
	if s.View().Node("n") == nil {
		t.Error("the node is gone")
	}
}

func BenchmarkPutAlloc(b *testing.B) {
	s := New()
	b.ReportAllocs()
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range b.N {
		id := allocKey{rng.Uint64(), rng.Uint64()}.id().String()
		put(s, func(tx *Tx) {
			tx.PutAlloc(&berthv1.Alloc{Id: id, Namespace: "default", Job: "web", NodeId: fmt.Sprint("n", i%1000)})
		})
	}
}
