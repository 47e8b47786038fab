package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// What the worlds of the transcripts say of limits:
//
//	node ... [full fixed]   full: no room for other limits; fixed: its driver cannot change them
//	job ...  [memory=MIB]

func (w *world) limitsOfNode(n *berthv1.Node, o map[string]string) {
	d := &berthv1.DriverInfo{Healthy: true}
	if o["fixed"] == "" {
		d.Capabilities = []string{powerUpdate}
	}
	n.Drivers = []*berthv1.DriverInfo{d}
	if w.full == nil {
		w.full = map[string]bool{}
	}
	w.full[n.GetId()] = o["full"] != ""
}

func limitsOf(w *world, g *berthv1.Group, o map[string]string) {
	if o["memory"] != "" {
		g.GetTasks()[0].Resources = &berthv1.Resources{MemoryMib: w.number(o["memory"], 0)}
	}
}

// canResize has a node's driver change limits of what runs.
func canResize(n *berthv1.Node) { n.Drivers[0].Capabilities = []string{powerUpdate} }

func sized(name string, count, milli uint32, memory uint64) *berthv1.Job {
	j := newJob(name, count, milli)
	j.Groups[0].Tasks[0].Resources.MemoryMib = memory
	return j
}

// granted is the memory of a job's wanted allocations, by index.
func (c *cluster) granted(name string) (mib []uint64) {
	for _, a := range c.allocs(name) {
		if a.Wanted() {
			mib = append(mib, a.GetAssignment().GetTasks()[0].GetCells()[0].GetMemoryMib())
		}
	}
	return mib
}

// fills says how many instances of 100 MiB still find a place: what the fleet has free.
func (c *cluster) fills() int {
	c.register(sized("filler", 100, 1, 100))
	c.settle(time.Second)
	n := c.running("filler")
	c.stop("filler", true)
	c.settle(time.Second)
	return n
}

// What its node has room for changes while it runs; the fleet and the state agree about it.
func TestLimitsChangeInPlace(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 8000, 4000, canResize)
		c.register(sized("web", 4, 100, 500))
		c.settle(time.Second)
		before := c.allocs("web")
		for _, memory := range []uint64{900, 100, 300} {
			c.register(sized("web", 4, 200, memory))
			c.settle(time.Second)
			for i, a := range c.allocs("web") {
				if a.GetId() != before[i].GetId() || a.GetStatus() != berthv1.Alloc_running || c.granted("web")[i] != memory {
					t.Fatalf("with %d MiB it is\n%s", memory, c.words("web"))
				}
			}
			if got, want := c.fills(), (4000-4*int(memory))/100; got != want {
				t.Errorf("beside 4 of %d MiB %d of 100 fit, not %d", memory, got, want)
			}
		}
		if c.refused > 0 {
			t.Errorf("%d were refused", c.refused)
		}
	})
}

// One that its node has no room for is replaced, where there is room.
func TestLimitsThatDoNotFitReplace(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 8000, 1000, canResize)
		c.register(sized("web", 1, 100, 400))
		c.register(sized("other", 1, 100, 400))
		c.settle(time.Second)
		web := sized("web", 1, 100, 900)
		if got := Rollout(c.store.View(), web, time.Now()); strings.Join(got, "") != "g: 1 replaced (n1 lacks 300 MiB on cell 0), a quarter at a time" {
			t.Errorf("planned: %q", got)
		}
		for memory, want := range map[uint64]string{900: "0 placed, 0 stopped, 0 updated of 1", 500: "0 placed, 0 stopped, 1 updated of 0"} {
			o, err := DryRun(c.store.View(), sized("web", 1, 100, memory), time.Now())
			if err != nil || fmt.Sprintf("%d placed, %d stopped, %d updated of %d", o[0].GetPlaced(), o[0].GetStopped(), o[0].GetUpdated(), o[0].GetWanted()) != want {
				t.Errorf("a dry run with %d MiB: %v, %v", memory, o, err)
			}
		}
		c.register(web)
		c.settle(time.Second)
		if got := c.words("web"); got != "web.g[0] v1 on n1: run, running\n" { // it fits nowhere: it is left alone
			t.Errorf("without room:\n%s", got)
		}
		if got := Rollout(c.store.View(), sized("web", 1, 100, 600), time.Now()); strings.Join(got, "") != "g: 1 in place with other limits, a quarter at a time" {
			t.Errorf("planned: %q", got)
		}
		c.node("n2", 8000, 1000)
		c.settle(time.Second)
		if got := c.words("web"); got != "web.g[0] v1 on n1: stop, complete (replaced by version 2)\nweb.g[0] v2 on n2: run, running\n" {
			t.Errorf("with room elsewhere:\n%s", got)
		}
		web = sized("web", 1, 100, 100)
		if got := Rollout(c.store.View(), web, time.Now()); strings.Join(got, "") != "g: 1 replaced (the driver mock of n2 cannot change limits of what runs), a quarter at a time" {
			t.Errorf("planned: %q", got)
		}
	})
}

// Of a stateful group nothing is stopped that has room where it is.
func TestLimitsOfStatefulGroups(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 8000, 1000, canResize)
		stateful := func(memory uint64) *berthv1.Job {
			j := sized("db", 2, 100, memory)
			j.Groups[0].Stateful = &berthv1.Stateful{}
			return j
		}
		c.register(stateful(300))
		c.settle(time.Second)
		c.register(stateful(450))
		c.settle(time.Second)
		if got := c.words("db"); got != "db.g[0] v2 on n1: run, running\ndb.g[1] v2 on n1: run, running\n" {
			t.Errorf("in place:\n%s", got)
		}
		c.node("n2", 8000, 1000)
		c.register(stateful(700)) // one has room when the other is gone
		c.settle(2 * time.Second)
		if got := c.granted("db"); !slices.Equal(got, []uint64{700, 700}) || c.refused > 0 {
			t.Errorf("%d were refused; it is\n%s", c.refused, c.words("db"))
		}
	})
}

// What is not written is taken back, and tried again; so it is when the leader changes.
func TestLimitsThatAreNotWritten(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 8000, 4000, canResize)
		c.register(sized("web", 4, 100, 500))
		c.settle(time.Second)
		failures := 0
		c.mu.Lock()
		c.fail = func(e *berthv1.LogEntry) error {
			if len(e.GetPlan().GetChanges()) > 0 && failures < 3 {
				failures++
				return errors.New("no quorum")
			}
			return nil
		}
		c.mu.Unlock()
		c.register(sized("web", 4, 100, 800))
		c.settle(2 * time.Second)
		if got := c.granted("web"); failures != 3 || !slices.Equal(got, []uint64{800, 800, 800, 800}) {
			t.Errorf("after %d failures: %v", failures, got)
		}
		if got := c.fills(); got != 8 {
			t.Errorf("%d of 100 MiB fit", got)
		}
	})
}

// An allocation that is stopped while its other grant is on its way is not changed, and the
// fleet has neither grant in the end.
func TestLimitsOfWhatIsStoppedMeanwhile(t *testing.T) {
	leads(t, func(c *cluster) {
		c.node("n1", 8000, 4000, canResize)
		c.register(sized("web", 1, 100, 500))
		c.settle(time.Second)
		id := c.allocs("web")[0].GetId()
		once := false
		c.mu.Lock()
		c.fail = func(e *berthv1.LogEntry) error {
			if cs := e.GetPlan().GetChanges(); len(cs) > 0 && cs[0].GetAssignment() != nil && !once {
				once = true
				c.must(&berthv1.LogEntry{Fact: &berthv1.LogEntry_AllocsReported{AllocsReported: &berthv1.AllocsReported{
					Updates: []*berthv1.AllocStatusUpdate{{AllocId: id, Status: berthv1.Alloc_failed}}}}})
			}
			return nil
		}
		c.mu.Unlock()
		c.register(sized("web", 1, 100, 3000))
		c.settle(2 * time.Second)
		if got := c.words("web"); !once || !strings.Contains(got, "v2 on n1: run, running") {
			t.Errorf("it is\n%s", got)
		}
		if got := c.fills(); got != 10 {
			t.Errorf("%d of 100 MiB fit", got)
		}
	})
}
