package session

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// TestReportsKeepTheNewest checks the queue against a map: whatever is reported, sent,
// confirmed and lost on the way, each alloc's newest status stays until it is confirmed.
func TestReportsKeepTheNewest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := NewReports()
		want := map[string]*berthv1.AllocStatusUpdate{}
		var inFlight []*berthv1.AllocStatusUpdate
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			id := fmt.Sprint(rapid.IntRange(0, 5).Draw(t, "alloc"))
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0, 1:
				u := &berthv1.AllocStatusUpdate{AllocId: id}
				r.Report(u, rapid.Bool().Draw(t, "urgent"))
				want[id] = u
			case 2:
				inFlight = r.batch()
				seen := map[string]bool{}
				for _, u := range inFlight {
					if want[u.GetAllocId()] != u || seen[u.GetAllocId()] {
						t.Fatalf("alloc %s is reported twice, or not its newest status", u.GetAllocId())
					}
					seen[u.GetAllocId()] = true
				}
				if len(inFlight) != len(want) {
					t.Fatalf("a report of %d, want %d", len(inFlight), len(want))
				}
			case 3:
				r.confirm(inFlight)
				for _, u := range inFlight {
					if want[u.GetAllocId()] == u {
						delete(want, u.GetAllocId())
					}
				}
				inFlight = nil
			case 4:
				r.Forget(id)
				delete(want, id)
			}
			if len(r.pending) != len(want) {
				t.Fatalf("%d wait, want %d", len(r.pending), len(want))
			}
		}
	})
}

func TestReportsAreBounded(t *testing.T) {
	r := NewReports()
	for i := range 3 * maxReport {
		r.Report(&berthv1.AllocStatusUpdate{AllocId: fmt.Sprint(i)}, true)
	}
	for want := 3 * maxReport; want > 0; want -= maxReport {
		b := r.batch()
		if len(b) != maxReport {
			t.Fatalf("a report of %d updates", len(b))
		}
		r.confirm(b)
		if _, due := r.dueIn(); due != (want > maxReport) {
			t.Errorf("with %d left, another report is due: %v", want-maxReport, due)
		}
	}
	large := string(make([]byte, maxReportBytes))
	for i := range 3 {
		r.Report(&berthv1.AllocStatusUpdate{AllocId: fmt.Sprint(i), StatusReason: large}, true)
	}
	if b := r.batch(); len(b) != 1 {
		t.Errorf("%d large updates in a report", len(b))
	}
}

func TestUrgentReportsDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewReports()
		r.Report(&berthv1.AllocStatusUpdate{AllocId: "a"}, false)
		if d, ok := r.dueIn(); !ok || d != patience {
			t.Errorf("due in %s, %v", d, ok)
		}
		time.Sleep(patience / 2)
		r.Report(&berthv1.AllocStatusUpdate{AllocId: "b"}, true)
		if d, ok := r.dueIn(); !ok || d != 0 {
			t.Errorf("due in %s, %v", d, ok)
		}
	})
}
