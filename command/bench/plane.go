// Package bench measures the real control plane on one machine: `berth bench plane`
// starts servers with their stores on disk, opens sessions for simulated agents, submits
// jobs through the API and waits until every allocation is durable and at its agent. It
// sizes a cluster before it is bought, and holds the goals of the design.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server"
	"github.com/berthd/berth/server/fsm"
)

// Plane is what to measure.
type Plane struct {
	Servers, Nodes, Allocs, Jobs int
	// Dir takes the servers' data; it should be on the kind of disk that servers get.
	Dir string
	// Timeout bounds the whole run.
	Timeout time.Duration
	// Apart has this program run the simulated agents as a process of their own.
	Apart bool
	// CPUProfile takes a profile of the servers, from the first submission until all run;
	// the agents' goes to the same name with ".agents" added. Empty: none.
	CPUProfile string
	// Log takes what the servers log; nil: nobody reads it.
	Log slog.Handler
	// Progress takes words for people; may be io.Discard.
	Progress io.Writer
}

// Result is what was measured. Rates count from the first submission to the last
// allocation being durable; CPU until every agent's acknowledgement is in the state, too.
type Result struct {
	Servers         int     `json:"servers"`
	Nodes           int     `json:"nodes"`
	Jobs            int     `json:"jobs"`
	Allocs          int     `json:"allocs"`
	CPUs            int     `json:"cpus"`
	Seconds         float64 `json:"seconds"`
	AllocsPerSecond float64 `json:"allocs_per_second"`
	JobsPerSecond   float64 `json:"jobs_per_second"`
	SettledSeconds  float64 `json:"all_running_seconds"`
	// CPUPerAlloc is of the servers; of the agents too where they are not apart. PlacedCPU
	// is the part of it until all are durable.
	CPUPerAlloc       float64 `json:"cpu_us_per_alloc"`
	PlacedCPUPerAlloc float64 `json:"cpu_until_durable_us_per_alloc"`
	AgentsCPUPerAlloc float64 `json:"agents_cpu_us_per_alloc"`
	// AllocsPerCPUSecond is the rate that does not depend on who else uses the machine: by
	// the CPU time of servers and agents until all are durable. CPUsUsed is what they had
	// of the machine meanwhile.
	AllocsPerCPUSecond float64 `json:"allocs_per_cpu_second"`
	CPUsUsed           float64 `json:"cpus_used"`

	Opening Opening `json:"opening"`

	SubmitToDurable  Quantiles `json:"submit_to_durable_ms"`
	SubmitToAgent    Quantiles `json:"submit_to_agent_ms"`
	SmallDurable     Quantiles `json:"small_job_submit_to_durable_ms"`
	SmallLegs        Legs      `json:"small_job_legs_ms"`
	SmallJobs        int       `json:"small_jobs"`
	OneSubmitDurable Quantiles `json:"one_submit_to_durable_ms"`
	OneSubmitToAgent Quantiles `json:"one_submit_to_agent_ms"`
	OneAtLeader      Quantiles `json:"one_submit_to_agent_of_leader_ms"`
	OneAtFollower    Quantiles `json:"one_submit_to_agent_of_follower_ms"`

	LogBytesPerAlloc  float64 `json:"log_bytes_per_alloc"`
	Syncs             uint64  `json:"syncs"`
	HeapBytesPerAlloc float64 `json:"heap_bytes_per_alloc_and_server"`
	RSSBytes          uint64  `json:"rss_bytes"`
	SnapshotPause     float64 `json:"snapshot_pause_ms"`
	SnapshotSeconds   float64 `json:"snapshot_seconds"`
	SnapshotBytes     int64   `json:"snapshot_bytes"`
	RestoreSeconds    float64 `json:"restore_seconds"`
	RestartSeconds    float64 `json:"restart_seconds"`
	DoubleGrants      int     `json:"double_grants"`
}

// Opening is what it takes to have a session for every agent: its node registered as a
// fact of its own, and all that it is to run sent.
type Opening struct {
	Seconds       float64 `json:"seconds"`
	CPUPerSession float64 `json:"cpu_us_per_session"`        // of all servers
	HeapPerNode   float64 `json:"heap_bytes_per_node"`       // of all servers
	AgentsCPU     float64 `json:"agents_cpu_us_per_session"` // of the simulated agents
}

// Run measures. Everything that it starts has ended when it returns, and its data is gone.
func (p Plane) Run(ctx context.Context) (*Result, error) {
	if p.Servers < 1 || p.Nodes < 1 || p.Jobs < 1 || p.Allocs < p.Jobs {
		return nil, errors.New("bench plane needs at least one server, one node, one job, and an allocation for each job")
	}
	server.TuneGC()
	dir, err := os.MkdirTemp(p.Dir, "berth-bench-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for the servers' data: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // nothing more can be done about it
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	run := &run{plane: p, dir: dir, placed: newTracker(), arrived: newTracker(), running: newTracker(), small: newTracker(), legs: newLegs(),
		atLeader: newTracker(), atFollower: newTracker(), conns: map[string]*grpc.ClientConn{}}
	defer run.close()
	group.Go(func() error {
		defer cancel()
		return run.measure(ctx, group)
	})
	err = group.Wait()
	if run.result == nil {
		if err == nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("measuring: %w", err)
	}
	return run.result, nil
}

// run is one measurement under way.
type run struct {
	plane   Plane
	servers []*server.Server
	address []string // of gRPC, by server
	gossip  string   // of the first server
	conns   map[string]*grpc.ClientConn
	connsMu sync.Mutex
	placed  *tracker // allocations that are durable
	arrived *tracker // allocations that their agent has
	running *tracker // allocations whose agent's acknowledgement is durable
	small   *tracker // small jobs under load that are durable
	legs    *legs    // of those
	// atLeader and atFollower are the arrived ones of the single jobs.
	atLeader, atFollower *tracker
	leader               atomic.Int32         // which of the servers leads
	ports                [][]string           // by server
	stops                []context.CancelFunc // by server
	ended                []chan struct{}
	dir                  string
	fleet                atomic.Int64 // process id; 0: the agents are in this process
	result               *Result
}

func (r *run) say(format string, args ...any) { fmt.Fprintf(r.plane.Progress, format+"\n", args...) }

func (r *run) measure(ctx context.Context, group *errgroup.Group) error {
	for i := range r.plane.Servers {
		if err := r.startServer(ctx, group, filepath.Join(r.dir, fmt.Sprint("s", i+1)), freePorts); err != nil {
			return err
		}
	}
	leader, err := r.waitLeader(ctx)
	if err != nil {
		return err
	}
	r.say("%d servers are up", r.plane.Servers)
	opening, err := r.open(ctx, group)
	if err != nil {
		return err
	}
	group.Go(func() error { return r.watchPlacements(ctx, leader) })
	result, err := r.flood(ctx, group, leader)
	if err != nil {
		return err
	}
	result.Opening = opening
	if err := r.measureOne(ctx, result); err != nil {
		return err
	}
	result.DoubleGrants = len(fsm.Audit(leader.Store().View()))
	if err := r.measureRestart(ctx, group, result); err != nil {
		return err
	}
	r.result = result
	return nil
}

// open opens the sessions of all agents.
func (r *run) open(ctx context.Context, group *errgroup.Group) (o Opening, err error) {
	heap, before, began := heapAfterGC(), r.cpu(), time.Now()
	stopProfile, err := profile(r.plane.CPUProfile, ".opening")
	if err != nil {
		return o, err
	}
	if err := r.startAgents(ctx, group); err != nil {
		return o, errors.Join(err, stopProfile())
	}
	took, after := time.Since(began), r.cpu()
	if err := stopProfile(); err != nil {
		return o, fmt.Errorf("ending the CPU profile: %w", err)
	}
	r.say("%d agents have a session, %.1f s", r.plane.Nodes, took.Seconds())
	n := float64(r.plane.Nodes)
	return Opening{
		Seconds: took.Seconds(), CPUPerSession: float64((after.servers - before.servers).Microseconds()) / n,
		HeapPerNode: float64(heapAfterGC()-heap) / n, AgentsCPU: float64((after.agents - before.agents).Microseconds()) / n,
	}, nil
}

// flood submits all jobs at once and measures until all of their allocations run.
func (r *run) flood(ctx context.Context, group *errgroup.Group, leader *server.Server) (*Result, error) {
	heap := heapAfterGC()
	stopProfile, err := profile(r.plane.CPUProfile, "")
	if err != nil {
		return nil, err
	}
	before, began := r.cpu(), time.Now()
	stats := leader.Stats()
	stopSmall := r.submitSmall(ctx, group)
	if err := r.submit(ctx); err != nil {
		return nil, err
	}
	r.say("%d jobs are submitted, %.1f s", r.plane.Jobs, time.Since(began).Seconds())
	if err := r.placed.wait(ctx, r.plane.Allocs); err != nil {
		return nil, fmt.Errorf("waiting for allocations to be durable (%d of %d are): %w", r.placed.count(), r.plane.Allocs, err)
	}
	seconds, durable := r.placed.last().Sub(began).Seconds(), r.cpu()
	stopSmall()
	r.say("%d allocations are durable, %.1f s", r.plane.Allocs, seconds)
	if err := r.allRun(ctx); err != nil {
		return nil, err
	}
	settled := time.Since(began).Seconds()
	after, cpu := leader.Stats(), r.cpu()
	if err := stopProfile(); err != nil {
		return nil, fmt.Errorf("ending the CPU profile: %w", err)
	}
	own, err := memoryOf(os.Getpid())
	if err != nil {
		return nil, err
	}
	n := float64(r.plane.Allocs)
	per := func(d time.Duration) float64 { return float64(d.Microseconds()) / n }
	busy := durable.servers - before.servers + durable.agents - before.agents
	return &Result{
		AllocsPerCPUSecond: n / busy.Seconds(), CPUsUsed: busy.Seconds() / seconds,
		Servers: r.plane.Servers, Nodes: r.plane.Nodes, Jobs: r.plane.Jobs, Allocs: r.plane.Allocs, CPUs: runtime.NumCPU(),
		Seconds: seconds, AllocsPerSecond: n / seconds, JobsPerSecond: float64(r.plane.Jobs) / seconds, SettledSeconds: settled,
		CPUPerAlloc: per(cpu.servers - before.servers), PlacedCPUPerAlloc: per(durable.servers - before.servers), AgentsCPUPerAlloc: per(cpu.agents - before.agents),
		SubmitToDurable: r.placed.quantiles(), SubmitToAgent: r.arrived.quantiles(),
		SmallDurable: r.small.quantiles(), SmallJobs: r.small.count(), SmallLegs: r.legs.result(),
		LogBytesPerAlloc: float64(after.LogBytes-stats.LogBytes) / n, Syncs: after.LogAppends - stats.LogAppends,
		HeapBytesPerAlloc: float64(heapAfterGC()-heap) / n / float64(r.plane.Servers), RSSBytes: own.rss,
	}, nil
}

// allRun returns when every allocation is at its agent, and running.
func (r *run) allRun(ctx context.Context) error {
	if err := r.arrived.wait(ctx, r.plane.Allocs); err != nil {
		return fmt.Errorf("waiting for allocations to reach their agents (%d of %d have): %w", r.arrived.count(), r.plane.Allocs, err)
	}
	if err := r.running.wait(ctx, r.plane.Allocs); err != nil {
		return fmt.Errorf("waiting for allocations to be running (%d of %d are): %w", r.running.count(), r.plane.Allocs, err)
	}
	return nil
}

// oneJobs is how many single jobs measure the latency of an idle plane.
const oneJobs = 50

// measureOne submits jobs of one allocation, one after another.
func (r *run) measureOne(ctx context.Context, result *Result) error {
	placed, arrived := r.placed.fork(), r.arrived.fork()
	for i := range oneJobs {
		// Half of them on a node with its session at the leader, where there is another.
		at := (int(r.leader.Load()) + i) % r.plane.Servers % r.plane.Nodes
		where := &berthv1.Constraint{Attribute: "sim.server", Operator: "=", Value: fmt.Sprint(at)}
		if err := r.submitJob(ctx, r.address[i%len(r.address)], fmt.Sprintf(onePrefix+"%03d", i), 1, where); err != nil {
			return err
		}
		if err := r.arrived.wait(ctx, arrived+i+1); err != nil {
			return fmt.Errorf("waiting for a single allocation: %w", err)
		}
	}
	if err := r.placed.wait(ctx, placed+oneJobs); err != nil {
		return err
	}
	result.OneSubmitDurable, result.OneSubmitToAgent = r.placed.quantilesFrom(placed), r.arrived.quantilesFrom(arrived)
	result.OneAtLeader, result.OneAtFollower = r.atLeader.quantiles(), r.atFollower.quantiles()
	return nil
}

func (r *run) startAgents(ctx context.Context, group *errgroup.Group) error {
	ready := make(chan struct{})
	if r.plane.Apart {
		group.Go(func() error { return r.startFleet(ctx, ready) })
	} else {
		a := newAgents(r.plane.Nodes, r.plane.Servers, r.seen)
		group.Go(func() error { return a.run(ctx, r.address, func() { close(ready) }) })
	}
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("opening %d sessions: %w", r.plane.Nodes, ctx.Err())
	}
}

// seen is told of allocations that have come to an agent with its session at a server.
func (r *run) seen(job string, server, n int, at time.Time) {
	if strings.HasPrefix(job, smallPrefix) {
		return
	}
	r.arrived.add(job, n, at)
	if strings.HasPrefix(job, onePrefix) {
		where := r.atFollower
		if server == int(r.leader.Load()) {
			where = r.atLeader
		}
		where.add(job, n, at)
	}
}

// Names of jobs begin so.
const (
	onePrefix   = "one-"
	smallPrefix = "small-"
)

// submitters is how many clients submit jobs side by side.
const submitters = 16

// submit submits all jobs through all servers.
func (r *run) submit(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(submitters)
	left, jobs := r.plane.Allocs, r.plane.Jobs
	for i := range jobs {
		count := left / (jobs - i)
		left -= count
		group.Go(func() error {
			return r.submitJob(ctx, r.address[i%len(r.address)], fmt.Sprintf("bench-%06d", i), count)
		})
	}
	return group.Wait()
}

func (r *run) submitJob(ctx context.Context, address, name string, count int, where ...*berthv1.Constraint) error {
	conn, err := r.conn(address)
	if err != nil {
		return err
	}
	n := uint32(count)
	job := &berthv1.Job{Name: name, Groups: []*berthv1.Group{{
		Name: "g", Count: &n, DiskMib: 1, Constraints: where,
		Tasks: []*berthv1.Task{{Name: "t", Driver: "mock", Resources: &berthv1.Resources{CpuMilli: 10, MemoryMib: 16}}},
	}}}
	now := time.Now()
	if strings.HasPrefix(name, smallPrefix) {
		r.legs.note(name, func(j *journey) { j.submitted = now })
	}
	for _, t := range []*tracker{r.placed, r.arrived, r.running, r.small, r.atLeader, r.atFollower} {
		t.submitted(name, now)
	}
	if _, err := berthv1.NewJobServiceClient(conn).RegisterJob(ctx, &berthv1.RegisterJobRequest{Job: job}); err != nil {
		return fmt.Errorf("submitting job %s: %w", name, err)
	}
	return nil
}

func (r *run) conn(address string) (*grpc.ClientConn, error) {
	r.connsMu.Lock()
	defer r.connsMu.Unlock()
	if c := r.conns[address]; c != nil {
		return c, nil
	}
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", address, err)
	}
	r.conns[address] = conn
	return conn, nil
}

func (r *run) close() {
	for _, c := range r.conns {
		_ = c.Close() // the bench is over
	}
}
