package runner

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// TestTrial plays what a trial hears: at each second, the run that is well ("" none), e
// ended, or a version.
func TestTrial(t *testing.T) {
	type heard struct {
		at      int
		run     string
		ended   bool
		version uint64
	}
	base := time.Unix(1000, 0)
	s := &strategy{least: 10 * time.Second, deadline: 60 * time.Second}
	for _, tc := range []struct {
		name  string
		s     *strategy
		heard []heard
		want  berthv1.Alloc_Health
		wake  int // 0: never
	}{
		{"begins", s, []heard{{0, "", false, 1}}, berthv1.Alloc_undecided, 60},
		{"is well", s, []heard{{0, "", false, 1}, {5, "a", false, 1}}, berthv1.Alloc_undecided, 15},
		{"is well for long enough", s, []heard{{0, "", false, 1}, {5, "a", false, 1}, {15, "a", false, 1}}, berthv1.Alloc_healthy, 0},
		{"not quite", s, []heard{{0, "", false, 1}, {5, "a", false, 1}, {14, "a", false, 1}}, berthv1.Alloc_undecided, 15},
		{"a break", s, []heard{{0, "a", false, 1}, {5, "", false, 1}, {6, "a", false, 1}, {15, "a", false, 1}}, berthv1.Alloc_undecided, 16},
		{"a break that nobody saw", s, []heard{{0, "a", false, 1}, {9, "b", false, 1}, {10, "b", false, 1}}, berthv1.Alloc_undecided, 19},
		{"too late", s, []heard{{0, "", false, 1}, {60, "", false, 1}}, berthv1.Alloc_unhealthy, 0},
		{"well, but too late", s, []heard{{0, "", false, 1}, {55, "a", false, 1}}, berthv1.Alloc_undecided, 60},
		{"well, and the deadline passes", s, []heard{{0, "", false, 1}, {55, "a", false, 1}, {60, "a", false, 1}}, berthv1.Alloc_unhealthy, 0},
		{"both at once: well", s, []heard{{0, "", false, 1}, {50, "a", false, 1}, {60, "a", false, 1}}, berthv1.Alloc_healthy, 0},
		{"ends", s, []heard{{0, "a", false, 1}, {3, "", true, 1}}, berthv1.Alloc_unhealthy, 0},
		{"decided once", s, []heard{{0, "a", false, 1}, {10, "a", false, 1}, {20, "", true, 1}}, berthv1.Alloc_healthy, 0},
		{"a new version is decided anew", s, []heard{{0, "a", false, 1}, {10, "a", false, 1}, {20, "a", false, 2}}, berthv1.Alloc_undecided, 30},
		{"and for long enough", s, []heard{{0, "a", false, 1}, {10, "a", false, 1}, {20, "a", false, 2}, {30, "a", false, 2}}, berthv1.Alloc_healthy, 0},
		{"a new version before the old is decided", s, []heard{{0, "a", false, 1}, {8, "a", false, 2}, {10, "a", false, 2}}, berthv1.Alloc_undecided, 18},
		{"at once", &strategy{deadline: time.Minute}, []heard{{0, "a", false, 1}}, berthv1.Alloc_healthy, 0},
		{"nobody asks", nil, []heard{{0, "a", false, 1}, {100, "", true, 1}}, berthv1.Alloc_undecided, 0},
	} {
		var tr trial
		var wake time.Time
		for _, h := range tc.heard {
			tr, wake = tr.hear(tc.s, evidence{version: h.version, ended: h.ended, run: h.run, now: base.Add(time.Duration(h.at) * time.Second)})
		}
		want := time.Time{}
		if tc.wake > 0 {
			want = base.Add(time.Duration(tc.wake) * time.Second)
		}
		if tr.verdict != tc.want || !wake.Equal(want) {
			t.Errorf("%s: %v, look again at %v, want %v at %v", tc.name, tr.verdict, wake.Sub(base), tc.want, want.Sub(base))
		}
	}
}

func TestStrategyFor(t *testing.T) {
	of := func(u *berthv1.UpdateStrategy) *strategy {
		return strategyFor(&berthv1.Job{Update: u}, &berthv1.Group{})
	}
	if of(nil) != nil || of(&berthv1.UpdateStrategy{Health: "manual"}) != nil {
		t.Error("nobody asked")
	}
	if got, want := *of(&berthv1.UpdateStrategy{}), (strategy{10 * time.Second, 5 * time.Minute, true}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	u := &berthv1.UpdateStrategy{Health: "tasks", MinHealthyTime: durationpb.New(0), HealthyDeadline: durationpb.New(time.Second)}
	if got, want := *strategyFor(&berthv1.Job{Update: &berthv1.UpdateStrategy{}}, &berthv1.Group{Update: u}), (strategy{0, time.Second, false}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
