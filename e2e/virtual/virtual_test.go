package virtual

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/berthd/berth/drivers"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/consensus/consensustest"
)

// service is a job of the mock driver that runs until it is stopped.
func service(name string, count int) *berthv1.Job {
	n := uint32(count)
	return &berthv1.Job{Name: name, Groups: []*berthv1.Group{{
		Name: "g", Count: &n,
		Restart: &berthv1.RestartPolicy{Delay: durationpb.New(time.Second), Mode: "delay"},
		Tasks: []*berthv1.Task{{
			Name: "t", Driver: "mock", Config: &structpb.Struct{}, Resources: &berthv1.Resources{CpuMilli: 100, MemoryMib: 64},
		}},
	}}}
}

func (c *cluster) register(job *berthv1.Job) {
	c.t.Helper()
	if _, err := call(c, registerJob, &berthv1.RegisterJobRequest{Job: job}); err != nil {
		c.t.Fatalf("registering %s: %v", job.GetName(), err)
	}
}

func TestAJobRunsAndEndsInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 3)
		defer c.close()
		c.register(service("web", 6))
		c.waitConverged(map[string]int{"web": 6}, 2*time.Minute)
		c.register(service("web", 2))
		c.waitConverged(map[string]int{"web": 2}, 2*time.Minute)
		if _, err := call(c, stopJob, &berthv1.StopJobRequest{Job: "web"}); err != nil {
			t.Fatal(err)
		}
		c.waitConverged(map[string]int{"web": 0}, 2*time.Minute)
	})
}

func TestEachSingleFaultHeals(t *testing.T) {
	faults := map[string]func(c *cluster){
		"leader crashes": func(c *cluster) {
			s := c.leader()
			s.crash()
			time.Sleep(20 * time.Second)
			s.start()
		},
		"leader is cut off": func(c *cluster) {
			c.isolate(c.leader().name)
			time.Sleep(40 * time.Second)
			c.isolate()
		},
		"agent crashes for a moment": func(c *cluster) {
			c.agents[0].crash()
			time.Sleep(time.Second)
			c.agents[0].start()
		},
		"host is gone for a while": func(c *cluster) {
			c.agents[0].crash()
			time.Sleep(2 * time.Minute)
			c.agents[0].start()
		},
		"host reboots": func(c *cluster) {
			c.agents[0].crash()
			c.agents[0].host.Reboot()
			c.agents[0].start()
		},
		"agent is cut off": func(c *cluster) {
			c.agents[1].setCut(true)
			time.Sleep(3 * time.Minute)
			c.agents[1].setCut(false)
		},
		"all servers restart": func(c *cluster) {
			for _, s := range c.servers {
				s.crash()
			}
			time.Sleep(10 * time.Second)
			for _, s := range c.servers {
				s.start()
			}
		},
		"a task dies": func(c *cluster) {
			c.agents[2].endTask(rand.New(rand.NewPCG(1, 1)))
		},
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 3, 3)
				defer c.close()
				c.register(service("web", 6))
				c.waitConverged(map[string]int{"web": 6}, 2*time.Minute)
				fault(c)
				c.waitConverged(map[string]int{"web": 6}, 10*time.Minute)
				newChecker(c).check()
			})
		})
	}
}

// endTask ends one of the host's tasks as if it crashed.
func (a *agentHost) endTask(rng *rand.Rand) {
	if a.proc == nil {
		return
	}
	view := a.c.anyServer().proc.Store().View()
	for alloc := range view.AllocsByNode(a.proc.NodeID()) {
		if alloc.GetStatus() == berthv1.Alloc_running && rng.IntN(2) == 0 {
			a.host.End(alloc.GetId()+"/t", drivers.Exit{Signal: int(syscall.SIGSEGV)})
			return
		}
	}
}

// seeds is how many lives a random test has: so many, one with -short.
func seeds(n int) int {
	if s, err := strconv.Atoi(os.Getenv("BERTH_VIRTUAL_SEEDS")); err == nil {
		return s
	}
	if testing.Short() {
		return 1
	}
	return n
}

// TestFaultsForHours lets random faults happen for simulated hours, then heals everything
// and expects the cluster to be as it was asked to be.
func TestFaultsForHours(t *testing.T) {
	hours, seeds := 2, seeds(2)
	if testing.Short() {
		hours = 1
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { chaos(t, uint64(seed), time.Duration(hours)*time.Hour) })
		})
	}
}

func chaos(t *testing.T, seed uint64, duration time.Duration) {
	rng := rand.New(rand.NewPCG(seed, 1))
	c := newCluster(t, 3, 5)
	defer c.close()
	k := newChecker(c)
	c.openTeam()
	jobs := map[string]int{}
	end := time.Now().Add(duration)
	for time.Now().Before(end) {
		c.fault(rng)
		if rng.IntN(3) == 0 {
			name := names[rng.IntN(len(names))]
			jobs[name] = rng.IntN(8)
			// Without a quorum it fails, and may be durable all the same; see below.
			_, _ = call(c, registerJob, &berthv1.RegisterJobRequest{Job: job(name, jobs[name])})
		}
		for range 1 + rng.IntN(40) {
			time.Sleep(time.Second)
			k.check()
		}
	}
	c.heal()
	for name, count := range jobs {
		c.register(job(name, count))
	}
	c.waitConverged(jobs, 30*time.Minute)
	k.check()
	if len(k.evicted) == 0 || !k.full {
		t.Errorf("%d were evicted, the quota was used up: %t: the test is void", len(k.evicted), k.full)
	}
}

// quorum says whether the servers can lead now.
func (c *cluster) quorum() bool {
	up := 0
	for _, s := range c.servers {
		if s.proc != nil {
			up++
		}
	}
	return up > len(c.servers)/2
}

// fault makes one random fault, or heals one.
func (c *cluster) fault(rng *rand.Rand) {
	s, a := c.servers[rng.IntN(len(c.servers))], c.agents[rng.IntN(len(c.agents))]
	switch rng.IntN(12) {
	case 0, 1:
		if s.proc == nil {
			s.start()
		} else if c.quorum() {
			s.crash()
		}
	case 2, 3:
		if a.proc == nil {
			a.start()
		} else {
			a.crash()
		}
	case 4:
		c.isolate(s.name)
	case 5:
		c.isolate()
	case 6:
		a.setCut(true)
	case 7:
		for _, a := range c.agents {
			a.setCut(false)
		}
	case 8:
		s.disk.SetDelay(time.Duration(rng.IntN(300)) * time.Millisecond)
	case 9:
		loss, twice := rng.IntN(20), rng.IntN(20)
		c.net.SetFault(func(_, _ string) consensustest.Fault {
			return consensustest.Fault{
				Lose: rand.IntN(100) < loss, Twice: rand.IntN(100) < twice, Delay: time.Duration(rand.IntN(20)) * time.Millisecond,
			}
		})
	case 10:
		a.endTask(rng)
	case 11:
		if a.proc != nil {
			a.crash()
			a.host.Reboot()
			a.start()
		}
	}
}

func (c *cluster) heal() {
	c.net.SetFault(nil)
	c.isolate()
	for _, s := range c.servers {
		s.disk.SetDelay(0)
		if s.proc == nil {
			s.start()
		}
	}
	for _, a := range c.agents {
		a.setCut(false)
		if a.proc == nil {
			a.start()
		}
	}
}
