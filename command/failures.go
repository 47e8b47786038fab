package command

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/berthd/berth/client"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// How much of a failed task is shown: enough to see what happened, not to read it all.
const (
	shownFailures = 3
	shownEvents   = 5
	shownLogLines = 10
)

// newFailures are the allocs that failed since the watch began.
func (f *follower) newFailures(allocs []*berthv1.Alloc) []*berthv1.Alloc {
	var failed []*berthv1.Alloc
	for _, alloc := range allocs {
		before, seen := f.known[alloc.GetId()]
		f.known[alloc.GetId()] = alloc.GetStatus()
		if alloc.GetStatus() != berthv1.Alloc_failed {
			continue
		}
		if alloc.GetCreateRevision() >= f.evalRevision || (seen && before != berthv1.Alloc_failed) {
			failed = append(failed, alloc)
		}
	}
	return failed
}

// tellFailures shows what the failed tasks did last, and what they said.
func (f *follower) tellFailures(ctx context.Context, failed []*berthv1.Alloc) error {
	for i, alloc := range failed {
		if i == shownFailures {
			f.printf("  ... and %d more\n", len(failed)-i)
			break
		}
		f.printf("\n  %s[%d] failed on %s", alloc.GetGroup(), alloc.GetIndex(), nodeWord(alloc.GetNodeName(), alloc.GetNodeId()))
		if r := alloc.GetStatusReason(); r != "" {
			f.printf(": %s", oneLine(r))
		}
		f.printf("   (alloc %s)\n", shortID(alloc.GetId()))
		for _, t := range alloc.GetTasks() {
			if t.GetFailed() {
				f.printTaskEvents(t)
				f.printLastOutput(ctx, f.client, alloc.GetId(), t.GetTask())
			}
		}
	}
	f.printf("\nFailed. The job stays submitted; berth job stop %s stops it.\n", f.job.GetName())
	return &exitStatus{code: exitError}
}

func (a *app) printTaskEvents(t *berthv1.TaskState) {
	events := t.GetEvents()
	if len(events) > shownEvents {
		events = events[len(events)-shownEvents:]
	}
	a.printf("  task %s, last events\n", t.GetTask())
	for _, e := range events {
		a.printf("    %-9s  %s\n", ago(e.GetTime(), time.Now()), eventWords(e))
	}
}

// eventWords is one event of a task: "exited with code 1: ...". What the agent's message
// says already is not said twice.
func eventWords(e *berthv1.TaskEvent) string {
	text, message := e.GetType(), oneLine(e.GetMessage())
	said := strings.HasPrefix(message, "exit code") || strings.HasPrefix(message, "ended by")
	switch {
	case e.GetOomKilled() && !strings.Contains(message, "memory"):
		text += ", out of memory"
	case said:
	case e.GetSignal() != 0:
		text += fmt.Sprintf(" by signal %d", e.GetSignal())
	case e.GetExitCode() != 0:
		text += fmt.Sprintf(" with code %d", e.GetExitCode())
	}
	if message != "" {
		text += ": " + message
	}
	return text
}

// printLastOutput shows the last lines of a task's stderr, or of its stdout where that
// is empty. That they cannot be read is not worth an error here.
func (a *app) printLastOutput(ctx context.Context, c *client.Client, allocID, task string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, stream := range []string{"stderr", "stdout"} {
		var b strings.Builder
		req := &berthv1.LogsRequest{AllocId: allocID, Task: task, Stream: stream, TailLines: shownLogLines}
		err := c.FollowLogs(ctx, req, func(f *berthv1.LogFrame) error { b.Write(f.GetData()); return nil })
		text := strings.TrimRight(b.String(), "\n ")
		if err != nil || text == "" {
			continue
		}
		lines := strings.Split(text, "\n")
		lines = lines[max(0, len(lines)-shownLogLines):]
		a.printf("  %s, last lines\n", stream)
		for _, l := range lines {
			a.printf("    %s\n", oneLine(l))
		}
		return
	}
}

// restartWords says that a task was started again, and after what.
func restartWords(alloc *berthv1.Alloc, t *berthv1.TaskState) string {
	events := slices.Clone(t.GetEvents())
	slices.Reverse(events)
	for _, e := range events {
		if e.GetType() == "exited" || e.GetExitCode() != 0 || e.GetSignal() != 0 {
			return fmt.Sprintf("%s[%d] on %s: %s %s; restart %d", alloc.GetGroup(), alloc.GetIndex(),
				nodeWord(alloc.GetNodeName(), alloc.GetNodeId()), t.GetTask(), eventWords(e), t.GetRestarts())
		}
	}
	return ""
}

// watchStop waits until nothing of a job runs any more.
func (a *app) watchStop(ctx context.Context, c *client.Client, job string, purge bool) error {
	p := a.newProgress()
	total := -1
	err := watchAllocs(ctx, c, job, func(allocs []*berthv1.Alloc) bool {
		live := 0
		for _, alloc := range allocs {
			if alloc.GetStatus() == berthv1.Alloc_running || alloc.GetStatus() == berthv1.Alloc_pending {
				live++
			}
		}
		if total < 0 {
			total = live
		}
		if total > 0 {
			p.update([]stage{{label: "stopped", done: max(total-live, 0), of: total}})
		}
		return live == 0
	})
	if ctx.Err() != nil {
		a.printf("Stopped watching; the job goes on being stopped. berth job status %s\n", job)
		return &exitStatus{code: exitInterrupted}
	}
	if err != nil {
		return err
	}
	if purge {
		a.printf("%s is stopped, and is forgotten.\n", job)
		return nil
	}
	a.printf("%s is stopped. `berth job run` starts it again; `berth job stop -purge %s` forgets it.\n", job, job)
	return nil
}

// watchAllocs hands a job's allocs to seen whenever they have changed, until it is
// satisfied.
func watchAllocs(ctx context.Context, c *client.Client, job string, seen func([]*berthv1.Alloc) bool) error {
	return client.Watch(ctx, func(index uint64, wait *durationpb.Duration) (uint64, bool, error) {
		var header metadata.MD
		allocs, err := collect(func(token string) ([]*berthv1.Alloc, string, error) {
			req := &berthv1.ListAllocsRequest{Job: job, PageToken: token}
			if token == "" {
				req.Index, req.Wait = index, wait
			}
			var md metadata.MD
			r, err := c.Allocs.ListAllocs(ctx, req, grpc.Header(&md))
			if token == "" {
				header = md
			}
			return r.GetAllocs(), r.GetNextPageToken(), err
		})
		if err != nil {
			return 0, false, err
		}
		return client.FreshnessOf(header).Index, seen(allocs), nil
	})
}
