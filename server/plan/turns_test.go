package plan

import (
	"fmt"
	"testing"
	"time"
)

func TestASmallJobDoesNotWaitForLargeOnes(t *testing.T) {
	var q turns
	large := make([]*job, 100)
	for i := range large {
		large[i] = &job{key: jobKey{"default", fmt.Sprint("large", i)}, work: &work{}}
		q.push(large[i])
	}
	small := &job{key: jobKey{"default", "small"}}
	q.push(small)
	if got := q.next(true); got != small {
		t.Errorf("%s had its turn before the small job", got.key.name)
	}
	if got := q.next(true); got != large[0] {
		t.Errorf("then %v", got)
	}
	q.push(large[0])
	for range 1000 { // small ones without end: the large ones go on nevertheless
		q.push(&job{})
	}
	begun := map[*job]bool{}
	for range 100 * (freshTurns + 1) {
		if j := q.next(true); j.work != nil {
			begun[j] = true
		}
	}
	if len(begun) != len(large) {
		t.Errorf("%d of %d large jobs went on", len(begun), len(large))
	}
	for q.next(true) != nil {
	}
	if q.len() != 0 {
		t.Error("something is left")
	}
}

// What is on the way is bounded in instances: what is submitted next waits behind it.
func TestSmallJobUnderLoadIsPlacedSoon(t *testing.T) {
	leads(t, func(c *cluster) {
		until := func(ok func() bool) {
			t.Helper()
			for range 5000 {
				if ok() {
					return
				}
				time.Sleep(time.Millisecond)
			}
			t.Fatal("it never came")
		}
		for i := range 20 {
			c.node(fmt.Sprint("n", i), 100000, 10000000)
		}
		c.register(newJob("large", 30000, 10))
		until(func() bool { return c.store.View().AllocCount() > 1000 })
		c.register(newJob("small", 1, 10))
		came := c.store.View().Revision()
		until(func() bool { return len(c.allocs("small")) > 0 })
		placed, between := c.allocs("small")[0].GetCreateRevision(), 0
		for a := range c.store.View().AllocRowsByJob("default", "large") {
			if a.CreateRevision() > came && a.CreateRevision() < placed {
				between++
			}
		}
		// What is on the way when it comes is all that it waits for.
		if tuning := c.loop.cfg.Tuning; between > tuning.Aloft {
			t.Errorf("%d instances of the large job were placed before the small one", between)
		}
	})
}

// First turns have a lane of their own: they do not wait for what is on the way, however
// many entries of large jobs that is.
func TestFirstTurnsDoNotWaitForWhatIsOnTheWay(t *testing.T) {
	l := New(Config{})
	l.jobs = map[jobKey]*job{}
	l.push(&job{key: jobKey{"default", "large"}, work: &work{}})
	l.aloft = l.cfg.Tuning.Aloft
	if l.mayGoOn() || l.next(0) != nil {
		t.Error("a large job goes on though enough is on the way")
	}
	small := &job{key: jobKey{"default", "small"}}
	l.push(small)
	if !l.mayGoOn() || l.next(0) != small {
		t.Error("the small job waits")
	}
	l.push(small)
	if l.next(l.cfg.Tuning.Round) != nil {
		t.Error("first turns without end")
	}
	l.aloft = 0
	if j := l.next(0); j != small {
		t.Errorf("not the small one first, but %v", j)
	}
	if j := l.next(0); j == nil || j == small {
		t.Error("the large job does not go on when there is room")
	}
}
