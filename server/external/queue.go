package external

import (
	"container/heap"
	"fmt"
	"slices"
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/plan"
)

// queue is what there is for one name: the most urgent first, then the oldest.
type queue struct {
	name       string
	heap       items
	offers     int // of that name, claimed and resting ones among them
	registered map[*registration]struct{}
	changed    chan struct{} // closed when something can be claimed
	since      time.Time     // when this leader began to look, for want of a claim
	lastClaim  time.Time     // zero: none in this term
}

func newQueue(name string, began time.Time) *queue {
	return &queue{name: name, registered: map[*registration]struct{}{}, changed: make(chan struct{}), since: began}
}

func (q *queue) announce() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// push lets an item be claimed.
func (q *queue) push(i *item) {
	if !i.queued {
		i.queued = true
		heap.Push(&q.heap, i)
	}
	q.announce()
}

// take claims up to n of the most urgent that a scheduler takes.
func (q *queue) take(r *registration, n int) (out []*item) {
	var others []*item
	for len(q.heap) > 0 && len(out) < n {
		i := heap.Pop(&q.heap).(*item)
		switch {
		case !i.open():
			i.queued = false
		case !r.takes(i):
			others = append(others, i)
		default:
			i.queued = false
			out = append(out, i)
		}
	}
	for _, i := range others {
		heap.Push(&q.heap, i)
	}
	return out
}

// takes says whether a scheduler wants such a job.
func (r *registration) takes(i *item) bool {
	job := i.Evaluation.GetJob()
	pool := job.GetNodePool()
	if pool == "" {
		pool = "default"
	}
	in := func(list []string, s string) bool { return len(list) == 0 || slices.Contains(list, s) }
	return in(r.info.GetNamespaces(), job.GetNamespace()) && in(r.info.GetNodePools(), pool)
}

func (q *queue) remove(i *item) {
	if i.queued {
		if at := slices.Index(q.heap, i); at >= 0 {
			heap.Remove(&q.heap, at)
		}
		i.queued = false
	}
}

// overdue says why nobody claims an item.
func (q *queue) overdue(i *item) *plan.Reason {
	since := "since this leader came, at " + stamp(q.since)
	if !q.lastClaim.IsZero() {
		since = "since " + stamp(q.lastClaim)
	}
	why := &plan.Reason{Text: fmt.Sprintf("scheduler %s has claimed nothing %s", q.name, since)}
	switch {
	case len(q.registered) == 0:
		why.Text += "; nobody is registered with that name"
		why.Remedies = []string{fmt.Sprintf("start the scheduler %s, or submit the job without scheduler = %q, and Berth places it", q.name, q.name)}
	case !q.anyTakes(i):
		why.Text = fmt.Sprintf("no scheduler that is registered as %s takes jobs of this namespace and node pool", q.name)
		why.Remedies = []string{"berth scheduler list shows what each takes"}
	default:
		why.Remedies = []string{fmt.Sprintf("look after the scheduler %s: it is registered (berth scheduler list)", q.name)}
	}
	return why
}

func (q *queue) anyTakes(i *item) bool {
	for r := range q.registered {
		if r.takes(i) {
			return true
		}
	}
	return false
}

// count sums a queue up.
func (q *queue) count(all map[jobKey]*item) *berthv1.SchedulerQueue {
	out := &berthv1.SchedulerQueue{Scheduler: q.name, Registered: uint32(len(q.registered)), ClaimTime: timestamp(q.lastClaim)}
	var oldest time.Time
	for _, i := range all {
		if i.Scheduler != q.name {
			continue
		}
		switch {
		case i.holder != nil:
			out.Claimed++
		case i.resting:
			out.Resting++
		default:
			out.Open++
			if oldest.IsZero() || i.since.Before(oldest) {
				oldest = i.since
			}
		}
	}
	out.OldestTime = timestamp(oldest)
	return out
}

// items is a heap.
type items []*item

func (h items) Len() int { return len(h) }
func (h items) Less(a, b int) bool {
	x, y := h[a].Evaluation.GetJob().GetPriority(), h[b].Evaluation.GetJob().GetPriority()
	return x > y || x == y && h[a].seq < h[b].seq
}
func (h items) Swap(a, b int) { h[a], h[b] = h[b], h[a] }
func (h *items) Push(x any)   { *h = append(*h, x.(*item)) }
func (h *items) Pop() any {
	old := *h
	x := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return x
}
