package command

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/berthd/berth/client"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// watchFlags say how long a command stays to see what becomes of a job.
type watchFlags struct {
	detach bool
	wait   time.Duration
	settle time.Duration
}

func (w *watchFlags) register(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&w.detach, "detach", false, "return when the job is accepted, without waiting for it to run")
	cmd.Flags().DurationVar(&w.wait, "wait", 0, "how long to wait for what cannot be placed now (default on a terminal: until Ctrl-C; elsewhere: not at all)")
	cmd.Flags().DurationVar(&w.settle, "settle", time.Second, "how long a service must go on without a restart before it counts as running")
}

// sight is a job as one look at the servers showed it.
type sight struct {
	status *berthv1.JobStatus
	allocs []*berthv1.Alloc
	err    error
}

// followVersion shows what a command has written: to programs the answer, to people how far
// the version is.
func (a *app) followVersion(ctx context.Context, c *client.Client, name string, r *berthv1.RegisterJobResponse, o *output, w *watchFlags) error {
	if o.forPrograms() {
		return a.show(o, r, nil)
	}
	job, err := c.Jobs.GetJob(ctx, &berthv1.GetJobRequest{Job: name, Version: r.GetVersion()})
	if err != nil {
		return err
	}
	return a.follow(ctx, job, r, w)
}

// follow watches a job that was just written until it runs, fails, or cannot be placed.
func (a *app) follow(ctx context.Context, job *berthv1.Job, r *berthv1.RegisterJobResponse, w *watchFlags) error {
	c, err := a.api()
	if err != nil {
		return err
	}
	a.printf("%s\n", jobWords(job, r.GetVersion()))
	if r.GetUnchanged() {
		a.printf("  unchanged: this is what v%d says already\n", r.GetVersion())
	}
	if w.detach {
		a.printf("Accepted (evaluation %s). berth job status %s\n", shortID(r.GetEvaluationId()), job.GetName())
		return nil
	}
	f := &follower{app: a, client: c, job: job, version: r.GetVersion(), evalID: r.GetEvaluationId(), wait: w.wait, settle: w.settle, progress: a.newProgress(), known: map[string]berthv1.Alloc_Status{}}
	if job.GetType() == berthv1.Job_batch || job.GetType() == berthv1.Job_sysbatch {
		f.settle = 0
	}
	if f.wait == 0 && a.term.out {
		f.wait = -1 // until Ctrl-C
	}
	return f.run(ctx)
}

// follower is one watch of a job.
type follower struct {
	*app
	client   *client.Client
	job      *berthv1.Job
	version  uint64 // of the job that was written
	evalID   string
	wait     time.Duration // for what cannot be placed; negative: without end
	progress *progress

	evalRevision uint64 // allocs made since are ours
	known        map[string]berthv1.Alloc_Status
	told         []string // restarts that were told of
	blockedSince time.Time
	blocked      bool
	settle       time.Duration
	runningSince time.Time // everything has run since; zero: it does not
}

func (f *follower) run(ctx context.Context) error {
	watching, cancel := context.WithCancel(ctx)
	sights := make(chan sight)
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.look(watching, sights)
	}()
	defer func() { cancel(); <-done }()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case s := <-sights:
			if ctx.Err() != nil {
				return f.interrupted()
			}
			if s.err != nil {
				return s.err
			}
			if over, err := f.judge(ctx, s); over {
				return err
			}
		case <-tick.C:
			if f.settled() {
				return f.done()
			}
			if f.blocked && f.wait >= 0 && time.Since(f.blockedSince) >= f.wait {
				return &exitStatus{code: exitNotPlaced}
			}
			if f.progress.live && !f.blocked {
				f.progress.draw()
			}
		case <-ctx.Done():
			return f.interrupted()
		}
	}
}

func (f *follower) interrupted() error {
	f.printf("Stopped watching; the job is not touched. berth job status %s\n", f.job.GetName())
	if f.blocked {
		return &exitStatus{code: exitNotPlaced}
	}
	return &exitStatus{code: exitInterrupted}
}

// look sends what the servers say of the job whenever it has changed.
func (f *follower) look(ctx context.Context, sights chan<- sight) {
	send := func(s sight) bool {
		select {
		case sights <- s:
			return true
		case <-ctx.Done():
			return false
		}
	}
	eval, err := f.client.WaitEvaluation(ctx, f.evalID)
	if err != nil {
		send(sight{err: err})
		return
	}
	f.evalRevision = eval.GetCreateRevision()
	namespace, name := f.job.GetNamespace(), f.job.GetName()
	err = client.Watch(ctx, func(index uint64, wait *durationpb.Duration) (uint64, bool, error) {
		var header metadata.MD
		s, err := f.client.Jobs.GetJobStatus(ctx, &berthv1.GetJobStatusRequest{Namespace: namespace, Job: name, Index: index, Wait: wait}, grpc.Header(&header))
		if err != nil {
			return 0, false, err
		}
		allocs, err := jobAllocs(ctx, f.client, namespace, name)
		if err != nil {
			return 0, false, err
		}
		return client.FreshnessOf(header).Index, !send(sight{status: s, allocs: allocs}), nil
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		send(sight{err: err})
	}
}

// judge shows a sight, and says whether it is the last one.
func (f *follower) judge(ctx context.Context, s sight) (bool, error) {
	if f.rollsOut() {
		return f.judgeRollout(s)
	}
	stages, running := f.stages(s)
	restarted := f.tellRestarts(s.allocs)
	if failed := f.newFailures(s.allocs); len(failed) > 0 {
		f.progress.update(stages)
		return true, f.tellFailures(ctx, failed)
	}
	e := s.status.GetEvaluation()
	if e.GetStatus() == berthv1.Evaluation_blocked {
		return f.tellBlocked(stages, e)
	}
	if f.blocked {
		f.blocked = false
		f.progress = f.newProgress()
	}
	f.progress.update(stages)
	switch {
	case !running || e.GetStatus() == berthv1.Evaluation_pending:
		f.runningSince = time.Time{}
	case f.runningSince.IsZero() || restarted:
		f.runningSince = time.Now()
	}
	if f.settled() {
		return true, f.done()
	}
	return false, nil
}

// settled says whether everything has run for long enough: a program that cannot work
// is often seen running before it ends.
func (f *follower) settled() bool {
	return !f.runningSince.IsZero() && time.Since(f.runningSince) >= f.settle
}

func (f *follower) done() error {
	f.printf("Done. berth job status %s\n", f.job.GetName())
	return nil
}

// stages counts what is placed and what runs, and says whether everything does.
func (f *follower) stages(s sight) ([]stage, bool) {
	var wanted, placed, running int
	for _, g := range s.status.GetGroups() {
		wanted += int(g.GetWanted())
	}
	toCompletion := f.job.GetType() == berthv1.Job_batch || f.job.GetType() == berthv1.Job_sysbatch
	var nodes []string
	for _, alloc := range s.allocs {
		if alloc.GetDesired() != berthv1.Alloc_run {
			continue
		}
		switch alloc.GetStatus() {
		case berthv1.Alloc_failed, berthv1.Alloc_lost:
			continue
		case berthv1.Alloc_running:
			if !toCompletion && restarts(alloc) {
				break
			}
			running++
		case berthv1.Alloc_complete:
			if !toCompletion {
				continue
			}
			running++
		}
		placed++
		nodes = append(nodes, nodeWord(alloc.GetNodeName(), alloc.GetNodeId()))
	}
	slices.Sort(nodes)
	detail := strings.Join(slices.Compact(nodes), " ")
	return []stage{
		{label: "placed", done: placed, of: wanted, detail: detail},
		{label: "running", done: running, of: wanted},
	}, running >= wanted
}

// restarts says that a task of an alloc that runs does not at the moment, though it did:
// it waits for its restart, or has failed. Tasks that come before the main ones or after
// them are over, or have not begun.
func restarts(alloc *berthv1.Alloc) bool {
	return slices.ContainsFunc(alloc.GetTasks(), func(t *berthv1.TaskState) bool {
		switch t.GetPhase() {
		case berthv1.TaskState_waiting, berthv1.TaskState_preparing:
			return t.GetRestarts() > 0
		}
		return t.GetFailed()
	})
}

// tellBlocked says why the rest is not placed, once, and whether that is the end.
func (f *follower) tellBlocked(stages []stage, e *berthv1.Evaluation) (bool, error) {
	if f.blocked {
		return false, nil
	}
	f.blocked, f.blockedSince = true, time.Now()
	if stages[0].done > 0 {
		f.progress.update(stages)
	}
	for _, g := range e.GetGroups() {
		if g.GetExplanation() == nil {
			continue
		}
		f.printf("\n%s\n", notPlaced(g))
		f.printBlocked(g)
	}
	if f.wait == 0 {
		f.printf("\nNot placed; the job waits for a change. berth explain %s\n", f.job.GetName())
		return true, &exitStatus{code: exitNotPlaced}
	}
	f.printf("\nWaiting for a change; Ctrl-C stops watching, not the job. berth explain %s\n", f.job.GetName())
	return false, nil
}

// tellRestarts says once for each restart that a task was started again, and whether
// there was one.
func (f *follower) tellRestarts(allocs []*berthv1.Alloc) (restarted bool) {
	for _, alloc := range allocs {
		for _, t := range alloc.GetTasks() {
			if t.GetRestarts() == 0 || alloc.GetDesired() != berthv1.Alloc_run {
				continue
			}
			line := restartWords(alloc, t)
			if line == "" || slices.Contains(f.told, line) || alloc.GetCreateRevision() < f.evalRevision {
				continue
			}
			f.told = append(f.told, line)
			f.progress.say("  %s", line)
			restarted = true
		}
	}
	return restarted
}
