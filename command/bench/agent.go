package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Agent is what to measure of the agent: `berth bench agent` starts this program as a
// server and as an agent, has real tasks run by the exec driver, and looks at the
// processes from outside.
type Agent struct {
	// Tasks are submitted as one job, against the clock; then Sleeping tasks are left to
	// sleep; Single jobs of one task tell the latency.
	Tasks, Sleeping, Single int
	// Settle is how long processes are left alone before they are looked at, Nap how long
	// the CPU time of sleeping tasks is measured.
	Settle, Nap time.Duration
	// Dir is an empty directory for the data of both; the caller removes it. Nothing is
	// mounted in it once Run has returned without an error.
	Dir string
	// Timeout bounds the whole run but its end.
	Timeout time.Duration
	// Progress takes words for people; may be io.Discard.
	Progress io.Writer
}

// AgentResult is what was measured.
type AgentResult struct {
	CPUs     int `json:"cpus"`
	Tasks    int `json:"tasks"`
	Sleeping int `json:"sleeping"`
	Single   int `json:"single"`
	// The idle agent: with what it shares with the server, which is the same program, and without.
	IdleRSSBytes     uint64 `json:"agent_idle_rss_bytes"`
	IdlePrivateBytes uint64 `json:"agent_idle_private_bytes"`
	// From the submission of a job of one task until the API tells its caller that it runs.
	SubmitToRunning Quantiles `json:"task_submit_to_running_ms"`
	// From the submission of one job until the API tells its caller that all its tasks run.
	AllRunning float64 `json:"tasks_all_running_ms"`
	// CPU time that one task takes from its submission until nothing of it is left, of
	// the agent, the shim and the task: unlike the times above it tells much the same on a busy machine.
	CPUPerTask float64 `json:"cpu_ms_per_task"`
	// What a sleeping task costs beside its own process: its share of the shims' memory
	// and of what the agent has grown by since it was idle.
	MemoryPerTask    uint64  `json:"memory_per_task_bytes"`
	ProcessesPerTask float64 `json:"processes_per_task"`
	// CPU time of the agent and all shims over time, while every task sleeps.
	SleepingCPU float64 `json:"sleeping_cpu_cores"`
}

// Run measures. Everything that it starts has ended when it returns, also when it fails.
func (a Agent) Run(ctx context.Context) (result *AgentResult, err error) {
	if a.Tasks < 1 || a.Sleeping < 1 || a.Single < 1 {
		return nil, problem.New(problem.Invalid, "", "bench agent needs at least one task of each kind")
	}
	if os.Geteuid() != 0 {
		return nil, problem.New(problem.Denied, "", "bench agent runs real tasks with the exec driver, which makes cgroups and namespaces: that takes root").
			WithRemedy("run it as root, or with sudo")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, a.Timeout, problem.New(problem.Timeout, "", "the bench has not ended after %s", a.Timeout))
	defer cancel()
	h, err := startHost(ctx, a.Dir)
	if err != nil {
		return nil, fmt.Errorf("starting a server and an agent: %w", err)
	}
	defer func() {
		a.say("stopping everything")
		if endErr := h.end(); endErr != nil {
			result, err = nil, errors.Join(err, endErr)
		}
	}()
	return a.measure(h)
}

func (a Agent) say(format string, args ...any) { fmt.Fprintf(a.Progress, format+"\n", args...) }

func (a Agent) measure(h *host) (*AgentResult, error) {
	r := &AgentResult{CPUs: runtime.NumCPU(), Tasks: a.Tasks, Sleeping: a.Sleeping, Single: a.Single}
	for _, count := range []int{a.Tasks, a.Sleeping} {
		if err := h.fits(job("all", count)); err != nil {
			return nil, err
		}
	}
	a.say("a server and an agent are up; leaving them alone for %s", a.Settle)
	if err := h.rest(a.Settle); err != nil {
		return nil, err
	}
	idle, err := memoryOf(h.agent.pid())
	if err != nil {
		return nil, err
	}
	r.IdleRSSBytes, r.IdlePrivateBytes = idle.rss, idle.private
	a.say("%d single tasks, one after another", a.Single)
	if r.SubmitToRunning, err = a.singles(h); err != nil {
		return nil, err
	}
	a.say("%d tasks at once", a.Tasks)
	if err := a.together(h, r); err != nil {
		return nil, err
	}
	a.say("%d sleeping tasks, looked at for %s", a.Sleeping, a.Nap)
	if err := h.runJob(job("sleeping", a.Sleeping)); err != nil {
		return nil, err
	}
	return r, a.sleeping(h, r, idle)
}

// singles gives the latency of jobs of one task on a machine that has nothing else to do.
func (a Agent) singles(h *host) (Quantiles, error) {
	delays := newTracker()
	for i := range a.Single {
		j := job(fmt.Sprintf("single-%03d", i), 1)
		delays.submitted(j.GetName(), time.Now())
		if err := h.runJob(j); err != nil {
			return Quantiles{}, err
		}
		delays.add(j.GetName(), 1, time.Now())
	}
	return delays.quantiles(), h.stopJobs(h.ctx)
}

// together has many tasks start, and end, at the same time.
func (a Agent) together(h *host, r *AgentResult) error {
	used, err := familyTime(h.agent.pid())
	if err != nil {
		return err
	}
	began := time.Now()
	if err := h.runJob(job("all", a.Tasks)); err != nil {
		return err
	}
	r.AllRunning = float64(time.Since(began).Microseconds()) / 1000
	if err := h.stopJobs(h.ctx); err != nil {
		return err
	}
	after, err := familyTime(h.agent.pid())
	r.CPUPerTask = float64((after - used).Microseconds()) / 1000 / float64(a.Tasks)
	return err
}

// sleeping looks at the agent and the shims while the tasks sleep.
func (a Agent) sleeping(h *host, r *AgentResult, idle memory) error {
	if err := h.rest(a.Settle); err != nil {
		return err
	}
	shims, err := h.shims()
	if err != nil {
		return err
	}
	all := append(shims, h.agent.pid())
	before, began := cpuTimeOf(all), time.Now()
	if err := h.rest(a.Nap); err != nil {
		return err
	}
	r.SleepingCPU = (cpuTimeOf(all) - before).Seconds() / time.Since(began).Seconds()
	grown, err := memoryOf(h.agent.pid())
	if err != nil {
		return err
	}
	var bytes uint64
	for _, pid := range shims {
		m, err := memoryOf(pid)
		if err != nil {
			return fmt.Errorf("the shim of a task that should sleep has ended: %w", err)
		}
		bytes += m.share
	}
	if grown.private > idle.private {
		bytes += grown.private - idle.private
	}
	r.MemoryPerTask = bytes / uint64(a.Sleeping)
	r.ProcessesPerTask = float64(len(shims)) / float64(a.Sleeping)
	return nil
}

// job makes a job of tasks that sleep, and ask for so little that any machine has room.
func job(name string, count int) *berthv1.Job {
	n := uint32(count)
	return &berthv1.Job{Name: name, Groups: []*berthv1.Group{{
		Name: "g", Count: &n, DiskMib: 1,
		Tasks: []*berthv1.Task{{
			Name: "t", Driver: "exec",
			Config: &structpb.Struct{Fields: map[string]*structpb.Value{
				"command": structpb.NewStringValue("sleep"),
				"args":    structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{structpb.NewStringValue("1000000")}}),
			}},
			Resources: &berthv1.Resources{CpuMilli: 2, MemoryMib: 16},
		}},
	}}}
}
