package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/berthd/berth/client"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// host is a server and an agent on this machine, as processes of their own.
type host struct {
	ctx    context.Context // ends when the bench is to end, or a daemon has
	failed context.CancelCauseFunc
	dir    string
	api    *client.Client
	server *daemon
	agent  *daemon
	jobs   []string // that were submitted and not stopped
}

// endTime bounds how long tasks are given to end, and then each daemon.
const endTime = 20 * time.Second

// startHost starts both and waits until the node is ready; on failure nothing is left.
func startHost(ctx context.Context, dir string) (*host, error) {
	addresses, err := freeAddresses(4)
	if err != nil {
		return nil, err
	}
	// An empty directory of configuration: the daemons of this machine have another.
	config := filepath.Join(dir, "config")
	if err := os.Mkdir(config, 0o755); err != nil {
		return nil, err
	}
	h := &host{dir: dir}
	h.ctx, h.failed = context.WithCancelCause(ctx)
	common := []string{"-config", config, "-name", "bench", "-log-level", "warn"}
	h.server, err = startDaemon(filepath.Join(dir, "server.log"), h.failed, append([]string{"server", "-bootstrap-expect", "1", "-data-dir", filepath.Join(dir, "server"),
		"-http-addr", addresses[0], "-grpc-addr", addresses[1], "-raft-addr", addresses[2], "-gossip-addr", addresses[3]}, common...)...)
	if err != nil {
		h.failed(err)
		return nil, err
	}
	h.agent, err = startDaemon(filepath.Join(dir, "agent.log"), h.failed, append([]string{"agent", "-data-dir", h.agentDir(), "-servers", addresses[1]}, common...)...)
	if err == nil {
		h.api, err = client.New(client.Config{Address: addresses[1]})
	}
	if err == nil {
		err = h.waitReady()
	}
	if err != nil {
		return nil, errors.Join(err, h.end())
	}
	return h, nil
}

func (h *host) agentDir() string { return filepath.Join(h.dir, "agent") }

// freeAddresses gives loopback addresses that nobody listens on.
func freeAddresses(n int) ([]string, error) {
	addresses := make([]string, n)
	for i := range addresses {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("listening on loopback: %w", err)
		}
		defer func() { _ = l.Close() }() // the next one gets another port
		addresses[i] = l.Addr().String()
	}
	return addresses, nil
}

// waitReady waits until the servers place on the node.
func (h *host) waitReady() error {
	for {
		r, err := h.api.Nodes.ListNodes(h.ctx, &berthv1.ListNodesRequest{})
		if err != nil && !problem.Is(err, problem.Unavailable) {
			return h.cause(err)
		}
		if n := r.GetNodes(); len(n) == 1 && n[0].GetStatus() == berthv1.Node_ready {
			return nil
		}
		if err := h.rest(50 * time.Millisecond); err != nil {
			return err
		}
	}
}

// rest does nothing for a while.
func (h *host) rest(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-h.ctx.Done():
		return context.Cause(h.ctx)
	}
}

// cause is why a call failed: err, unless the bench or a daemon has ended.
func (h *host) cause(err error) error {
	if ended := context.Cause(h.ctx); ended != nil {
		return ended
	}
	return err
}

// runJob submits a job and waits, by blocking queries, until all its tasks run.
func (h *host) runJob(job *berthv1.Job) error {
	h.jobs = append(h.jobs, job.GetName())
	if _, err := h.api.Jobs.RegisterJob(h.ctx, &berthv1.RegisterJobRequest{Job: job}); err != nil {
		return fmt.Errorf("submitting job %s: %w", job.GetName(), h.cause(err))
	}
	want, ended := job.GetGroups()[0].GetCount(), false
	err := h.watch(h.ctx, job.GetName(), func(g *berthv1.GroupSummary) bool {
		ended = g.GetFailed()+g.GetComplete() > 0
		return ended || g.GetRunning() == want
	})
	switch {
	case err != nil:
		return fmt.Errorf("waiting for job %s to run: %w", job.GetName(), h.cause(err))
	case ended:
		return problem.New(problem.Internal, "", "a task that should sleep has ended%s", h.lastEvent(job.GetName()))
	}
	return nil
}

// fits says whether the node has room for a job, which is not submitted.
func (h *host) fits(job *berthv1.Job) error {
	plan, err := h.api.Jobs.PlanJob(h.ctx, &berthv1.PlanJobRequest{Job: job})
	if err != nil {
		return fmt.Errorf("planning job %s: %w", job.GetName(), h.cause(err))
	}
	outcome := plan.GetGroups()[0]
	if outcome.GetPlaced() >= outcome.GetWanted() {
		return nil
	}
	if failed := outcome.GetExplanation().GetFailed(); outcome.GetPlaced() == 0 && len(failed) > 0 {
		return problem.New(problem.Unavailable, "", "the agent cannot run exec tasks here: %s: %s", failed[0].GetCheck(), failed[0].GetDetail())
	}
	return problem.New(problem.Exhausted, "", "this machine has room for %d tasks of 16 MiB and 2 thousandths of a core, not for %d", outcome.GetPlaced(), outcome.GetWanted()).
		WithRemedy("ask for fewer, by -tasks and -sleeping")
}

// lastEvent is the last that befell a task of a job, for an error.
func (h *host) lastEvent(job string) string {
	r, err := h.api.Allocs.ListAllocs(h.ctx, &berthv1.ListAllocsRequest{Job: job, Filter: `status == "failed" or status == "complete"`})
	if err != nil {
		return ""
	}
	for _, alloc := range r.GetAllocs() {
		for _, task := range alloc.GetTasks() {
			if n := len(task.GetEvents()); n > 0 {
				return ": " + task.GetEvents()[n-1].GetType() + ": " + task.GetEvents()[n-1].GetMessage()
			}
		}
	}
	return ""
}

// stopJobs stops all jobs and waits until the agent has said that nothing of them is
// left: a task counts as ended when its cgroup and all else has been removed.
func (h *host) stopJobs(ctx context.Context) error {
	for _, name := range h.jobs {
		_, err := h.api.Jobs.StopJob(ctx, &berthv1.StopJobRequest{Job: name})
		if err != nil && !problem.Is(err, problem.NotFound) {
			return fmt.Errorf("stopping job %s: %w", name, err)
		}
	}
	for _, name := range h.jobs {
		err := h.watch(ctx, name, func(g *berthv1.GroupSummary) bool { return g.GetPending()+g.GetRunning() == 0 })
		if err != nil && !problem.Is(err, problem.NotFound) {
			return fmt.Errorf("waiting for job %s to end: %w", name, err)
		}
	}
	h.jobs = nil
	return nil
}

// watch follows the only group of a job, by blocking queries, until done.
func (h *host) watch(ctx context.Context, job string, done func(*berthv1.GroupSummary) bool) error {
	return client.Watch(ctx, func(index uint64, wait *durationpb.Duration) (uint64, bool, error) {
		var header metadata.MD
		s, err := h.api.Jobs.GetJobStatus(ctx, &berthv1.GetJobStatusRequest{Job: job, Index: index, Wait: wait}, grpc.Header(&header))
		if err != nil {
			return 0, false, err
		}
		return client.FreshnessOf(header).Index, done(s.GetGroups()[0]), nil
	})
}

// end stops the tasks and both daemons, by force where they do not end in order.
func (h *host) end() error {
	defer h.failed(nil)
	var errs []error
	if h.api != nil {
		errs = append(errs, within(h.ctx, h.stopJobs), h.api.Close())
	}
	if h.agent != nil {
		errs = append(errs, h.agent.end())
	}
	return errors.Join(append(errs, h.server.end(), within(h.ctx, h.killShims))...)
}

// within gives do the time to end something, also when ctx has ended.
func within(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	return do(ctx)
}
