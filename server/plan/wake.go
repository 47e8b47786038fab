package plan

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
)

// A job that could not be placed is looked at again when what blocked it has changed,
// and only then:
//
//   - something was freed on a node, or the node itself changed: those it could fit on
//     now, by a test of that node alone, the first in the queue before the others;
//   - something of the job itself changed (other instances of a gang, of a spread or of
//     what must be distinct are the job's own): see allocChanged;
//   - a victim has ended, or its node has changed: the job that it gave way to;
//   - what jobs may do at all changed (the scheduler goes on after a pause, preemption is
//     allowed again, a quota was raised): see wakeWhere.
//
// A node stays on the list until nobody who was last looked at before it changed could
// fit on it, so that nobody is left behind.

// waiter is what waits of one group of a job.
type waiter struct {
	j     *job
	group *scheduler.Group // nil: nothing that happens on nodes makes a difference
	left  int
	only  map[string]bool // nodes that it is asked for on; nil: any
}

// class is waiters that ask the same of a node, the oldest first.
type class struct {
	group    *scheduler.Group // of any of them
	priority uint32
	preempts bool // what has a lower priority may give way
	replaces bool // what is of the same job may go
	waiters  []*waiter
}

// queue is all that waits, by class.
type queue struct {
	classes map[string]*class
	order   []*class // the highest priority first, then the oldest; nil: to be made
	jobs    map[*job][]string
}

func newQueue() queue { return queue{classes: map[string]*class{}, jobs: map[*job][]string{}} }

// add has what is left of some asks wait.
func (q *queue) add(key string, preempts, replaces bool, w *waiter) {
	q.jobs[w.j] = append(q.jobs[w.j], key)
	if w.group == nil {
		return
	}
	c := q.classes[key]
	if c == nil {
		c = &class{group: w.group, priority: w.j.priority, preempts: preempts, replaces: replaces}
		q.classes[key] = c
	}
	at, _ := slices.BinarySearchFunc(c.waiters, w, func(a, b *waiter) int { return cmp.Compare(a.j.since, b.j.since) })
	c.waiters = slices.Insert(c.waiters, at, w)
	q.order = nil
}

// remove takes a job out.
func (q *queue) remove(j *job) {
	for _, key := range q.jobs[j] {
		c := q.classes[key]
		if c == nil {
			continue
		}
		if c.waiters = slices.DeleteFunc(c.waiters, func(w *waiter) bool { return w.j == j }); len(c.waiters) == 0 {
			delete(q.classes, key)
		}
		q.order = nil
	}
	delete(q.jobs, j)
}

// sorted gives the classes, those first whose first waiter is.
func (q *queue) sorted() []*class {
	if q.order == nil {
		q.order = slices.SortedFunc(maps.Values(q.classes), func(a, b *class) int { return a.waiters[0].j.before(b.waiters[0].j) })
	}
	return q.order
}

// outranks says whether something waits that may take the place of what has the priority.
func (q *queue) outranks(priority uint32) bool {
	for _, c := range q.sorted() {
		if c.priority <= priority {
			return false
		}
		if c.preempts {
			return true
		}
	}
	return false
}

// before orders jobs that wait: the higher priority first, then the one that has waited
// for longer.
func (j *job) before(o *job) int {
	return cmp.Or(cmp.Compare(o.priority, j.priority), cmp.Compare(j.since, o.since))
}

// place is a job's place among all that wait, from 1, and how many there are with it.
func (q *queue) place(j *job) (place, length int) {
	place, length = 1, len(q.jobs)
	if _, in := q.jobs[j]; !in {
		length++
	}
	for o := range q.jobs {
		if o != j && o.before(j) < 0 {
			place++
		}
	}
	return place, length
}

// waits puts what is left of some asks into the queue; ways have been found for some.
func (l *Loop) waits(j *job, same *identical, ways int) {
	if l.blocked.jobs[j] == nil {
		j.looked = l.tick
		if j.since == 0 {
			l.lastSince++
			j.since = l.lastSince
		}
	}
	w := &waiter{j: j, group: same.group, left: same.left}
	if same.problem != nil || l.paused || same.overQuota {
		w.group = nil
	}
	j.overQuota = j.overQuota || same.overQuota
	if len(same.asks) > 0 && same.asks[0].Node != "" {
		w.only = map[string]bool{}
		for _, a := range same.asks {
			w.only[a.Node] = true
		}
	}
	may := ways < same.left && preempts(j.work.spec, l.view.SchedulerConfig())
	l.blocked.add(question(j.work.spec, same, may), may, same.replaces, w)
}

// question is a key that is the same for asks that want the same of a node.
func question(spec *berthv1.Job, same *identical, preempts bool) string {
	g := same.asks[0].Group
	q := &berthv1.Job{NodePool: spec.GetNodePool(), Arch: spec.GetArch(), ArchWeights: spec.GetArchWeights(), Constraints: spec.GetConstraints(),
		Tolerations: spec.GetTolerations(), Reservation: spec.GetReservation(), Priority: spec.GetPriority(), Preempt: &preempts}
	asked := &berthv1.Group{Topology: g.GetTopology(), Constraints: g.GetConstraints(), Network: g.GetNetwork(), DiskMib: g.GetDiskMib(),
		WholeNode: g.GetWholeNode(), Tolerations: g.GetTolerations()}
	for _, t := range g.GetTasks() {
		asked.Tasks = append(asked.Tasks, &berthv1.Task{Driver: t.GetDriver(), Resources: t.GetResources(), Constraints: t.GetConstraints()})
	}
	q.Groups = []*berthv1.Group{asked}
	if same.asks[0].Node != "" || same.replaces || spec.GetReservation() != "" || distinct(spec, g) {
		q.Namespace, q.Name, asked.Name = spec.GetNamespace(), spec.GetName(), g.GetName()
	}
	key, err := proto.MarshalOptions{Deterministic: true}.Marshal(q)
	if err != nil {
		return spec.GetNamespace() + "/" + spec.GetName() + "/" + g.GetName()
	}
	return string(key)
}

// distinct says that where a group may go depends on the job's other instances.
func distinct(spec *berthv1.Job, g *berthv1.Group) bool {
	for _, list := range [][]*berthv1.Constraint{spec.GetConstraints(), g.GetConstraints()} {
		for _, c := range list {
			switch c.GetOperator() {
			case "distinct_hosts", "distinct_property", "same_property", "apart_from":
				return true
			}
		}
	}
	return false
}

// changed is a node on which something may fit now.
type changed struct {
	since uint64 // Loop.tick of the newest change
	// sent is the job that is looked at for it; looks how often that had been looked at.
	sent  *job
	looks uint64
}

// freed notes that more may fit on a node than before.
func (l *Loop) freed(node string) {
	l.tick++
	c := l.dirty[node]
	if c == nil {
		c = &changed{}
		l.dirty[node] = c
	}
	c.since = l.tick
}

// looked notes that a look at a job has ended: nodes that were left to it are tested for
// the next.
func (l *Loop) looked(j *job) {
	j.looks++
	l.testsLeft = l.testsLeft || len(l.dirty) > 0
}

// testsAtOnce bounds how many tests of a node are made before the loop goes on.
const testsAtOnce = 4096

// wake has jobs looked at that could fit on nodes that have changed.
func (l *Loop) wake(now time.Time) {
	l.testsLeft = false
	if len(l.dirty) == 0 {
		return
	}
	if len(l.blocked.classes) == 0 {
		clear(l.dirty)
		return
	}
	trial, tests := l.crowd.trial(l.fleet), testsAtOnce
	for _, node := range slices.Sorted(maps.Keys(l.dirty)) {
		c := l.dirty[node]
		if c.sent != nil && c.sent.looks == c.looks && l.jobs[c.sent.key] == c.sent {
			continue // it has its turn yet
		}
		c.sent = nil
		if tests <= 0 {
			l.testsLeft = true
			return
		}
		j := l.whoFits(trial, node, c.since, &tests)
		if j == nil {
			delete(l.dirty, node)
			continue
		}
		c.sent, c.looks = j, j.looks
		j.sent++
		l.mark(j, l.debounced(j, now), berthv1.Evaluation_capacity_freed)
	}
}

// whoFits is the first in the queue that could fit on a node and was last looked at
// before it changed.
func (l *Loop) whoFits(trial *scheduler.Trial, node string, since uint64, tests *int) *job {
	for _, c := range l.blocked.sorted() {
		w := c.first(node, since)
		if w == nil {
			continue
		}
		*tests--
		l.stats.tests.Add(1)
		could := false
		l.openedClaims(l.outranked(node, c.priority), func() {
			below := uint32(0)
			if c.preempts {
				below = c.priority
			}
			could = trial.Could(c.group, node, below, c.replaces)
		})
		if could {
			return w.j
		}
	}
	return nil
}

// first is the first waiter that has not been looked at since, and that not enough other
// nodes have been found for.
func (c *class) first(node string, since uint64) *waiter {
	for _, w := range c.waiters {
		if w.j.looked < since && w.j.sent < w.left && (w.only == nil || w.only[node]) {
			return w
		}
	}
	return nil
}

// wakeWhere has all jobs looked at that wait and that something is so of.
func (l *Loop) wakeWhere(now time.Time, so func(*job) bool) {
	for _, j := range slices.SortedFunc(maps.Keys(l.blocked.jobs), (*job).before) {
		if so(j) {
			l.mark(j, now, berthv1.Evaluation_capacity_freed)
		}
	}
}

// wakeClaimants has the jobs looked at that have claimed a node: something of what they
// wait for has ended, or will not.
func (l *Loop) wakeClaimants(node string, now time.Time) {
	for _, c := range l.claims[node] {
		l.mark(c.j, now, berthv1.Evaluation_capacity_freed)
	}
}

// evictable notes that others may take away more of a job than before.
func (l *Loop) evictable(j *job) {
	if !l.blocked.outranks(j.priority) {
		return
	}
	for a := range l.view.AllocRowsByJob(j.key.namespace, j.key.name) {
		if a.HoldsGrant() {
			l.freed(a.NodeID())
		}
	}
}
