package runner

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/agent/discovery"
	"github.com/berthd/berth/agent/health"
	"github.com/berthd/berth/agent/store"
	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
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
		a.removed = c.Removed[a.id]
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

// Apply takes assignments as the session brings them: it stores them, then acts. It is
// called by one goroutine at a time. An error means that nothing was done and that the
// session should begin anew.
func (m *Manager) Apply(as *berthv1.Assignments) error {
	change, err := m.plan(as)
	if err != nil {
		return err
	}
	storeErr := m.cfg.Store.Assign(change.stored)
	if storeErr != nil {
		m.log.Error("new assignments cannot be stored, so they are not run; what runs goes on", "error", storeErr)
	}
	m.mu.Lock()
	for _, j := range as.GetJobs() {
		m.jobs[store.KeyOf(j)] = j
	}
	m.revision = as.GetResultsIn()
	var added []*alloc
	for _, p := range change.fresh {
		switch {
		case m.stopping:
		case storeErr != nil:
			m.refuse(p, storeErr)
		default:
			added = append(added, m.add(p))
		}
	}
	m.mu.Unlock()
	for _, p := range change.known {
		m.update(p, as.GetComplete())
	}
	for _, id := range change.stored.Removed {
		m.remove(id)
	}
	m.start(added)
	if as.GetComplete() {
		m.sweep()
	}
	return nil
}

// start runs allocs that were added, when the shared CPUs are known.
func (m *Manager) start(added []*alloc) {
	m.spreadCPUs()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range added {
		if m.ctx != nil {
			m.launch(a)
		}
	}
}

// change is what assignments mean for this node.
type change struct {
	fresh, known []pending
	stored       store.Assignments
}

// plan works out a change and touches nothing.
func (m *Manager) plan(as *berthv1.Assignments) (*change, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	sent := map[store.JobKey]*berthv1.Job{}
	for _, j := range as.GetJobs() {
		sent[store.KeyOf(j)] = j
	}
	c := &change{stored: store.Assignments{Revision: as.GetResultsIn(), Jobs: as.GetJobs()}}
	named := map[string]bool{}
	for _, def := range as.GetAllocs() {
		if err := checkName("alloc", def.GetId()); err != nil {
			return nil, err
		}
		named[def.GetId()] = true
		key := store.KeyFor(def)
		p := pending{def, sent[key]}
		if p.job == nil {
			p.job = m.jobs[key]
		}
		if p.job == nil && !as.GetComplete() && !def.Ended() {
			return nil, problem.New(problem.Conflict, def.GetId(), "version %d of job %q was not sent with its alloc", key.Version, key.Name)
		}
		if _, ok := m.allocs[def.GetId()]; ok {
			c.known = append(c.known, p)
		} else {
			c.fresh = append(c.fresh, p)
		}
		c.stored.Allocs = append(c.stored.Allocs, def)
	}
	for id, a := range m.allocs {
		if as.GetComplete() && !named[id] && !a.removed {
			c.stored.Removed = append(c.stored.Removed, id)
		}
	}
	for _, id := range as.GetRemoved() {
		if m.allocs[id] != nil && !named[id] {
			c.stored.Removed = append(c.stored.Removed, id)
		}
	}
	if as.GetComplete() {
		for id := range m.refused {
			if !named[id] {
				delete(m.refused, id)
			}
		}
	}
	for _, id := range as.GetRemoved() {
		delete(m.refused, id)
	}
	return c, nil
}

// add takes in a new alloc, to be started; mu is held.
func (m *Manager) add(p pending) *alloc {
	delete(m.refused, p.alloc.GetId())
	a := newAlloc(m, p, &store.Content{})
	m.allocs[a.id] = a
	m.log.Info("alloc assigned", "alloc", a.id, "job", p.alloc.GetJob(), "group", p.alloc.GetGroup())
	return a
}

// refuse keeps an alloc that could not be stored, and says so; mu is held.
func (m *Manager) refuse(p pending, why error) {
	id := p.alloc.GetId()
	_, again := m.refused[id]
	m.refused[id] = p
	if !again {
		m.cfg.Reporter.Report(&berthv1.AllocStatusUpdate{
			AllocId: id, Status: berthv1.Alloc_pending, StatusTime: timestamppb.Now(),
			StatusReason: "the node cannot take it yet: " + why.Error(),
		}, true)
	}
	m.poke()
}

// update gives a known alloc its newer version.
func (m *Manager) update(p pending, complete bool) {
	m.mu.Lock()
	a := m.allocs[p.alloc.GetId()]
	if a != nil && a.removed {
		a.again = &p
		a = nil
	}
	m.mu.Unlock()
	if a == nil {
		return
	}
	a.update(p)
	if complete && !a.past {
		a.reportAgain(p.alloc)
	}
}

func sameStates(a, b []*berthv1.TaskState) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !proto.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// remove stops an alloc that the servers have forgotten, then deletes it.
func (m *Manager) remove(id string) {
	m.mu.Lock()
	a := m.allocs[id]
	if a == nil || a.removed {
		m.mu.Unlock()
		return
	}
	a.removed = true
	if m.ctx != nil {
		m.wg.Go(a.maybeCleanUp)
	}
	m.mu.Unlock()
	a.stop("the servers have forgotten it", false)
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
