package runner

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/agent/store"
	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

const (
	// maxEvents bounds TaskState.events.
	maxEvents = 10
	// saveRetry is the wait before a record that could not be stored is tried again.
	saveRetry = 10 * time.Second
	// A driver operation that failed is tried again after retryMin, doubling to retryMax.
	retryMin = time.Second
	retryMax = 30 * time.Second
)

// task is one task of an alloc. Its goroutine (run) alone touches rec and what is
// beside it; the rest is guarded by mu.
type task struct {
	m     *Manager
	alloc *alloc
	def   string // name in the group
	key   store.TaskKey
	log   *slog.Logger

	rec      *store.Task
	attached bool
	stopped  bool
	unsaved  bool // rec is newer than what is stored
	failures int  // of the same operation, in a row
	saidWhy  string

	templates templates
	sight     *sight // nil: its driver does not tell how it is, or it does not run

	mu       sync.Mutex
	hold     bool // its group wants it to wait
	stop     bool
	stopWhy  string
	stopAt   time.Time // when it may be stopped: its shutdown_delay after it was told
	told     stopTimes
	giveUp   string
	restart  string
	ill      illness
	outdated bool
	// conditions are what the driver has told and the record does not have yet.
	conditions []drivers.Condition
	shared     string
	wakes      uint64             // counts the wakes, so that none is missed
	cancel     context.CancelFunc // ends the operation in progress; nil when none may be ended
	patient    bool               // that operation is ended by a stop only
	wake       chan struct{}
	done       chan struct{} // closed when the goroutine has ended
}

func newTask(a *alloc, name string, rec *store.Task) *task {
	t := &task{
		m: a.m, alloc: a, def: name, key: store.TaskKey{Alloc: a.id, Task: name},
		log: a.m.log.With("alloc", a.id, "task", name), rec: rec,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	if rec != nil {
		t.told = stopTimes{rec.GroupStop, rec.Stop}
	}
	if rec == nil {
		t.rec = t.firstRecord()
	} else if rec.Phase == store.Starting && a.m.cfg.Rebooted {
		// What Prepare had made ready may be gone with the boot.
		t.rec.Phase = store.Waiting
	}
	t.outdated = t.rec.Phase == store.Running // what was assigned last may not have come to the driver
	if p := policyFor(a.job, a.group, findTask(a.group, name)); time.Until(t.rec.NotBefore) > p.maxDelay+p.interval {
		t.rec.NotBefore = time.Time{} // the clock went back while the agent was away
	}
	return t
}

// firstRecord is the record of a task that the store knows nothing of: mostly a new one,
// but the store may have been lost.
func (t *task) firstRecord() *store.Task {
	rec := &store.Task{Phase: store.Waiting, State: &berthv1.TaskState{Task: t.def}}
	if h := t.m.cfg.Layout.readHandle(t.key); h != nil {
		rec.Phase, rec.Handle = store.Running, h
		rec.State.Phase = berthv1.TaskState_started
		rec.State.StartTime = timestamppb.New(h.StartedAt)
		return rec
	}
	if t.alloc.cur.Ended() {
		rec.Phase = store.Dead
		for _, st := range t.alloc.cur.GetTasks() {
			if st.GetTask() == t.def {
				rec.State = proto.CloneOf(st)
			}
		}
		rec.State.Phase = berthv1.TaskState_dead
		return rec
	}
	rec.State.Events = []*berthv1.TaskEvent{{Type: "received", Message: "assigned to this node", Time: timestamppb.Now()}}
	return rec
}

// run steps the task until it is dead or ctx ends. Ending ctx leaves the workload alone.
func (t *task) run(ctx context.Context) {
	defer close(t.done)
	defer t.lookAway()
	for ctx.Err() == nil {
		t.takeOrders()
		if t.unsaved {
			t.unsaved = t.save("retry") != nil
		}
		if t.rec.Phase == store.Dead && !t.unsaved {
			return
		}
		if err := t.step(ctx); err != nil {
			return // a failpoint: the agent "crashes" here
		}
	}
}

// order changes what is wanted of the task and wakes it.
func (t *task) order(change func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change()
	t.wakes++
	if t.cancel != nil && (!t.patient || t.stop || t.giveUp != "") {
		t.cancel()
	}
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// follow does what the group says. What is to stop once is never wanted again; delay is
// how long it goes on after that.
func (t *task) follow(d directive, delay time.Duration) {
	t.mu.Lock()
	same := t.hold == d.hold && (t.stop || d.stop == "")
	t.mu.Unlock()
	if same {
		return
	}
	t.order(func() {
		t.hold = d.hold
		if d.stop != "" && !t.stop {
			t.stop, t.stopWhy, t.stopAt = true, d.stop, time.Now()
			if delay > 0 {
				t.told.own = notAfter(t.told.own, t.stopAt)
				t.stopAt = t.told.own.Add(delay)
			}
		}
	})
}

// stopTimes are when a task's group, and when the task itself, was told to stop; zero: it
// was not.
type stopTimes struct{ group, own time.Time }

// notAfter is when something began that may be stored: it is now where it is not, or by a
// clock that has jumped.
func notAfter(began, now time.Time) time.Time {
	if began.IsZero() || began.After(now) {
		return now
	}
	return began
}

// illness is what a liveness check says of a task.
type illness struct {
	why string
	of  time.Time // when the run that it says it of was started
}

// unwell has the task stopped, and judged by its policy as if it had failed.
func (t *task) unwell(why string, of time.Time) {
	t.order(func() { t.ill = illness{why, of} })
}

// takeOrders moves orders into the record.
func (t *task) takeOrders() {
	t.mu.Lock()
	restart, giveUp, stop, ill, told := t.restart, t.giveUp, t.stop, t.ill, t.told
	t.restart, t.giveUp, t.ill = "", "", illness{}
	t.mu.Unlock()
	if !told.group.Equal(t.rec.GroupStop) || !told.own.Equal(t.rec.Stop) {
		t.rec.GroupStop, t.rec.Stop = told.group, told.own
		t.unsaved = true
	}
	switch {
	case giveUp != "" && t.rec.GiveUp == "" && t.rec.Phase != store.Dead:
		t.rec.GiveUp = giveUp
		t.event("killing", giveUp)
		t.unsaved = true
	case restart != "" && !stop && (t.rec.Phase == store.Running || t.rec.Phase == store.Exited):
		t.rec.Restart = restart
		t.event("restart ordered", restart)
		t.unsaved = true
	case ill.why != "" && !stop && t.rec.Phase == store.Running && t.rec.Unhealthy == "" && ill.of.Equal(t.rec.State.GetStartTime().AsTime()):
		t.rec.Unhealthy = ill.why
		t.event("unhealthy", ill.why)
		t.unsaved = true
	case restart != "" && t.rec.Phase == store.Waiting:
		t.rec.NotBefore = time.Time{}
	}
	t.takeConditions()
}

func (t *task) situation() (situation, uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return situation{
		rec: t.rec, hold: t.hold, stop: t.stop, stopAt: t.stopAt,
		attached: t.attached, stopped: t.stopped, outdated: t.outdated,
		changed: t.templates.changed, renderAt: t.templates.due, now: time.Now(),
	}, t.wakes
}

// step does the one next thing. An error comes from a failpoint alone.
func (t *task) step(ctx context.Context) error {
	s, wakes := t.situation()
	o := next(s)
	if err := t.m.fault(string(o)); err != nil {
		return err
	}
	switch o {
	case opSleep:
		t.sleep(ctx, time.Until(t.rec.NotBefore))
	case opHold:
		t.sleep(ctx, t.patienceOf(housekeepingPeriod))
	case opPrepare:
		return t.prepare(ctx, wakes)
	case opStart:
		return t.start(ctx, wakes)
	case opRecover:
		return t.recover(ctx)
	case opUpdate:
		return t.update(ctx)
	case opRender:
		return t.rerender(ctx)
	case opWait:
		return t.wait(ctx, wakes, s)
	case opStop:
		return t.doStop(ctx)
	case opRemove:
		return t.remove(ctx)
	default:
		t.sleep(ctx, saveRetry)
	}
	return nil
}

// sleep waits for a wake, at most d.
func (t *task) sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-t.wake:
	case <-timer.C:
	}
}

// patienceOf is how long something may take that comes to no end by itself: less than d
// while the record is still to be stored.
func (t *task) patienceOf(d time.Duration) time.Duration {
	if t.unsaved {
		return min(d, saveRetry)
	}
	return d
}

// interruptible gives a context for an operation that an order should end; a patient one
// is ended by a stop only. wakes is the count that the decision for the operation was
// made on.
func (t *task) interruptible(ctx context.Context, wakes uint64, patient bool) (context.Context, func()) {
	opCtx, cancel := context.WithCancel(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cancel, t.patient = cancel, patient
	if t.wakes != wakes && (!patient || t.stop || t.giveUp != "") {
		cancel()
	}
	return opCtx, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.cancel = nil
		cancel()
	}
}

// retry says why an operation failed and waits before it is tried again.
func (t *task) retry(ctx context.Context, what string, err error) {
	t.tryAgain(ctx, "driver error", what, err)
}

// tryAgain is retry with an event of another kind.
func (t *task) tryAgain(ctx context.Context, kind, what string, err error) {
	d := min(retryMin<<min(t.failures, 10), retryMax)
	t.failures++
	if why := what + ": " + err.Error(); why != t.saidWhy {
		t.saidWhy = why
		t.log.Warn("a task's operation failed and is tried again", "operation", what, "error", err, "in", d)
		t.event(kind, why)
		t.publish(false)
	}
	t.sleep(ctx, d)
}

func (t *task) succeeded() { t.failures, t.saidWhy = 0, "" }

// event adds an event to the task's state.
func (t *task) event(kind, message string) *berthv1.TaskEvent {
	e := &berthv1.TaskEvent{Type: kind, Message: message, Time: timestamppb.Now()}
	events := append(t.rec.State.Events, e)
	t.rec.State.Events = events[max(0, len(events)-maxEvents):]
	return e
}

// publish makes the task's state known to its alloc, and so to the servers.
func (t *task) publish(urgent bool) { t.alloc.publish(proto.CloneOf(t.rec.State), urgent) }

// save publishes and stores the record.
func (t *task) save(point string) error {
	t.publish(t.rec.Phase == store.Running || t.rec.Phase == store.Dead)
	err := t.m.cfg.Store.SaveTask(t.key, t.rec, t.alloc.report)
	if err != nil {
		t.log.Error("a task's state cannot be stored; it goes on and storing is tried again", "at", point, "error", err)
	}
	return err
}

// settle stores a step that has been taken already: what failed is tried again later.
func (t *task) settle(point string) error {
	if err := t.m.fault("before save " + point); err != nil {
		return err
	}
	t.unsaved = t.save(point) != nil
	return t.m.fault("after save " + point)
}

// ended records that the task has ended, or could not be started.
func (t *task) ended(exit *drivers.Exit, kind string) {
	t.rec.Phase, t.rec.Exit = store.Exited, exit
	e := t.event(kind, describe(exit))
	e.ExitCode, e.Signal, e.OomKilled = int32(exit.Code), uint32(exit.Signal), exit.OOMKilled
	t.attached, t.stopped = false, false
	t.lookAway()
	t.rec.State.Condition, t.rec.State.Guest = "", nil
	t.log.Info("task ended", "how", describe(exit))
}

// stoppedBy tells that an operation was ended by an order or by the agent's end.
func stoppedBy(ctx context.Context, err error) bool {
	return ctx.Err() != nil && (errors.Is(err, ctx.Err()) || problem.Is(err, problem.Canceled) || problem.Is(err, problem.Timeout))
}
