package runner

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/agent/store"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// alloc is one allocation on this node.
type alloc struct {
	m     *Manager
	id    string
	tasks []*task // never changes

	mu     sync.Mutex
	cur    *berthv1.Alloc
	job    *berthv1.Job
	group  *berthv1.Group
	broken string // why it cannot run at all
	past   bool   // it ended in a former life of the store; nothing is known but that
	states map[string]*berthv1.TaskState
	// stopWhy is why the group is to end by the servers' will; empty: it is not.
	stopWhy string
	watch   watch
	status  berthv1.Alloc_Status
	since   time.Time // of status
	last    *berthv1.AllocStatusUpdate

	removed  bool     // the servers have forgotten it
	again    *pending // assigned anew while it was being removed
	cleaned  bool     // cleaning up has begun
	launched bool     // its goroutines were started; guarded by Manager.mu

	disk chan struct{} // has room for the one task that makes the sticky disk
}

// pending is an alloc that is not run (yet).
type pending struct {
	alloc *berthv1.Alloc
	job   *berthv1.Job
}

// newAlloc makes an alloc and its tasks from what is stored of them (nil: nothing).
func newAlloc(m *Manager, p pending, stored *store.Content) *alloc {
	a := &alloc{m: m, id: p.alloc.GetId(), cur: p.alloc, job: p.job, states: map[string]*berthv1.TaskState{}, since: time.Now(), disk: make(chan struct{}, 1)}
	a.group = findGroup(p.job, p.alloc.GetGroup())
	if p.job == nil && p.alloc.Ended() {
		a.past, a.status = true, p.alloc.GetStatus()
		return a
	}
	a.broken = a.check()
	if a.broken != "" {
		return a
	}
	for _, def := range a.group.GetTasks() {
		t := newTask(a, def.GetName(), stored.Tasks[store.TaskKey{Alloc: a.id, Task: def.GetName()}])
		a.tasks = append(a.tasks, t)
		a.states[t.def] = proto.CloneOf(t.rec.State)
	}
	a.restored(stored.Health[a.id])
	a.status, _ = rollUp(a.members())
	a.since = statusTime(a.status, a.orderedStates())
	a.steer()
	return a
}

// statusTime finds out since when an alloc that is taken up again has its status.
func statusTime(status berthv1.Alloc_Status, states []*berthv1.TaskState) time.Time {
	var last time.Time
	for _, s := range states {
		at := s.GetStartTime()
		if status != berthv1.Alloc_running {
			at = s.GetFinishTime()
		}
		if at != nil && at.AsTime().After(last) {
			last = at.AsTime()
		}
	}
	if last.IsZero() || status == berthv1.Alloc_pending {
		return time.Now()
	}
	return last
}

// check says why an alloc cannot run at all; "" when it can.
func (a *alloc) check() string {
	switch {
	case a.job == nil:
		return fmt.Sprintf("the servers did not send version %d of the job %q", a.cur.GetJobVersion(), a.cur.GetJob())
	case a.group == nil:
		return fmt.Sprintf("version %d of the job %q has no group %q", a.cur.GetJobVersion(), a.cur.GetJob(), a.cur.GetGroup())
	case len(a.group.GetTasks()) == 0:
		return fmt.Sprintf("the group %q has no task", a.cur.GetGroup())
	}
	seen, mains := map[string]bool{}, 0
	for _, t := range a.group.GetTasks() {
		if partOf(t) == partMain {
			mains++
		}
		if err := checkName("task", t.GetName()); err != nil {
			return err.Error()
		}
		if seen[t.GetName()] {
			return fmt.Sprintf("the group %q has two tasks %q", a.cur.GetGroup(), t.GetName())
		}
		seen[t.GetName()] = true
	}
	if mains == 0 {
		return fmt.Sprintf("the group %q has no main task", a.cur.GetGroup())
	}
	return ""
}

func findGroup(job *berthv1.Job, name string) *berthv1.Group {
	for _, g := range job.GetGroups() {
		if g.GetName() == name {
			return g
		}
	}
	return nil
}

// wantsStop says that the servers do not want it to run.
func wantsStop(a *berthv1.Alloc) bool {
	return !a.Wanted() || a.GetStatus() == berthv1.Alloc_lost
}

// update takes a newer version of the alloc, and of its job, in place.
func (a *alloc) update(p pending) {
	a.mu.Lock()
	old := a.cur
	changed := !proto.Equal(old.GetAssignment(), p.alloc.GetAssignment()) || old.GetJobVersion() != p.alloc.GetJobVersion()
	a.cur = p.alloc
	if g := findGroup(p.job, p.alloc.GetGroup()); g != nil && hasTasks(g, a.tasks) {
		if t := &a.watch.trial; t.version == old.GetJobVersion() && g.SameHealth(a.group) {
			t.version = p.alloc.GetJobVersion() // it is the same question
		}
		a.job, a.group = p.job, g
	}
	a.watch.offered = nil
	a.renew()
	if a.watch.live && a.watch.offers {
		a.say(false)
	}
	a.plan()
	a.mu.Unlock()
	if wantsStop(p.alloc) {
		// What was given up for lost runs elsewhere by now.
		a.stop(stopReason(p.alloc), p.alloc.GetStatus() != berthv1.Alloc_lost)
		return
	}
	if changed {
		for _, t := range a.tasks {
			t.order(func() { t.outdated = true })
		}
	}
}

// hasTasks says that a new version of the group still has every task that runs.
func hasTasks(g *berthv1.Group, tasks []*task) bool {
	names := map[string]bool{}
	for _, t := range g.GetTasks() {
		names[t.GetName()] = true
	}
	for _, t := range tasks {
		if !names[t.def] {
			return false
		}
	}
	return true
}

// stop has the group stopped for good: it leaves discovery at once, its tasks are stopped
// then. patient waits for its shutdown_delay in between, where there is something that
// others may still use.
func (a *alloc) stop(why string, patient bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if a.stopWhy == "" {
		a.stopWhy, a.watch.stopAt = why, now
		delay := a.group.GetShutdownDelay().AsDuration()
		if patient && delay > 0 && slices.ContainsFunc(a.members(), func(m member) bool { return m.part == partMain && m.state.GetPhase() == berthv1.TaskState_started }) {
			a.watch.stopAt = a.told(now).Add(delay)
		}
	} else if !patient {
		a.watch.stopAt = now
	}
	a.renew()
	if a.watch.live && a.watch.offers {
		a.say(true)
	}
	a.steer()
	a.plan()
}

// told is when the group was told to stop: now, or in an earlier life of the agent. Its
// tasks remember it. It is called with mu held.
func (a *alloc) told(now time.Time) time.Time {
	began := now
	for _, t := range a.tasks {
		t.mu.Lock()
		if at := notAfter(t.told.group, now); at.Before(began) {
			began = at
		}
		t.mu.Unlock()
	}
	for _, t := range a.tasks {
		t.order(func() { t.told.group = began })
	}
	return began
}

// stopping says that a task which ends now need not be started again, for its group is to
// stop: it is within the shutdown_delay, perhaps since the agent was restarted.
func (a *alloc) stopping(task string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	part := partOf(findTask(a.group, task))
	return a.stopWhy != "" && !part.sidecar() && part != partLast
}

// steer tells each task what its group says to it now. It is called with mu held, so
// that what one task hears is never older than what it heard before.
func (a *alloc) steer() {
	why := a.stopWhy
	if a.watch.stopAt.After(time.Now()) {
		why = "" // not yet
	}
	for i, d := range direct(a.members(), why) {
		t := a.tasks[i]
		t.follow(d, findTask(a.group, t.def).GetShutdownDelay().AsDuration())
	}
}

// giveUp has the group stopped, and the alloc failed. What goes beside the main tasks and
// after them is stopped and run as for any failure.
func (a *alloc) giveUp(why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, m := range a.members() {
		if t := a.tasks[i]; !m.part.sidecar() && m.part != partLast {
			t.order(func() { t.giveUp = why })
		}
	}
}

// terminal says that every task is over and cleaned up.
func (a *alloc) terminal() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.broken != "" || a.status == berthv1.Alloc_complete || a.status == berthv1.Alloc_failed
}

// publish takes a task's newest state, and reports when that changes the alloc's.
func (a *alloc) publish(st *berthv1.TaskState, urgent bool) {
	a.mu.Lock()
	a.states[st.GetTask()] = st
	a.steer()
	before := a.status
	a.renew()
	a.say(urgent)
	a.plan()
	status := a.status
	a.mu.Unlock()
	if before != status && (status == berthv1.Alloc_complete || status == berthv1.Alloc_failed) {
		a.m.allocEnded(a)
	}
}

// reportAgain reports the alloc as it is where the servers know it otherwise: they may
// have lost what was reported (a restored backup).
func (a *alloc) reportAgain(known *berthv1.Alloc) {
	a.mu.Lock()
	defer a.mu.Unlock() // held over Report, so that a newer report comes after this one
	u := a.compose()
	// What the servers know of its services is not to be seen from here.
	otherHealth := u.GetHealth() != known.GetHealth() && u.GetHealth() != berthv1.Alloc_undecided
	if u.GetStatus() != known.GetStatus() || !sameStates(u.GetTasks(), known.GetTasks()) || otherHealth || u.GetHasServices() {
		a.last = u
		a.m.cfg.Reporter.Report(u, true)
	}
}

// report is the newest report of the alloc.
func (a *alloc) report() *berthv1.AllocStatusUpdate {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.compose()
}

// compose is called with mu held. The message that it returns is not changed any more.
func (a *alloc) compose() *berthv1.AllocStatusUpdate {
	status, reason := rollUp(a.members())
	if a.broken != "" {
		status, reason = berthv1.Alloc_failed, a.broken
	}
	if status != a.status {
		a.status, a.since = status, time.Now()
	}
	u := &berthv1.AllocStatusUpdate{
		AllocId: a.id, Status: status, StatusReason: reason,
		StatusTime: timestamppb.New(a.since), Tasks: a.orderedStates(),
	}
	a.addHealth(u)
	return u
}

// members are the tasks as the group sees them, in the order of tasks.
func (a *alloc) members() []member {
	group := make([]member, len(a.tasks))
	for i, t := range a.tasks {
		def := findTask(a.group, t.def)
		group[i] = member{part: partOf(def), leader: def.GetLeader(), state: a.states[t.def]}
	}
	return group
}

func (a *alloc) orderedStates() []*berthv1.TaskState {
	var states []*berthv1.TaskState
	for _, t := range a.tasks {
		if st := a.states[t.def]; st != nil {
			states = append(states, st)
		}
	}
	return states
}

// spec gives what a task is built from.
func (a *alloc) spec(name string) *spec {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.specLocked(name)
}

// specLocked is spec with mu held; for "" it is of no task.
func (a *alloc) specLocked(name string) *spec {
	return &spec{node: a.m.cfg.Node(), alloc: a.cur, job: a.job, group: a.group, task: findTask(a.group, name)}
}

func (a *alloc) taskSpec(name string) *berthv1.Task {
	a.mu.Lock()
	defer a.mu.Unlock()
	return findTask(a.group, name)
}

func (a *alloc) policy(name string) policy {
	a.mu.Lock()
	defer a.mu.Unlock()
	return policyFor(a.job, a.group, findTask(a.group, name))
}

func findTask(g *berthv1.Group, name string) *berthv1.Task {
	for _, t := range g.GetTasks() {
		if t.GetName() == name {
			return t
		}
	}
	return nil
}

// stopAfter is how long it goes on without servers; 0: for ever.
func (a *alloc) stopAfter() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.group.GetOnDisconnect().GetStopAfter().AsDuration()
}

func (a *alloc) find(name string) *task {
	for _, t := range a.tasks {
		if t.def == name {
			return t
		}
	}
	return nil
}
