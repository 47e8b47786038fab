package state

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// An instance is ready as its agent says, as long as the servers want its allocation.
func TestServicesFollowTheirAllocation(t *testing.T) {
	const id = "00000000-0000-4000-8000-00000000000a"
	stored := func(set func(*berthv1.Alloc)) *berthv1.Alloc {
		a := &berthv1.Alloc{Id: id, Namespace: "default", Job: "web", Group: "g", NodeId: "n", NodeName: "n7", Status: berthv1.Alloc_running, JobVersion: 1}
		set(a)
		return a
	}
	for _, tt := range []struct {
		name  string
		after func(*berthv1.Alloc)
		want  string
	}{
		{"as it was", func(*berthv1.Alloc) {}, "default/web ready=true"},
		{"told to stop", func(a *berthv1.Alloc) { a.Desired = berthv1.Alloc_stop }, "default/web ready=false: it is being stopped"},
		{"evicted", func(a *berthv1.Alloc) { a.Desired = berthv1.Alloc_evict }, "default/web ready=false: it is being stopped"},
		{"out of touch", func(a *berthv1.Alloc) { a.Status = berthv1.Alloc_unknown }, "default/web ready=false: its node has lost touch"},
		{"a canary", func(a *berthv1.Alloc) { a.Canary = true }, "default/web ready=false: it is a canary that waits to be promoted"},
		{"over", func(a *berthv1.Alloc) { a.Status = berthv1.Alloc_complete }, ""},
		{"lost", func(a *berthv1.Alloc) { a.Status = berthv1.Alloc_lost }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := New()
			update := func(fn func(*Tx)) { s.Update(s.Revision()+1, time.Unix(int64(s.Revision()), 0), fn) }
			update(func(tx *Tx) { tx.PutAlloc(stored(func(*berthv1.Alloc) {})) })
			update(func(tx *Tx) {
				tx.SetServices(id, []*berthv1.ServiceInstance{{Service: "web", Address: "10.0.0.7", Port: 80, Ready: true}})
			})
			created := s.Revision()
			update(func(tx *Tx) { tx.PutAlloc(stored(tt.after)) })
			if got := describe(s.View()); got != tt.want {
				t.Errorf("after: %s, want %s", got, tt.want)
			}
			if back := restored(t, s.View()); describe(back) != tt.want {
				t.Errorf("restored: %s", describe(back))
			}
			update(func(tx *Tx) { tx.PutAlloc(stored(func(*berthv1.Alloc) {})) })
			if got := describe(s.View()); tt.want != "" && got != "default/web ready=true" {
				t.Errorf("back as it was: %s", got)
			}
			for i := range s.View().ServicesAt("10.0.0.7") {
				if i.GetCreateRevision() != created || i.GetNodeName() != "n7" {
					t.Errorf("%v", i)
				}
			}
			update(func(tx *Tx) { tx.DeleteAlloc(id) })
			if got := describe(s.View()); got != "" {
				t.Errorf("deleted: %s", got)
			}
		})
	}
}

func describe(v *View) string {
	var words []string
	for i := range v.Services("", "") {
		w := fmt.Sprintf("%s/%s ready=%v", i.GetNamespace(), i.GetService(), i.GetReady())
		if i.GetReason() != "" {
			w += ": " + i.GetReason()
		}
		words = append(words, w)
	}
	return strings.Join(words, "\n")
}

// A report names all that is offered: what it leaves out is offered no more, and a new
// address takes the old one's place.
func TestServicesAreReplacedAsAWhole(t *testing.T) {
	s := New()
	ids := []string{"00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"}
	s.Update(1, time.Time{}, func(tx *Tx) {
		for _, id := range ids {
			tx.PutAlloc(&berthv1.Alloc{Id: id, Namespace: "default", Job: "j", NodeId: "n", Status: berthv1.Alloc_running})
			tx.SetServices(id, []*berthv1.ServiceInstance{{Service: "web", Address: "10.0.0.7"}, {Service: "db", Address: "10.0.0.7"}})
		}
	})
	w := s.Watch(Topic{TableServices, JobKey("default", "db")})
	defer w.Close()
	s.Update(2, time.Time{}, func(tx *Tx) {
		tx.SetServices(ids[0], []*berthv1.ServiceInstance{{Service: "web", Address: "10.0.0.8"}})
	})
	select {
	case <-w.C:
	default:
		t.Error("nobody was told that db has lost an instance")
	}
	v := s.View()
	count := func(n int, what string, items []*berthv1.ServiceInstance) {
		t.Helper()
		if len(items) != n {
			t.Errorf("%s: %v", what, items)
		}
	}
	count(2, "web", slices.Collect(v.ServiceInstances("default", "web")))
	count(1, "db", slices.Collect(v.ServiceInstances("default", "db")))
	count(1, "of the first", slices.Collect(v.ServicesOfAlloc(ids[0])))
	count(2, "at .7", slices.Collect(v.ServicesAt("10.0.0.7")))
	count(1, "at .8", slices.Collect(v.ServicesAt("10.0.0.8")))
	if got := v.Revised(Topic{TableServices, JobKey("default", "db")}); got != 2 {
		t.Errorf("db was revised at %d", got)
	}
}

func restored(t *testing.T, v *View) *View {
	t.Helper()
	var b bytes.Buffer
	if err := v.Write(&b); err != nil {
		t.Fatal(err)
	}
	s, err := Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	return s.View()
}
