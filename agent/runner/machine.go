package runner

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/agent/store"
	"github.com/berthd/berth/drivers"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// op is the one thing to do next for a task.
type op string

const (
	// opIdle: nothing until something changes.
	opIdle op = "idle"
	// opHold: nothing until its group lets it start.
	opHold op = "hold"
	// opSleep: nothing until the task's NotBefore.
	opSleep   op = "sleep"
	opPrepare op = "prepare"
	opStart   op = "start"
	opRecover op = "recover"
	opUpdate  op = "update"
	opRender  op = "render"
	opWait    op = "wait"
	opStop    op = "stop"
	opRemove  op = "remove"
)

// situation is all that the next step depends on.
type situation struct {
	rec *store.Task
	// hold says that the task's group does not let it start yet.
	hold bool
	// stop says that the task is not to run (any more), but for its shutdown delay, which
	// ends at stopAt.
	stop   bool
	stopAt time.Time
	// attached says that the driver has this task in hand since the agent started.
	attached bool
	// stopped says that the driver was told to stop it, and did; its exit is to be read.
	stopped bool
	// outdated says that the driver has not been told of the task's newest grant.
	outdated bool
	// changed says that what its templates read may have changed; renderAt is when the task
	// is told of what has. Zero: nothing has.
	changed  bool
	renderAt time.Time
	now      time.Time
}

// lingers says that the task was told to stop and may still go on.
func (s situation) lingers() bool { return s.stop && !s.stopped && s.now.Before(s.stopAt) }

// next is the state machine of a task: pure, and at most one driver operation a step.
func next(s situation) op {
	switch s.rec.Phase {
	case store.Waiting:
		switch {
		case s.stop || s.rec.GiveUp != "":
			return opRemove
		case s.hold:
			return opHold
		case s.now.Before(s.rec.NotBefore):
			return opSleep
		}
		return opPrepare
	case store.Starting:
		switch {
		case s.stop || s.rec.GiveUp != "":
			return opRemove
		case s.hold:
			return opHold
		}
		return opStart
	case store.Running:
		switch {
		case !s.attached:
			return opRecover
		case !s.stopped && (s.stop && !s.lingers() || s.rec.Restart != "" || s.rec.Unhealthy != "" || s.rec.GiveUp != ""):
			return opStop
		case s.outdated && !s.stopped:
			return opUpdate
		case !s.stop && !s.stopped && (s.changed || !s.renderAt.IsZero() && !s.now.Before(s.renderAt)):
			return opRender
		}
		return opWait
	case store.Exited:
		return opRemove
	}
	return opIdle
}

// policy is how a task is started again, with every default filled in.
type policy struct {
	attempts        int
	interval        time.Duration
	delay, maxDelay time.Duration
	waitOut         bool // mode "delay"
	onSuccess       bool // what ended well is started again too
}

// policyFor reads the policy of a task: its own, else its group's, else the defaults.
func policyFor(job *berthv1.Job, group *berthv1.Group, task *berthv1.Task) policy {
	r := task.GetRestart()
	if r == nil {
		r = group.GetRestart()
	}
	p := policy{attempts: 3, interval: 10 * time.Minute, delay: time.Second, maxDelay: time.Minute}
	if r != nil && r.Attempts != nil {
		p.attempts = int(r.GetAttempts())
	}
	if d := r.GetInterval().AsDuration(); d > 0 {
		p.interval = d
	}
	if r.GetDelay() != nil {
		p.delay = max(0, r.GetDelay().AsDuration())
	}
	if d := r.GetMaxDelay().AsDuration(); d > 0 {
		p.maxDelay = d
	}
	p.maxDelay = max(p.maxDelay, p.delay)
	p.waitOut = r.GetMode() == "delay"
	switch part := partOf(task); part {
	case partMain:
		p.onSuccess = job.GetType() == berthv1.Job_service || job.GetType() == berthv1.Job_system
	default:
		p.onSuccess = part.sidecar()
	}
	return p
}

// verdict is what becomes of a task that has ended.
type verdict struct {
	again  bool
	at     time.Time // earliest start
	counts bool      // against the policy's attempts
	failed bool
	why    string
}

// judge decides whether a task that has ended is started again: pure.
func judge(rec *store.Task, p policy, stop bool, now time.Time) verdict {
	ok := (rec.Exit == nil || rec.Exit.OK()) && rec.Unhealthy == ""
	switch {
	case rec.GiveUp != "":
		return verdict{failed: true, why: rec.GiveUp}
	case stop:
		return verdict{}
	case rec.Restart != "":
		return verdict{again: true, at: now, why: rec.Restart}
	case ok && !p.onSuccess:
		return verdict{}
	}
	recent := recentRestarts(rec.Restarts, p.interval, now)
	if len(recent) < p.attempts {
		return verdict{again: true, counts: true, at: now.Add(backOff(p, len(recent)))}
	}
	if p.waitOut && len(recent) > 0 {
		return verdict{again: true, counts: true, at: recent[0].Add(p.interval), why: "the restarts of this interval are used up"}
	}
	return verdict{failed: true, why: "the restarts that the policy allows are used up"}
}

// backOff is the wait before the n-th restart of an interval, from 0.
func backOff(p policy, n int) time.Duration {
	d := p.delay
	for range n {
		if d >= p.maxDelay {
			break
		}
		d *= 2
	}
	return min(d, p.maxDelay)
}

// recentRestarts are those within the interval, by a clock that may have jumped: times
// in the future count as now.
func recentRestarts(all []time.Time, interval time.Duration, now time.Time) []time.Time {
	var recent []time.Time
	for _, t := range all {
		if t.After(now) {
			t = now
		}
		if now.Sub(t) < interval {
			recent = append(recent, t)
		}
	}
	return recent
}

// describe says in words how a task ended.
func describe(e *drivers.Exit) string {
	switch {
	case e == nil:
		return "it never ran"
	case e.Err != "":
		return e.Err
	case e.OOMKilled:
		return "killed by the kernel: it needed more memory than it was granted"
	case e.Signal != 0:
		return "ended by " + unix.SignalName(syscall.Signal(e.Signal))
	case e.Code != 0:
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return "ended well"
}
