package plan

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func TestRolloutsAreDescribed(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 8000, 8000)
		describe := func(j *berthv1.Job) string { return strings.Join(Rollout(c.store.View(), j, time.Now()), "\n") }
		first := rollingJob("web", 3, "a", func(u *berthv1.UpdateStrategy) { u.MinHealthyTime = durationpb.New(90 * time.Second) })
		if got := describe(first); got != "g: 3 new, each healthy for 1 min 30 s" {
			t.Errorf("a new job: %q", got)
		}
		c.register(first)
		c.roll("web", 2*time.Second)
		for _, test := range []struct {
			job  *berthv1.Job
			want string
		}{
			{first, ""},
			{rollingJob("web", 5, "a"), "g: 3 in place, 2 new, each healthy for 10 s; reverts to version 1 if it fails"},
			{rollingJob("web", 3, "b", func(u *berthv1.UpdateStrategy) {
				u.Canary, u.AutoRevert, u.Stagger = "1", false, durationpb.New(time.Minute)
			}),
				"g: 3 replaced, 1 at a time, 1 min apart, each healthy for 10 s; 1 canary first, promoted by hand"},
			{rollingJob("web", 4, "b", func(u *berthv1.UpdateStrategy) {
				u.Canary, u.Promote, u.PromoteAfter, u.MaxParallel, u.Health = "50%", "healthy", durationpb.New(5*time.Minute), "50%", "manual"
			}), "g: 3 replaced, 1 new, 2 at a time, each when it is said to be healthy; 2 canaries first, promoted when healthy for 5 min; reverts to version 1 if it fails"},
			{newJob("web", 3, 100), "g: 3 replaced, a quarter at a time"},
		} {
			if got := describe(test.job); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		}
	})
}
