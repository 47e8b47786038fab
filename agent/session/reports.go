package session

import (
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

const (
	// The least time between two reports: under load, that is after a report of more
	// than a few updates, they coalesce.
	shortSpacing, longSpacing = 5 * time.Millisecond, 50 * time.Millisecond
	few                       = 4
	// patience is how long a report that is not urgent waits for company.
	patience = 250 * time.Millisecond
	// maxReport bounds one report, in updates and bytes.
	maxReport      = 512
	maxReportBytes = 1 << 20
)

// Reports is what the servers have not confirmed yet: of each alloc only the newest
// status, so it is bounded by the number of allocs on the node.
type Reports struct {
	mu      sync.Mutex
	pending map[string]*berthv1.AllocStatusUpdate
	order   []string  // alloc ids, longest waiting first
	due     time.Time // when the next report should go; zero: nothing waits
	wake    chan struct{}
}

// NewReports makes an empty queue.
func NewReports() *Reports {
	return &Reports{pending: map[string]*berthv1.AllocStatusUpdate{}, wake: make(chan struct{}, 1)}
}

// Report takes an alloc's newest status, in place of an older one.
func (r *Reports) Report(u *berthv1.AllocStatusUpdate, urgent bool) {
	r.mu.Lock()
	if _, ok := r.pending[u.GetAllocId()]; !ok {
		r.order = append(r.order, u.GetAllocId())
	}
	r.pending[u.GetAllocId()] = u
	due := time.Now()
	if !urgent {
		due = due.Add(patience)
	}
	earlier := r.due.IsZero() || due.Before(r.due)
	if earlier {
		r.due = due
	}
	r.mu.Unlock()
	if earlier {
		r.poke()
	}
}

// Forget drops what waits of an alloc.
func (r *Reports) Forget(allocID string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pending, allocID)
	r.order = slices.DeleteFunc(r.order, func(id string) bool { return id == allocID })
}

// retry makes everything that waits due at a time.
func (r *Reports) retry(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.pending) > 0 {
		r.due = at
	}
}

// dueIn says how long the next report may wait; false: nothing waits.
func (r *Reports) dueIn() (time.Duration, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.due.IsZero() {
		return 0, false
	}
	return max(0, time.Until(r.due)), true
}

// batch gives the updates of the next report and leaves them pending.
func (r *Reports) batch() []*berthv1.AllocStatusUpdate {
	r.mu.Lock()
	defer r.mu.Unlock()
	var updates []*berthv1.AllocStatusUpdate
	size := 0
	for _, id := range r.order {
		u := r.pending[id]
		if n := proto.Size(u); len(updates) < maxReport && (size+n <= maxReportBytes || len(updates) == 0) {
			updates = append(updates, u)
			size += n
		}
	}
	r.due = time.Time{}
	return updates
}

// confirm drops updates that a server has made durable, unless newer ones have come.
func (r *Reports) confirm(updates []*berthv1.AllocStatusUpdate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, u := range updates {
		if r.pending[u.GetAllocId()] == u {
			delete(r.pending, u.GetAllocId())
		}
	}
	r.order = slices.DeleteFunc(r.order, func(id string) bool { return r.pending[id] == nil })
	if len(r.order) > 0 && r.due.IsZero() {
		r.due = time.Now()
	}
}

func (r *Reports) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}
