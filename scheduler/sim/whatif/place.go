package whatif

import (
	"cmp"
	"fmt"
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
)

// ask is an ask, and what it is for.
type ask struct {
	scheduler.Ask
	job *berthv1.Job
	why string
}

// asks are all instances that need a place then.
func (w *world) asks() ([]*ask, error) {
	var out []*ask
	if w.q.Job != nil {
		for _, g := range w.q.Job.GetGroups() {
			a, err := w.askFor(w.q.Job, g, ForJob, scheduler.GroupCount(g))
			if err != nil {
				return nil, err
			}
			out = append(out, a)
		}
	}
	for _, job := range w.Jobs {
		if job.GetStopped() || w.q.Job != nil && job.GetNamespace() == w.q.Job.GetNamespace() && job.GetName() == w.q.Job.GetName() {
			continue
		}
		for _, g := range job.GetGroups() {
			displaced, missing := w.wanting(job, g)
			out = w.appendAsk(out, job, g, Displaced, displaced)
			out = w.appendAsk(out, job, g, Waiting, missing)
		}
	}
	slices.SortStableFunc(out, func(a, b *ask) int {
		return cmp.Or(cmp.Compare(a.Group.Key.Namespace, b.Group.Key.Namespace), cmp.Compare(a.Group.Key.Job, b.Group.Key.Job),
			cmp.Compare(a.Group.Key.Group, b.Group.Key.Group), cmp.Compare(a.why, b.why))
	})
	return slices.DeleteFunc(out, func(a *ask) bool { return a.Count == 0 && len(a.Nodes) == 0 }), nil
}

// appendAsk leaves out a group that makes no sense: the servers cannot place it either.
func (w *world) appendAsk(out []*ask, job *berthv1.Job, g *berthv1.Group, why string, count int) []*ask {
	if count == 0 {
		return out
	}
	if a, err := w.askFor(job, g, why, count); err == nil {
		out = append(out, a)
	}
	return out
}

func (w *world) askFor(job *berthv1.Job, g *berthv1.Group, why string, count int) (*ask, error) {
	compiled, err := scheduler.Compile(job, g)
	if err != nil {
		return nil, err
	}
	a := &ask{Ask: scheduler.Ask{Group: compiled, Count: count}, job: job, why: why}
	if everywhere(job) {
		a.Nodes = w.fleet.Feasible(compiled)
		if why != ForJob { // only what comes with new nodes: the rest has its instance
			a.Nodes = slices.DeleteFunc(a.Nodes, func(id string) bool { return !w.added(id) })
		}
		a.Count = len(a.Nodes)
	}
	return a, nil
}

// everywhere says that the job has an instance on every node.
func everywhere(job *berthv1.Job) bool {
	return job.GetType() == berthv1.Job_system || job.GetType() == berthv1.Job_sysbatch
}

func (w *world) added(id string) bool {
	return slices.ContainsFunc(w.answer.Added, func(n *berthv1.Node) bool { return n.GetId() == id })
}

// wanting is how many instances of a group lose their node, and how many have none now.
func (w *world) wanting(job *berthv1.Job, g *berthv1.Group) (displaced, missing int) {
	if everywhere(job) {
		return 0, len(w.answer.Added)
	}
	t := w.tallies[scheduler.GroupKey{Namespace: job.GetNamespace(), Job: job.GetName(), Group: g.GetName()}]
	there := t.staying + t.displaced
	if job.GetType() == berthv1.Job_batch {
		there += t.complete
	}
	return t.displaced, max(scheduler.GroupCount(g)-there, 0)
}

// place places all asks, the highest priority first as Place does it; of a job that is a
// gang over its groups, all or none.
func (w *world) place(asks []*ask) {
	plain := make([]*scheduler.Ask, len(asks))
	for i, a := range asks {
		plain[i] = &a.Ask
	}
	placements, unplaced := scheduler.Place(w.fleet, plain)
	broken := map[*berthv1.Job]bool{}
	for _, u := range unplaced {
		if asks[u.Ask].job.GetGang() {
			broken[asks[u.Ask].job] = true
		}
	}
	lost := map[int]int{}
	for _, p := range placements {
		a := asks[p.Ask]
		if broken[a.job] {
			w.fleet.Undo(a.Group, p)
			lost[p.Ask]++
			continue
		}
		k := a.Group.Key
		w.answer.Placements = append(w.answer.Placements, Placement{k.Namespace, k.Job, k.Group, a.why, p.NodeID, p.NodeName, p.Assignment})
	}
	for _, u := range unplaced {
		w.unplaced(asks[u.Ask], u.Count+lost[u.Ask], u.Explanation, u.OverQuota)
		delete(lost, u.Ask)
	}
	for i, a := range asks {
		if lost[i] > 0 {
			w.unplaced(a, lost[i], &berthv1.Explanation{Remedies: []string{"the job is a gang, and another of its groups finds no place"}}, false)
		}
	}
}

// unplaced records what found no place, and who would give way to it: nobody to what its
// quota keeps out.
func (w *world) unplaced(a *ask, count int, e *berthv1.Explanation, overQuota bool) {
	k := a.Group.Key
	u := Unplaced{Namespace: k.Namespace, Job: k.Job, Group: k.Group, Why: a.why, Count: count, Explanation: e}
	if !overQuota && !w.Config.GetNoPreemption() && (a.job.Preempt == nil || a.job.GetPreempt()) && a.Nodes == nil {
		trial := scheduler.NewTrial(w.fleet, w.holders, w.budget)
		rest := a.Ask
		rest.Count = count
		if u.Ways = trial.Preempt(&rest, a.job.GetPriority()); a.Group.Gang && len(u.Ways) < count {
			u.Ways = nil
		}
		trial.Undo()
	}
	w.answer.Unplaced = append(w.answer.Unplaced, u)
}

// holders gives what holds grants on a node.
func (w *world) holders(node string) []scheduler.Holder {
	var out []scheduler.Holder
	for _, a := range w.held[node] {
		job := w.jobs[a.GetNamespace()+"/"+a.GetJob()]
		h := scheduler.HolderOf(a, job.GetPriority())
		g := groupOf(job, a.GetGroup())
		if job.GetGang() || g.GetGang() {
			h.Gang, h.GangSize = a.GetNamespace()+"/"+a.GetJob()+"/"+a.GetGroup(), scheduler.GroupCount(g)
		}
		h.Bounded = scheduler.MaxUnavailable(g, 1<<20) < 1<<20
		h.Fixed = h.Bounded && scheduler.MaxUnavailable(g, 1<<20) == 0
		out = append(out, h)
	}
	return out
}

// budget is how many running instances of a group may be taken away.
func (w *world) budget(key scheduler.GroupKey) int {
	g := groupOf(w.jobs[key.Namespace+"/"+key.Job], key.Group)
	count := scheduler.GroupCount(g)
	return max(0, scheduler.MaxUnavailable(g, count)-max(0, count-w.tallies[key].up))
}

func groupOf(job *berthv1.Job, name string) *berthv1.Group {
	for _, g := range job.GetGroups() {
		if g.GetName() == name {
			return g
		}
	}
	return nil
}

// settle works out how full the fleet is then.
func (w *world) settle() {
	a := w.answer
	for _, alloc := range w.Allocs {
		if !w.ended[alloc.GetId()] && alloc.HoldsGrant() {
			a.allocs = append(a.allocs, alloc)
		}
	}
	index := map[string]uint32{}
	for i, p := range a.Placements {
		key := p.Namespace + "/" + p.Job + "/" + p.Group
		a.allocs = append(a.allocs, &berthv1.Alloc{Id: fmt.Sprintf("new-%06d", i), Namespace: p.Namespace, Job: p.Job, Group: p.Group,
			Index: index[key], NodeId: p.NodeID, NodeName: p.Node, Assignment: p.Assignment})
		index[key]++
	}
	a.nodes = w.nodes
	a.After = loadOf(w.nodes, a.allocs)
}
