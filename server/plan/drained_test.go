package plan

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// drain begins a drain; deadline 0: without end.
func (c *cluster) drain(name string, deadline time.Duration, amend ...func(*berthv1.Drain)) {
	d := &berthv1.Drain{StartTime: timestamppb.Now()}
	if deadline != 0 {
		d.Deadline = timestamppb.New(time.Now().Add(deadline))
	}
	for _, a := range amend {
		a(d)
	}
	c.changeNode(name, &berthv1.NodesChanged{Drain: d})
}

func (c *cluster) changeNode(name string, change *berthv1.NodesChanged) {
	change.NodeIds = []string{nodeID(name)}
	c.must(&berthv1.LogEntry{Fact: &berthv1.LogEntry_NodesChanged{NodesChanged: change}})
}

// on counts a job's allocations on a node that are not over.
func (c *cluster) on(node, job string) (n int) {
	for _, a := range c.allocs(job) {
		if a.GetNodeId() == nodeID(node) && !a.Terminal() {
			n++
		}
	}
	return n
}

func (c *cluster) wantDrained(name string, done bool) {
	c.t.Helper()
	n := c.store.View().Node(nodeID(name))
	if is := n.GetDrain().GetDoneTime() != nil; is != done || n.GetEligibility() != berthv1.Node_ineligible {
		left := ""
		for a := range c.store.View().AllocsByNode(n.GetId()) {
			left += fmt.Sprintf("\n%s %s: %s, %s", a.Name(), a.GetId(), a.GetDesired(), a.GetStatus())
		}
		c.t.Fatalf("%s: drained %t, want %t: %v%s", name, is, done, n.GetDrain(), left)
	}
}

func system(j *berthv1.Job) { j.Type = berthv1.Job_system }
func toEnd(j *berthv1.Job)  { j.Type = berthv1.Job_batch }

func TestADrainEmptiesANodeWithinTheBudget(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 8000, 8000)
		c.node("n2", 1000, 8000)
		c.register(newJob("logs", 1, 100, system))
		c.settle(time.Second)
		c.register(newJob("web", 6, 1000, onNode("n1"), bounded1))
		c.settle(time.Second)
		c.register(newJob("web", 6, 1000, bounded1)) // in place: it may go elsewhere
		c.settle(time.Second)
		c.node("n3", 8000, 8000)
		c.settle(time.Second)
		c.wantRunning("logs", 3)
		c.drain("n1", 0)
		for c.on("n1", "web") > 0 {
			time.Sleep(20 * time.Millisecond)
			synctest.Wait()
			if n := c.running("web"); n < 5 {
				t.Fatalf("%d run, and one may be missing:\n%s", n, c.words("web"))
			}
			if c.on("n1", "logs") == 0 {
				t.Fatal("the system job went before the others")
			}
			c.agents()
		}
		c.settle(time.Second)
		c.wantRunning("web", 6)
		c.wantRunning("logs", 2)
		c.wantDrained("n1", true)
		if !strings.Contains(c.words("web"), "(its node is drained)") {
			t.Error(c.words("web"))
		}
		c.changeNode("n1", &berthv1.NodesChanged{Eligibility: berthv1.Node_eligible.Enum()})
		c.settle(time.Second)
		c.wantRunning("logs", 3)
		if c.store.View().Node(nodeID("n1")).GetDrain() != nil {
			t.Error("the drain is there after its end")
		}
	})
}

func TestWhatFitsNowhereElseStaysUntilTheDeadline(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 2000, 8000)
		c.node("n2", 1000, 8000)
		c.register(newJob("web", 2, 1000))
		c.settle(time.Second)
		c.register(newJob("small", 1, 1000)) // fits nowhere
		c.settle(time.Second)
		c.drain("n1", time.Minute)
		c.settle(2 * time.Second)
		c.wantRunning("web", 2)
		c.wantDrained("n1", false)
		var waits *berthv1.Evaluation
		for e := range c.store.View().EvaluationsByJob("default", "web") {
			if e.GetStatus() == berthv1.Evaluation_blocked {
				waits = e
			}
		}
		if waits.GetGroups()[0].GetExplanation() == nil {
			t.Fatalf("nobody says why it stays: %v", waits)
		}
		c.settle(time.Minute)
		c.wantDrained("n1", true)
		if n := c.on("n1", "web"); n != 0 || c.running("web")+c.running("small") != 1 {
			t.Fatalf("%d on n1 after the deadline\n%s", n, c.words("web"))
		}
		c.changeNode("n1", &berthv1.NodesChanged{EndDrain: true, Eligibility: berthv1.Node_eligible.Enum()})
		c.settle(time.Second)
		c.wantRunning("web", 2)
	})
}

// A batch job is waited for; a drain that is ended leaves the rest where it is.
func TestADrainWaitsForBatchJobsAndCanBeEnded(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 2000, 8000)
		c.register(newJob("sum", 1, 1000, toEnd))
		c.register(newJob("web", 1, 1000))
		c.settle(time.Second)
		c.node("n2", 2000, 8000)
		c.drain("n1", 0)
		c.settle(time.Second)
		if c.on("n1", "sum") != 1 || c.on("n1", "web") != 0 {
			t.Fatal(c.words("sum"), c.words("web"))
		}
		c.wantDrained("n1", false)
		c.changeNode("n1", &berthv1.NodesChanged{EndDrain: true})
		c.settle(time.Second)
		c.drain("n1", 0, func(d *berthv1.Drain) { d.IgnoreSystem = true })
		c.report(berthv1.Alloc_complete, c.allocs("sum")[0].GetId())
		c.settle(time.Second)
		c.wantDrained("n1", true)
		c.wantStatus("sum", berthv1.Job_dead)
	})
}

// A quota leaves no room beside what is moved: it is stopped first.
func TestADrainWithinAQuotaStopsFirst(t *testing.T) {
	leads(t, func(c *cluster) {
		c.must(&berthv1.LogEntry{Fact: &berthv1.LogEntry_NamespaceSet{NamespaceSet: &berthv1.Namespace{
			Name: "default", Quota: &berthv1.Quota{CpuMilli: 2000}}}})
		c.node("n1", 2000, 8000)
		c.register(newJob("web", 2, 1000))
		c.settle(time.Second)
		c.node("n2", 2000, 8000)
		c.drain("n1", 0)
		c.settle(5 * time.Second)
		c.wantRunning("web", 2)
		c.wantDrained("n1", true)
	})
}

// A new leader goes on with a drain, and a log that fails does not lose its end.
func TestADrainOutlivesItsLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		stop := c.lead()
		c.node("n1", 2000, 8000)
		c.register(newJob("web", 2, 1000, bounded1))
		c.settle(time.Second)
		c.node("n2", 2000, 8000)
		c.drain("n1", 0)
		c.settle(20 * time.Millisecond)
		stop()
		failed := 0
		c.fail = func(e *berthv1.LogEntry) error {
			if e.GetNodesChanged() != nil && failed < 3 {
				failed++
				return errors.New("lost")
			}
			return nil
		}
		defer c.lead()()
		c.settle(5 * time.Second)
		c.wantRunning("web", 2)
		c.wantDrained("n1", true)
		if failed != 3 {
			t.Errorf("the log failed %d times", failed)
		}
	})
}
