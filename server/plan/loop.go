package plan

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
	"github.com/berthd/berth/server/fsm"
	"github.com/berthd/berth/server/rows"
	"github.com/berthd/berth/server/state"
)

// Proposer makes facts durable. When Propose returns, the Store has taken the entry in.
type Proposer interface {
	Propose(ctx context.Context, entry *berthv1.LogEntry) (fsm.Result, error)
}

// Config is what a Loop needs.
type Config struct {
	Store    *state.Store
	Proposer Proposer
	Logger   *slog.Logger
	// External is told what others are to place; nil: nobody is.
	External External
	// NewID makes the ids of evaluations, and those that allocations' derive from: UUIDs;
	// nil: random ones.
	NewID  func() string
	Tuning Tuning
}

// Tuning bounds the loop's work. Zero values take the defaults.
type Tuning struct {
	// Flying is how many entries may be on the way at a time; 16.
	Flying int
	// Aloft is how many instances may be on the way in them, of jobs that had a turn
	// before: whatever is submitted next waits until they are written. First turns may
	// add another Round. It must be Round or more; 1024.
	Aloft int
	// Slice is how many instances of a job are placed before the next job has its turn; 64.
	// Jobs that are alike choose the same nodes one after the other: small slices of many
	// of them in an entry are many instances for each of few nodes.
	Slice int
	// Round is how many instances are placed before the loop looks at what has come back
	// and what has changed; 512.
	Round int
	// Debounce is how long a job waits for more of its allocations to end, per allocation
	// that it has, up to a second; 10 us.
	Debounce time.Duration
	// Collect is how often what is over is collected; 1 min. Below 0: never.
	Collect time.Duration
	// Keep is how long what is over is kept.
	Keep Keep
}

func (t Tuning) withDefaults() Tuning {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&t.Flying, 16)
	def(&t.Slice, 64)
	def(&t.Round, 512)
	def(&t.Aloft, 1024)
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{{&t.Debounce, 10 * time.Microsecond}, {&t.Collect, time.Minute}} {
		if *d.v == 0 {
			*d.v = d.d
		}
	}
	t.Keep = t.Keep.withDefaults()
	return t
}

// maxDebounce bounds how long a job of any size waits.
const maxDebounce = time.Second

// Loop is the leader's loop, for one term. Its state belongs to the goroutine of Run.
type Loop struct {
	cfg   Config
	log   *slog.Logger
	fleet *scheduler.Fleet
	view  *state.View // what the fleet and the jobs are caught up with
	// changes is memory for those that absorb asks for.
	changes []state.Change
	nodes   map[string]*berthv1.Node

	jobs   map[jobKey]*job
	ready  turns
	survey []*job // looked at once when nothing else is: who knows what the last leader left
	timers timers
	system map[*job]struct{}
	demand demand // for GPUs
	paused bool
	// limits are the namespaces whose quota may have changed; reserveAt is when the next
	// reservation begins or ends. See limits.go.
	limits    map[string]bool
	reserveAt time.Time
	drains    drains

	// blocked are the jobs that wait for room; dirty the nodes that may have some now, by
	// id; tick counts their changes, and lastSince the jobs that began to wait. testsLeft:
	// not all of dirty was gone through. See wake.
	blocked   queue
	dirty     map[string]*changed
	tick      uint64
	lastSince uint64
	testsLeft bool
	// crowd knows who could give way, claims who waits on a node for that, by its id.
	crowd  *crowd
	shared map[string]shared // what was said lately of why something waits
	claims map[string][]*claim

	// pending are the allocations that are on the way, or not seen in the view yet.
	pending map[rows.ID]*placed
	// resizing are the allocations whose other grant is, by id.
	resizing map[string]*resize
	flying   int
	aloft    int // instances in what is flying
	landed   chan *flight
	// drop are gangs to be given up.
	drop []string
	// collecting says that garbage is being looked for.
	collecting bool

	// What external schedulers ask for, and whether they are to be told that something
	// was freed.
	requests chan *request
	asked    []*request
	stirs    bool
	ended    chan struct{} // closed when Run returns

	stats counters
}

// New makes a loop that has seen nothing yet; Run starts it.
func New(cfg Config) *Loop {
	cfg.Tuning = cfg.Tuning.withDefaults()
	if cfg.NewID == nil {
		cfg.NewID = uuid.NewString
	}
	if cfg.External == nil {
		cfg.External = nobody{}
	}
	return &Loop{
		cfg: cfg, log: cfg.Logger, pending: map[rows.ID]*placed{}, resizing: map[string]*resize{}, shared: map[string]shared{},
		landed: make(chan *flight, cfg.Tuning.Flying), requests: make(chan *request), ended: make(chan struct{}),
	}
}

// Run plans until ctx ends, and returns when nothing of it is on the way any more.
func (l *Loop) Run(ctx context.Context) error {
	defer close(l.ended)
	defer func() {
		for ; l.flying > 0; l.flying-- {
			<-l.landed
		}
	}()
	l.load(l.cfg.Store.View())
	for g := range l.view.StagedGangs() {
		l.drop = append(l.drop, g.GetGang()) // the last leader's
	}
	collect := time.NewTimer(max(l.cfg.Tuning.Collect, time.Millisecond))
	if l.cfg.Tuning.Collect < 0 {
		collect.Stop()
	}
	defer collect.Stop()
	for ctx.Err() == nil {
		watch := l.cfg.Store.Watch(state.Topic{Table: state.TableAny})
		l.catchUp(time.Now())
		l.drained(ctx, time.Now())
		l.round(ctx, time.Now())
		if l.mayGoOn() {
			watch.Close()
			continue
		}
		l.wait(ctx, watch, collect)
		watch.Close()
	}
	return ctx.Err()
}

// wait returns when there is something to do.
func (l *Loop) wait(ctx context.Context, watch *state.Watch, collect *time.Timer) {
	var due <-chan time.Time
	at, ok := l.timers.next()
	if r := l.reserveAt; !r.IsZero() && (!ok || r.Before(at)) {
		at, ok = r, true
	}
	if ok {
		t := time.NewTimer(time.Until(at))
		defer t.Stop()
		due = t.C
	}
	select {
	case <-ctx.Done():
	case <-watch.C:
	case <-due:
	case f := <-l.landed:
		l.land(f)
	case r := <-l.requests:
		l.asked = append(l.asked, r)
	case <-collect.C:
		l.collect(ctx, time.Now())
		collect.Reset(l.cfg.Tuning.Collect)
	}
}

// catchUp takes in what has landed, what has changed and what is due.
func (l *Loop) catchUp(now time.Time) {
	for more := true; more; {
		select {
		case f := <-l.landed:
			l.land(f)
		default:
			more = false
		}
	}
	l.absorb(now)
	if !l.reserveAt.IsZero() && !now.Before(l.reserveAt) {
		l.reserve(now)
	}
	l.wake(now)
	for j := range l.timers.due(now) {
		l.enqueue(j)
	}
}
