package plan

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
	"github.com/berthd/berth/server/fsm"
)

func priority(p uint32) func(*berthv1.Job) {
	return func(j *berthv1.Job) { j.Priority = p }
}

// pass lets the loop do what it will, without the agents.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (c *cluster) evicted(name string) (out []*berthv1.Alloc) {
	for _, a := range c.allocs(name) {
		if a.GetDesired() == berthv1.Alloc_evict {
			out = append(out, a)
		}
	}
	return out
}

// evaluate asks for another look at a job.
func (c *cluster) evaluate(name string) string {
	id := c.id("eval")
	c.must(&berthv1.LogEntry{Fact: &berthv1.LogEntry_EvaluationsCreated{EvaluationsCreated: &berthv1.EvaluationsCreated{
		Evaluations: []*berthv1.Evaluation{{Id: id, Namespace: "default", Job: name}}}}})
	return id
}

func TestLowPriorityGivesWay(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 4000, 4000)
		c.register(newJob("low", 4, 1000, priority(20)))
		c.settle(time.Second)
		c.wantRunning("low", 4)
		groups, err := DryRun(c.store.View(), newJob("high", 1, 2000, priority(70)), time.Now())
		if err != nil || len(groups[0].GetPreemptions()) != 2 || groups[0].GetPreemptions()[0].GetJob() != "low" {
			t.Errorf("planned: %v, %v", groups, err)
		}
		eval := c.register(newJob("high", 1, 2000, priority(70)))
		pass(time.Second)
		c.wantRunning("high", 0)
		if n := len(c.allocs("high")); n != 0 {
			t.Fatalf("placed before its place was free:\n%s", c.words("high"))
		}
		victims := c.evicted("low")
		if len(victims) != 2 || victims[0].GetPreemptedBy() != "default/high/g" || !strings.Contains(victims[0].GetDesiredReason(), "default/high/g (priority 70)") {
			t.Fatalf("victims:\n%s", c.words("low"))
		}
		e := c.wantEval(eval, berthv1.Evaluation_blocked)
		if !strings.Contains(e.GetStatusReason(), "wait for 2 allocations to end") || len(e.GetGroups()[0].GetPreemptions()) != 2 {
			t.Errorf("evaluation: %v", e)
		}
		// Looked at again and again, it takes nobody else.
		for range 5 {
			c.evaluate("high")
			pass(100 * time.Millisecond)
		}
		if n := len(c.evicted("low")); n != 2 {
			t.Fatalf("%d victims after more looks:\n%s", n, c.words("low"))
		}
		// One has ended: what it freed is not given away.
		c.report(berthv1.Alloc_complete, victims[0].GetId())
		c.register(newJob("late", 1, 1000, priority(20)))
		pass(time.Second)
		if len(c.allocs("late")) != 0 || len(c.allocs("high")) != 0 {
			t.Fatalf("given away:\n%s%s", c.words("late"), c.words("high"))
		}
		c.report(berthv1.Alloc_complete, victims[1].GetId())
		c.settle(2 * time.Second)
		c.wantRunning("high", 1)
		c.wantRunning("low", 2)
		c.wantEval(c.store.View().Evaluation(eval).GetId(), berthv1.Evaluation_superseded)
		if len(c.loop.claims) != 0 {
			t.Errorf("claims are left: %v", c.loop.claims)
		}
		// Its end gives the others their places back: the older first.
		c.stop("high", false)
		c.settle(2 * time.Second)
		c.wantRunning("low", 4)
		c.wantRunning("late", 0)
	})
}

func TestPreemptionIsLeftOut(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 4000, 4000)
		c.register(newJob("low", 4, 1000, priority(20), func(j *berthv1.Job) {
			j.Groups[0].Disruption = &berthv1.Disruption{MaxUnavailable: "25%"}
		}))
		c.settle(time.Second)
		no := false
		c.register(newJob("meek", 1, 1000, priority(70), func(j *berthv1.Job) { j.Preempt = &no }))
		c.register(newJob("same", 1, 1000, priority(20)))
		c.register(newJob("big", 1, 2000, priority(70)))
		c.settle(time.Second)
		if n := len(c.evicted("low")); n != 0 {
			t.Fatalf("%d victims, though the budget is one at a time:\n%s", n, c.words("low"))
		}
		c.stop("meek", false)
		c.stop("same", false)
		c.stop("big", false)
		c.register(newJob("small", 1, 1000, priority(70)))
		c.settle(2 * time.Second)
		c.wantRunning("small", 1)
		c.wantRunning("low", 3)
		c.register(newJob("next", 1, 1000, priority(70)))
		c.settle(2 * time.Second)
		c.wantRunning("next", 0)
		if n := len(c.evicted("low")); n != 1 {
			t.Fatalf("the budget was overdrawn:\n%s", c.words("low"))
		}
		// The missing one comes back, so another may go. It may not use the new node.
		c.register(newJob("next", 1, 1000, priority(70), func(j *berthv1.Job) {
			j.Constraints = []*berthv1.Constraint{{Attribute: "node.name", Value: "n1"}}
		}))
		c.node("n2", 1000, 4000)
		c.settle(2 * time.Second)
		c.wantRunning("next", 1)
		if n := len(c.evicted("low")); n != 2 {
			t.Fatalf("victims:\n%s", c.words("low"))
		}
	})
}

func TestDisruptionBudgetChangesInPlace(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 4000, 4000)
		c.register(newJob("low", 2, 1000, priority(20)))
		c.settle(time.Second)
		c.register(newJob("low", 2, 1000, priority(20), func(j *berthv1.Job) {
			j.Groups[0].Disruption = &berthv1.Disruption{MaxUnavailable: "0"}
			j.Groups[0].Tolerations = []*berthv1.Toleration{{Key: "k", Operator: "exists"}}
		}))
		c.settle(time.Second)
		if all := c.allocs("low"); len(all) != 2 || all[0].GetJobVersion() != 2 || !all[0].Wanted() {
			t.Fatalf("replaced:\n%s", c.words("low"))
		}
		c.register(newJob("high", 1, 4000, priority(70)))
		c.settle(time.Second)
		if n := len(c.evicted("low")); n != 0 {
			t.Errorf("%d taken away, none may be", n)
		}
	})
}

func TestPreemptionIsConfigured(t *testing.T) {
	leads(t, func(c *cluster) {
		set := func(off bool) {
			c.must(&berthv1.LogEntry{Fact: &berthv1.LogEntry_SchedulerConfigSet{SchedulerConfigSet: &berthv1.SchedulerConfig{NoPreemption: off}}})
		}
		set(true)
		c.node("n1", 4000, 4000)
		c.register(newJob("low", 4, 1000, priority(20)))
		c.settle(time.Second)
		c.register(newJob("high", 1, 1000, priority(70)))
		c.settle(time.Second)
		c.wantRunning("low", 4)
		set(false)
		c.settle(time.Second)
		c.wantRunning("high", 1)
		c.wantRunning("low", 3)
	})
}

func TestGangTakesItsPlacesTogether(t *testing.T) {
	leads(t, func(c *cluster) {
		for i := range 3 {
			c.node(fmt.Sprint("n", i), 4000, 4000)
		}
		c.register(newJob("top", 1, 3000, priority(90)))
		c.settle(time.Second) // or it has to make two of the others give way
		c.register(newJob("low", 9, 1000, priority(20)))
		c.settle(time.Second)
		gang := func(n uint32) *berthv1.Job {
			return newJob("gang", n, 4000, priority(70), func(j *berthv1.Job) { j.Groups[0].Gang = true })
		}
		c.register(gang(3))
		c.settle(2 * time.Second)
		if len(c.evicted("low")) != 0 || len(c.allocs("gang")) != 0 {
			t.Fatalf("a gang that cannot be whole took places:\n%s%s", c.words("low"), c.words("gang"))
		}
		c.register(gang(2))
		pass(time.Second)
		victims := c.evicted("low")
		if len(victims) != 8 || len(c.allocs("gang")) != 0 {
			t.Fatalf("victims:\n%s%s", c.words("low"), c.words("gang"))
		}
		c.report(berthv1.Alloc_complete, victims[0].GetId())
		pass(time.Second)
		c.register(newJob("small", 1, 100, priority(20)))
		c.settle(3 * time.Second)
		c.wantRunning("gang", 2)
		c.wantRunning("top", 1)
		if n := len(c.evicted("low")); n != 8 {
			t.Fatalf("%d victims:\n%s", n, c.words("low"))
		}
	})
}

func TestGangOverGroups(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 4000, 4000)
		two := func(milli uint32) *berthv1.Job {
			return newJob("pair", 2, milli, func(j *berthv1.Job) {
				other := proto.Clone(j.Groups[0]).(*berthv1.Group)
				other.Name = "h"
				j.Gang, j.Groups = true, append(j.Groups, other)
			})
		}
		eval := c.register(two(1500))
		c.settle(time.Second)
		if n := len(c.allocs("pair")); n != 0 {
			t.Fatalf("a part of a gang was placed:\n%s", c.words("pair"))
		}
		e := c.wantEval(eval, berthv1.Evaluation_blocked)
		if e.GetGroups()[0].GetExplanation() == nil || e.GetGroups()[1].GetExplanation() == nil || e.GetGroups()[0].GetPlaced() != 0 {
			t.Errorf("%v", e.GetGroups())
		}
		c.node("n2", 4000, 4000)
		c.settle(time.Second)
		c.wantRunning("pair", 4)
		c.wantEval(eval, berthv1.Evaluation_complete)
	})
}

func TestSystemJobTakesItsPlaces(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 4000, 4000)
		c.node("n2", 4000, 4000)
		c.register(newJob("low", 8, 1000, priority(20)))
		c.settle(time.Second)
		c.register(newJob("sys", 1, 1000, priority(70), func(j *berthv1.Job) { j.Type = berthv1.Job_system }))
		c.settle(2 * time.Second)
		c.wantRunning("sys", 2)
		c.wantRunning("low", 6)
		if n := len(c.evicted("low")); n != 2 {
			t.Errorf("%d victims", n)
		}
	})
}

// A leader may be lost after any entry: the next one goes on, with the same victims.
func TestPreemptionSurvivesItsLeader(t *testing.T) {
	for after := range 12 {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t)
			stop := c.lead()
			defer func() { stop() }()
			for i := range 2 {
				c.node(fmt.Sprint("n", i), 4000, 4000)
			}
			c.register(newJob("low", 8, 1000, priority(20)))
			c.settle(time.Second)
			c.register(newJob("high", 2, 3000, priority(70)))
			c.register(newJob("thief", 8, 500, priority(20)))
			changed := false
			for step := range 40 {
				if step == after {
					stop()
					stop, changed = c.lead(), true
				}
				pass(10 * time.Millisecond)
				if victims := c.evicted("low"); step%3 == 2 && len(victims) > 0 {
					for _, v := range victims { // they end one by one
						if !v.Ended() {
							c.report(berthv1.Alloc_complete, v.GetId())
							break
						}
					}
				}
				for _, a := range c.allocs("thief") {
					if high := len(c.allocs("high")); high < 2 && len(c.evicted("low")) >= 6 {
						t.Fatalf("after %d: %s was placed before high:\n%s", after, a.Name(), c.words("high"))
					}
				}
			}
			c.settle(2 * time.Second)
			c.wantRunning("high", 2)
			if n := len(c.evicted("low")); n > 8 || n < 6 || !changed {
				t.Errorf("after %d: %d victims\n%s", after, n, c.words("low"))
			}
			byHigh := 0
			for _, a := range c.evicted("low") {
				if a.GetPreemptedBy() == "default/high/g" {
					byHigh++
				}
			}
			if byHigh != 6 {
				t.Errorf("after %d: %d victims of high, 6 are enough\n%s", after, byHigh, c.words("low"))
			}
		})
	}
}

// What has nothing to do with a job that waits causes no look at it.
func TestUnrelatedChangesCauseNoLooks(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 4000, 4000)
		c.node("gpu", 4000, 4000, func(n *berthv1.Node) { n.Pool = "gpus" })
		c.register(newJob("full", 4, 1000))
		c.register(newJob("gpus", 8, 500, func(j *berthv1.Job) { j.NodePool = "gpus" }))
		c.settle(time.Second)
		for i := range 20 {
			c.register(newJob(fmt.Sprint("waits", i), 1, 4000))
		}
		c.settle(time.Second)
		before := c.loop.Stats()
		if before.Blocked != 20 {
			t.Fatalf("%d jobs wait", before.Blocked)
		}
		for i, a := range c.allocs("gpus") { // frees on a node that they may not use
			if i < 4 {
				c.report(berthv1.Alloc_complete, a.GetId())
			}
		}
		c.report(berthv1.Alloc_complete, c.allocs("full")[0].GetId()) // too little for any
		pass(time.Minute)
		looks := int(c.loop.Stats().Looks - before.Looks)
		if looks > 10 { // of the jobs whose instances ended, and their replacements
			t.Errorf("%d looks", looks)
		}
		before = c.loop.Stats()
		c.node("gpu", 4000, 4000, func(n *berthv1.Node) { n.Pool, n.Meta = "gpus", map[string]string{"a": "b"} })
		pass(10 * time.Minute)
		if now := c.loop.Stats(); now.Looks != before.Looks {
			t.Errorf("%d looks for a node that does not do", now.Looks-before.Looks)
		}
		// Room for one wakes one.
		before = c.loop.Stats()
		c.node("n2", 4000, 4000)
		pass(time.Second)
		if now := c.loop.Stats(); now.Looks-before.Looks > 2 || now.Blocked != 19 {
			t.Errorf("%d looks, %d wait", now.Looks-before.Looks, now.Blocked)
		}
		if len(c.allocs("waits0")) != 1 {
			t.Errorf("not the oldest was placed")
		}
	})
}

// The first in the queue is who has the highest priority, then who has waited longest.
func TestQueueIsInOrder(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 1000, 4000)
		no := false
		c.register(newJob("full", 1, 1000, priority(99)))
		c.settle(time.Second)
		for _, name := range []string{"c50", "a50", "b90", "d10"} {
			var p uint32
			_, _ = fmt.Sscanf(name[1:], "%d", &p)
			c.register(newJob(name, 1, 1000, priority(p), func(j *berthv1.Job) { j.Preempt = &no }))
			pass(100 * time.Millisecond)
		}
		last := "full"
		for _, want := range []string{"b90", "c50", "a50", "d10"} {
			c.stop(last, false)
			c.settle(time.Second)
			c.wantRunning(want, 1)
			last = want
		}
	})
}

// After whatever happens, nothing waits that would fit.
func TestNobodyIsLeftBehind(t *testing.T) {
	seeds := uint64(3)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) { crowded(t, rand.New(rand.NewPCG(seed, 7))) })
	}
}

func crowded(t *testing.T, r *rand.Rand) {
	c := newCluster(t)
	stop := c.lead()
	defer func() { stop() }()
	for i := range 4 {
		c.node(fmt.Sprint("n", i), 4000, 4000)
	}
	for range 120 {
		name := fmt.Sprint("job", r.IntN(10))
		switch r.IntN(8) {
		case 0, 1, 2:
			c.register(newJob(name, uint32(1+r.IntN(5)), uint32(500*(1+r.IntN(6))), priority(uint32(10*(1+r.IntN(4)))), func(j *berthv1.Job) {
				j.Groups[0].Gang = r.IntN(4) == 0
				if r.IntN(3) == 0 {
					j.Groups[0].Disruption = &berthv1.Disruption{MaxUnavailable: fmt.Sprint(r.IntN(3))}
				}
				if r.IntN(4) == 0 {
					j.Groups[0].Constraints = []*berthv1.Constraint{{Operator: "distinct_hosts"}}
				}
				if no := false; r.IntN(4) == 0 {
					j.Preempt = &no
				}
			}))
		case 3:
			if c.job(name) != nil {
				c.stop(name, false)
			}
		case 4:
			c.setNode(fmt.Sprint("n", r.IntN(4)), berthv1.Node_down)
		case 5:
			c.node(fmt.Sprint("n", r.IntN(4)), 4000, 4000, func(n *berthv1.Node) { n.Meta = map[string]string{"a": fmt.Sprint(r.IntN(3))} })
		case 6:
			for a := range c.store.View().Allocs("") {
				if a.GetStatus() == berthv1.Alloc_running && r.IntN(6) == 0 {
					c.report(berthv1.Alloc_complete, a.GetId())
				}
			}
		case 7:
			if r.IntN(4) == 0 {
				stop()
				stop = c.lead()
			}
		}
		c.settle(time.Duration(r.IntN(500)) * time.Millisecond)
		if r.IntN(4) == 0 {
			c.settle(3 * time.Second)
			requireNobodyLeft(t, c)
		}
	}
	c.settle(5 * time.Second)
	requireNobodyLeft(t, c)
	if c.refused != 0 {
		t.Errorf("%d placements refused", c.refused)
	}
}

// requireNobodyLeft plans each job that waits anew: nothing of it may fit, nor may
// anybody have to give way who was not told so.
func requireNobodyLeft(t *testing.T, c *cluster) {
	t.Helper()
	pass(time.Second)
	for c.agents() { // until nothing is on its way or ending
		pass(time.Second)
	}
	view := c.store.View()
	for j := range view.Jobs("", "") {
		if j.GetStopped() {
			continue
		}
		blocked := slices.ContainsFunc(slices.Collect(view.EvaluationsByJob("default", j.GetName())),
			func(e *berthv1.Evaluation) bool { return e.GetStatus() == berthv1.Evaluation_blocked })
		if !blocked {
			continue
		}
		groups, err := DryRun(view, j, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if g := groups[0]; g.GetPlaced() > 0 || len(g.GetPreemptions()) > 0 {
			t.Fatalf("%s waits, and %d of %d would fit, %v giving way\n%s%s", j.GetName(), g.GetPlaced(), g.GetWanted(), g.GetPreemptions(),
				c.words(j.GetName()), everything(view.Allocs("")))
		}
	}
	for _, err := range fsm.Audit(view) {
		t.Fatal(err)
	}
}

func everything(allocs func(func(*berthv1.Alloc) bool)) string {
	var b strings.Builder
	for a := range allocs {
		if !a.Ended() {
			fmt.Fprintf(&b, "%s on %s: %s, %s, %d milli\n", a.Name(), a.GetNodeName(), a.GetDesired(), a.GetStatus(),
				scheduler.HolderOf(a, 0).Milli())
		}
	}
	return b.String()
}

// A gang that takes several entries is there whole or not at all, whatever is lost.
func TestLargeGangIsWrittenWhole(t *testing.T) {
	const size = 1200
	for _, lost := range []string{"nothing", "an entry", "the leader"} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t)
			stop := c.lead()
			defer func() { stop() }()
			c.node("n1", 64_000, 1<<20)
			c.settle(time.Second)
			var parts atomic.Int64
			c.mu.Lock()
			c.fail = func(e *berthv1.LogEntry) error {
				if e.GetPlan().GetGang() != "" && parts.Add(1) == 2 && lost != "nothing" {
					return errors.New("lost")
				}
				return nil
			}
			c.mu.Unlock()
			c.register(newJob("gang", size, 10, func(j *berthv1.Job) {
				g := j.Groups[0]
				g.Gang = true
				for i := range 8 { // every instance has a grant of its own
					g.Network = &berthv1.Network{Ports: append(g.GetNetwork().GetPorts(), &berthv1.Port{Name: fmt.Sprint("port-", i)})}
				}
			}))
			for range 30 {
				pass(10 * time.Millisecond)
				if n := len(c.allocs("gang")); n != 0 && n != size {
					t.Fatalf("%s lost: %d of a gang of %d are there", lost, n, size)
				}
				if lost == "the leader" && parts.Load() == 2 {
					stop()
					stop = c.lead()
				}
			}
			c.settle(3 * time.Second)
			c.wantRunning("gang", size)
			for g := range c.store.View().StagedGangs() {
				t.Errorf("%s is staged still", g.GetGang())
			}
			if n := parts.Load(); n < 2 {
				t.Errorf("%d parts: the test needs several", n)
			}
		})
	}
}
