package plan

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
)

// explainEvery is how often it is worked out anew why a blocked job is blocked: it takes
// a look at every node. Jobs that ask the same share an answer that is younger than
// shareFor.
const (
	explainEvery = 10 * time.Second
	shareFor     = time.Second
)

// maxWays bounds how many instances are looked for who would give way to.
const maxWays = 64

// maxNamed bounds the allocations that a remedy names.
const maxNamed = 2

// enrich completes the explanations of what could not be placed: who holds what is
// lacking, and which priority would move whom. t is a trial on the fleet as it is.
func enrich(f *scheduler.Fleet, c *crowd, t *scheduler.Trial, spec *berthv1.Job, config *berthv1.SchedulerConfig, units []*identical,
	explained func(*identical) *berthv1.Explanation, together bool) {
	for _, same := range units {
		if e := explained(same); e != nil {
			scheduler.NameHolders(f, e, c.on)
		}
	}
	words := higher(t, spec, config, units, together)
	for _, same := range units {
		if e := explained(same); e != nil && words != "" {
			e.Remedies = append([]string{words}, e.GetRemedies()...)
		}
		if !together {
			break // each has been asked for alone
		}
	}
}

// higher says which priority would place how many, and who would move.
func higher(t *scheduler.Trial, spec *berthv1.Job, config *berthv1.SchedulerConfig, units []*identical, together bool) string {
	raised := make([]*identical, len(units))
	left := 0
	for i, same := range units {
		g := *same.group
		g.Priority = beyond
		other := *same
		other.group = &g
		raised[i], left = &other, left+same.left
	}
	ways, _ := findWays(t, raised, maxWays, together)
	defer t.Undo()
	if len(ways) == 0 {
		return ""
	}
	needed := highestOf(ways[0])
	if together {
		for _, way := range ways {
			needed = max(needed, highestOf(way))
		}
	}
	var moved []string
	places := 0
	for _, way := range ways {
		if highestOf(way) <= needed {
			places++
			for _, v := range way.Victims {
				moved = append(moved, v.Alloc.Name())
			}
		}
	}
	if len(moved) == 0 || needed >= 100 {
		return ""
	}
	if more := len(moved) - maxNamed; more > 0 {
		moved = append(moved[:maxNamed], fmt.Sprintf("%d more", more))
	}
	what := fmt.Sprintf("place %d", places)
	if places >= left && left > 1 || together {
		what = fmt.Sprintf("place all %d", left)
	}
	condition := fmt.Sprintf("priority %d or more", needed+1)
	switch {
	case needed >= spec.GetPriority():
	case config.GetNoPreemption():
		condition = "preemption, which the cluster does not allow,"
	case !preempts(spec, config):
		condition = "preempt = true"
	default:
		return "" // they give way
	}
	return fmt.Sprintf("%s would move %s and %s", condition, strings.Join(moved, ", "), what)
}

// beyond is a priority above all that there are.
const beyond = 101

// highestOf is the highest priority that gives way.
func highestOf(way wayOf) (p uint32) {
	for _, v := range way.Victims {
		p = max(p, v.Priority)
	}
	return p
}

// enrich completes what is said of a job that waits for room, once in a while.
func (l *Loop) enrich(j *job, rest []*identical, together bool) {
	w := j.work
	if w.silent || rest[0].overQuota {
		return
	}
	key := ""
	if !together {
		if key = shareKey(w.spec, rest[0]); l.recall(key, w.now) != nil {
			return
		}
	}
	l.opened(j, func() {
		enrich(l.fleet, l.crowd, l.crowd.trial(l.fleet), w.spec, l.view.SchedulerConfig(), rest,
			func(same *identical) *berthv1.Explanation { return w.outcomes[same.name()].GetExplanation() }, together)
	})
	if !together {
		l.remember(key, w.outcomes[rest[0].name()].GetExplanation(), w.now)
	}
}

// recallFor is what was lately said to a job that asked the same as this one.
func (l *Loop) recallFor(j *job, same *identical) *berthv1.Explanation {
	if j.work.silent || len(l.shared) == 0 || l.fleet.Quotas().Counts(j.key.namespace) {
		return nil
	}
	return l.recall(shareKey(j.work.spec, same), j.work.now)
}

// shareKey is the same for asks that get the same explanation.
func shareKey(spec *berthv1.Job, same *identical) string {
	return fmt.Sprint(same.left, " ", question(spec, same, preempts(spec, nil)))
}

// shared is an explanation that was worked out lately.
type shared struct {
	at   time.Time
	tick uint64 // of the loop: nothing was freed since
	e    *berthv1.Explanation
}

// maxShared bounds how many are kept.
const maxShared = 256

// recall gives what was lately said to somebody who asked the same; nil: nothing.
func (l *Loop) recall(key string, now time.Time) *berthv1.Explanation {
	if s, ok := l.shared[key]; ok && s.tick == l.tick && now.Sub(s.at) < shareFor {
		return proto.Clone(s.e).(*berthv1.Explanation)
	}
	return nil
}

func (l *Loop) remember(key string, e *berthv1.Explanation, now time.Time) {
	if len(l.shared) >= maxShared {
		clear(l.shared)
	}
	if e != nil {
		l.shared[key] = shared{now, l.tick, e}
	}
}

// fitEvaluation makes an evaluation fit into an entry: what is said of the last groups
// goes first, the lists before the explanation itself.
func fitEvaluation(e *berthv1.Evaluation) {
	shorten := []func(*berthv1.GroupOutcome){
		func(g *berthv1.GroupOutcome) { g.Preemptions = g.Preemptions[:min(len(g.Preemptions), 8)] },
		func(g *berthv1.GroupOutcome) {
			if g.Explanation != nil {
				g.Explanation.Nearest = g.Explanation.Nearest[:min(len(g.Explanation.Nearest), 1)]
			}
		},
		func(g *berthv1.GroupOutcome) { g.Explanation, g.Preemptions = nil, nil },
	}
	for _, cut := range shorten {
		for i := len(e.GetGroups()) - 1; i >= 0 && proto.Size(e) > maxPlan; i-- {
			e.Groups[i] = proto.Clone(e.Groups[i]).(*berthv1.GroupOutcome)
			cut(e.Groups[i])
		}
	}
}
