package plan

import (
	"cmp"
	"iter"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
	"github.com/berthd/berth/server/state"
)

// load builds everything anew from a view. What is on the way stays so.
func (l *Loop) load(view *state.View) {
	l.view, l.fleet = view, scheduler.NewFleet()
	l.nodes = map[string]*berthv1.Node{}
	old := l.jobs
	l.jobs, l.ready, l.survey, l.timers = map[jobKey]*job{}, turns{}, nil, nil
	l.system, l.demand = map[*job]struct{}{}, demand{}
	l.blocked, l.claims, l.dirty = newQueue(), map[string][]*claim{}, map[string]*changed{}
	l.crowd, l.drains = newCrowd(func() *state.View { return l.view }), drains{}
	l.crowd.resizing = l.resizing
	l.configure(view.SchedulerConfig())
	for n := range view.Nodes("") {
		l.upsertNode(n)
	}
	now := time.Now()
	l.limits, l.reserveAt = map[string]bool{}, limitFleet(l.fleet, view, now)
	for spec := range view.Jobs("", "") {
		j := l.job(spec.GetNamespace(), spec.GetName())
		if was := old[j.key]; was != nil {
			j.flying = was.flying // its plans land on this one: see land
		}
		l.described(j, spec)
		j.trigger = berthv1.Evaluation_node_changed
		l.survey = append(l.survey, j)
	}
	l.demand.tell(l.fleet)
	var evicted []*berthv1.Alloc
	var a berthv1.Alloc // what the fleet looks at: whole messages of a million allocations took seconds
	for row := range view.AllocRows() {
		delete(l.pending, row.ID())
		a.Namespace, a.Job, a.Group, a.NodeId = row.Namespace(), row.Job(), row.Group(), row.NodeID()
		a.Desired, a.Status, a.Assignment = row.Desired(), row.Status(), row.Assignment()
		l.fleet.ChangeAlloc(nil, &a)
		if !row.Plain() {
			if whole := row.Alloc(); whole.GetPreemptedBy() != "" {
				evicted = append(evicted, whole)
			}
		}
		if j := l.jobs[jobKey{a.Namespace, a.Job}]; j != nil {
			j.allocs++
		}
	}
	for id, p := range l.pending {
		if p.entry.landed { // written, and forgotten since
			delete(l.pending, id)
			continue
		}
		l.fleet.ChangeAlloc(nil, p.alloc())
	}
	l.resizeAgain()
	for e := range view.Evaluations("") {
		l.evaluation(e, now)
	}
	slices.SortStableFunc(l.survey, func(a, b *job) int { return cmp.Compare(b.priority, a.priority) })
	for _, j := range l.claimAgain(evicted) {
		l.mark(j, now, berthv1.Evaluation_alloc_changed)
	}
}

func (l *Loop) configure(c *berthv1.SchedulerConfig) {
	l.fleet.SetStrategy(c.GetStrategy())
	l.paused = c.GetPaused()
}

// described notes what the spec says of a job.
func (l *Loop) described(j *job, spec *berthv1.Job) {
	j.priority = spec.GetPriority()
	j.bounded = slices.ContainsFunc(spec.GetGroups(), bounded)
	l.demand.note(j, spec)
	delete(l.system, j)
	if t := spec.GetType(); t == berthv1.Job_system || t == berthv1.Job_sysbatch {
		l.system[j] = struct{}{}
	}
}

// changesAtOnce is how many changes are asked of the store at a time.
const changesAtOnce = 4096

// absorb follows the store to what it is now.
func (l *Loop) absorb(now time.Time) {
	view := l.cfg.Store.View()
	seen := l.view.Revision()
	if seen == view.Revision() {
		return
	}
	anew := map[string]bool{} // nodes whose hardware has changed
	for l.view = view; seen < view.Revision(); {
		changes, ok := l.cfg.Store.ChangesInto(l.changes, seen, changesAtOnce)
		if !ok {
			l.log.Warn("the plan loop fell behind and starts anew", "seen", seen, "revision", view.Revision())
			l.cfg.External.Reset()
			l.load(view)
			return
		}
		if l.changes = changes; len(changes) == 0 {
			break
		}
		for i := range changes {
			if changes[i].Revision > view.Revision() {
				seen = view.Revision()
				break
			}
			l.change(&changes[i], now, anew)
			seen = changes[i].Revision
		}
	}
	for id := range anew {
		l.fleet.Regrant(id, l.allocsOn(id))
	}
	l.demand.tell(l.fleet)
	l.limit(now)
}

// allocsOn are all allocations on a node, those on the way among them.
func (l *Loop) allocsOn(node string) iter.Seq[*berthv1.Alloc] {
	return func(yield func(*berthv1.Alloc) bool) {
		for a := range l.view.AllocsByNode(node) {
			if !yield(l.resizing[a.GetId()].resized(a)) {
				return
			}
		}
		for _, p := range l.pending {
			if p.node == node && !yield(p.alloc()) {
				return
			}
		}
		for _, c := range l.claims[node] {
			if !yield(c.closing) {
				return
			}
		}
	}
}

func (l *Loop) change(c *state.Change, now time.Time, anew map[string]bool) {
	l.noticed(c)
	switch c.Table {
	case state.TableNodes:
		before, _ := c.Before().(*berthv1.Node)
		after, _ := c.Item().(*berthv1.Node)
		if l.nodeChanged(before, after, now) {
			anew[c.Key()] = true
		}
	case state.TableAllocs:
		before, after := c.Allocs()
		l.allocChanged(before, after, now)
	case state.TableJobs:
		before, _ := c.Before().(*berthv1.Job)
		after, _ := c.Item().(*berthv1.Job)
		l.jobChanged(before, after, now)
	case state.TableEvaluations:
		if e, ok := c.Item().(*berthv1.Evaluation); ok && e != nil {
			l.evaluation(e, now)
		}
	case state.TableDeployments:
		before, _ := c.Before().(*berthv1.Deployment)
		after, _ := c.Item().(*berthv1.Deployment)
		if j := l.jobs[jobKey{after.GetNamespace(), after.GetJob()}]; j != nil && turned(before, after) {
			l.mark(j, now, berthv1.Evaluation_job_changed)
		}
	case state.TableNamespaces:
		l.limits[c.Key()] = true
	case state.TableReservations:
		l.reserve(now)
	case state.TableConfig:
		l.configure(l.view.SchedulerConfig())
		l.wakeWhere(now, func(*job) bool { return true })
	}
}

func (l *Loop) upsertNode(n *berthv1.Node) bool {
	l.nodes[n.GetId()] = n
	l.drains.follow(n.GetId(), n)
	anew, err := l.fleet.UpsertNode(n)
	if err != nil {
		l.log.Warn("a node's inventory makes no sense; nothing is placed on it", "node", n.GetName(), "error", err)
	}
	return anew
}

// nodeChanged takes a node in; true: what is granted on it must be told anew.
func (l *Loop) nodeChanged(before, after *berthv1.Node, now time.Time) (anew bool) {
	id := after.GetId()
	if after == nil {
		id = before.GetId()
		delete(l.nodes, id)
		l.drains.follow(id, nil)
		l.fleet.RemoveNode(id)
		for _, namespace := range l.fleet.Quotas().Namespaces() {
			l.afforded(namespace, now) // what was lost with it is not held any more
		}
	} else {
		anew = l.upsertNode(after)
	}
	if before != nil && after != nil && before.GetStatus() == after.GetStatus() && sameOffer(before, after) {
		return anew
	}
	if before == nil || after == nil || before.GetStatus() != after.GetStatus() || drainsChanged(before, after) {
		for a := range l.view.AllocsByNode(id) {
			if !a.Terminal() {
				l.mark(l.job(a.GetNamespace(), a.GetJob()), now, berthv1.Evaluation_node_changed)
			}
		}
	}
	for j := range l.system {
		l.mark(j, now.Add(systemDebounce), berthv1.Evaluation_node_changed)
	}
	l.wakeClaimants(id, now)
	if after != nil {
		l.freed(id)
	}
	return anew
}

// systemDebounce gathers nodes that come together into one look at the system jobs.
const systemDebounce = 20 * time.Millisecond

// sameOffer says whether a node can take just what it could before.
func sameOffer(a, b *berthv1.Node) bool {
	x, y := proto.Clone(a).(*berthv1.Node), proto.Clone(b).(*berthv1.Node)
	for _, n := range []*berthv1.Node{x, y} {
		n.StatusTime, n.StatusReason, n.ModifyRevision, n.Version, n.BootId = nil, "", 0, "", ""
	}
	return proto.Equal(x, y)
}

// allocChanged takes an allocation in and has its job looked at when it is over, given
// up or told to stop by somebody else.
func (l *Loop) allocChanged(before, after *state.AllocRow, now time.Time) {
	either := after
	if !after.Exists() {
		either = before
	}
	j := l.job(either.Namespace(), either.Job())
	switch {
	case l.ours(before, after):
		if l.blocked.outranks(j.priority) {
			l.freed(after.NodeID()) // nobody could take it away while it was on the way
		}
	case !sameToFleet(before, after):
		l.fleet.ChangeAlloc(l.resizedInView(before, after))
	}
	l.crowd.forget(either.NodeID())
	if before.Exists() && before.HoldsGrant() && !(after.Exists() && after.HoldsGrant() && before.Assignment() == after.Assignment()) {
		l.freed(either.NodeID())
		l.wakeClaimants(either.NodeID(), now)
		l.heldLess(either.Namespace(), now)
	}
	if before.Exists() && !before.Terminal() && !(after.Exists() && !after.Terminal()) {
		l.drains.ended(either.NodeID())
	}
	switch {
	case !before.Exists():
		j.allocs++
	case !after.Exists():
		j.allocs--
		if j.allocs <= 0 && !j.busy() && l.view.Job(j.key.namespace, j.key.name) == nil {
			delete(l.jobs, j.key)
		}
	default:
		if j.bounded && before.Status() != after.Status() && after.Status() == berthv1.Alloc_running {
			l.evictable(j) // others of it may be taken away now
		}
		if l.matters(j, before, after) {
			l.mark(j, l.debounced(j, now), berthv1.Evaluation_alloc_changed)
		}
	}
}

// ours says that an allocation was created that this loop has placed: the fleet has it.
func (l *Loop) ours(before, after *state.AllocRow) bool {
	if before.Exists() {
		return false
	}
	id := after.ID()
	_, ours := l.pending[id]
	delete(l.pending, id)
	return ours
}

// sameToFleet says that a change is nothing to the fleet, which knows what is held and
// which instances are wanted.
func sameToFleet(before, after *state.AllocRow) bool {
	return before.Exists() && after.Exists() && before.HoldsGrant() == after.HoldsGrant() && before.Assignment() == after.Assignment() &&
		(before.Wanted() && !before.Terminal()) == (after.Wanted() && !after.Terminal())
}

// matters says whether a job is to be looked at for a change of an allocation. That a
// pending one runs matters only where others wait for it.
func (l *Loop) matters(j *job, before, after *state.AllocRow) bool {
	switch {
	case before.Desired() != after.Desired():
		return true
	case before.Health() != after.Health(), before.JobVersion() != after.JobVersion(), before.Canary() != after.Canary():
		return j.rolling || before.Status() != after.Status()
	case before.Status() == after.Status():
		return false
	case before.Status() == berthv1.Alloc_pending && after.Status() == berthv1.Alloc_running:
		return j.rolling
	}
	return true
}

func (l *Loop) jobChanged(before, after *berthv1.Job, now time.Time) {
	l.noticedJob(before, after)
	if after == nil {
		if j := l.jobs[jobKey{before.GetNamespace(), before.GetName()}]; j != nil {
			l.blocked.remove(j)
			l.unclaim(j, nil)
			delete(l.system, j)
			l.demand.note(j, nil)
			if j.allocs == 0 && !j.busy() {
				delete(l.jobs, j.key)
			}
		}
		return
	}
	j := l.job(after.GetNamespace(), after.GetName())
	l.described(j, after)
	if before.GetSpecRevision() != after.GetSpecRevision() && before != nil {
		l.crowd.forgetAll()
		l.evictable(j)
	}
	if before.GetSpecRevision() != after.GetSpecRevision() || before.GetPurge() != after.GetPurge() {
		if j.work != nil {
			j.work.drop()
		}
		l.mark(j, now, berthv1.Evaluation_job_changed)
	}
}

// evaluation notes an evaluation that asks to be answered, or that says what is blocked.
func (l *Loop) evaluation(e *berthv1.Evaluation, now time.Time) {
	j := l.jobs[jobKey{e.GetNamespace(), e.GetJob()}]
	if j == nil {
		return
	}
	switch e.GetStatus() {
	case berthv1.Evaluation_pending:
		j.evals = append(j.evals, e)
		l.mark(j, now, e.GetTrigger())
	case berthv1.Evaluation_blocked:
		if j.blockedEval == nil || j.blockedEval.GetCreateRevision() <= e.GetCreateRevision() {
			j.blockedEval = e
		}
	case berthv1.Evaluation_complete, berthv1.Evaluation_superseded:
		if j.blockedEval.GetId() == e.GetId() {
			j.blockedEval = nil
		}
	}
}
