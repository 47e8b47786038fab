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
	if got := q.next(); got != small {
		t.Errorf("%s had its turn before the small job", got.key.name)
	}
	if got := q.next(); got != large[0] {
		t.Errorf("then %v", got)
	}
	q.push(large[0])
	for range 1000 { // small ones without end: the large ones go on nevertheless
		q.push(&job{})
	}
	begun := map[*job]bool{}
	for range 100 * (freshTurns + 1) {
		if j := q.next(); j.work != nil {
			begun[j] = true
		}
	}
	if len(begun) != len(large) {
		t.Errorf("%d of %d large jobs went on", len(begun), len(large))
	}
	for q.next() != nil {
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
		before := c.store.View().AllocCount()
		until(func() bool { return len(c.allocs("small")) > 0 })
		// What is on the way when it comes, and what the loop sends before it has seen it.
		tuning := c.loop.cfg.Tuning
		if between := c.store.View().AllocCount() - before - 1; between > 2*tuning.Aloft+tuning.Round { // but for itself
			t.Errorf("%d instances of the large job were placed before the small one", between)
		}
	})
}
