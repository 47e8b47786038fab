package agent_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthd/berth/drivers"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// TestChaos changes what is wanted while servers go and come, messages are lost and
// doubled, tasks die and the agent is restarted, for a simulated day or so. When it is
// quiet again exactly what is wanted runs, and the servers know it.
func TestChaos(t *testing.T) {
	seeds := uint64(12)
	if testing.Short() {
		seeds = 1
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { chaos(t, rand.New(rand.NewPCG(seed, 7))) })
		})
	}
}

func chaos(t *testing.T, rnd *rand.Rand) {
	names := []string{"s1", "s2", "s3"}
	c := newCluster(t, names...)
	defer c.stop()
	h := newHost(t, c, names...)
	h.start()
	defer func() { h.end() }()
	job := mockJob("web", map[string]any{"stop_delay": "300ms"})
	// A task that dies is always started again.
	attempts := uint32(1000000)
	job.Groups[0].Restart = &berthv1.RestartPolicy{Attempts: &attempts, Delay: durationpbOf(time.Second), MaxDelay: durationpbOf(2 * time.Second)}
	c.change(job, nil)
	next, wanted := 0, []string{}
	for range 150 {
		switch rnd.IntN(12) {
		case 0, 1, 2:
			id := fmt.Sprintf("a%03d", next)
			next++
			wanted = append(wanted, id)
			c.change(nil, nil, allocOf(job, id))
		case 3, 4:
			if len(wanted) > 0 {
				i := rnd.IntN(len(wanted))
				c.change(nil, []string{wanted[i]})
				wanted = append(wanted[:i], wanted[i+1:]...)
			}
		case 5:
			c.stopServer(names[rnd.IntN(len(names))])
		case 6, 7:
			name := names[rnd.IntN(len(names))]
			c.mu.Lock()
			there := c.servers[name] != nil
			c.mu.Unlock()
			if !there {
				c.startServer(name)
			}
		case 8:
			h.end()
			if rnd.IntN(2) == 0 {
				time.Sleep(time.Duration(rnd.IntN(600)) * time.Second)
			}
			h.start()
		case 9:
			if len(wanted) > 0 {
				h.mock.End(wanted[rnd.IntN(len(wanted))]+"/t", drivers.Exit{Code: 1})
			}
		case 10:
			c.mu.Lock()
			c.skip, c.double, c.refuse = rnd.IntN(2) == 0, rnd.IntN(3) == 0, rnd.IntN(3) == 0
			c.mu.Unlock()
		case 11:
			c.mu.Lock()
			c.broadcast(&berthv1.ServerMessage{Body: &berthv1.ServerMessage_Redirect{Redirect: &berthv1.Redirect{Reason: "chaos"}}})
			c.mu.Unlock()
		}
		time.Sleep(time.Duration(rnd.IntN(4000)) * time.Millisecond)
		if rnd.IntN(40) == 0 {
			time.Sleep(time.Hour)
		}
	}
	c.mu.Lock()
	c.skip, c.double, c.refuse = false, false, false
	c.mu.Unlock()
	for _, name := range names {
		c.stopServer(name) // every session begins anew
		c.startServer(name)
	}
	time.Sleep(3 * time.Minute)
	if n := h.mock.Running(); n != len(wanted) {
		t.Errorf("%d tasks run, want %d", n, len(wanted))
	}
	for _, id := range wanted {
		if !h.mock.Has(id + "/t") {
			t.Errorf("alloc %s does not run", id)
		}
		if u := c.status(id); u.GetStatus() != berthv1.Alloc_running {
			t.Errorf("alloc %s was reported as %v", id, u)
		}
	}
	if h.agent.Connected() == "" {
		t.Error("the agent has no session")
	}
}
