// Package whatif answers what would be if nodes came, went or were drained, or a job ran,
// on a copy of a cluster's state, with the code by which the servers place. It is pure:
// state and question in, answer out. Its caller is `berth sim whatif`.
package whatif

import (
	"cmp"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
)

// State is a cluster, as far as placement looks at it. Nothing of it is changed.
type State struct {
	Config *berthv1.SchedulerConfig
	Nodes  []*berthv1.Node
	Allocs []*berthv1.Alloc
	// Jobs are the newest versions.
	Jobs []*berthv1.Job
	// Namespaces with their quotas, and the reservations that hold at that moment.
	Namespaces   []*berthv1.Namespace
	Reservations []*berthv1.Reservation
}

// Question is a change.
type Question struct {
	// Add is how many nodes come that are as the node Like, by its name or id.
	Add  int
	Like string
	// Remove and Drain name nodes that go, or that are to be emptied.
	Remove, Drain []string
	// Job is to run; nil: none. Where the state has one of that name its instances end.
	Job *berthv1.Job
}

// Reasons why an instance needs a place.
const (
	ForJob    = "job"       // it is of the job that was asked about
	Displaced = "displaced" // its node goes or is drained
	Waiting   = "waiting"   // it has no place in the state as it is
)

// Placement is an instance that finds a place.
type Placement struct {
	Namespace, Job, Group, Why string
	NodeID, Node               string
	Assignment                 *berthv1.Assignment
}

// Unplaced are instances of a group that find none, and why.
type Unplaced struct {
	Namespace, Job, Group, Why string
	Count                      int
	Explanation                *berthv1.Explanation
	// Ways are how they would get their places if what has a lower priority gave way.
	Ways []scheduler.Way
}

// Answer is what would be.
type Answer struct {
	// Added came, Removed went, Drained are to be emptied.
	Added, Removed, Drained []*berthv1.Node
	// Stopped are the instances of an older version of the job, which make place.
	Stopped    []*berthv1.Alloc
	Placements []Placement
	Unplaced   []Unplaced
	// Before and After are how full the fleet is.
	Before, After Load

	nodes  []*berthv1.Node // after
	allocs []*berthv1.Alloc
}

// Ask answers the question. An error says what of it makes no sense.
func Ask(s *State, q *Question) (*Answer, error) {
	w := &world{State: s, q: q, answer: &Answer{}, gone: map[string]bool{}, ended: map[string]bool{},
		held: map[string][]*berthv1.Alloc{}, tallies: map[scheduler.GroupKey]tally{}, jobs: map[string]*berthv1.Job{}}
	for _, j := range s.Jobs {
		w.jobs[j.GetNamespace()+"/"+j.GetName()] = j
	}
	w.answer.Before = loadOf(s.Nodes, s.Allocs)
	if err := w.change(); err != nil {
		return nil, err
	}
	w.build()
	asks, err := w.asks()
	if err != nil {
		return nil, err
	}
	w.place(asks)
	w.settle()
	return w.answer, nil
}

// world is the state with the change.
type world struct {
	*State
	q      *Question
	answer *Answer
	jobs   map[string]*berthv1.Job
	fleet  *scheduler.Fleet
	nodes  []*berthv1.Node
	gone   map[string]bool             // ids of nodes that allocations are displaced from
	ended  map[string]bool             // ids of allocations that hold nothing any more
	held   map[string][]*berthv1.Alloc // by node, what holds a grant there then
	// tallies count a group's instances.
	tallies map[scheduler.GroupKey]tally
}

// tally counts a group's instances in the state: those that lose their node, those that
// do not, of them those that run; and those that have run to their end.
type tally struct{ displaced, staying, up, complete int }

// change works out the nodes that there are then.
func (w *world) change() error {
	removed, err := w.find("-remove-nodes", w.q.Remove)
	if err != nil {
		return err
	}
	drained, err := w.find("-drain", w.q.Drain)
	if err != nil {
		return err
	}
	w.answer.Removed, w.answer.Drained = removed, drained
	for _, n := range slices.Concat(removed, drained) {
		w.gone[n.GetId()] = true
	}
	for _, n := range w.Nodes {
		switch {
		case slices.Contains(removed, n):
		case slices.Contains(drained, n):
			n = proto.Clone(n).(*berthv1.Node)
			n.Eligibility = berthv1.Node_ineligible
			w.nodes = append(w.nodes, n)
		default:
			w.nodes = append(w.nodes, n)
		}
	}
	return w.add()
}

const maxAdded = 100_000

func (w *world) add() error {
	switch {
	case w.q.Add == 0 && w.q.Like == "":
		return nil
	case w.q.Add < 0 || w.q.Add > maxAdded:
		return problem.New(problem.Invalid, "-add-nodes", "%d nodes cannot be added: from 1 to %d can", w.q.Add, maxAdded)
	case w.q.Add == 0:
		return problem.New(problem.Invalid, "-like", "-like %s says what nodes to add, but not how many", w.q.Like).WithRemedy("add -add-nodes N")
	case w.q.Like == "":
		return problem.New(problem.Invalid, "-add-nodes", "-add-nodes %d does not say what the nodes are like", w.q.Add).WithRemedy("name a node of the cluster that they are like: -like NODE")
	}
	like, err := w.find("-like", []string{w.q.Like})
	if err != nil {
		return err
	}
	for i := range w.q.Add {
		n := proto.Clone(like[0]).(*berthv1.Node)
		n.Id, n.Name = fmt.Sprintf("new-%06d", i+1), fmt.Sprintf("%s-new%d", like[0].GetName(), i+1)
		n.Status, n.Eligibility = berthv1.Node_ready, berthv1.Node_eligible
		w.nodes, w.answer.Added = append(w.nodes, n), append(w.answer.Added, n)
	}
	return nil
}

// find gives nodes by their names or ids, or a unique beginning of an id.
func (w *world) find(flag string, names []string) ([]*berthv1.Node, error) {
	var found []*berthv1.Node
	for _, name := range names {
		var exact, begins []*berthv1.Node
		for _, n := range w.Nodes {
			switch {
			case n.GetName() == name || n.GetId() == name:
				exact = append(exact, n)
			case name != "" && len(n.GetId()) > len(name) && n.GetId()[:len(name)] == name:
				begins = append(begins, n)
			}
		}
		if len(exact) == 0 {
			exact = begins
		}
		switch len(exact) {
		case 1:
			found = append(found, exact[0])
		case 0:
			return nil, problem.New(problem.NotFound, flag, "there is no node %q in the state", name)
		default:
			return nil, problem.New(problem.Invalid, flag, "%d nodes are named %q", len(exact), name).WithRemedy("name it by its id")
		}
	}
	slices.SortFunc(found, func(a, b *berthv1.Node) int { return cmp.Compare(a.GetId(), b.GetId()) })
	return slices.Compact(found), nil
}

// build makes the fleet as the servers' plan loop does. What is displaced, or of the
// older version of the job, holds nothing there.
func (w *world) build() {
	for _, a := range w.Allocs {
		older := w.q.Job != nil && a.GetNamespace() == w.q.Job.GetNamespace() && a.GetJob() == w.q.Job.GetName()
		if older && a.HoldsGrant() {
			w.answer.Stopped = append(w.answer.Stopped, a)
		}
		w.ended[a.GetId()] = older || w.gone[a.GetNodeId()]
		w.count(a)
	}
	w.fleet = scheduler.NewFleet()
	w.fleet.SetStrategy(w.Config.GetStrategy())
	for _, n := range w.nodes {
		_, _ = w.fleet.UpsertNode(n) // one that makes no sense takes nothing, as on the servers
	}
	w.fleet.Reserve(w.Reservations)
	for _, ns := range w.Namespaces { // what they hold is counted as it is taken in
		w.fleet.SetQuota(ns.GetName(), ns.GetQuota(), func(func(*berthv1.Alloc) bool) {})
	}
	w.fleet.SetDemand(scheduler.DemandOf(slices.Values(w.Jobs)))
	for _, a := range w.Allocs {
		if !w.ended[a.GetId()] {
			w.fleet.ChangeAlloc(nil, a)
		}
	}
}

func (w *world) count(a *berthv1.Alloc) {
	if a.HoldsGrant() && !w.ended[a.GetId()] {
		w.held[a.GetNodeId()] = append(w.held[a.GetNodeId()], a)
	}
	key := scheduler.GroupKey{Namespace: a.GetNamespace(), Job: a.GetJob(), Group: a.GetGroup()}
	t := w.tallies[key]
	switch {
	case a.GetStatus() == berthv1.Alloc_complete:
		t.complete++
	case a.Terminal() || !a.Wanted():
	case w.gone[a.GetNodeId()]:
		t.displaced++
	default:
		t.staying++
		if a.GetStatus() == berthv1.Alloc_running {
			t.up++
		}
	}
	w.tallies[key] = t
}
