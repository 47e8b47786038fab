package plan

import (
	"iter"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Input is all that Reconcile looks at.
type Input struct {
	// Job is the newest version; nil: it is gone.
	Job *berthv1.Job
	// Deployment is that of the job's newest version; nil: it has none yet.
	Deployment *berthv1.Deployment
	// Stable gives the newest version below that was rolled out well. nil: there is none.
	Stable func() *berthv1.Job
	// Version gives an older version that is kept; nil: it is not.
	Version func(version uint64) *berthv1.Job
	// Allocs are all of the job's allocations, in any order.
	Allocs iter.Seq[*berthv1.Alloc]
	// Node gives a node; nil: it is gone.
	Node func(id string) *berthv1.Node
	// Feasible gives the nodes that pass a group's static checks; asked of system jobs.
	Feasible func(group *berthv1.Group) []string
	// Allows says whether a node passes a group's static checks, whether or not anything
	// new may be placed on it; asked of allocations that are updated in place.
	Allows func(group *berthv1.Group, nodeID string) bool
	// Occupied says whether a node has anything but system jobs that is not over; asked of
	// nodes that are drained. nil: none has.
	Occupied func(nodeID string) bool
	// Told says whether an entry on its way tells an allocation to end. nil: none does.
	Told func(allocID string) bool
	Now  time.Time
}

// Result is what should be different.
type Result struct {
	// Changes are of allocations that exist.
	Changes []*berthv1.AllocChange
	// Asks are the instances to be placed.
	Asks []Ask
	// Deployment is the newest version's deployment, where it is to be another than it was.
	Deployment *berthv1.Deployment
	// Revert is the version that is to be submitted anew in place of the newest, whose
	// roll-out has failed; nil: none.
	Revert *berthv1.Job
	// Groups counts what is done, by the job's groups in their order.
	Groups []*berthv1.GroupOutcome
	// Wake is when time alone will make a difference; zero: never.
	Wake time.Time
	// Status is what the job has come to when nothing of Asks can be placed.
	Status Status
	// Rolling says that allocations of an older version wait for their turn, so that the
	// job must be looked at again when a pending one runs.
	Rolling bool
	// Over says that nothing of the job is left that may still run.
	Over bool
	// Held are instances that nothing is asked for, because what was in their place may
	// still run; the outcome of their group explains that.
	Held int
}

// Status is a job's status in words.
type Status struct {
	Status berthv1.Job_Status
	Reason string
}

// Ask is one instance to be placed, or several in a row that nothing was before.
type Ask struct {
	Group *berthv1.Group
	// Job is the older version that the group is of; nil: the newest.
	Job   *berthv1.Job
	Index uint32
	// Count is how many instances, of Index and those that follow it.
	Count int
	// Node is the only one that does (system jobs); empty: any.
	Node string
	// Previous is the allocation that it replaces; nil: none.
	Previous *berthv1.Alloc
	// Replaces says that Previous still runs: it is stopped when this is placed.
	Replaces bool
	// Resizes says that Previous goes on with other limits where its node has room for that;
	// only else is it replaced.
	Resizes bool
	// Canary says that it is placed beside the old instance of its index.
	Canary bool
	// Moves says that it replaces Previous because its node is drained.
	Moves bool
	// StopsFirst says that Previous has to end before anything is placed: it is stopped
	// where a successor would have a place, and what follows is asked for when it has ended.
	StopsFirst bool
	// Preferred is a node that is taken where the instance fits on it; "": none.
	Preferred string
	// Penalised is a node that is to be taken only where no other fits.
	Penalised string
	// Reschedules are the times for the new allocation's record.
	Reschedules []*timestamppb.Timestamp
}

// Reasons for stopping, as people read them.
const (
	reasonJobStopped  = "the job is stopped"
	reasonParent      = "what is run from the job are jobs of their own now"
	reasonGroupGone   = "the job has no such group any more"
	reasonCount       = "fewer instances are wanted"
	reasonDuplicate   = "another allocation has its place"
	reasonUpdated     = "replaced by version %d"
	reasonNodeDown    = "its node is down"
	reasonNodeGone    = "its node is gone"
	reasonNodeAway    = "its node has lost touch"
	reasonReplaced    = "it was replaced while its node was away"
	reasonKeptOld     = "the allocation that it replaced is back"
	reasonNotAllowed  = "its node does not fit version %d"
	statusAllComplete = "all instances are complete"
	statusScheduled   = "it waits for its schedule"
	statusPaused      = "its schedule is paused"
	statusForm        = "it waits to be dispatched"
)

// Reconcile works out what a job lacks and what it has too much of. It is pure, and a
// fixed point: reconciling what it gives, carried out, gives nothing more.
func Reconcile(in Input) Result {
	r := newReconciler(in)
	if r.ended() {
		r.stopAll()
		return r.finish()
	}
	r.deploy()
	for _, spec := range in.Job.GetGroups() {
		g := r.groups[spec.GetName()]
		if r.perNode() {
			r.system(g)
		} else {
			r.instances(g)
		}
	}
	r.deployed()
	return r.finish()
}

// newReconciler sorts everything that there is of a job.
func newReconciler(in Input) *reconciler {
	r := &reconciler{Input: in, groups: map[string]*group{}}
	for _, spec := range in.Job.GetGroups() {
		g := &group{spec: spec, outcome: &berthv1.GroupOutcome{Group: spec.GetName()}}
		r.groups[spec.GetName()] = g
		r.result.Groups = append(r.result.Groups, g.outcome)
	}
	for a := range in.Allocs {
		r.sort(a)
	}
	for _, g := range r.groups {
		g.order()
	}
	return r
}

// reconciler is Reconcile at work.
type reconciler struct {
	Input
	result Result
	groups map[string]*group
	// live are the allocations that are, or may be, running after this.
	live    int
	failed  int // instances that failed for good
	waiting int // instances that wait for their time or their placement
	updates map[updateKey]update
	// deployment is that of the job's version, as it is from now on; nil: it has none.
	deployment *berthv1.Deployment
}

// group is what there is of one group.
type group struct {
	spec    *berthv1.Group // nil: the job has it no more
	outcome *berthv1.GroupOutcome
	// live are wanted and may run; away are those of them whose node is not there.
	live, away []*berthv1.Alloc
	// ended are over, not replaced, and were not told to stop.
	ended []*berthv1.Alloc
	// told are those of this version that were told to stop and have no successor yet, by
	// index: `berth alloc stop` wants another instance in their place, with -reschedule on
	// another node and whatever their version.
	told map[uint32]*berthv1.Alloc
	// drained: some of it is on a node that is drained.
	drained bool
	// all are all allocations of a stateful group.
	all []*berthv1.Alloc
	// missing are instances that failed, for good or until their time.
	missing int
	// nodes may have an instance of a system job, in order; seats are their places there.
	nodes []string
	seats map[string]int
	// rollout is its part in the deployment; nil: it is not rolled out by one.
	rollout *rollout
	// base is the older version that ordinary instances are placed of; nil: the newest.
	base *berthv1.Job
	// canary: it has canaries.
	canary bool
}

// perNode says that the job wants one instance on every node.
func (r *reconciler) perNode() bool {
	t := r.Job.GetType()
	return t == berthv1.Job_system || t == berthv1.Job_sysbatch
}

// toCompletion says that what is complete is done.
func (r *reconciler) toCompletion() bool {
	t := r.Job.GetType()
	return t == berthv1.Job_batch || t == berthv1.Job_sysbatch
}

// ended says that the job is to have nothing running: it is gone, stopped, run by its
// children only, or a batch job that is over (whose allocations may be forgotten already).
func (r *reconciler) ended() bool {
	return r.Job == nil || r.Job.GetStopped() || r.Job.IsParent() || r.toCompletion() && r.Job.GetStatus() == berthv1.Job_dead
}

// sort puts an allocation where it belongs.
func (r *reconciler) sort(a *berthv1.Alloc) {
	g := r.groups[a.GetGroup()]
	if g == nil {
		g = &group{outcome: &berthv1.GroupOutcome{Group: a.GetGroup()}}
		r.groups[a.GetGroup()] = g
	}
	g.canary = g.canary || a.GetCanary()
	if g.spec.GetStateful() != nil {
		g.all = append(g.all, a)
	}
	if !a.Wanted() && a.GetNextAlloc() == "" && (a.GetJobVersion() == r.Job.GetVersion() || a.GetMoved()) {
		if other := g.told[a.GetIndex()]; other == nil || other.GetCreateRevision() < a.GetCreateRevision() {
			if g.told == nil {
				g.told = map[uint32]*berthv1.Alloc{}
			}
			g.told[a.GetIndex()] = a
		}
	}
	switch {
	case a.Ended():
		if a.Wanted() && a.GetNextAlloc() == "" {
			g.ended = append(g.ended, a)
		}
	case a.Terminal(): // lost: it was replaced, or needs not be
	case !a.Wanted():
		if r.nodeUp(a) {
			r.live++
		} else {
			r.change(a, lost(r.whereabouts(a)))
		}
	default:
		node := r.Node(a.GetNodeId())
		g.drained = g.drained || node.GetDrain() != nil
		if isUp(node) {
			g.live = append(g.live, a)
		} else {
			g.away = append(g.away, a)
		}
	}
}

// nodeUp says whether an allocation's node can speak for it. A node that this leader has
// not heard yet counts as up: it gets the time to be heard.
func (r *reconciler) nodeUp(a *berthv1.Alloc) bool { return isUp(r.Node(a.GetNodeId())) }

func isUp(n *berthv1.Node) bool {
	return n != nil && n.GetStatus() != berthv1.Node_down && n.GetStatus() != berthv1.Node_disconnected
}

// whereabouts says what is wrong with an allocation's node.
func (r *reconciler) whereabouts(a *berthv1.Alloc) string {
	if r.Node(a.GetNodeId()) == nil {
		return reasonNodeGone
	}
	return reasonNodeDown
}

// stopAll ends everything.
func (r *reconciler) stopAll() {
	reason := reasonJobStopped
	if r.Job.IsParent() && !r.Job.GetStopped() {
		reason = reasonParent
	}
	for _, name := range r.groupNames() {
		g := r.groups[name]
		if g.spec.GetStateful() != nil {
			r.stopLast(g, g.live, reason)
		} else {
			for _, a := range g.live {
				r.stop(g, a, reason)
			}
		}
		for _, a := range g.away {
			r.lose(g, a)
		}
	}
}

// groupNames are the names of all groups, those that the job has no more among them.
func (r *reconciler) groupNames() []string {
	names := make([]string, 0, len(r.groups))
	for name := range r.groups {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// finish ends groups that are gone and sums up.
func (r *reconciler) finish() Result {
	if !r.ended() {
		for _, name := range r.groupNames() {
			g := r.groups[name]
			if g.spec != nil {
				continue
			}
			for _, a := range g.live {
				r.stop(g, a, reasonGroupGone)
			}
			for _, a := range g.away {
				r.lose(g, a)
			}
		}
	}
	r.result.Over = r.live == 0
	r.result.Status = r.status()
	return r.result
}
