package plan

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func (c *cluster) quota(namespace string, q *berthv1.Quota) {
	c.t.Helper()
	c.must(&berthv1.LogEntry{Fact: &berthv1.LogEntry_NamespaceSet{NamespaceSet: &berthv1.Namespace{Name: namespace, Quota: q}}})
}

// When a reservation begins, and when it ends, jobs are placed by the clock alone:
// nothing else happens.
func TestReservationsBeginAndEndByTheClock(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 2000, 4000)
		now := time.Now()
		c.must(&berthv1.LogEntry{Fact: &berthv1.LogEntry_ReservationSet{ReservationSet: &berthv1.Reservation{Name: "night", NodeIds: []string{nodeID("n1")},
			Jobs: []string{"default/own"}, StartTime: timestamppb.New(now.Add(time.Hour)), EndTime: timestamppb.New(now.Add(2 * time.Hour))}}})
		c.register(newJob("early", 1, 1000))
		c.register(newJob("own", 1, 1000, func(j *berthv1.Job) { j.Reservation = "night" }))
		c.settle(time.Second)
		c.wantRunning("early", 1)
		c.wantRunning("own", 0) // it does not hold yet
		pass(59 * time.Minute)
		if n := len(c.allocs("own")); n != 0 {
			t.Fatalf("placed before it begins:\n%s", c.words("own"))
		}
		pass(2 * time.Minute)
		if n := len(c.allocs("own")); n != 1 {
			t.Fatal("it has begun, and nothing is placed")
		}
		c.settle(time.Second)
		c.wantRunning("own", 1)
		c.wantRunning("early", 1) // what runs goes on
		c.stop("own", false)
		c.settle(time.Second)
		c.register(newJob("late", 1, 1000))
		c.settle(time.Second)
		c.wantRunning("late", 0)
		pass(58 * time.Minute)
		if n := len(c.allocs("late")); n != 0 {
			t.Fatalf("placed on a node that is reserved:\n%s", c.words("late"))
		}
		pass(2 * time.Minute)
		c.settle(time.Second)
		c.wantRunning("late", 1)
	})
}

// A new leader has the timer too, and a reservation that is deleted frees its nodes.
func TestReservationOutlivesItsLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		stop := c.lead()
		defer func() { stop() }()
		c.node("n1", 3000, 4000)
		reserve := func(name string) {
			c.must(&berthv1.LogEntry{Fact: &berthv1.LogEntry_ReservationSet{ReservationSet: &berthv1.Reservation{Name: name, NodeIds: []string{nodeID("n1")},
				Jobs: []string{"default/own"}, EndTime: timestamppb.New(time.Now().Add(time.Hour))}}})
		}
		reserve("one")
		c.register(newJob("web", 1, 1000))
		c.settle(time.Second)
		c.wantRunning("web", 0)
		stop()
		stop = c.lead()
		pass(61 * time.Minute)
		c.settle(time.Second)
		c.wantRunning("web", 1)
		reserve("two")
		c.register(newJob("next", 1, 1000))
		c.settle(time.Second)
		c.wantRunning("next", 0)
		c.must(&berthv1.LogEntry{Fact: &berthv1.LogEntry_ReservationDeleted{ReservationDeleted: &berthv1.ReservationDeleted{Name: "two"}}})
		c.settle(time.Second)
		c.wantRunning("next", 1)
	})
}

// Who waits for a quota is looked at when something of its namespace ends, when the
// quota is raised or gone, and at nothing else.
func TestQuotaWakesWhoWaitsForIt(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 8000, 8000)
		c.quota("default", &berthv1.Quota{CpuMilli: 2000})
		c.quota("other", &berthv1.Quota{CpuMilli: 1000})
		c.register(newJob("first", 2, 1000, priority(20)))
		c.settle(time.Second)
		c.register(newJob("second", 3, 1000, priority(70)))
		c.settle(time.Second)
		c.wantRunning("first", 2) // nobody gives way to what a quota keeps back
		c.wantRunning("second", 0)
		looks := c.loop.Stats().Looks
		c.quota("other", &berthv1.Quota{CpuMilli: 9000})
		c.node("n2", 8000, 8000)
		c.settle(time.Second)
		if n := c.loop.Stats().Looks; n != looks {
			t.Errorf("%d looks at what waits for another namespace's quota", n-looks)
		}
		c.stop("first", false)
		c.settle(time.Second)
		c.wantRunning("second", 2)
		c.quota("default", &berthv1.Quota{CpuMilli: 3000})
		c.settle(time.Second)
		c.wantRunning("second", 3)
		c.register(newJob("third", 1, 1000))
		c.settle(time.Second)
		c.wantRunning("third", 0)
		c.quota("default", nil)
		c.settle(time.Second)
		c.wantRunning("third", 1)
		if c.loop.Stats().Refused != 0 {
			t.Error("the log had to refuse something")
		}
	})
}
