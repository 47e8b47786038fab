package runner

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/berthd/berth/agent/discovery"
	"github.com/berthd/berth/agent/health"
	"github.com/berthd/berth/agent/store"
	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/mock"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// node is an agent's disk and host, which outlive the agent's lives.
type node struct {
	t        *testing.T
	dir      string
	host     *mock.Host
	reports  *reports
	rebooted bool

	// Of the life that runs now.
	m      *Manager
	store  *store.Store
	driver *recorder
	cancel context.CancelFunc
	done   chan struct{}
	fault  func(point string) error
	onNode func() // called once, when the runner next asks for its node

	answers sync.Map // topic -> *berthv1.Known; what is not there does not exist
	catalog *discovery.Catalog

	probes sync.Map // check name -> health.Outcome; what is not there passes
}

func newNode(t *testing.T) *node {
	return &node{t: t, dir: t.TempDir(), host: mock.NewHost(), reports: &reports{last: map[string]*berthv1.AllocStatusUpdate{}}}
}

// start begins a life of the agent.
func (n *node) start() {
	n.t.Helper()
	n.load()
	n.run()
}

// load makes a life of the agent that does not run yet.
func (n *node) load() {
	n.t.Helper()
	log := slog.New(slog.NewTextHandler(n.t.Output(), nil))
	st, err := store.Open(filepath.Join(n.dir, "agent"), log)
	if err != nil {
		n.t.Fatal(err)
	}
	n.store = st
	n.driver = &recorder{Driver: mock.New(n.host), pids: map[string][]int{}, last: map[string]*drivers.Task{}}
	n.catalog = discovery.New()
	n.m = New(Config{
		Store: st, Layout: Layout{Data: n.dir, Secrets: n.dir + "/run/node/secrets"}, Reporter: n.reports, Log: log, Rebooted: n.rebooted,
		Driver: func(name string) drivers.Driver {
			switch name {
			case "mock":
				return n.driver
			case "bare": // it has no power beyond the contract
				return struct{ drivers.Driver }{n.driver}
			}
			return nil
		},
		Node: func() *berthv1.Node {
			if hook := n.onNode; hook != nil {
				n.onNode = nil
				hook()
			}
			return testNode(st.NodeID())
		},
		Fault:   func(p string) error { return n.faultAt(p) },
		Catalog: n.catalog,
		Prober:  n.prober,
	})
	if err := n.m.Restore(); err != nil {
		n.t.Fatal(err)
	}
}

// run runs what load made.
func (n *node) run() {
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel, n.done = cancel, make(chan struct{})
	go func() {
		defer close(n.done)
		_ = n.m.Run(ctx)
	}()
	go n.tell(ctx, n.catalog)
}

// tell is the servers' part of discovery.
func (n *node) tell(ctx context.Context, c *discovery.Catalog) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.Changed():
		}
		for _, topic := range c.Topics() {
			c.Know(n.answer(topic))
		}
	}
}

func (n *node) answer(topic *berthv1.Topic) *berthv1.Known {
	if k, ok := n.answers.Load(topic.Key()); ok {
		return k.(*berthv1.Known)
	}
	return &berthv1.Known{Topic: topic}
}

// know sets what is known of a topic.
func (n *node) know(k *berthv1.Known) {
	n.answers.Store(k.GetTopic().Key(), k)
	n.catalog.Know(k)
}

// prober runs scripts as they are and gives other checks what the test has set.
func (n *node) prober(c *berthv1.Check, t health.Target) health.Prober {
	if health.Type(c) == "script" || t.Address == "" {
		return n.m.pool.Prober(c, t)
	}
	return probeFunc(func(context.Context) health.Outcome {
		if o, ok := n.probes.Load(c.GetName()); ok {
			return o.(health.Outcome)
		}
		return health.Outcome{OK: true, Output: "fine"}
	})
}

type probeFunc func(context.Context) health.Outcome

func (f probeFunc) Probe(ctx context.Context) health.Outcome { return f(ctx) }

func (n *node) faultAt(p string) error {
	if n.fault == nil {
		return nil
	}
	return n.fault(p)
}

// end ends the life; workloads go on.
func (n *node) end() {
	n.cancel()
	<-n.done
	if err := n.store.Close(); err != nil {
		n.t.Error(err)
	}
}

// restart ends the life and begins another.
func (n *node) restart() {
	n.end()
	n.start()
}

func (n *node) assign(as *berthv1.Assignments) {
	n.t.Helper()
	if err := n.m.Apply(as); err != nil {
		n.t.Fatal(err)
	}
}

// status waits until nothing moves without time passing, and gives the alloc's report.
func (n *node) status(id string) *berthv1.AllocStatusUpdate {
	synctest.Wait()
	n.reports.mu.Lock()
	defer n.reports.mu.Unlock()
	return n.reports.last[id]
}

func (n *node) want(id string, status berthv1.Alloc_Status) *berthv1.AllocStatusUpdate {
	n.t.Helper()
	u := n.status(id)
	if u.GetStatus() != status || u == nil {
		n.t.Fatalf("alloc %s is %v (%s), want %v\n%v", id, u.GetStatus(), u.GetStatusReason(), status, u)
	}
	return u
}

// reports keeps the newest report of each alloc.
type reports struct {
	mu        sync.Mutex
	last      map[string]*berthv1.AllocStatusUpdate
	forgotten []string
	all       []reported
}

type reported struct {
	*berthv1.AllocStatusUpdate
	at     time.Time
	urgent bool
}

func (r *reports) Report(u *berthv1.AllocStatusUpdate, urgent bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last[u.GetAllocId()] = u
	r.all = append(r.all, reported{u, time.Now(), urgent})
}

// since gives the reports that have come since a time.
func (r *reports) since(at time.Time) []reported {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []reported
	for _, u := range r.all {
		if !u.at.Before(at) {
			list = append(list, u)
		}
	}
	return list
}

func (r *reports) Forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgotten = append(r.forgotten, id)
}

// recorder notes every process that was started, over all lives.
type recorder struct {
	*mock.Driver
	mu   sync.Mutex
	pids map[string][]int
	last map[string]*drivers.Task
	fail error // what Update gives; nil: it does its work
	// observe says how tasks are; nil: the mock driver does.
	observe func(ctx context.Context, told func(drivers.Condition)) error
}

func (r *recorder) Observe(ctx context.Context, id string, told func(drivers.Condition)) error {
	if r.observe != nil {
		return r.observe(ctx, told)
	}
	return r.Driver.Observe(ctx, id, told)
}

func (r *recorder) Start(ctx context.Context, t *drivers.Task) (*drivers.Handle, error) {
	h, err := r.Driver.Start(ctx, t)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last[t.ID] = t
	if err == nil {
		r.pids[t.ID] = append(r.pids[t.ID], h.PID)
	}
	return h, err
}

func (r *recorder) Update(ctx context.Context, t *drivers.Task) error {
	r.mu.Lock()
	r.last[t.ID] = t
	fail := r.fail
	r.mu.Unlock()
	if fail != nil {
		return fail
	}
	return r.Driver.Update(ctx, t)
}

func (r *recorder) task(id string) *drivers.Task {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last[id]
}

func testNode(id string) *berthv1.Node {
	return &berthv1.Node{
		Id: id, Name: "n1", Pool: "default", Arch: "amd64", Address: "10.0.0.1",
		Attributes: map[string]string{"kernel.version": "6.1", "node.rack": "r7", "node.region": "eu"},
		Meta:       map[string]string{"zone": "z1"},
		Hardware: &berthv1.Hardware{Cells: []*berthv1.Cell{
			{Id: 0, Cores: []string{"0,4", "1,5"}, MemoryMib: 1024, ReservedCpus: "0,4"},
			{Id: 1, Cores: []string{"2,6", "3,7"}, MemoryMib: 1024},
		}},
	}
}

// jobOf makes a job with one group "g" whose tasks have these mock configs, by name.
func jobOf(kind berthv1.Job_Type, tasks map[string]map[string]any) *berthv1.Job {
	g := &berthv1.Group{Name: "g"}
	for _, name := range sortedKeys(tasks) {
		g.Tasks = append(g.Tasks, &berthv1.Task{Name: name, Driver: "mock", Config: mustStruct(tasks[name])})
	}
	return &berthv1.Job{Namespace: "default", Name: "j", Version: 1, Type: kind, Groups: []*berthv1.Group{g}}
}

func mustStruct(m map[string]any) *structpb.Struct {
	s, err := structpb.NewStruct(m)
	if err != nil {
		panic(err)
	}
	return s
}

func allocOf(job *berthv1.Job, id string) *berthv1.Alloc {
	return &berthv1.Alloc{Id: id, Namespace: job.GetNamespace(), Job: job.GetName(), JobVersion: job.GetVersion(), Group: "g"}
}

func complete(rev uint64, job *berthv1.Job, allocs ...*berthv1.Alloc) *berthv1.Assignments {
	as := &berthv1.Assignments{Complete: true, ResultsIn: rev, Allocs: allocs}
	if job != nil {
		as.Jobs = []*berthv1.Job{job}
	}
	return as
}

func restart(attempts uint32, delay time.Duration, mode string) *berthv1.RestartPolicy {
	return &berthv1.RestartPolicy{Attempts: &attempts, Delay: durationpb.New(delay), Mode: mode, Interval: durationpb.New(10 * time.Minute)}
}

var errCrash = fmt.Errorf("crash")
