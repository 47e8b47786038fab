package plan

import (
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
	"github.com/berthd/berth/server/state"
)

// defaultMoves is how many moves a plan has at most where nobody says.
const defaultMoves = 1000

// Rebalance says what could be moved to free whole nodes. It changes nothing: the fleet
// is its own, built from the view.
func Rebalance(view *state.View, q *berthv1.PlanRebalanceRequest, now time.Time) *berthv1.RebalancePlan {
	most := int(q.GetMaxMoves())
	if most == 0 {
		most = defaultMoves
	}
	m := movers{view: view, crowd: newCrowd(func() *state.View { return view }), groups: map[scheduler.GroupKey]*mover{}}
	return scheduler.Rebalance(fleetOf(view, now), m.on, q.GetNodePool(), most)
}

// movers says of a view's allocations whether they can be moved.
type movers struct {
	view   *state.View
	crowd  *crowd
	groups map[scheduler.GroupKey]*mover
}

// mover is a group, or why its instances stay where they are.
type mover struct {
	group *scheduler.Group
	stays string
}

func (m *movers) on(node string) (list []scheduler.Mover) {
	for a := range m.view.AllocsByNode(node) {
		if !a.HoldsGrant() {
			continue
		}
		of := m.of(a)
		mover := scheduler.Mover{Alloc: a, Group: of.group, Stays: of.stays}
		if mover.Stays == "" && (!a.Wanted() || a.GetStatus() != berthv1.Alloc_running) {
			mover.Stays = "something on it does not run"
		}
		list = append(list, mover)
	}
	return list
}

func (m *movers) of(a *berthv1.Alloc) *mover {
	key := scheduler.GroupKey{Namespace: a.GetNamespace(), Job: a.GetJob(), Group: a.GetGroup()}
	if known := m.groups[key]; known != nil {
		return known
	}
	job := m.view.Job(key.Namespace, key.Job)
	g := job.GroupNamed(key.Group)
	found := &mover{}
	m.groups[key] = found
	switch t := job.GetType(); {
	case g == nil || job.GetStopped():
		found.stays = "something on it is stopping"
	case t == berthv1.Job_system || t == berthv1.Job_sysbatch:
		found.stays = "a system job runs on it"
	case t == berthv1.Job_batch:
		found.stays = "a batch job runs on it, which would begin anew"
	case g.GetStateful() != nil:
		found.stays = "an instance with an identity runs on it"
	case g.GetWholeNode():
		found.stays = "it belongs to one job as a whole"
	case job.GetGang() || g.GetGang():
		found.stays = "a gang runs on it"
	case m.crowd.budget(key) < 1:
		found.stays = "a disruption budget allows none of its allocations to be taken away"
	}
	if g == nil {
		return found
	}
	var err error
	if found.group, err = scheduler.Compile(job, g); err != nil && found.stays == "" {
		found.stays = "a job on it does not compile"
	}
	return found
}
