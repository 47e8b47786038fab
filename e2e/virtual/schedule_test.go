package virtual

import (
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// While leaders crash, are cut off and come back, a schedule is run for each of its times,
// once.
func TestASchedulesTimesAreRunOnceUnderAnyLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(7, 7))
		c := newCluster(t, 3, 2)
		defer c.close()
		tick := service("tick", 1)
		tick.Type = berthv1.Job_batch
		tick.Groups[0].Restart = nil
		tick.Groups[0].Tasks[0].Config.Fields = map[string]*structpb.Value{"run_for": structpb.NewStringValue("1s")}
		tick.Schedule = &berthv1.Schedule{Crons: []string{"@every 5s"}, Keep: proto.Uint32(10000)}
		c.register(tick)
		terms := 0
		for range 12 {
			s := c.leader()
			terms++
			if rng.IntN(2) == 0 {
				s.crash()
				time.Sleep(time.Duration(5+rng.IntN(25)) * time.Second)
				s.start()
			} else {
				c.isolate(s.name)
				time.Sleep(time.Duration(5+rng.IntN(25)) * time.Second)
			}
			c.heal()
			time.Sleep(time.Duration(rng.IntN(30)) * time.Second)
		}
		time.Sleep(time.Minute)
		view := c.leader().proc.Store().View()
		var times []int64
		complete := 0
		for child := range view.Children("default", "tick") {
			times = append(times, child.GetScheduledTime().AsTime().Unix())
			if child.GetStatus() == berthv1.Job_dead {
				complete++
			}
		}
		slices.Sort(times)
		for i := 1; i < len(times); i++ {
			if times[i]-times[i-1] != 5 {
				t.Errorf("%s follows %s", time.Unix(times[i], 0).UTC(), time.Unix(times[i-1], 0).UTC())
			}
		}
		if len(times) < 60 || complete < len(times)-10 {
			t.Errorf("%d runs under %d leaders, %d are over", len(times), terms, complete)
		}
		t.Logf("%d runs under %d leaders, %d are over", len(times), terms, complete)
	})
}
