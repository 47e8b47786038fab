package virtual

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func (c *cluster) drain(req *berthv1.DrainNodeRequest) {
	c.t.Helper()
	drain := func(ctx context.Context, conn grpc.ClientConnInterface, req *berthv1.DrainNodeRequest) (*berthv1.Node, error) {
		return berthv1.NewNodeServiceClient(conn).DrainNode(ctx, req)
	}
	if _, err := call(c, drain, req); err != nil {
		c.t.Fatalf("draining %s: %v", req.GetNodeId(), err)
	}
}

func (c *cluster) node(name string) *berthv1.Node {
	for n := range c.leader().proc.Store().View().NodesByName(name) {
		return n
	}
	return nil
}

// Drains while servers crash, are cut off and slow: of a group of six never more than one
// is missing, and every drain ends.
func TestDrainsKeepToTheBudgetUnderFaults(t *testing.T) {
	for seed := range seeds(2) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { drains(t, uint64(seed)) })
		})
	}
}

func drains(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 2))
	c := newCluster(t, 3, 4)
	defer c.close()
	k := newChecker(c)
	web := service("web", 6)
	web.Groups[0].Disruption = &berthv1.Disruption{MaxUnavailable: "1"}
	c.register(web)
	db := service("db", 3)
	db.Groups[0].Stateful = &berthv1.Stateful{}
	c.register(db)
	c.waitConverged(map[string]int{"web": 6, "db": 3}, 2*time.Minute)
	for range 8 {
		victim := c.agents[rng.IntN(len(c.agents))].name
		c.drain(&berthv1.DrainNodeRequest{NodeId: victim})
		switch s := c.servers[rng.IntN(len(c.servers))]; rng.IntN(4) {
		case 0:
			s.crash()
		case 1:
			c.isolate(c.leader().name)
		case 2:
			s.disk.SetDelay(200 * time.Millisecond)
		}
		done := false
		for i := range 300 {
			time.Sleep(time.Second)
			k.check()
			c.budgetHolds("web", 5)
			c.ordinalsOnce("db")
			if i == 20 {
				c.heal()
			}
			if n := c.node(victim); i > 20 && n.GetDrain().GetDoneTime() != nil {
				done = true
				break
			}
		}
		if !done {
			t.Fatalf("%s is not drained after 5 minutes:\n%s", victim, c.describe())
		}
		c.waitConverged(map[string]int{"web": 6, "db": 3}, 5*time.Minute)
		c.drain(&berthv1.DrainNodeRequest{NodeId: victim, Disable: true})
	}
}

// budgetHolds says that enough of a job is wanted and runs.
func (c *cluster) budgetHolds(name string, least int) {
	c.t.Helper()
	running := 0
	for a := range c.leader().proc.Store().View().AllocsByJob("default", name) {
		if a.Wanted() && a.GetStatus() == berthv1.Alloc_running {
			running++
		}
	}
	if running < least {
		c.t.Fatalf("%d of %s run, at least %d must:\n%s", running, name, least, c.describe())
	}
}

// ordinalsOnce says that no two of one index run, on the hosts themselves.
func (c *cluster) ordinalsOnce(name string) {
	c.t.Helper()
	runs := map[uint32]string{}
	for a := range c.anyServer().proc.Store().View().AllocsByJob("default", name) {
		for _, h := range c.agents {
			if !h.host.Has(a.GetId() + "/t") {
				continue
			}
			if other := runs[a.GetIndex()]; other != "" {
				c.t.Fatalf("two of %s run:\n%s on %s and %s\n%s", a.Name(), other, h.name, a.GetId(), c.describe())
			}
			runs[a.GetIndex()] = a.GetId()
		}
	}
}

// hosts says whether a wanted allocation of a job runs on a host.
func (c *cluster) hosts(a *agentHost, name string) bool {
	for al := range c.anyServer().proc.Store().View().AllocsByJob("default", name) {
		if al.Wanted() && a.host.Has(al.GetId()+"/t") {
			return true
		}
	}
	return false
}

// Hosts are cut off, reboot and come back, and servers fail: of a stateful group never two
// of one index run anywhere, whether agents stop them by themselves or the servers wait.
func TestNeverTwoOfOneOrdinal(t *testing.T) {
	for seed := range seeds(2) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { ordinals(t, uint64(seed)) })
		})
	}
}

func ordinals(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 3))
	c := newCluster(t, 3, 4)
	defer c.close()
	fenced, waits := service("fenced", 3), service("waits", 3)
	fenced.Groups[0].Stateful = &berthv1.Stateful{Order: "parallel", StickyDisk: true}
	fenced.Groups[0].OnDisconnect = &berthv1.DisconnectPolicy{StopAfter: durationpb.New(30 * time.Second)}
	waits.Groups[0].Stateful = &berthv1.Stateful{}
	both := map[string]int{"fenced": 3, "waits": 3}
	c.register(fenced)
	c.register(waits)
	c.waitConverged(both, 2*time.Minute)
	watch := func(seconds int) {
		for range seconds {
			time.Sleep(time.Second)
			c.ordinalsOnce("fenced")
			c.ordinalsOnce("waits")
		}
	}
	for range 25 {
		a := c.agents[rng.IntN(len(c.agents))]
		switch rng.IntN(6) {
		case 0, 1:
			a.setCut(true)
		case 2:
			a.crash()
			a.host.Reboot()
			a.start()
		case 3:
			c.isolate(c.servers[rng.IntN(3)].name)
		case 4:
			a.endTask(rng)
		case 5:
			c.heal()
		}
		watch(5 + rng.IntN(120))
	}
	// Chance may have replaced nothing: one that runs is cut off for longer than its fence.
	c.heal()
	c.waitConverged(both, 20*time.Minute)
	for _, a := range c.agents {
		if c.hosts(a, "fenced") {
			a.setCut(true)
			break
		}
	}
	watch(300)
	replaced := 0
	for al := range c.anyServer().proc.Store().View().AllocsByJob("default", "fenced") {
		if al.GetPreviousAlloc() != "" {
			replaced++
		}
	}
	c.heal()
	c.waitConverged(both, 20*time.Minute)
	c.ordinalsOnce("fenced")
	c.ordinalsOnce("waits")
	if replaced == 0 {
		t.Error("nothing was replaced: the test is void")
	}
}

// A node is away for a while, and a stand-in runs: when it is back exactly one is left, the
// one that the policy says.
func TestWhoStaysWhenANodeIsBack(t *testing.T) {
	for _, policy := range []string{"keep_new", "keep_old", "best"} {
		t.Run(policy, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 3, 2)
				defer c.close()
				k := newChecker(c)
				web := service("web", 1)
				web.Groups[0].OnDisconnect = &berthv1.DisconnectPolicy{LostAfter: durationpb.New(time.Hour), Reconcile: policy}
				c.register(web)
				c.waitConverged(map[string]int{"web": 1}, 2*time.Minute)
				home := c.agents[0]
				if home.host.Running() == 0 {
					home = c.agents[1]
				}
				home.setCut(true)
				time.Sleep(2 * time.Minute)
				if n := c.agents[0].host.Running() + c.agents[1].host.Running(); n != 2 {
					t.Fatalf("%d run while the node is away, want it and a stand-in:\n%s", n, c.describe())
				}
				home.setCut(false)
				c.waitConverged(map[string]int{"web": 1}, 5*time.Minute)
				k.check()
				if stayed := home.host.Running() == 1; stayed != (policy != "keep_new") {
					t.Fatalf("the old one stayed: %t\n%s", stayed, c.describe())
				}
			})
		})
	}
}
