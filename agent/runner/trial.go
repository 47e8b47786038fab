package runner

import (
	"strings"
	"time"

	"github.com/berthd/berth/agent/health"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// strategy is how it is found out whether an alloc is healthy.
type strategy struct {
	// least is how long it must have been well without a break; after deadline it is
	// unhealthy.
	least, deadline time.Duration
	checks          bool // its readiness checks count
}

// strategyFor reads the strategy of a group; nil: nobody asks, or somebody else answers.
func strategyFor(job *berthv1.Job, group *berthv1.Group) *strategy {
	u := group.GetUpdate()
	if u == nil {
		u = job.GetUpdate()
	}
	if u == nil || u.GetHealth() == "manual" {
		return nil
	}
	s := &strategy{least: 10 * time.Second, deadline: 5 * time.Minute, checks: u.GetHealth() != "tasks"}
	if u.GetMinHealthyTime() != nil {
		s.least = max(0, u.GetMinHealthyTime().AsDuration())
	}
	if d := u.GetHealthyDeadline().AsDuration(); d > 0 {
		s.deadline = d
	}
	return s
}

// trial is the question whether an alloc is healthy with one version of its job. It is
// decided once.
type trial struct {
	version uint64
	verdict berthv1.Alloc_Health
	at      time.Time // of the verdict
	// began is when this agent began to look, well since when it has been well without a
	// break. They are kept in memory only, by a clock that does not jump: a restarted
	// agent looks anew.
	began, well time.Time
	run         string // that has been well
}

// evidence is what a trial is decided on.
type evidence struct {
	version uint64
	// ended: the tasks are over, though nobody wanted that.
	ended bool
	// run names what is well now; "": something is not.
	run string
	now time.Time
}

// hear is the trial after more evidence, and when to look again (zero: never): pure.
func (t trial) hear(s *strategy, e evidence) (trial, time.Time) {
	if t.version != e.version || t.began.IsZero() && t.verdict == berthv1.Alloc_undecided {
		if t.version != e.version {
			t = trial{version: e.version}
		}
		t.began = e.now
	}
	if s == nil || t.verdict != berthv1.Alloc_undecided {
		return t, time.Time{}
	}
	if e.run != t.run {
		t.run, t.well = e.run, e.now
	}
	healthyAt, deadline := t.well.Add(s.least), t.began.Add(s.deadline)
	switch {
	case e.ended:
		t.verdict, t.at = berthv1.Alloc_unhealthy, e.now
	case t.run != "" && !e.now.Before(healthyAt):
		t.verdict, t.at = berthv1.Alloc_healthy, e.now
	case !e.now.Before(deadline):
		t.verdict, t.at = berthv1.Alloc_unhealthy, e.now
	case t.run != "" && healthyAt.Before(deadline):
		return t, healthyAt
	default:
		return t, deadline
	}
	return t, time.Time{}
}

// wellness names what is well of a group: its main tasks run, their drivers find nothing
// wrong with that and, where they count, its readiness checks pass. "" unless all are. What was not so for a moment has another name
// afterwards.
func wellness(g *berthv1.Group, s *strategy, c condition, states map[string]*berthv1.TaskState) string {
	run := runOf(states, targets(g, nil))
	for _, name := range targets(g, nil) {
		if conditionWords(states[name]) != "" {
			return ""
		}
	}
	if run == "" || s == nil || !s.checks {
		return run
	}
	var all strings.Builder
	all.WriteString(run)
	for _, service := range g.GetServices() {
		for _, check := range service.GetChecks() {
			st := c.checks[checkKey{service.GetName(), check.GetName()}]
			if !isReadiness(check) {
				continue
			}
			if st.Status != berthv1.CheckState_passing {
				return ""
			}
			all.WriteString(passing(service, check, st))
		}
	}
	return all.String()
}

func passing(s *berthv1.Service, c *berthv1.Check, st health.State) string {
	return s.GetName() + "/" + c.GetName() + " " + st.Since.Format(time.RFC3339Nano) + "\n"
}
