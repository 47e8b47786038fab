package runner

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/berthd/berth/agent/discovery"
	"github.com/berthd/berth/agent/health"
	"github.com/berthd/berth/agent/store"
	"github.com/berthd/berth/drivers"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// checksAtOnce bounds the checks that run at the same time on a node.
const checksAtOnce = 64

// Reporter takes what the servers should know.
type Reporter interface {
	// Report hands on an alloc's newest status; urgent ones go at once, others when it
	// suits. It does not block, and the message is not changed afterwards.
	Report(u *berthv1.AllocStatusUpdate, urgent bool)
	// Forget drops what was reported of an alloc that the servers do not know any more.
	Forget(allocID string)
}

// Config is what a Manager works with.
type Config struct {
	Store    *store.Store
	Layout   Layout
	Reporter Reporter
	Log      *slog.Logger
	// Driver gives a driver by name; nil: there is none.
	Driver func(name string) drivers.Driver
	// Node gives the node as it is now; what it returns is not changed.
	Node func() *berthv1.Node
	// FetchDisk gives the sticky disk for an alloc from the node that has it, as a tar.
	// NotFound: there is none to be had, now or ever.
	FetchDisk func(ctx context.Context, allocID string) (io.ReadCloser, error)
	// Catalog is what is known of services and variables; nil: nothing ever is.
	Catalog *discovery.Catalog
	// Rebooted says that the machine was booted since the agent last ran.
	Rebooted bool
	// MaxDead is how many ended allocs keep their directories; 0: 50.
	MaxDead int
	// MaxDiskPercent is the use of the data directory's disk above which ended allocs
	// lose their directories early; 0: 80.
	MaxDiskPercent int
	// Prober, in tests, runs checks in place of package health.
	Prober func(c *berthv1.Check, t health.Target) health.Prober
	// Fault, in tests, ends a task's goroutine at a named point as a crash would.
	Fault func(point string) error
}

// Manager owns the allocs of a node. Apply and its like may be called while Run runs.
type Manager struct {
	cfg Config
	log *slog.Logger

	pool  *health.Pool
	ticks sync.WaitGroup // the allocs' alarms, waited for by Run

	mu       sync.Mutex
	ctx      context.Context // of Run; nil before it
	wg       sync.WaitGroup  // every goroutine, waited for by Run
	allocs   map[string]*alloc
	jobs     map[store.JobKey]*berthv1.Job
	refused  map[string]pending
	removing int           // allocs that the servers have forgotten, and this node has not
	stopping bool          // StopAll was called: nothing new is taken
	lostAt   time.Time     // when the last server was heard; zero: one is heard now
	revision uint64        // of the newest assignments
	wake     chan struct{} // something for housekeeping
}

// New makes a Manager; it starts nothing.
func New(cfg Config) *Manager {
	if cfg.MaxDead == 0 {
		cfg.MaxDead = 50
	}
	if cfg.MaxDiskPercent == 0 {
		cfg.MaxDiskPercent = 80
	}
	if cfg.Catalog == nil {
		cfg.Catalog = discovery.New()
	}
	return &Manager{
		cfg: cfg, log: cfg.Log, pool: health.NewPool(checksAtOnce),
		allocs: map[string]*alloc{}, jobs: map[store.JobKey]*berthv1.Job{}, refused: map[string]pending{},
		wake: make(chan struct{}, 1),
	}
}

// Restore takes up what is stored. Call it once, before Run.
func (m *Manager) Restore() error {
	c, err := m.cfg.Store.Load()
	if err != nil {
		return fmt.Errorf("loading what was assigned to this node: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, j := range c.Jobs {
		m.jobs[store.KeyOf(j)] = j
	}
	for _, def := range c.Allocs {
		a := newAlloc(m, pending{def, m.jobs[store.KeyFor(def)]}, c)
		if a.removed = c.Removed[a.id]; a.removed {
			m.removing++
		}
		m.allocs[a.id] = a
	}
	for _, u := range c.Reports {
		m.cfg.Reporter.Report(u, true)
	}
	if len(c.Allocs) > 0 {
		m.log.Info("took up what was assigned before", "allocs", len(c.Allocs), "rebooted", m.cfg.Rebooted)
	}
	return nil
}

// Run runs the allocs until ctx ends, then waits for its goroutines. Workloads go on.
func (m *Manager) Run(ctx context.Context) error {
	m.spreadCPUs()
	m.mu.Lock()
	m.ctx = ctx
	for _, a := range m.allocs {
		m.launch(a)
	}
	m.mu.Unlock()
	m.housekeeping(ctx)
	m.wg.Wait()
	m.mu.Lock()
	for _, a := range m.allocs {
		a.halt()
	}
	m.mu.Unlock()
	m.pool.Wait()
	m.ticks.Wait()
	return nil
}

// launch starts an alloc's goroutines, once; mu is held and Run is running. An alloc that
// is added while Run begins is seen by both Run and Apply.
func (m *Manager) launch(a *alloc) {
	if a.launched {
		return
	}
	a.launched = true
	if cur := a.current(); wantsStop(cur) || a.removed {
		a.stop(stopReason(cur), !a.removed && cur.GetStatus() != berthv1.Alloc_lost)
	}
	a.goLive()
	for _, t := range a.tasks {
		m.wg.Go(func() {
			t.run(m.ctx)
			a.maybeCleanUp()
		})
	}
	if a.broken != "" {
		a.reportAgain(nil)
	}
	if len(a.tasks) == 0 {
		m.wg.Go(a.maybeCleanUp)
	}
}

func stopReason(a *berthv1.Alloc) string {
	if a.GetDesiredReason() != "" {
		return a.GetDesiredReason()
	}
	return "the servers ordered it"
}

// spreadCPUs computes the shared CPUs anew and tells the tasks whose share has changed.
func (m *Manager) spreadCPUs() {
	m.mu.Lock()
	var grants []*berthv1.Assignment
	var live []*alloc
	for _, a := range m.allocs {
		if !a.terminal() {
			live = append(live, a)
			grants = append(grants, a.current().GetAssignment())
		}
	}
	m.mu.Unlock()
	p := newPool(m.cfg.Node().GetHardware(), grants)
	for _, a := range live {
		for _, t := range a.tasks {
			shared := p.sharedFor(a.spec(t.def).grant())
			t.mu.Lock()
			changed := t.shared != shared
			t.mu.Unlock()
			if changed {
				t.order(func() { t.outdated, t.shared = true, shared })
			}
		}
	}
}

func (a *alloc) current() *berthv1.Alloc {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cur
}

// fault is a failpoint.
func (m *Manager) fault(point string) error {
	if m.cfg.Fault == nil {
		return nil
	}
	return m.cfg.Fault(point)
}

// poke wakes housekeeping.
func (m *Manager) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}
