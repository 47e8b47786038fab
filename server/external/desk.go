package external

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/consensus"
	"github.com/berthd/berth/server/plan"
)

// Loop is the leader's plan loop, as far as the desk needs it.
type Loop interface {
	Submit(ctx context.Context, namespace, job, evalID string, p *plan.Plan) (*berthv1.SubmitPlanResponse, error)
	Explain(ctx context.Context, namespace, job, evalID string, why *plan.Reason) error
}

// How long leases last, and when people are told that nobody comes.
const (
	defaultTTL = 30 * time.Second
	minTTL     = time.Second
	maxTTL     = 10 * time.Minute
	maxWait    = 45 * time.Second
	// Overdue is how long an evaluation may wait before its job says that nobody claims it.
	Overdue = 10 * time.Second
	// sweepEvery is how often leases that have run out are looked for.
	sweepEvery = 250 * time.Millisecond
)

// Bounds of what one scheduler may ask for or register with.
const (
	maxClaim      = 64
	maxPlacements = 512
	maxStops      = 512
	maxRegistered = 1024
	maxText       = 1024
	maxList       = 64
)

type jobKey struct{ namespace, name string }

// Desk is where schedulers get their work, for one term.
type Desk struct {
	log  *slog.Logger
	loop Loop // set by Run

	mu      sync.Mutex
	closed  bool
	byLease map[string]*registration
	evals   map[string]*item // by id of the evaluation
	jobs    map[jobKey]*item
	queues  map[string]*queue
	resting map[*item]struct{}
	claimed map[*item]struct{}
	// fresh are the offers that can be claimed, by when that began.
	fresh []fresh
	gone  gone
	seq   uint64
	began time.Time
}

// registration is a scheduler that is there.
type registration struct {
	lease    string
	info     *berthv1.Scheduler
	ttl      time.Duration
	expires  time.Time
	waiting  int // calls that wait for work: it does not expire meanwhile
	claims   map[*item]struct{}
	registry *queue
}

// item is an offer.
type item struct {
	plan.Offer
	evalID   string // does not change, so that it can be read without the lock
	job      jobKey // nor does this
	seq      uint64
	since    time.Time // since when it can be claimed
	queued   bool      // it is in its queue's heap
	resting  bool
	wake     time.Time // when it rests no more; zero: when something has changed
	holder   *registration
	claimed  time.Time
	expires  time.Time
	attempts uint32
}

func (i *item) id() string { return i.evalID }

// open says that it can be claimed.
func (i *item) open() bool { return i.holder == nil && !i.resting }

// New makes a desk without offers.
func New(log *slog.Logger) *Desk {
	return &Desk{
		log: log, byLease: map[string]*registration{}, evals: map[string]*item{}, jobs: map[jobKey]*item{},
		queues: map[string]*queue{}, resting: map[*item]struct{}{}, claimed: map[*item]struct{}{},
		gone: newGone(), began: time.Now(),
	}
}

// Run watches over the leases until ctx ends. After it nothing can be claimed.
func (d *Desk) Run(ctx context.Context, loop Loop) error {
	d.mu.Lock()
	d.loop = loop
	d.mu.Unlock()
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			d.close()
			return ctx.Err()
		case now := <-tick.C:
			for _, late := range d.sweep(now) {
				d.tell(ctx, late.item, late.why)
			}
		}
	}
}

func (d *Desk) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, q := range d.queues {
		q.announce()
	}
}

// errClosed is for calls that reach a desk whose term is over.
func errClosed() error { return fmt.Errorf("the term is over: %w", consensus.ErrNotLeader) }

// tell has the loop write why an evaluation waits. That it is gone meanwhile is no harm.
func (d *Desk) tell(ctx context.Context, i *item, why *plan.Reason) {
	d.mu.Lock()
	loop := d.loop
	d.mu.Unlock()
	if loop == nil {
		return
	}
	if err := loop.Explain(ctx, i.job.namespace, i.job.name, i.id(), why); err != nil {
		d.log.Debug("a reason was not told", "evaluation", i.id(), "error", err)
	}
}

// fresh is an item, and since when it could be claimed.
type fresh struct {
	item  *item
	since time.Time
}

// overdue is an item that nobody has claimed for long.
type overdue struct {
	item *item
	why  *plan.Reason
}

// sweep ends leases that have run out, and gives what waits for too long.
func (d *Desk) sweep(now time.Time) (late []overdue) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.byLease {
		if r.waiting == 0 && !now.Before(r.expires) {
			d.log.Warn("a scheduler has not renewed its registration; what it has claimed goes to others",
				"scheduler", r.info.GetName(), "instance", r.info.GetInstance(), "claims", len(r.claims))
			d.forget(r, "the lease of scheduler "+r.words()+" ran out")
		}
	}
	for i := range d.claimed {
		if !now.Before(i.expires) {
			d.log.Warn("a claim was not renewed", "scheduler", i.holder.info.GetName(), "evaluation", i.id(), "job", i.job.name)
			d.unclaim(i, "its lease ran out at "+stamp(i.expires), now)
		}
	}
	for i := range d.resting {
		if !i.wake.IsZero() && !now.Before(i.wake) {
			d.reopen(i, now)
		}
	}
	for len(d.fresh) > 0 && !now.Before(d.fresh[0].since.Add(Overdue)) && len(late) < maxLate {
		f := d.fresh[0]
		d.fresh = d.fresh[1:]
		if d.evals[f.item.id()] == f.item && f.item.open() && f.item.since.Equal(f.since) {
			late = append(late, overdue{f.item, d.queue(f.item.Scheduler).overdue(f.item)})
		}
	}
	return late
}

// maxLate bounds how many are told of in one sweep, so that leases are looked at again
// soon.
const maxLate = 256

func stamp(t time.Time) string { return t.UTC().Format("15:04:05 MST") }

// forget ends a registration and what it has claimed.
func (d *Desk) forget(r *registration, reason string) (released uint32) {
	now := time.Now()
	for i := range r.claims {
		d.unclaim(i, reason, now)
		released++
	}
	delete(d.byLease, r.lease)
	delete(r.registry.registered, r)
	d.tidy(r.registry)
	return released
}

// unclaim takes a claim back: the evaluation can be claimed by anybody.
func (d *Desk) unclaim(i *item, reason string, now time.Time) {
	d.drop(i, reason)
	d.reopen(i, now)
}

// drop ends a claim; its holder can ask why.
func (d *Desk) drop(i *item, reason string) {
	delete(d.claimed, i)
	if i.holder != nil {
		d.gone.add(i.holder.lease, i.id(), reason)
		delete(i.holder.claims, i)
		i.holder = nil
	}
}

// reopen lets an item be claimed.
func (d *Desk) reopen(i *item, now time.Time) {
	delete(d.resting, i)
	i.resting, i.since = false, now
	d.fresh = append(d.fresh, fresh{i, now})
	d.queue(i.Scheduler).push(i)
}

func (d *Desk) queue(name string) *queue {
	q := d.queues[name]
	if q == nil {
		q = newQueue(name, d.began)
		d.queues[name] = q
	}
	return q
}

// maxNames bounds the names that are remembered for when they last claimed something.
const maxNames = 1024

// tidy forgets a name that nobody uses, where there are many.
func (d *Desk) tidy(q *queue) {
	if len(d.queues) > maxNames && len(q.registered) == 0 && q.offers == 0 {
		delete(d.queues, q.name)
	}
}

// words name a scheduler for people.
func (r *registration) words() string {
	if r.info.GetInstance() == "" {
		return r.info.GetName()
	}
	return r.info.GetName() + " (" + r.info.GetInstance() + ")"
}

func newLease() string { return uuid.NewString() }
