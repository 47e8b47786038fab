package plan

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/fsm"
	"github.com/berthd/berth/server/state"
	"github.com/berthd/berth/topology"
)

// cluster is a real store and FSM behind a log that takes two milliseconds an entry.
type cluster struct {
	t     testing.TB
	store *state.Store
	fsm   *fsm.FSM
	loop  *Loop

	mu      sync.Mutex
	index   uint64
	entries int
	refused int                           // placements whose grant was held
	fail    func(*berthv1.LogEntry) error // what goes wrong before the log; nil: nothing
	ids     int
}

func newCluster(t testing.TB) *cluster {
	c := &cluster{t: t, store: state.New()}
	c.fsm = fsm.New(c.store, func(err error) { t.Error(err) })
	c.must(&berthv1.LogEntry{Fact: &berthv1.LogEntry_ClusterCreated{ClusterCreated: &berthv1.ClusterCreated{ClusterId: "test"}}})
	return c
}

// logDelay is how long an entry takes to be durable.
const logDelay = 2 * time.Millisecond

func (c *cluster) Propose(ctx context.Context, entry *berthv1.LogEntry) (fsm.Result, error) {
	c.mu.Lock()
	fail := c.fail
	c.mu.Unlock()
	if fail != nil {
		if err := fail(entry); err != nil {
			return fsm.Result{}, err
		}
	}
	time.Sleep(logDelay)
	return c.apply(entry)
}

func (c *cluster) apply(entry *berthv1.LogEntry) (fsm.Result, error) {
	entry.Version = fsm.EntryVersion
	data, err := fsm.Encode(entry)
	if err != nil {
		c.t.Errorf("an entry that is too large: %v", err)
		return fsm.Result{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.index++
	c.entries++
	result := c.fsm.Apply(&raft.Log{Index: c.index, Data: data, Type: raft.LogCommand}).(fsm.Result)
	for _, r := range result.Refused {
		if short := (*topology.Shortfall)(nil); errors.As(r.Reason, &short) { // not: its node went down meanwhile
			c.refused++
		}
	}
	return result, nil
}

// must writes a fact at once.
func (c *cluster) must(entry *berthv1.LogEntry) {
	c.t.Helper()
	if entry.Time == nil {
		entry.Time = fsm.NewEntry(time.Now(), func(*berthv1.LogEntry) {}).Time
	}
	if result, err := c.apply(entry); err != nil || result.Err != nil {
		c.t.Fatal(err, result.Err)
	}
}

func (c *cluster) id(kind string) string {
	c.ids++
	return fmt.Sprintf("%s-%d", kind, c.ids)
}

func nodeID(name string) string { return "node-" + name }

func (c *cluster) node(name string, milli, memory uint64, amend ...func(*berthv1.Node)) {
	n := &berthv1.Node{Id: nodeID(name), Name: name, Arch: "amd64", MinPort: 20000, MaxPort: 30000,
		Drivers:  []*berthv1.DriverInfo{{Name: "mock", Healthy: true}},
		Hardware: &berthv1.Hardware{DiskMib: 1 << 20, Cells: []*berthv1.Cell{{MemoryMib: memory}}}}
	for i := range milli / 1000 {
		n.Hardware.Cells[0].Cores = append(n.Hardware.Cells[0].Cores, fmt.Sprint(i))
	}
	for _, a := range amend {
		a(n)
	}
	c.must(&berthv1.LogEntry{Fact: &berthv1.LogEntry_NodeRegistered{NodeRegistered: &berthv1.NodeRegistered{Node: n}}})
}

func (c *cluster) setNode(name string, status berthv1.Node_Status) {
	c.must(&berthv1.LogEntry{Fact: &berthv1.LogEntry_NodesChanged{NodesChanged: &berthv1.NodesChanged{
		NodeIds: []string{nodeID(name)}, Status: &status}}})
}

func newJob(name string, count uint32, milli uint32, amend ...func(*berthv1.Job)) *berthv1.Job {
	j := &berthv1.Job{Name: name, Namespace: "default", Priority: 50, Groups: []*berthv1.Group{{
		Name: "g", Count: &count, Tasks: []*berthv1.Task{{Name: "main", Driver: "mock", Resources: &berthv1.Resources{CpuMilli: milli, MemoryMib: 64}}},
	}}}
	for _, a := range amend {
		a(j)
	}
	return j
}

// register submits a job as the API does, and gives the evaluation's id.
func (c *cluster) register(j *berthv1.Job) string {
	j = proto.Clone(j).(*berthv1.Job)
	j.Version = c.store.View().Job(j.GetNamespace(), j.GetName()).GetVersion() + 1
	id := c.id("eval")
	c.must(&berthv1.LogEntry{Fact: &berthv1.LogEntry_JobRegistered{JobRegistered: &berthv1.JobRegistered{
		Job: j, Evaluation: &berthv1.Evaluation{Id: id, Namespace: j.GetNamespace(), Job: j.GetName()}}}})
	return id
}

func (c *cluster) stop(name string, purge bool) {
	c.must(&berthv1.LogEntry{Fact: &berthv1.LogEntry_JobStopped{JobStopped: &berthv1.JobStopped{
		Namespace: "default", Job: name, Purge: purge,
		Evaluation: &berthv1.Evaluation{Id: c.id("eval"), Namespace: "default", Job: name}}}})
}

func (c *cluster) report(status berthv1.Alloc_Status, ids ...string) {
	for chunk := range slices.Chunk(ids, 300) {
		f := &berthv1.AllocsReported{}
		for _, id := range chunk {
			f.Updates = append(f.Updates, &berthv1.AllocStatusUpdate{AllocId: id, Status: status})
		}
		c.must(&berthv1.LogEntry{Fact: &berthv1.LogEntry_AllocsReported{AllocsReported: f}})
	}
}

// agents does what agents do once: run what is pending, end what is to stop, on nodes
// that are up.
func (c *cluster) agents() (did bool) {
	var run, end []string
	view := c.store.View()
	for a := range view.Allocs("") {
		switch {
		case view.Node(a.GetNodeId()).GetStatus() != berthv1.Node_ready || a.Ended():
		case !a.Wanted():
			end = append(end, a.GetId())
		case a.GetStatus() != berthv1.Alloc_running:
			run = append(run, a.GetId())
		}
	}
	c.report(berthv1.Alloc_running, run...)
	c.report(berthv1.Alloc_complete, end...)
	return len(run)+len(end) > 0
}

// settle lets the loop and the agents do what they will for so long.
func (c *cluster) settle(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		c.agents()
	}
	synctest.Wait()
	for _, err := range fsm.Audit(c.store.View()) {
		c.t.Error(err)
	}
}

func (c *cluster) allocs(name string) (out []*berthv1.Alloc) {
	for a := range c.store.View().AllocsByJob("default", name) {
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b *berthv1.Alloc) int {
		return int(a.GetIndex())*1000 + int(a.GetCreateRevision()) - int(b.GetIndex())*1000 - int(b.GetCreateRevision())
	})
	return out
}

// words draws a job's allocations, one a line.
func (c *cluster) words(name string) string {
	var b strings.Builder
	for _, a := range c.allocs(name) {
		fmt.Fprintf(&b, "%s v%d on %s: %s, %s", a.Name(), a.GetJobVersion(), a.GetNodeName(), a.GetDesired(), a.GetStatus())
		if a.GetDesiredReason() != "" {
			fmt.Fprintf(&b, " (%s)", a.GetDesiredReason())
		}
		b.WriteString("\n")
	}
	return b.String()
}

func (c *cluster) running(name string) (n int) {
	for _, a := range c.allocs(name) {
		if a.Wanted() && a.GetStatus() == berthv1.Alloc_running {
			n++
		}
	}
	return n
}

func (c *cluster) job(name string) *berthv1.Job { return c.store.View().Job("default", name) }

// leads runs a loop in a bubble while test runs.
func leads(t *testing.T, test func(c *cluster)) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		stop := c.lead()
		defer stop()
		test(c)
	})
}

// lead starts a loop; what it returns stops it.
func (c *cluster) lead() func() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	c.loop = New(Config{Store: c.store, Proposer: c, Logger: slog.New(slog.DiscardHandler)})
	go func() {
		defer close(done)
		_ = c.loop.Run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}
