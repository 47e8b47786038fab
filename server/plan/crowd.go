package plan

import (
	"strings"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
	"github.com/berthd/berth/server/state"
)

// crowd knows who holds what on the nodes of a view, for asks that need the room. What
// it has worked out of a node it keeps until it is told to forget.
type crowd struct {
	view  func() *state.View
	nodes map[string][]scheduler.Holder
	// told are the allocations that entries on the way tell to end: the view still wants
	// them.
	told map[string]bool
	// resizing are those of which another grant is on its way: the fleet knows that one.
	resizing map[string]*resize
}

func newCrowd(view func() *state.View) *crowd {
	return &crowd{view: view, nodes: map[string][]scheduler.Holder{}, told: map[string]bool{}}
}

// forget is for a node whose allocations have changed.
func (c *crowd) forget(node string) { delete(c.nodes, node) }

// forgetAll is for when what is known of jobs has changed.
func (c *crowd) forgetAll() { clear(c.nodes) }

// tell notes who is told to end by a change that will be proposed.
func (c *crowd) tell(change *berthv1.AllocChange) {
	if change.Desired == nil {
		return
	}
	if row := c.view().AllocRow(change.GetAllocId()); row.Exists() {
		c.told[change.GetAllocId()] = true
		c.forget(row.NodeID())
	}
}

// landed notes that changes are in the view from now on, or will never be.
func (c *crowd) landed(changes []*berthv1.AllocChange) {
	for _, change := range changes {
		if !c.told[change.GetAllocId()] {
			continue
		}
		delete(c.told, change.GetAllocId())
		if row := c.view().AllocRow(change.GetAllocId()); row.Exists() {
			c.forget(row.NodeID())
		}
	}
}

// on gives what holds grants on a node.
func (c *crowd) on(node string) []scheduler.Holder {
	holders, known := c.nodes[node]
	if known {
		return holders
	}
	for a := range c.view().AllocsByNode(node) {
		if a.HoldsGrant() {
			holders = append(holders, c.holder(a))
		}
	}
	c.nodes[node] = holders
	return holders
}

func (c *crowd) holder(a *berthv1.Alloc) scheduler.Holder {
	job := c.view().Job(a.GetNamespace(), a.GetJob())
	h := scheduler.HolderOf(c.resizing[a.GetId()].resized(a), job.GetPriority())
	h.Ending = h.Ending || c.told[a.GetId()]
	g := job.GroupNamed(a.GetGroup())
	switch {
	case job.GetGang():
		h.Gang, h.GangSize = a.GetNamespace()+"/"+a.GetJob(), 0
		for _, sibling := range job.GetGroups() {
			h.GangSize += scheduler.GroupCount(sibling)
		}
	case g.GetGang():
		h.Gang, h.GangSize = a.GetNamespace()+"/"+a.GetJob()+"/"+a.GetGroup(), scheduler.GroupCount(g)
	}
	h.Bounded = bounded(g)
	h.Fixed = h.Bounded && scheduler.MaxUnavailable(g, 1<<20) == 0
	return h
}

// bounded says that not all of a group may be taken away at a time.
func bounded(g *berthv1.Group) bool {
	text := strings.TrimSpace(g.GetDisruption().GetMaxUnavailable())
	return text != "" && text != "100%"
}

// budget is how many instances of a group that run may be taken away now: what is
// missing already, for whatever reason, counts.
func (c *crowd) budget(key scheduler.GroupKey) int {
	job := c.view().Job(key.Namespace, key.Job)
	g := job.GroupNamed(key.Group)
	wanted, up := 0, 0
	for a := range c.view().AllocRowsByJob(key.Namespace, key.Job) {
		if a.Group() == key.Group && a.Wanted() && !a.Terminal() && !a.Canary() && (len(c.told) == 0 || !c.told[a.ID().String()]) {
			wanted++
			if a.Status() == berthv1.Alloc_running {
				up++
			}
		}
	}
	count := scheduler.GroupCount(g)
	if t := job.GetType(); t == berthv1.Job_system || t == berthv1.Job_sysbatch {
		count = wanted
	}
	return max(0, scheduler.MaxUnavailable(g, count)-max(0, count-up))
}

// trial begins a what-if with the crowd as it is.
func (c *crowd) trial(f *scheduler.Fleet) *scheduler.Trial {
	return scheduler.NewTrial(f, c.on, c.budget)
}
