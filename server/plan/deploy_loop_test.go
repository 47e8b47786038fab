package plan

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// rolling makes a job with an update strategy; what it runs is env.
func rollingJob(name string, count uint32, env string, amend ...func(*berthv1.UpdateStrategy)) *berthv1.Job {
	return newJob(name, count, 100, func(j *berthv1.Job) {
		u := &berthv1.UpdateStrategy{MaxParallel: "1", Health: "checks", ProgressDeadline: durationpb.New(time.Minute), AutoRevert: true}
		for _, a := range amend {
			a(u)
		}
		j.Groups[0].Update, j.Groups[0].Tasks[0].Env = u, map[string]string{"E": env}
	})
}

// doctors does what agents do about health: what runs is healthy, unless it is broken.
func (c *cluster) doctors() {
	f := &berthv1.AllocsReported{}
	view := c.store.View()
	for a := range view.Allocs("") {
		group := view.JobVersion(a.GetNamespace(), a.GetJob(), a.GetJobVersion()).GroupNamed(a.GetGroup())
		if a.GetStatus() != berthv1.Alloc_running || a.GetHealth() == berthv1.Alloc_healthy || group.GetUpdate() == nil || group.GetTasks()[0].GetEnv()["E"] == "broken" {
			continue
		}
		f.Updates = append(f.Updates, &berthv1.AllocStatusUpdate{AllocId: a.GetId(), Status: a.GetStatus(), Health: berthv1.Alloc_healthy, HealthVersion: a.GetJobVersion()})
	}
	if len(f.Updates) > 0 {
		c.must(&berthv1.LogEntry{Fact: &berthv1.LogEntry_AllocsReported{AllocsReported: f}})
	}
}

// roll lets the loop, agents and doctors do what they will for so long, and gives how many
// instances were healthy at least. It looks less often when it has looked for long.
func (c *cluster) roll(name string, d time.Duration) (least int) {
	least = 1 << 30
	begun := time.Now()
	for time.Since(begun) < d {
		time.Sleep(max(50*time.Millisecond, min(time.Second, time.Since(begun)/50)))
		synctest.Wait()
		least = min(least, c.healthy(name))
		c.agents()
		c.doctors()
	}
	synctest.Wait()
	return least
}

func (c *cluster) healthy(name string) (n int) {
	for _, a := range c.allocs(name) {
		if a.Wanted() && isHealthy(a) && !a.GetCanary() {
			n++
		}
	}
	return n
}

func (c *cluster) deployment(name string, version uint64) *berthv1.Deployment {
	return c.store.View().DeploymentOf("default", name, version)
}

func (c *cluster) wantDeployment(name string, version uint64, status berthv1.Deployment_Status) {
	c.t.Helper()
	if d := c.deployment(name, version); d.GetStatus() != status || d == nil {
		c.t.Fatalf("the roll-out of version %d of %s is %v, want %s:\n%s", version, name, d, status, c.words(name))
	}
}

func (c *cluster) operate(name string, version uint64, action berthv1.DeploymentAction) {
	c.t.Helper()
	c.must(&berthv1.LogEntry{Fact: &berthv1.LogEntry_DeploymentChanged{DeploymentChanged: &berthv1.DeploymentChanged{
		DeploymentId: c.deployment(name, version).GetId(), Action: action}}})
}

func TestRolledOutAndBack(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 8000, 8000)
		c.node("n2", 8000, 8000)
		c.register(rollingJob("web", 4, "a"))
		c.roll("web", 2*time.Second)
		c.wantDeployment("web", 1, berthv1.Deployment_successful)
		if !c.job("web").GetStable() {
			t.Error("version 1 is not stable")
		}
		c.register(rollingJob("web", 4, "b"))
		if least := c.roll("web", 5*time.Second); least < 3 {
			t.Errorf("only %d were healthy at a time", least)
		}
		c.wantDeployment("web", 2, berthv1.Deployment_successful)
		c.register(rollingJob("web", 4, "broken"))
		if least := c.roll("web", 50*time.Second); least != 3 {
			t.Errorf("%d were healthy at least, want 3", least)
		}
		c.wantDeployment("web", 3, berthv1.Deployment_running)
		c.roll("web", 15*time.Second)
		c.wantDeployment("web", 3, berthv1.Deployment_failed)
		c.wantDeployment("web", 4, berthv1.Deployment_successful)
		if j := c.job("web"); j.GetRevertedTo() != 2 || j.GetGroups()[0].GetTasks()[0].GetEnv()["E"] != "b" || c.healthy("web") != 4 {
			t.Errorf("it went back to %v:\n%s", j, c.words("web"))
		}
		before := c.entries
		c.roll("web", 5*time.Minute)
		if c.entries != before {
			t.Errorf("%d entries while nothing happened", c.entries-before)
		}
		if c.refused != 0 {
			t.Errorf("%d placements refused", c.refused)
		}
	})
}

func TestCanaryThroughTheLoop(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 8000, 8000)
		canary := func(u *berthv1.UpdateStrategy) { u.Canary, u.MaxParallel = "2", "2" }
		c.register(rollingJob("web", 4, "a", canary))
		c.roll("web", 2*time.Second)
		c.register(rollingJob("web", 4, "b", canary))
		c.roll("web", 2*time.Hour)
		c.wantDeployment("web", 2, berthv1.Deployment_running)
		if n, all := c.healthy("web"), c.running("web"); n != 4 || all != 6 {
			t.Fatalf("%d healthy, %d run:\n%s", n, all, c.words("web"))
		}
		c.operate("web", 2, berthv1.DeploymentAction_DEPLOYMENT_ACTION_PROMOTE)
		c.roll("web", 2*time.Second)
		c.wantDeployment("web", 2, berthv1.Deployment_successful)
		c.register(rollingJob("web", 4, "broken", canary))
		if least := c.roll("web", 90*time.Second); least != 4 {
			t.Errorf("a broken canary left %d healthy", least)
		}
		c.wantDeployment("web", 3, berthv1.Deployment_failed)
		c.wantDeployment("web", 4, berthv1.Deployment_successful)
		if n := c.running("web"); n != 4 {
			t.Errorf("%d run:\n%s", n, c.words("web"))
		}
	})
}

// Whatever happens to leaders, entries and nodes while versions are rolled out, good and
// broken ones: at the end the job is whole, of one version that works, and at rest.
func TestRolloutsSurviveEverything(t *testing.T) {
	seeds := uint64(8)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { rolloutChurn(t, rand.New(rand.NewPCG(seed, 3))) })
		})
	}
}

func rolloutChurn(t *testing.T, r *rand.Rand) {
	c := newCluster(t)
	stop := c.lead()
	defer func() { stop() }()
	for i := range 3 {
		c.node(fmt.Sprint("n", i), 8000, 8000)
	}
	strategy := func(u *berthv1.UpdateStrategy) {
		u.MaxParallel, u.Canary = fmt.Sprint(1+r.IntN(3)), fmt.Sprint(r.IntN(3))
		u.Promote = []string{"manual", "healthy"}[r.IntN(2)]
		u.AutoRevert = r.IntN(4) > 0
	}
	c.register(rollingJob("web", 5, "v0", strategy))
	c.roll("web", 5*time.Second)
	for step := range 60 {
		version := c.job("web").GetVersion()
		switch r.IntN(10) {
		case 0, 1:
			env := fmt.Sprint("v", step)
			if r.IntN(2) == 0 {
				env = "broken"
			}
			c.register(rollingJob("web", uint32(3+r.IntN(4)), env, strategy))
		case 2:
			stop()
			stop = c.lead()
		case 3:
			c.setNode(fmt.Sprint("n", r.IntN(2)), berthv1.Node_down)
		case 4, 5:
			for i := range 3 {
				c.node(fmt.Sprint("n", i), 8000, 8000)
			}
		case 6:
			if d := c.deployment("web", version); d.Active() {
				_, _ = c.apply(&berthv1.LogEntry{Time: d.GetCreateTime(), Fact: &berthv1.LogEntry_DeploymentChanged{DeploymentChanged: &berthv1.DeploymentChanged{
					DeploymentId: d.GetId(), Action: berthv1.DeploymentAction(1 + r.IntN(4))}}})
			}
		case 7:
			for _, a := range c.allocs("web") {
				if a.GetStatus() == berthv1.Alloc_running && r.IntN(4) == 0 {
					c.report(berthv1.Alloc_failed, a.GetId())
				}
			}
		case 8:
			lossy, n := r.IntN(2) == 0, atomic.Int64{}
			c.mu.Lock()
			c.fail = func(*berthv1.LogEntry) error {
				if lossy && n.Add(1)%3 == 0 {
					return fmt.Errorf("lost")
				}
				return nil
			}
			c.mu.Unlock()
		}
		c.roll("web", time.Duration(r.IntN(4000))*time.Millisecond)
		requireOneOfEach(t, c)
	}
	c.mu.Lock()
	c.fail = nil
	c.mu.Unlock()
	for i := range 3 {
		c.node(fmt.Sprint("n", i), 8000, 8000)
	}
	c.roll("web", time.Minute)
	c.register(rollingJob("web", 5, "last"))
	c.roll("web", 10*time.Minute)
	c.wantDeployment("web", c.job("web").GetVersion(), berthv1.Deployment_successful)
	if n := c.healthy("web"); n != 5 || c.running("web") != 5 {
		t.Errorf("%d healthy of %d that run:\n%s", n, c.running("web"), c.words("web"))
	}
	before := c.entries
	c.roll("web", time.Minute)
	if c.entries != before {
		t.Errorf("%d entries while nothing happened", c.entries-before)
	}
}

// requireOneOfEach says when two instances that are wanted have one index, but for a canary
// beside an ordinary one and a stand-in for one whose node is away.
func requireOneOfEach(t *testing.T, c *cluster) {
	t.Helper()
	taken := map[string]string{}
	for _, a := range c.allocs("web") {
		if !a.Wanted() || a.Terminal() || a.GetNextAlloc() != "" {
			continue
		}
		place := fmt.Sprint(a.GetIndex(), a.GetCanary())
		if other := taken[place]; other != "" {
			t.Fatalf("%s and %s are both %s:\n%s", other, a.GetId(), place, c.words("web"))
		}
		taken[place] = a.GetId()
	}
}

// What stands in for an instance is spread as if that were gone: a job with one instance on
// each node has one on each after a roll-out, too.
func TestRolledOutOnePerNode(t *testing.T) {
	leads(t, func(c *cluster) {
		for i := range 4 {
			c.node(fmt.Sprintf("n%d", i), 8000, 8000)
		}
		job := func(env string) *berthv1.Job {
			j := rollingJob("web", 4, env)
			j.Groups[0].Spreads = []*berthv1.Spread{{Attribute: "node.id", Weight: 100}}
			return j
		}
		for version, env := range []string{"a", "b", "c"} {
			c.register(job(env))
			c.roll("web", 8*time.Second)
			c.wantDeployment("web", uint64(version)+1, berthv1.Deployment_successful)
			on := map[string]int{}
			for _, a := range c.allocs("web") {
				if a.Wanted() {
					on[a.GetNodeName()]++
				}
			}
			if len(on) != 4 {
				t.Errorf("version %d lies on %v", version+1, on)
			}
		}
	})
}
