package plan

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func stateful(order string, amend ...func(*berthv1.Group)) func(*berthv1.Job) {
	return func(j *berthv1.Job) {
		j.Groups[0].Stateful = &berthv1.Stateful{Order: order}
		for _, a := range amend {
			a(j.Groups[0])
		}
	}
}

func sticky(g *berthv1.Group) { g.Stateful.StickyDisk = true }

func stopAfter(d time.Duration) func(*berthv1.Group) {
	return func(g *berthv1.Group) { g.OnDisconnect = &berthv1.DisconnectPolicy{StopAfter: durationpb.New(d)} }
}

// watchOrdinals settles, and fails when two of one index may run at a time: all that have
// not ended by their agent's word count.
func (c *cluster) watchOrdinals(name string, d time.Duration) {
	c.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		holder := map[uint32]string{}
		for _, a := range c.allocs(name) {
			if a.Ended() {
				continue
			}
			if holder[a.GetIndex()] != "" {
				c.t.Fatalf("two of one index:\n%s", c.words(name))
			}
			holder[a.GetIndex()] = a.GetId()
		}
		c.agents()
	}
}

func TestAStatefulGroupLives(t *testing.T) {
	for _, order := range []string{"ordered", "parallel"} {
		t.Run(order, func(t *testing.T) {
			leads(t, func(c *cluster) {
				for _, n := range []string{"n1", "n2", "n3"} {
					c.node(n, 4000, 4000)
				}
				c.register(newJob("db", 3, 1000, stateful(order, sticky)))
				c.watchOrdinals("db", 2*time.Second)
				c.wantRunning("db", 3)
				first := c.allocs("db")
				c.register(newJob("db", 3, 1100, stateful(order, sticky)))
				c.watchOrdinals("db", 5*time.Second)
				c.wantRunning("db", 3)
				for _, a := range c.allocs("db") {
					if a.Wanted() && (a.GetPreviousAlloc() != first[a.GetIndex()].GetId() || a.GetNodeId() != first[a.GetIndex()].GetNodeId()) {
						t.Errorf("%s does not follow where its disk is:\n%s", a.Name(), c.words("db"))
					}
				}
				c.drain("n1", 0)
				c.watchOrdinals("db", 5*time.Second)
				c.wantRunning("db", 3)
				c.wantDrained("n1", true)
				c.register(newJob("db", 1, 1100, stateful(order, sticky)))
				c.watchOrdinals("db", 2*time.Second)
				c.wantRunning("db", 1)
				c.stop("db", false)
				c.watchOrdinals("db", 2*time.Second)
				c.wantStatus("db", berthv1.Job_dead)
			})
		})
	}
}

// What could not be placed anew is not stopped, and says so.
func TestAStatefulInstanceWithoutAnotherPlaceGoesOn(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 1000, 4000)
		c.node("n2", 500, 4000)
		c.register(newJob("db", 1, 1000, stateful("ordered")))
		c.watchOrdinals("db", time.Second)
		c.drain("n1", 0)
		c.watchOrdinals("db", 2*time.Second)
		c.wantRunning("db", 1)
		c.wantDrained("n1", false)
		c.wantExplained("db")
		c.node("n3", 1000, 4000)
		c.watchOrdinals("db", 2*time.Second)
		c.wantRunning("db", 1)
		c.wantDrained("n1", true)
	})
}

// wantExplained says that the job waits, and why.
func (c *cluster) wantExplained(name string) {
	c.t.Helper()
	for e := range c.store.View().EvaluationsByJob("default", name) {
		if e.GetStatus() == berthv1.Evaluation_blocked && e.GetGroups()[0].GetExplanation() != nil {
			return
		}
	}
	c.t.Fatalf("nobody says why %s waits", name)
}

func TestAStatefulInstanceWaitsForItsLostNode(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 1000, 4000)
		c.register(newJob("db", 1, 1000, stateful("ordered")))
		c.watchOrdinals("db", time.Second)
		c.node("n2", 1000, 4000)
		c.setNode("n1", berthv1.Node_down)
		c.watchOrdinals("db", time.Hour)
		c.wantExplained("db")
		c.setNode("n1", berthv1.Node_ready) // it goes on where it was
		c.watchOrdinals("db", time.Second)
		c.wantRunning("db", 1)
		if n := len(c.allocs("db")); n != 1 {
			t.Fatal(c.words("db"))
		}
		c.setNode("n1", berthv1.Node_down)
		c.settle(time.Second)
		c.changeNode("n1", &berthv1.NodesChanged{Remove: true}) // an operator's word
		c.settle(time.Second)
		c.wantRunning("db", 1)
		if c.on("n2", "db") != 1 {
			t.Fatal(c.words("db"))
		}
	})
}

func TestAStatefulInstanceIsReplacedWhenItsAgentHasStoppedIt(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 1000, 4000)
		c.register(newJob("db", 1, 1000, stateful("ordered", stopAfter(time.Minute))))
		c.settle(time.Second)
		c.node("n2", 1000, 4000)
		c.setNode("n1", berthv1.Node_down)
		c.settle(time.Minute + 34*time.Second)
		if n := len(c.allocs("db")); n != 1 {
			t.Fatalf("too early:\n%s", c.words("db"))
		}
		c.settle(2 * time.Second)
		c.wantRunning("db", 1)
		if c.on("n2", "db") != 1 {
			t.Fatal(c.words("db"))
		}
		c.setNode("n1", berthv1.Node_ready)
		c.settle(time.Second)
		if got := fmt.Sprint(c.on("n1", "db"), c.running("db")); got != "0 1" {
			t.Fatal(got, c.words("db"))
		}
	})
}

// What is not collected: a lost instance that may still run, and its node.
func TestALostStatefulInstanceIsNotForgotten(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 1000, 4000)
		c.register(newJob("db", 1, 1000, stateful("ordered")))
		c.settle(time.Second)
		c.setNode("n1", berthv1.Node_down)
		c.settle(time.Second)
		c.must(&berthv1.LogEntry{Fact: &berthv1.LogEntry_Plan{Plan: &berthv1.Plan{Changes: []*berthv1.AllocChange{
			{AllocId: c.allocs("db")[0].GetId(), Desired: berthv1.Alloc_stop.Enum()}}}}})
		c.node("n2", 1000, 4000)
		time.Sleep(50 * time.Hour)
		c.settle(time.Second)
		if c.store.View().Node(nodeID("n1")) == nil || len(c.allocs("db")) != 1 {
			t.Fatalf("%v\n%s", c.store.View().Node(nodeID("n1")), c.words("db"))
		}
	})
}
