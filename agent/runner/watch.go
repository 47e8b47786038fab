package runner

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/agent/health"
	"github.com/berthd/berth/drivers"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

const (
	// newsSpacing is the least time between two reports that checks cause, of one alloc.
	newsSpacing = time.Second
	// wordsSpacing is the same where only the words of a check that does not pass change.
	wordsSpacing = 30 * time.Second
)

// news is what has changed by checks and is not reported yet.
type news int

const (
	noNews news = iota
	newWords
	newStatus
)

// watch is what an alloc does by the clock: its checks, the trial whether it is healthy,
// and the delay before it is stopped. alloc.mu guards it.
type watch struct {
	live    bool // from the alloc's launch to the end of this life of the agent
	alarm   alarm
	ticking bool
	// stopAt is when the tasks are to be stopped: the group's shutdown_delay after it was
	// told to.
	stopAt  time.Time
	checks  map[checkKey]*watched
	before  map[checkKey]health.State // as the last agent left them
	offered []*berthv1.ServiceInstance
	offers  bool // it has, or had, services
	trial   trial
	news    news
	told    time.Time // when news were last reported
	unsaved time.Time // when to try again to store what could not be; zero: all is
}

// watched is a check that is being run.
type watched struct {
	service *berthv1.Service
	spec    *berthv1.Check
	target  health.Target
	run     string // of the tasks that it is of
	check   *health.Check
	state   health.State
}

// goLive begins what needs the clock.
func (a *alloc) goLive() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.watch.live = true
	a.watch.alarm = alarm{wg: &a.m.ticks, ring: a.tick}
	a.renew()
	a.plan()
}

// halt ends what needs the clock.
func (a *alloc) halt() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.watch.live = false
	a.watch.alarm.off()
	for key, w := range a.watch.checks {
		w.check.Stop()
		delete(a.watch.checks, key)
	}
}

// renew starts and stops checks so that those run that should: each as long as its tasks
// do, and none of an alloc that is to stop. Called with mu held.
func (a *alloc) renew() {
	if !a.watch.live {
		return
	}
	wanted := a.wantedChecks()
	for key, w := range a.watch.checks {
		now := wanted[key]
		if now == nil || now.run != w.run || now.target.Address != w.target.Address || !proto.Equal(now.spec, w.spec) {
			w.check.Stop()
			delete(a.watch.checks, key)
			if now != nil && now.run == w.run && now.target.Address == w.target.Address && sameQuestion(now.spec, w.spec) {
				now.state = w.state
			}
		}
	}
	for key, w := range wanted {
		if a.watch.checks[key] != nil {
			continue
		}
		if s, ok := a.watch.before[key]; ok {
			delete(a.watch.before, key)
			if s.Since.After(a.startedLast(w.spec)) {
				w.state = s
			}
		}
		if a.watch.checks == nil {
			a.watch.checks = map[checkKey]*watched{}
		}
		a.watch.checks[key] = w
		w.check = a.m.pool.Start(a.prober(w), health.RulesOf(w.spec), w.state, func(s health.State) { a.checked(key, w, s) })
	}
}

// wantedChecks are the checks that should run.
func (a *alloc) wantedChecks() map[checkKey]*watched {
	if a.stopWhy != "" || len(a.group.GetServices()) == 0 {
		return nil
	}
	s := a.specLocked("")
	wanted := map[checkKey]*watched{}
	for _, service := range a.group.GetServices() {
		for _, c := range service.GetChecks() {
			if run := runOf(a.states, targets(a.group, c)); run != "" {
				wanted[checkKey{service.GetName(), c.GetName()}] = &watched{service: service, spec: c, run: run, target: s.target(service, c)}
			}
		}
	}
	return wanted
}

// sameQuestion says that two checks ask the same, be it at other times.
func sameQuestion(a, b *berthv1.Check) bool {
	a, b = proto.CloneOf(a), proto.CloneOf(b)
	for _, c := range []*berthv1.Check{a, b} {
		c.Interval, c.Timeout, c.StartPeriod, c.SuccessThreshold, c.FailureThreshold, c.On = nil, nil, nil, 0, 0, ""
	}
	return proto.Equal(a, b)
}

// startedLast is when the last of a check's tasks was started.
func (a *alloc) startedLast(c *berthv1.Check) time.Time {
	var last time.Time
	for _, name := range targets(a.group, c) {
		if at := a.states[name].GetStartTime().AsTime(); at.After(last) {
			last = at
		}
	}
	return last
}

// prober makes what runs a check.
func (a *alloc) prober(w *watched) health.Prober {
	if health.Type(w.spec) == "script" {
		w.target.Exec, w.target.Why = a.scripts(w.spec)
	}
	if a.m.cfg.Prober != nil {
		return a.m.cfg.Prober(w.spec, w.target)
	}
	return a.m.pool.Prober(w.spec, w.target)
}

// scripts gives what runs a check's script inside its task; else why it cannot.
func (a *alloc) scripts(c *berthv1.Check) (health.ExecFunc, string) {
	in := targets(a.group, c)
	if len(in) != 1 {
		return nil, fmt.Sprintf("the group has %d main tasks: the check must name the one that its script runs in", len(in))
	}
	t := a.find(in[0])
	if t == nil {
		return nil, fmt.Sprintf("the group has no task %q", in[0])
	}
	name := findTask(a.group, t.def).GetDriver()
	d, ok := a.m.cfg.Driver(name).(drivers.Execer)
	if !ok {
		return nil, fmt.Sprintf("the driver %q cannot run commands in a task", name)
	}
	id := taskID(a.id, t.def)
	return func(ctx context.Context, req *drivers.ExecRequest) (*drivers.Exit, error) {
		return d.Exec(ctx, id, req)
	}, ""
}

// checked takes what a check has to say.
func (a *alloc) checked(key checkKey, w *watched, s health.State) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.watch.checks[key] != w {
		return // it was stopped meanwhile
	}
	before := w.state
	w.state = s
	a.watch.news = max(a.watch.news, newWords)
	if before.Status != s.Status {
		a.watch.news = newStatus
		if s.Status == berthv1.CheckState_failing && isLiveness(w.spec) {
			why := fmt.Sprintf("check %s of service %s fails: %s", key.check, key.service, s.Output)
			for _, name := range targets(a.group, w.spec) {
				if t := a.find(name); t != nil {
					t.unwell(why, a.states[name].GetStartTime().AsTime())
				}
			}
		}
	}
	a.plan()
}

// condition is called with mu held.
func (a *alloc) condition() condition {
	c := condition{stopping: a.stopWhy, group: a.members(), checks: make(map[checkKey]health.State, len(a.watch.checks))}
	for key, w := range a.watch.checks {
		c.checks[key] = w.state
	}
	if !a.watch.live {
		for key, s := range a.watch.before { // as far as it is known before they run
			c.checks[key] = s
		}
	}
	return c
}

// addHealth puts into a report what checks and time have brought; mu is held.
func (a *alloc) addHealth(u *berthv1.AllocStatusUpdate) {
	if t := a.watch.trial; t.verdict != berthv1.Alloc_undecided && t.version == a.cur.GetJobVersion() && strategyFor(a.job, a.group) != nil {
		u.Health, u.HealthTime, u.HealthVersion = t.verdict, timestamppb.New(t.at), t.version
	}
	a.watch.offers = a.watch.offers || len(a.group.GetServices()) > 0
	u.HasServices = a.watch.offers
	if u.GetStatus() == berthv1.Alloc_complete || u.GetStatus() == berthv1.Alloc_failed || len(a.group.GetServices()) == 0 {
		return
	}
	if a.watch.offered == nil {
		a.watch.offered = a.specLocked("").services()
	}
	u.Services = instances(a.group, a.watch.offered, a.condition())
}

// hear puts the alloc's trial to what is known now; mu is held.
func (a *alloc) hear(now time.Time) (trial, time.Time) {
	if a.stopWhy != "" || a.past || a.broken != "" {
		return a.watch.trial, time.Time{}
	}
	s := strategyFor(a.job, a.group)
	e := evidence{version: a.cur.GetJobVersion(), now: now, ended: a.status == berthv1.Alloc_complete || a.status == berthv1.Alloc_failed}
	if s != nil && a.watch.trial.verdict == berthv1.Alloc_undecided || a.watch.trial.version != e.version {
		e.run = wellness(a.group, s, a.condition(), a.states)
	}
	return a.watch.trial.hear(s, e)
}

// plan sets the alarm for what comes next; mu is held.
func (a *alloc) plan() {
	w := &a.watch
	if !w.live || w.ticking {
		return
	}
	now := time.Now()
	var next time.Time
	soonest := func(at time.Time) {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	t, wake := a.hear(now)
	if t.verdict == berthv1.Alloc_undecided || t == w.trial {
		w.trial = t
	} else {
		wake = now // it is decided, and that is stored first
	}
	soonest(wake)
	soonest(w.unsaved)
	switch w.news {
	case newStatus:
		soonest(later(now, w.told.Add(newsSpacing)))
	case newWords:
		soonest(later(now, w.told.Add(wordsSpacing)))
	}
	if a.stopWhy != "" && w.stopAt.After(now) {
		soonest(w.stopAt)
	}
	w.alarm.set(next, now)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// tick does what is due. What the checks and the trial have come to is stored before it
// is reported, so that an agent that is restarted neither takes a ready instance out of
// traffic nor decides twice.
func (a *alloc) tick() {
	a.mu.Lock()
	w := &a.watch
	if !w.live || w.ticking {
		a.mu.Unlock()
		return
	}
	w.ticking, w.alarm.timer = true, nil
	now := time.Now()
	before := w.trial
	heard, _ := a.hear(now)
	a.steer()
	if due := w.told.Add(newsSpacing); w.news != noNews && !now.Before(due) {
		w.news, w.told = noNews, now
	}
	w.trial = heard
	u := a.compose()
	w.trial = before // until it is stored
	save := !proto.Equal(u, a.last) || !w.unsaved.IsZero()
	a.mu.Unlock()
	var retry time.Time
	if save {
		if a.m.fault("before save health") != nil {
			return
		}
		if err := a.m.cfg.Store.SaveHealth(u); err != nil {
			retry = now.Add(saveRetry)
			a.m.log.Error("what checks came to cannot be stored; it is reported all the same", "alloc", a.id, "error", err)
		}
		if a.m.fault("after save health") != nil {
			return
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	w.ticking, w.unsaved = false, retry
	if !w.live {
		return
	}
	if heard.version == a.cur.GetJobVersion() {
		w.trial = heard
	}
	a.say(false)
	a.plan()
}

// say reports the alloc when it is otherwise than it was said last; mu is held.
func (a *alloc) say(urgent bool) {
	before := a.status
	u := a.compose()
	if proto.Equal(u, a.last) {
		return
	}
	urgent = urgent || before != u.GetStatus() || u.GetHealth() != a.last.GetHealth() || !sameReady(u.GetServices(), a.last.GetServices())
	a.last = u
	a.m.cfg.Reporter.Report(u, urgent)
}

// sameReady says that the same of an alloc's services get traffic.
func sameReady(a, b []*berthv1.ServiceInstance) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].GetService() != b[i].GetService() || a[i].GetReady() != b[i].GetReady() {
			return false
		}
	}
	return true
}

// restored takes up what the last agent had stored, or else what the servers know.
func (a *alloc) restored(u *berthv1.AllocStatusUpdate) {
	w := &a.watch
	switch {
	case u.GetHealth() != berthv1.Alloc_undecided && u.GetHealthVersion() == a.cur.GetJobVersion():
		w.trial = trial{version: u.GetHealthVersion(), verdict: u.GetHealth(), at: u.GetHealthTime().AsTime()}
	case a.cur.GetHealth() != berthv1.Alloc_undecided: // of a version before, perhaps, that asked the same
		w.trial = trial{version: a.cur.GetJobVersion(), verdict: a.cur.GetHealth(), at: a.cur.GetHealthTime().AsTime()}
	}
	w.offers = u.GetHasServices()
	for _, i := range u.GetServices() {
		for _, c := range i.GetChecks() {
			// What failed is to fail again before anything follows from it.
			if c.GetStatus() == berthv1.CheckState_passing {
				if w.before == nil {
					w.before = map[checkKey]health.State{}
				}
				w.before[checkKey{c.GetService(), c.GetCheck()}] = health.State{Status: c.GetStatus(), Output: c.GetOutput(), Since: c.GetSince().AsTime()}
			}
		}
	}
}
