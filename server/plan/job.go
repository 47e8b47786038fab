package plan

import (
	"cmp"
	"container/heap"
	"iter"
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
)

type jobKey struct{ namespace, name string }

// job is what the loop knows of a job beside the state.
type job struct {
	key      jobKey
	priority uint32
	allocs   int // how many it has in the state
	// evals are those that ask to be answered, oldest first; blockedEval is the one that
	// says that it could not be placed.
	evals       []*berthv1.Evaluation
	blockedEval *berthv1.Evaluation
	trigger     berthv1.Evaluation_Trigger

	due     time.Time // when it is to be looked at; zero: not by itself
	queued  bool      // it is in Loop.ready
	again   bool      // it became due while it was being worked on
	rolling bool      // older allocations wait for newer ones to run
	bounded bool      // a group of it has a disruption budget
	// overQuota: something of it waits for its namespace's quota.
	overQuota bool
	told      time.Time // when that was last explained

	// For one that waits: since when, in the order in which jobs began to; Loop.tick when
	// it was last found not to fit; to how many nodes' changes a look at it has answered
	// since; and how many looks there have been. What it has claimed is its own.
	since, looked uint64
	sent          int
	looks         uint64
	claims        []*claim

	work   *work    // what is being done; nil: nothing
	flying int      // entries on the way
	offer  *offered // what an external scheduler is to place; nil: nothing

	spec   *berthv1.Job // that groups are compiled of
	groups map[string]*scheduler.Group
}

// busy says that it must not be looked at: its last plan is not in the view yet.
func (j *job) busy() bool { return j.work != nil || j.flying > 0 }

// compile gives a group ready for placement.
func (j *job) compile(spec *berthv1.Job, group *berthv1.Group) (*scheduler.Group, error) {
	if j.spec != spec {
		j.spec, j.groups = spec, map[string]*scheduler.Group{}
	}
	if g := j.groups[group.GetName()]; g != nil {
		return g, nil
	}
	g, err := scheduler.Compile(spec, group)
	if err == nil {
		j.groups[group.GetName()] = g
	}
	return g, err
}

// compiler compiles what asks are for, of the job as it is or of an older version.
func compiler(j *job, spec *berthv1.Job) func(*Ask) (*scheduler.Group, error) {
	return func(a *Ask) (*scheduler.Group, error) {
		if a.Job != nil {
			return scheduler.Compile(a.Job, a.Group)
		}
		return j.compile(spec, a.Group)
	}
}

// job gives what is known of a job, made when it is new.
func (l *Loop) job(namespace, name string) *job {
	key := jobKey{namespace, name}
	j := l.jobs[key]
	if j == nil {
		j = &job{key: key}
		l.jobs[key] = j
	}
	return j
}

// mark has a job looked at, at the given time or before.
func (l *Loop) mark(j *job, at time.Time, trigger berthv1.Evaluation_Trigger) {
	j.trigger = trigger
	if j.due.IsZero() || at.Before(j.due) {
		j.due = at
		heap.Push(&l.timers, timer{at, j})
	}
}

// enqueue gives a job its turn, or another one when it is being worked on.
func (l *Loop) enqueue(j *job) {
	j.due = time.Time{}
	switch {
	case j.queued:
		j.again = j.again || j.work != nil
	case j.busy():
		j.again = true
	default:
		l.push(j)
	}
}

func (l *Loop) push(j *job) {
	j.queued = true
	l.ready.push(j)
}

// debounced is when a job is looked at after something happened to one of its
// allocations: the larger it is, the longer it waits for more.
func (l *Loop) debounced(j *job, now time.Time) time.Time {
	return now.Add(min(maxDebounce, time.Duration(j.allocs)*l.cfg.Tuning.Debounce))
}

// timers has the jobs by the time they are due; what is not up to date is skipped.
type timers []timer

type timer struct {
	at  time.Time
	job *job
}

func (t timers) Len() int { return len(t) }
func (t timers) Less(i, j int) bool {
	return cmp.Or(t[i].at.Compare(t[j].at), cmp.Compare(t[j].job.priority, t[i].job.priority), cmp.Compare(t[i].job.since, t[j].job.since),
		cmp.Compare(t[i].job.key.namespace, t[j].job.key.namespace), cmp.Compare(t[i].job.key.name, t[j].job.key.name)) < 0
}
func (t timers) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)   { *t = append(*t, x.(timer)) }
func (t *timers) Pop() any {
	old := *t
	x := old[len(old)-1]
	old[len(old)-1] = timer{}
	*t = old[:len(old)-1]
	return x
}

// next is when the next job is due.
func (t *timers) next() (time.Time, bool) {
	for len(*t) > 0 {
		if first := (*t)[0]; first.job.due.Equal(first.at) {
			return first.at, true
		}
		heap.Pop(t)
	}
	return time.Time{}, false
}

// due gives the jobs whose time has come.
func (t *timers) due(now time.Time) iter.Seq[*job] {
	return func(yield func(*job) bool) {
		for at, ok := t.next(); ok && !at.After(now); at, ok = t.next() {
			if !yield(heap.Pop(t).(timer).job) {
				return
			}
		}
	}
}
