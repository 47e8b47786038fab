package runner

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/agent/store"
	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// driver gives the task's driver.
func (t *task) driver() (drivers.Driver, error) {
	name := t.alloc.taskSpec(t.def).GetDriver()
	if d := t.m.cfg.Driver(name); d != nil {
		return d, nil
	}
	return nil, problem.New(problem.Unavailable, name, "this node has no driver %q", name).
		WithRemedy("constrain the job to nodes that have it (attribute driver.%s)", name)
}

// build makes the driver's task as it is wanted now.
func (t *task) build() (*drivers.Task, error) {
	t.mu.Lock()
	shared, rendered := t.shared, t.templates.env
	t.mu.Unlock()
	s := t.alloc.spec(t.def)
	s.shared, s.rendered = shared, rendered
	s.dirs = t.m.cfg.Layout.dirs(t.key)
	return s.build()
}

func (t *task) prepare(ctx context.Context, wakes uint64) error {
	d, err := t.driver()
	if err != nil {
		t.rec.GiveUp = err.Error()
		return nil
	}
	dt, err := t.build()
	if err != nil {
		t.rec.GiveUp = err.Error()
		return nil
	}
	if err := makeDirs(dt.Dirs); err != nil {
		t.retry(ctx, "making directories", err)
		return nil
	}
	if ready, err := t.takeDisk(ctx, wakes); !ready {
		return err
	}
	if err := t.writePayload(dt); problem.Is(err, problem.Invalid) {
		t.rec.GiveUp = err.Error()
		return nil
	} else if err != nil {
		t.retry(ctx, "writing the payload", err)
		return nil
	}
	if ready, err := t.makeFiles(ctx, wakes, dt); !ready {
		return err
	}
	if dt, err = t.build(); err != nil { // with the environment of its templates
		t.rec.GiveUp = err.Error()
		return nil
	}
	t.rec.State.Phase = berthv1.TaskState_preparing
	t.publish(false)
	opCtx, release := t.interruptible(ctx, wakes, true)
	err = d.Prepare(opCtx, dt, func(words string) { t.log.Info("preparing", "progress", words) })
	interrupted := stoppedBy(opCtx, err)
	release()
	switch {
	case err != nil && interrupted:
		return nil
	case err != nil:
		return t.cannot("prepare", err)
	}
	if err := t.m.fault("before save prepared"); err != nil {
		return err
	}
	t.rec.Phase = store.Starting
	if err := t.save("prepared"); err != nil {
		// Nothing starts that would not be remembered.
		t.rec.Phase = store.Waiting
		t.retry(ctx, "storing the task's state", err)
		return nil
	}
	t.succeeded()
	return t.m.fault("after save prepared")
}

// writePayload gives the task what its job was dispatched with, where it wants that.
func (t *task) writePayload(dt *drivers.Task) error {
	s := t.alloc.spec(t.def)
	if s.task.GetPayloadFile() == "" {
		return nil
	}
	return writePayload(dt.Dirs.Task, s.task.GetPayloadFile(), dt.User, s.job.GetPayload())
}

func (t *task) start(ctx context.Context, wakes uint64) error {
	d, err := t.driver()
	if err != nil {
		return t.cannot("start", err)
	}
	t.mu.Lock()
	t.outdated = false // what is built now is the newest
	t.mu.Unlock()
	dt, err := t.build()
	if err != nil {
		return t.cannot("start", err)
	}
	if err := makeDirs(dt.Dirs); err != nil {
		t.retry(ctx, "making directories", err)
		return nil
	}
	if !t.templates.ready { // the agent was restarted since it was prepared
		if ready, err := t.makeFiles(ctx, wakes, dt); !ready {
			return err
		}
		if dt, err = t.build(); err != nil {
			return t.cannot("start", err)
		}
	}
	handle, err := d.Start(ctx, dt)
	if err != nil {
		if stoppedBy(ctx, err) {
			return nil
		}
		return t.cannot("start", err)
	}
	if err := t.m.fault("started"); err != nil {
		return err
	}
	if err := t.m.cfg.Layout.writeHandle(t.key, handle); err != nil {
		t.log.Warn("the second copy of the task's handle cannot be written", "error", err)
	}
	t.rec.Phase, t.rec.Handle = store.Running, handle
	st := t.rec.State
	st.Phase, st.Pid = berthv1.TaskState_started, uint32(max(0, handle.PID))
	st.StartTime, st.FinishTime = timestamppb.New(handle.StartedAt), nil
	if handle.StartedAt.IsZero() {
		st.StartTime = timestamppb.Now()
	}
	t.event("started", pidWords(handle))
	t.rec.Limits = limitWords(dt)
	t.attached = true
	t.succeeded()
	t.lookAt(ctx, d)
	t.log.Info("task started", "driver", handle.Driver, "pid", handle.PID)
	return t.settle("started")
}

// cannot records that a task could not be prepared or started.
func (t *task) cannot(what string, err error) error {
	why := fmt.Sprintf("the driver could not %s it: %v", what, err)
	if problem.Is(err, problem.Invalid) || problem.Is(err, problem.Unsupported) {
		t.rec.GiveUp = why // trying again is useless
	}
	t.ended(&drivers.Exit{Err: why, At: time.Now()}, "driver error")
	return t.settle("not started")
}

func (t *task) recover(ctx context.Context) error {
	d, err := t.driver()
	if err != nil {
		t.retry(ctx, "recover", err)
		return nil
	}
	dt, _ := t.build() // what cannot be resolved any more does not matter to what runs
	err = d.Recover(ctx, dt, t.rec.Handle)
	switch {
	case err == nil:
		t.attached = true
		t.succeeded()
		t.lookAgain()
		t.rec.State.Phase, t.rec.State.Pid = berthv1.TaskState_started, uint32(max(0, t.rec.Handle.PID))
		t.event("recovered", "the agent was restarted and found it again, "+pidWords(t.rec.Handle))
		t.log.Info("task recovered", "pid", t.rec.Handle.PID)
		t.lookAt(ctx, d)
		t.publish(false)
		return nil
	case stoppedBy(ctx, err):
		return nil
	case !problem.Is(err, problem.NotFound):
		t.retry(ctx, "recover", err)
		return nil
	}
	exit := &drivers.Exit{Err: "gone while the agent was away", At: time.Now()}
	if t.m.cfg.Rebooted {
		exit.Err = "gone: the machine was rebooted"
		t.rec.Restart = "the machine was rebooted" // that is not the task's failure
	}
	t.ended(exit, "lost")
	return t.settle("gone")
}

// wait returns when the task has ended, or something else is to be done.
func (t *task) wait(ctx context.Context, wakes uint64, s situation) error {
	d, err := t.driver()
	if err != nil {
		t.attached = false
		return nil
	}
	waitCtx, cancel := t.waitContext(ctx, s)
	defer cancel()
	opCtx, release := t.interruptible(waitCtx, wakes, false)
	exit, err := d.Wait(opCtx, taskID(t.key.Alloc, t.key.Task))
	interrupted := opCtx.Err() != nil
	release()
	switch {
	case err == nil:
		t.succeeded()
		t.ended(exit, "exited")
		return t.settle("exited")
	case problem.Is(err, problem.NotFound):
		t.ended(&drivers.Exit{Err: "the driver lost it: " + err.Error(), At: time.Now()}, "lost")
		return t.settle("exited")
	case interrupted:
		return nil
	}
	// The driver cannot say (a plugin that was restarted, perhaps): find the task again.
	t.attached, t.stopped = false, false
	t.retry(ctx, "wait", err)
	return nil
}

// waitContext ends when the task is to be looked at again though nobody wakes it: its
// shutdown_delay has passed, its templates are due, or its record is still to be stored.
func (t *task) waitContext(ctx context.Context, s situation) (context.Context, context.CancelFunc) {
	switch {
	case s.lingers():
		return context.WithTimeout(ctx, t.patienceOf(s.stopAt.Sub(s.now)))
	case !s.renderAt.IsZero():
		return context.WithTimeout(ctx, t.patienceOf(s.renderAt.Sub(s.now)))
	case t.unsaved:
		return context.WithTimeout(ctx, saveRetry)
	}
	return context.WithCancel(ctx)
}

func (t *task) doStop(ctx context.Context) error {
	d, err := t.driver()
	if err != nil {
		t.retry(ctx, "stop", err)
		return nil
	}
	dt, _ := t.build()
	if t.rec.Restart == "" && t.rec.Unhealthy == "" && t.failures == 0 {
		t.mu.Lock()
		why := t.stopWhy
		t.mu.Unlock()
		t.event("killing", killWords(dt, why))
		t.publish(false)
	}
	err = d.Stop(ctx, dt.ID, dt.KillSignal, dt.KillTimeout)
	if err != nil && !problem.Is(err, problem.NotFound) {
		if !stoppedBy(ctx, err) {
			t.retry(ctx, "stop", err)
		}
		return nil
	}
	t.stopped = true
	t.succeeded()
	return nil
}

// remove has the driver clean up, then decides what becomes of the task.
func (t *task) remove(ctx context.Context) error {
	if d, err := t.driver(); err == nil {
		dt, _ := t.build()
		if err := d.Remove(ctx, dt, t.rec.Handle); err != nil {
			if !stoppedBy(ctx, err) {
				t.retry(ctx, "remove", err)
			}
			return nil
		}
	}
	if err := t.m.fault("removed"); err != nil {
		return err
	}
	if err := t.m.cfg.Layout.dropHandle(t.key); err != nil {
		t.log.Warn("the second copy of the task's handle cannot be deleted", "error", err)
	}
	s, _ := t.situation()
	t.conclude(judge(t.rec, t.alloc.policy(t.def), s.stop || t.alloc.stopping(t.def), s.now), s.now)
	if t.rec.Phase == store.Dead {
		if err := t.m.cfg.Layout.dropSecrets(t.key); err != nil {
			t.log.Warn("the task's secrets directory cannot be deleted", "error", err)
		}
	}
	t.succeeded()
	return t.settle("removed")
}

func (t *task) conclude(v verdict, now time.Time) {
	st := t.rec.State
	t.rec.Handle, st.Pid = nil, 0
	if v.again {
		if v.counts {
			keep := recentRestarts(t.rec.Restarts, t.alloc.policy(t.def).interval, now)
			t.rec.Restarts = append(keep, now)
		}
		t.rec.Phase, t.rec.NotBefore, t.rec.Exit, t.rec.Restart, t.rec.Unhealthy = store.Waiting, v.at, nil, "", ""
		st.Phase = berthv1.TaskState_waiting
		st.Restarts++
		words := "now"
		if d := v.at.Sub(now); d > 0 {
			words = "in " + d.Round(time.Millisecond).String()
		}
		if v.why != "" {
			words += ": " + v.why
		}
		t.event("restarting", words)
		return
	}
	t.rec.Phase, st.Phase, st.Failed = store.Dead, berthv1.TaskState_dead, v.failed
	st.FinishTime = timestamppb.New(now)
	if t.rec.Exit != nil && !t.rec.Exit.At.IsZero() {
		st.FinishTime = timestamppb.New(t.rec.Exit.At)
	}
	if v.failed {
		t.event("failed", v.why)
		t.log.Warn("task failed for good", "why", v.why)
	}
}

func pidWords(h *drivers.Handle) string {
	if h.PID > 0 {
		return fmt.Sprintf("pid %d", h.PID)
	}
	return "no process of its own"
}

func killWords(dt *drivers.Task, why string) string {
	words := fmt.Sprintf("%s, and after %s SIGKILL", dt.KillSignal, dt.KillTimeout)
	if why != "" {
		words = why + ": " + words
	}
	return words
}
