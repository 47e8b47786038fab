package plan

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Jobs come, change, fail and stop, nodes go and come back, entries are lost and leaders
// change; when that ends, every job has what it wants, nothing was granted twice, every
// evaluation is answered and nothing more happens.
func TestChurn(t *testing.T) {
	seeds := uint64(8)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { churn(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

const churnNodes = 6

func churn(t *testing.T, r *rand.Rand) {
	c := newCluster(t)
	stop := c.lead()
	for i := range churnNodes {
		c.node(fmt.Sprint("n", i), 64_000, 64_000)
	}
	jobs := map[string]*berthv1.Job{}
	for range 150 {
		churnStep(c, r, jobs, &stop)
		time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
		synctest.Wait()
		if r.IntN(2) == 0 {
			c.agents()
		}
	}
	c.mu.Lock()
	c.fail = nil
	c.mu.Unlock()
	for i := range churnNodes {
		c.node(fmt.Sprint("n", i), 64_000, 64_000)
	}
	c.settle(15 * time.Second)
	for range 90 { // reschedules wait up to an hour
		time.Sleep(time.Minute)
		synctest.Wait()
		c.agents()
	}
	requireSettled(t, c, jobs)
	before := c.entries
	time.Sleep(10 * time.Second)
	synctest.Wait()
	if c.entries != before {
		t.Errorf("%d entries while nothing happened", c.entries-before)
	}
	stop()
}

func churnStep(c *cluster, r *rand.Rand, jobs map[string]*berthv1.Job, stop *func()) {
	name := fmt.Sprint("job", r.IntN(6))
	node := fmt.Sprint("n", r.IntN(churnNodes))
	switch r.IntN(10) {
	case 0, 1, 2:
		j := newJob(name, uint32(r.IntN(40)), uint32(100*(1+r.IntN(3))))
		j.Type = berthv1.Job_Type(int(name[3]) % 3)
		j.Groups[0].Gang = j.GetType() == berthv1.Job_service && r.IntN(4) == 0
		jobs[name] = j
		c.register(j)
	case 3:
		if jobs[name] != nil {
			c.stop(name, false)
			jobs[name] = nil
		}
	case 4, 5:
		for a := range c.store.View().AllocsByNode(nodeID(node)) {
			if a.GetStatus() == berthv1.Alloc_running && r.IntN(3) == 0 {
				c.report(berthv1.Alloc_failed, a.GetId())
			}
		}
	case 6:
		c.setNode(node, berthv1.Node_down)
	case 7:
		c.node(node, 64_000, 64_000)
	case 8:
		lossy := r.IntN(2) == 0
		c.mu.Lock()
		defer c.mu.Unlock()
		c.fail = func(*berthv1.LogEntry) error {
			if lossy && rand.IntN(3) == 0 {
				return errors.New("lost")
			}
			return nil
		}
	case 9:
		(*stop)()
		*stop = c.lead()
	}
}

func requireSettled(t *testing.T, c *cluster, jobs map[string]*berthv1.Job) {
	view := c.store.View()
	for name, j := range jobs {
		want := 0
		switch {
		case j == nil:
		case j.GetType() == berthv1.Job_system:
			want = churnNodes
		case j.GetType() == berthv1.Job_service:
			want = int(j.GetGroups()[0].GetCount())
		default:
			want = -1 // failures may have used up a batch job's attempts
		}
		if got := c.running(name); want >= 0 && got != want {
			t.Errorf("%d of %s (%s) run, want %d", got, name, j.GetType(), want)
		}
		taken := map[string]bool{}
		for _, a := range c.allocs(name) {
			place := fmt.Sprint(a.GetIndex())
			if j.GetType() == berthv1.Job_system {
				place = a.GetNodeId()
			}
			if !a.Wanted() || a.Terminal() {
				continue
			}
			if taken[place] {
				t.Errorf("%s has two in place %s", name, place)
			}
			taken[place] = true
			if a.GetJobVersion() != c.job(name).GetVersion() {
				t.Errorf("%s is of version %d, the job of %d", a.Name(), a.GetJobVersion(), c.job(name).GetVersion())
			}
		}
	}
	for e := range view.Evaluations("") {
		if e.GetStatus() == berthv1.Evaluation_pending || e.GetStatus() == berthv1.Evaluation_blocked {
			t.Errorf("evaluation %v", e)
		}
	}
	if c.refused != 0 {
		t.Errorf("%d placements refused", c.refused)
	}
}
