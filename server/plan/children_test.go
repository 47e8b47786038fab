package plan

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/state"
)

// familyOf is a store with a job that is dispatched and n children: one in ten failed, one
// in a hundred still runs.
func familyOf(n int, keep *uint32) *state.Store {
	s := state.New()
	s.Update(1, now, func(tx *state.Tx) {
		tx.PutJob(&berthv1.Job{Namespace: "default", Name: "form", Version: 1, Status: berthv1.Job_running, SubmitTime: timestamppb.New(now), Parameters: &berthv1.Parameters{Keep: keep}})
	})
	for i := range n {
		s.Update(uint64(i+2), now, func(tx *state.Tx) {
			name := fmt.Sprintf("form.%05d", i)
			j := &berthv1.Job{Namespace: "default", Name: name, Parent: "form", Version: 1, Type: berthv1.Job_batch, CreateRevision: tx.Revision(),
				Status: berthv1.Job_dead, StatusReason: statusAllComplete, SubmitTime: timestamppb.New(now)}
			status := berthv1.Alloc_complete
			switch {
			case i%100 == 0:
				j.Status, j.StatusReason, status = berthv1.Job_running, "", berthv1.Alloc_running
			case i%10 == 0:
				j.StatusReason, status = "1 instance failed for good", berthv1.Alloc_failed
			}
			tx.PutJob(j)
			tx.PutEvaluation(&berthv1.Evaluation{Id: "e" + name, Namespace: "default", Job: name, Status: berthv1.Evaluation_complete, CreateRevision: tx.Revision(), ModifyTime: timestamppb.New(now)})
			tx.PutAlloc(&berthv1.Alloc{Id: fmt.Sprintf("00000000-0000-4000-8000-%012d", i), Namespace: "default", Job: name, JobVersion: 1, NodeId: "n1",
				Status: status, ModifyTime: timestamppb.New(now)})
		})
	}
	return s
}

// Of ten thousand children that were dispatched, those that run and the newest that are over
// stay; the others go with all that is theirs, however young, in entries that fit the log.
func TestTenThousandChildrenAreCleanedUp(t *testing.T) {
	s := familyOf(10000, nil)
	g := FindGarbage(s.View(), now.Add(time.Minute), Keep{}.withDefaults())
	const running, failed, complete = 100, 900, 9000
	want := failed + complete - 2*keepDispatched
	if len(g.Jobs) != want || len(g.Allocs) != want || len(g.Evaluations) != want {
		t.Errorf("%d jobs, %d allocations, %d evaluations are collected, want %d", len(g.Jobs), len(g.Allocs), len(g.Evaluations), want)
	}
	collected := map[string]bool{}
	for _, ref := range g.Jobs {
		collected[ref.GetJob()] = true
	}
	if collected["form.09999"] || collected["form.00000"] || !collected["form.00001"] || collected["form.09990"] || !collected["form.00010"] {
		t.Error("not the oldest are collected")
	}
	for _, fact := range g.Facts() {
		if size := proto.Size(fact); size > 60<<10 {
			t.Errorf("an entry of %d bytes", size)
		}
	}
}

func TestHowManyChildrenAreKept(t *testing.T) {
	count := func(s *state.Store, at time.Time) int {
		return len(FindGarbage(s.View(), at, Keep{}.withDefaults()).Jobs)
	}
	if n := count(familyOf(50, proto.Uint32(0)), now); n != 49 {
		t.Errorf("keep = 0: %d of 49 are collected", n)
	}
	if n := count(familyOf(50, proto.Uint32(30)), now.Add(1000*time.Hour)); n != 45-30 {
		t.Errorf("keep = 30: %d are collected", n)
	}
	orphans := familyOf(50, nil)
	orphans.Update(1000, now, func(tx *state.Tx) { tx.DeleteJob("default", "form") })
	if n := count(orphans, now); n != 49 {
		t.Errorf("without their parent %d of 49 are collected", n)
	}
	if keepOf(&berthv1.Job{Schedule: &berthv1.Schedule{}}) != keepScheduled || keepOf(&berthv1.Job{Schedule: &berthv1.Schedule{Keep: proto.Uint32(3)}}) != 3 {
		t.Error("what a schedule keeps")
	}
}
