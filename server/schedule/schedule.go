// Package schedule runs jobs by the clock, on the leader. A job with a schedule runs
// nothing itself: for each of its times a job of its own is registered, its child.
//
// A time is run exactly once, whatever leaders and clocks do: the child and the news that
// the time is over are one fact, which the FSM ignores for a time that is not newer than
// the job's last_scheduled. So there is nothing to remember here. A Runner is made from
// the state when this server begins to lead and thrown away when it leads no longer.
//
// What else makes and stops children (the API: by hand, by dispatch) finds the facts for it
// in child.go.
package schedule

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/jobspec/cron"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/fsm"
	"github.com/berthd/berth/server/state"
)

const (
	// lookEvery is how often the Runner looks at the clock although nothing is due: it may
	// have been set meanwhile.
	lookEvery = 30 * time.Second
	// tryAgain is how long the Runner waits when something could not be proposed.
	tryAgain = time.Second
	// atOnce is how many jobs are run at a time: many are due at midnight, and an entry
	// takes as long as a disk.
	atOnce = 64
)

// Proposer makes facts durable. When Propose returns, the Store has taken the entry in.
type Proposer interface {
	Propose(ctx context.Context, entry *berthv1.LogEntry) (fsm.Result, error)
}

// Runner runs what is due, for one term.
type Runner struct {
	store    *state.Store
	proposer Proposer
	log      *slog.Logger
	known    map[jobKey]timetable
}

type jobKey struct{ namespace, name string }

// timetable is a job with a schedule, and when it is due; zero: never.
type timetable struct {
	job   *berthv1.Job
	times *cron.Schedule // nil: it makes no sense
	next  time.Time
}

// New makes a Runner; Run starts it.
func New(store *state.Store, proposer Proposer, log *slog.Logger) *Runner {
	return &Runner{store: store, proposer: proposer, log: log}
}

// Run runs what is due until ctx ends.
func (r *Runner) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		watch := r.store.Watch(state.Topic{Table: state.TableSchedules})
		r.read(r.store.View())
		wake := time.Now().Add(lookEvery)
		if !r.runDue(ctx, time.Now()) {
			wake = time.Now().Add(tryAgain)
		}
		for _, t := range r.known {
			if !t.next.IsZero() && t.next.After(time.Now()) && t.next.Before(wake) {
				wake = t.next
			}
		}
		timer := time.NewTimer(time.Until(wake))
		select {
		case <-ctx.Done():
		case <-watch.C:
		case <-timer.C:
		}
		timer.Stop()
		watch.Close()
	}
	return ctx.Err()
}

// read takes in the jobs with schedules. Stored jobs never change, so one that is the same
// has nothing new.
func (r *Runner) read(view *state.View) {
	before := r.known
	r.known = make(map[jobKey]timetable, len(before))
	for job := range view.ScheduledJobs() {
		key := jobKey{job.GetNamespace(), job.GetName()}
		t := before[key]
		if t.job == job {
			r.known[key] = t
			continue
		}
		if t.times == nil || !sameTimes(job, t.job) {
			var err error
			if t.times, err = timesOf(job); err != nil {
				r.log.Warn("a job's schedule makes no sense; it is not run", "namespace", key.namespace, "job", key.name, "error", err)
			}
		}
		t.job, t.next = job, time.Time{}
		if t.times != nil && !job.GetStopped() && !job.GetSchedule().GetPaused() {
			t.next = t.times.Next(lastOf(job))
		}
		r.known[key] = t
	}
}

// runDue runs every job that is due; false: not all of it could be proposed.
func (r *Runner) runDue(ctx context.Context, now time.Time) bool {
	var group errgroup.Group
	var failed atomic.Bool
	group.SetLimit(atOnce)
	for _, t := range r.known {
		if t.next.IsZero() || t.next.After(now) {
			continue
		}
		group.Go(func() error {
			if err := r.runJob(ctx, t, now); err != nil && ctx.Err() == nil {
				r.log.Warn("a job could not be run by its schedule, and is tried again", "namespace", t.job.GetNamespace(), "job", t.job.GetName(), "error", err)
				failed.Store(true)
			}
			return nil
		})
	}
	_ = group.Wait() // nothing of it gives an error
	return !failed.Load()
}

// runJob runs a job for the times that have come.
func (r *Runner) runJob(ctx context.Context, t timetable, now time.Time) error {
	run, newest := due(t.times, t.job.GetSchedule().GetCatchUp(), lastOf(t.job), now)
	if now.Sub(t.next) > onTime {
		r.log.Info("times of a schedule were missed", "namespace", t.job.GetNamespace(), "job", t.job.GetName(),
			"since", t.next, "catch_up", t.job.GetSchedule().GetCatchUp(), "run", len(run))
	}
	for _, at := range run {
		if err := r.propose(ctx, r.facts(t.job, at, now)); err != nil {
			return err
		}
	}
	if len(run) == 0 && !newest.IsZero() {
		return r.propose(ctx, []*berthv1.ScheduleRun{passed(t.job, newest, "it was missed: no server led at that time, and catch_up is \"none\"")})
	}
	return nil
}

// passed is the fact that nothing is run for a time, and why.
func passed(job *berthv1.Job, at time.Time, why string) *berthv1.ScheduleRun {
	return &berthv1.ScheduleRun{Namespace: job.GetNamespace(), Job: job.GetName(), Time: timestamppb.New(at), Skipped: why}
}

// facts are what becomes of one time: as the jobs before it allow.
func (r *Runner) facts(job *berthv1.Job, at, now time.Time) []*berthv1.ScheduleRun {
	view := r.store.View()
	child := Scheduled(job, at)
	log := r.log.With("namespace", job.GetNamespace(), "job", job.GetName(), "time", at)
	if view.Job(child.GetNamespace(), child.GetName()) != nil {
		log.Warn("there is a job of the name that this run would have; the time is passed over", "name", child.GetName())
		return []*berthv1.ScheduleRun{passed(job, at, "there is a job "+child.GetName()+" already")}
	}
	running := Running(view, job)
	if job.GetSchedule().GetOverlap() == "skip" && len(running) > 0 {
		log.Info("the run before is not over; the time is passed over", "running", running[0].GetName())
		return []*berthv1.ScheduleRun{passed(job, at, "the run before, "+running[0].GetName()+", was not over")}
	}
	facts := Replace(job, running, now)
	last := facts[len(facts)-1]
	last.Time, last.Child, last.Evaluation = timestamppb.New(at), child, NewEvaluation(child, uuid.NewString(), now)
	return facts
}

// Replace begins the facts of another run of a job with a schedule: where its schedule says
// so, what still runs of it is stopped. The last of them is to get the child.
func Replace(job *berthv1.Job, running []*berthv1.Job, now time.Time) []*berthv1.ScheduleRun {
	if job.GetSchedule().GetOverlap() == "replace" {
		running = slices.DeleteFunc(running, (*berthv1.Job).GetStopped)
		if facts := StopFacts(running, uuid.NewString, now); len(facts) > 0 {
			return facts
		}
	}
	return []*berthv1.ScheduleRun{{Namespace: job.GetNamespace(), Job: job.GetName()}}
}

// Running are the children of a job that are not over, newest first.
func Running(view *state.View, job *berthv1.Job) (running []*berthv1.Job) {
	for child := range view.Children(job.GetNamespace(), job.GetName()) {
		if child.GetStatus() != berthv1.Job_dead {
			running = append(running, child)
		}
	}
	return running
}

func (r *Runner) propose(ctx context.Context, facts []*berthv1.ScheduleRun) error {
	for _, fact := range facts {
		result, err := r.proposer.Propose(ctx, fsm.NewEntry(time.Now(), func(e *berthv1.LogEntry) {
			e.Fact = &berthv1.LogEntry_ScheduleRun{ScheduleRun: fact}
		}))
		if err == nil {
			err = result.Err
		}
		if err != nil {
			return err
		}
	}
	return nil
}
