package plan

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func (c *cluster) wantRunning(name string, n int) {
	c.t.Helper()
	if got := c.running(name); got != n {
		c.t.Fatalf("%d of %s run, want %d:\n%s", got, name, n, c.words(name))
	}
}

func (c *cluster) wantStatus(name string, s berthv1.Job_Status) {
	c.t.Helper()
	if j := c.job(name); j.GetStatus() != s {
		c.t.Fatalf("%s is %s (%s), want %s:\n%s", name, j.GetStatus(), j.GetStatusReason(), s, c.words(name))
	}
}

func (c *cluster) wantEval(id string, s berthv1.Evaluation_Status) *berthv1.Evaluation {
	c.t.Helper()
	e := c.store.View().Evaluation(id)
	if e.GetStatus() != s {
		c.t.Fatalf("evaluation %v, want %s", e, s)
	}
	return e
}

func TestServiceLives(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 4000, 4000)
		c.node("n2", 4000, 4000)
		eval := c.register(newJob("web", 3, 500))
		c.settle(time.Second)
		c.wantRunning("web", 3)
		c.wantStatus("web", berthv1.Job_running)
		e := c.wantEval(eval, berthv1.Evaluation_complete)
		if o := e.GetGroups()[0]; o.GetPlaced() != 3 || o.GetWanted() != 3 {
			t.Errorf("outcome %v", o)
		}
		for i, a := range c.allocs("web") {
			if int(a.GetIndex()) != i || a.GetEvalId() != eval {
				t.Errorf("alloc %v", a)
			}
		}
		c.register(newJob("web", 1, 500))
		c.settle(time.Second)
		c.wantRunning("web", 1)
		if a := c.allocs("web")[0]; a.GetIndex() != 0 || a.GetJobVersion() != 2 || !a.Wanted() {
			t.Errorf("not updated in place:\n%s", c.words("web"))
		}
		c.register(newJob("web", 4, 700))
		c.settle(time.Second)
		c.wantRunning("web", 4)
		c.stop("web", false)
		c.settle(time.Second)
		c.wantRunning("web", 0)
		c.wantStatus("web", berthv1.Job_dead)
		c.stop("web", true)
		c.settle(time.Second)
		if c.job("web") != nil || len(c.allocs("web")) != 0 {
			t.Errorf("purged, but there is %v\n%s", c.job("web"), c.words("web"))
		}
		if c.refused != 0 {
			t.Errorf("%d placements refused", c.refused)
		}
		if s := c.loop.Stats(); int(s.Placed) < 7 || s.Refused+s.Failed != 0 || s.Ready+s.Blocked+s.Flying != 0 || s.Looks == 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestFailuresAreRescheduledWithBackOff(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 4000, 4000)
		c.node("n2", 4000, 4000)
		c.register(newJob("web", 1, 500))
		c.settle(time.Second)
		for _, wait := range []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second} {
			last := c.allocs("web")
			a := last[len(last)-1]
			c.report(berthv1.Alloc_failed, a.GetId())
			time.Sleep(wait - time.Second)
			synctest.Wait()
			if n := len(c.allocs("web")); n != len(last) {
				t.Fatalf("replaced before %s:\n%s", wait, c.words("web"))
			}
			c.settle(2 * time.Second)
			c.wantRunning("web", 1)
			now := c.allocs("web")
			b := now[len(now)-1]
			if b.GetPreviousAlloc() != a.GetId() || b.GetNodeId() == a.GetNodeId() || c.store.View().Alloc(a.GetId()).GetNextAlloc() != b.GetId() {
				t.Fatalf("%v does not replace %v", b, a)
			}
		}
	})
}

func TestBatchRunsToCompletion(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 4000, 4000)
		c.register(newJob("sum", 3, 500, func(j *berthv1.Job) { j.Type = berthv1.Job_batch }))
		c.settle(time.Second)
		c.wantRunning("sum", 3)
		for _, a := range c.allocs("sum")[:2] {
			c.report(berthv1.Alloc_complete, a.GetId())
		}
		c.settle(time.Second)
		c.wantRunning("sum", 1)
		c.report(berthv1.Alloc_complete, c.allocs("sum")[2].GetId())
		c.settle(time.Second)
		c.wantStatus("sum", berthv1.Job_dead)
		if n := len(c.allocs("sum")); n != 3 {
			t.Errorf("%d allocations\n%s", n, c.words("sum"))
		}
		c.register(newJob("fail", 1, 500, func(j *berthv1.Job) {
			j.Type = berthv1.Job_batch
			two := uint32(2)
			j.Groups[0].Reschedule = &berthv1.ReschedulePolicy{Attempts: &two, Delay: durationpb.New(time.Second), Backoff: "constant"}
		}))
		for range 3 {
			c.settle(2 * time.Second)
			for _, a := range c.allocs("fail") {
				if !a.Ended() {
					c.report(berthv1.Alloc_failed, a.GetId())
				}
			}
		}
		c.settle(2 * time.Second)
		c.wantStatus("fail", berthv1.Job_dead)
		if n := len(c.allocs("fail")); n != 3 || c.job("fail").GetStatusReason() != "1 instance failed for good" {
			t.Errorf("%d allocations, %s", n, c.job("fail").GetStatusReason())
		}
	})
}

func TestSystemJobFollowsNodes(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 4000, 4000)
		c.register(newJob("sys", 1, 500, func(j *berthv1.Job) { j.Type = berthv1.Job_system }))
		c.settle(time.Second)
		c.wantRunning("sys", 1)
		c.node("n2", 4000, 4000)
		c.node("n3", 4000, 4000)
		c.settle(time.Second)
		c.wantRunning("sys", 3)
		c.setNode("n2", berthv1.Node_down)
		c.settle(time.Second)
		c.wantRunning("sys", 2)
		c.node("n2", 4000, 4000)
		c.settle(time.Second)
		c.wantRunning("sys", 3)
		off := berthv1.Node_ineligible
		c.must(&berthv1.LogEntry{Fact: &berthv1.LogEntry_NodesChanged{NodesChanged: &berthv1.NodesChanged{
			NodeIds: []string{nodeID("n1")}, Eligibility: &off}}})
		c.register(newJob("sys", 1, 600, func(j *berthv1.Job) { j.Type = berthv1.Job_system }))
		c.settle(2 * time.Second)
		c.wantRunning("sys", 3)
		for _, a := range c.allocs("sys") {
			if want := a.GetNodeName() == "n1"; a.Wanted() && a.GetStatus() == berthv1.Alloc_running && (a.GetJobVersion() == 1) != want {
				t.Errorf("an update past a node that is not eligible:\n%s", c.words("sys"))
			}
		}
	})
}

func TestBlockedJobIsPlacedWhenThereIsRoom(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 4000, 4000)
		c.register(newJob("a", 3, 1000))
		c.settle(time.Second)
		eval := c.register(newJob("b", 3, 1000))
		c.settle(time.Second)
		c.wantRunning("b", 1)
		e := c.wantEval(eval, berthv1.Evaluation_blocked)
		if o := e.GetGroups()[0]; o.GetPlaced() != 1 || o.GetExplanation().GetFailed()[0].GetCheck() != "cpu" {
			t.Errorf("outcome %v", o)
		}
		before := c.entries
		time.Sleep(time.Minute)
		synctest.Wait()
		if c.entries != before {
			t.Errorf("%d entries while nothing happened", c.entries-before)
		}
		c.stop("a", false)
		c.settle(2 * time.Second)
		c.wantRunning("b", 3)
		c.wantEval(eval, berthv1.Evaluation_complete)
	})
}

func TestLostNodeIsReplacedAndComesBack(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 4000, 4000)
		c.node("n2", 4000, 4000)
		wait := func(policy string) func(j *berthv1.Job) {
			return func(j *berthv1.Job) {
				j.Groups[0].OnDisconnect = &berthv1.DisconnectPolicy{LostAfter: durationpb.New(time.Minute), Reconcile: policy}
			}
		}
		c.register(newJob("now", 1, 500))
		c.register(newJob("new", 1, 500, wait("keep_new")))
		c.register(newJob("old", 1, 500, wait("keep_old")))
		c.settle(time.Second)
		away := c.allocs("now")[0].GetNodeName()
		for _, name := range []string{"new", "old"} {
			if got := c.allocs(name)[0].GetNodeName(); got != away {
				t.Fatalf("%s is on %s, not %s: the test needs them together", name, got, away)
			}
		}
		c.setNode(away, berthv1.Node_down)
		c.settle(10 * time.Second)
		for _, name := range []string{"now", "new", "old"} {
			c.wantRunning(name, 1)
		}
		if s := c.allocs("now")[0].GetStatus(); s != berthv1.Alloc_lost {
			t.Errorf("status %s", s)
		}
		if s := c.allocs("new")[0].GetStatus(); s != berthv1.Alloc_unknown {
			t.Errorf("status %s", s)
		}
		c.node(away, 4000, 4000)
		c.settle(5 * time.Second)
		for i, name := range []string{"now", "new", "old"} {
			c.wantRunning(name, 1)
			all := c.allocs(name)
			if len(all) != 2 || all[0].Wanted() != (i == 2) {
				t.Errorf("%s:\n%s", name, c.words(name))
			}
		}
	})
}

func TestUpdateLeavesWhatRunsAloneWhenItCannotBePlaced(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 4000, 4000)
		c.register(newJob("web", 4, 1000))
		c.settle(time.Second)
		eval := c.register(newJob("web", 4, 5000))
		c.settle(3 * time.Second)
		c.wantRunning("web", 4)
		c.wantEval(eval, berthv1.Evaluation_blocked)
		// As large as before: it fits in the place of the old ones, one after the other.
		c.register(newJob("web", 4, 999))
		low := 4
		for range 400 {
			c.settle(20 * time.Millisecond)
			if n := c.running("web"); n < low {
				low = n
				t.Log(time.Now(), "\n"+c.words("web"))
			}
		}
		c.wantRunning("web", 4)
		for _, a := range c.allocs("web") {
			if a.Wanted() && a.GetJobVersion() != 3 {
				t.Fatalf("not updated:\n%s", c.words("web"))
			}
		}
		if low < 2 {
			t.Errorf("only %d of 4 were running at a time", low)
		}
	})
}

func TestGangIsPlacedWhole(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 4000, 4000)
		gang := func(j *berthv1.Job) { j.Groups[0].Gang = true }
		eval := c.register(newJob("gang", 5, 1000, gang))
		c.settle(time.Second)
		c.wantRunning("gang", 0)
		c.wantEval(eval, berthv1.Evaluation_blocked)
		c.node("n2", 4000, 4000)
		c.settle(2 * time.Second)
		c.wantRunning("gang", 5)
		c.wantEval(eval, berthv1.Evaluation_complete)

		eval = c.register(newJob("gang", 9, 999, gang))
		c.settle(2 * time.Second)
		c.wantEval(eval, berthv1.Evaluation_blocked)
		for _, a := range c.allocs("gang") {
			if a.GetJobVersion() != 1 || !a.Wanted() {
				t.Fatalf("a gang that does not fit touched what runs:\n%s", c.words("gang"))
			}
		}
		eval = c.register(newJob("gang", 8, 999, gang))
		c.settle(5 * time.Second)
		c.wantRunning("gang", 8)
		c.wantEval(eval, berthv1.Evaluation_complete)
	})
}

func TestStoppedBatchStartsAnew(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 4000, 4000)
		sum := newJob("sum", 1, 500, func(j *berthv1.Job) { j.Type = berthv1.Job_batch })
		c.register(sum)
		c.settle(time.Second)
		c.report(berthv1.Alloc_complete, c.allocs("sum")[0].GetId())
		c.settle(time.Second)
		c.wantStatus("sum", berthv1.Job_dead)
		c.stop("sum", false)
		c.settle(time.Second)
		c.register(sum)
		c.settle(time.Second)
		c.wantRunning("sum", 1)
	})
}

// What is not written is placed again; nothing is lost or doubled.
func TestRefusedEntriesAreTriedAgain(t *testing.T) {
	leads(t, func(c *cluster) {
		for i := range 10 {
			c.node(fmt.Sprint("n", i), 64000, 64000)
		}
		var calls atomic.Int64
		c.fail = func(*berthv1.LogEntry) error {
			if calls.Add(1)%3 != 0 {
				return errors.New("the log is full")
			}
			return nil
		}
		eval := c.register(newJob("big", 2000, 100))
		small := c.register(newJob("small", 1, 100))
		c.settle(20 * time.Second)
		c.wantRunning("big", 2000)
		c.wantRunning("small", 1)
		c.wantEval(eval, berthv1.Evaluation_complete)
		c.wantEval(small, berthv1.Evaluation_complete)
		if n := len(c.allocs("big")); n != 2000 || c.refused != 0 {
			t.Errorf("%d allocations, %d refused", n, c.refused)
		}
	})
}

// A new leader goes on where the last one was.
func TestNewLeaderGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.node("n1", 4000, 4000)
		stop := c.lead()
		eval := c.register(newJob("b", 5, 1000))
		c.settle(time.Second)
		c.wantEval(eval, berthv1.Evaluation_blocked)
		stop()
		c.node("n2", 4000, 4000)
		next := c.register(newJob("c", 1, 100))
		a := c.allocs("b")[0]
		c.report(berthv1.Alloc_failed, a.GetId())
		stop = c.lead()
		defer stop()
		c.settle(10 * time.Second)
		c.wantRunning("b", 5)
		c.wantRunning("c", 1)
		c.wantEval(eval, berthv1.Evaluation_complete)
		c.wantEval(next, berthv1.Evaluation_complete)
	})
}

func TestPausedPlacesNothing(t *testing.T) {
	leads(t, func(c *cluster) {
		pause := func(on bool) {
			c.must(&berthv1.LogEntry{Fact: &berthv1.LogEntry_SchedulerConfigSet{SchedulerConfigSet: &berthv1.SchedulerConfig{Paused: on}}})
		}
		c.node("n1", 4000, 4000)
		pause(true)
		eval := c.register(newJob("a", 2, 100))
		c.settle(time.Second)
		c.wantRunning("a", 0)
		c.wantEval(eval, berthv1.Evaluation_blocked)
		pause(false)
		c.settle(2 * time.Second)
		c.wantRunning("a", 2)
		c.wantEval(eval, berthv1.Evaluation_complete)
	})
}

func TestOldThingsAreForgotten(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 4000, 4000)
		c.node("n2", 4000, 4000)
		c.register(newJob("a", 2, 100))
		c.register(newJob("b", 1, 100))
		c.settle(time.Second)
		c.stop("a", false)
		c.settle(time.Second)
		c.setNode("n2", berthv1.Node_down)
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		view := c.store.View()
		if view.Job("default", "a") != nil || len(c.allocs("a")) != 0 || view.Node(nodeID("n2")) != nil {
			t.Errorf("kept: %v\n%s%v", view.Job("default", "a"), c.words("a"), view.Node(nodeID("n2")))
		}
		for e := range view.Evaluations("") {
			t.Errorf("kept: %v", e)
		}
		c.settle(time.Second)
		c.wantRunning("b", 1)
	})
}

func TestDryRunChangesNothing(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 4000, 4000)
		c.register(newJob("a", 2, 1000))
		c.settle(time.Second)
		view := c.store.View()
		groups, err := DryRun(view, newJob("a", 5, 1000), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		g := groups[0]
		if g.GetWanted() != 3 || g.GetPlaced() != 2 || g.GetUpdated() != 2 || g.GetStopped() != 0 || g.GetExplanation() == nil {
			t.Errorf("%v", g)
		}
		if groups, err = DryRun(view, newJob("a", 2, 1000), time.Now()); err != nil || groups[0].GetUpdated() != 0 {
			t.Errorf("the same job: %v, %v", groups, err)
		}
		if string(c.store.View().Hash()) != string(view.Hash()) {
			t.Error("the state has changed")
		}
	})
}
