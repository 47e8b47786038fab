package plan

import (
	"fmt"
	"slices"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
	"github.com/berthd/berth/topology"
)

// stops tells allocations to make room, where they may be: what a wanted instance is to
// replace anyway, or what has a lower priority.
func (c *carrier) stops(b *batch) {
	for _, id := range c.r.plan.Stops {
		result := &berthv1.StopResult{AllocId: id}
		c.out.Stops = append(c.out.Stops, result)
		a := c.l.view.Alloc(id)
		switch {
		case a == nil || a.Ended() || slices.Contains(c.r.plan.Stops[:len(c.out.Stops)-1], id):
			result.Conflict = conflict(berthv1.PlanConflict_not_wanted, problem.Conflict, "stops", "allocation %q is over, or was never there, or is in the plan twice", id)
		case !a.Wanted(): // it is told already
		case c.breaksGang(a):
			result.Conflict = conflict(berthv1.PlanConflict_together, problem.Conflict, "stops",
				"%s is one of a gang, and not all of that are in the plan: name all or none", a.Name())
		case c.o.replaces(id):
			b.change(c.j, &berthv1.AllocChange{AllocId: id, Desired: berthv1.Alloc_stop.Enum(), DesiredReason: updated(c.o.spec)})
		default:
			if result.Conflict = c.preemptable(a); result.Conflict == nil {
				by := c.j.key.namespace + "/" + c.j.key.name + "/" + c.forGroup
				b.change(c.j, &berthv1.AllocChange{AllocId: id, Desired: berthv1.Alloc_evict.Enum(), PreemptedBy: by,
					DesiredReason: fmt.Sprintf(reasonPreempted+", as scheduler %s has decided", by, c.o.spec.GetPriority(), c.r.plan.Scheduler)})
			}
		}
	}
}

// breaksGang says that an allocation belongs to a gang of which the plan leaves some.
func (c *carrier) breaksGang(a *berthv1.Alloc) bool {
	if c.l.crowd.holder(a).Gang == "" {
		return false
	}
	job := c.l.view.Job(a.GetNamespace(), a.GetJob())
	for row := range c.l.view.AllocRowsByJob(a.GetNamespace(), a.GetJob()) {
		ofGang := job.GetGang() || row.Group() == a.GetGroup()
		if ofGang && row.Wanted() && !row.Terminal() && !slices.Contains(c.r.plan.Stops, row.ID().String()) {
			return true
		}
	}
	return false
}

// replaces says that an allocation is to be stopped anyway, when another is placed.
func (o *offered) replaces(id string) bool {
	for _, same := range o.asks {
		for _, a := range same.asks {
			if a.Replaces && a.Previous.GetId() == id {
				return true
			}
		}
	}
	return false
}

// preemptable says why an allocation need not give way to the job; nil: it must.
func (c *carrier) preemptable(a *berthv1.Alloc) *berthv1.PlanConflict {
	victim, spec := c.l.crowd.holder(a), c.o.spec
	no := func(format string, args ...any) *berthv1.PlanConflict {
		return conflict(berthv1.PlanConflict_not_preemptable, problem.Conflict, "stops", format, args...)
	}
	switch {
	case spec.Preempt != nil && !spec.GetPreempt():
		return no("job %q takes nobody's place", spec.GetName())
	case c.l.view.SchedulerConfig().GetNoPreemption():
		return no("nothing gives way to anything: the scheduler's configuration says so")
	case c.l.paused:
		return conflict(berthv1.PlanConflict_paused, problem.Conflict, "stops", "the scheduler is paused")
	case victim.Ending: // another job's doing, on its way into the log
		return nil
	case victim.Priority >= spec.GetPriority():
		return no("%s has priority %d, and gives way only to a higher one", a.Name(), victim.Priority)
	case victim.Fixed:
		return no("the disruption budget of %s allows for none", a.Name())
	case victim.Bounded && victim.Up && c.l.crowd.budget(scheduler.GroupKey{Namespace: a.GetNamespace(), Job: a.GetJob(), Group: a.GetGroup()}) <= 0:
		return no("%s has as many instances missing as its disruption budget allows", a.Name())
	}
	return nil
}

// holding is what an assignment holds.
type topologyOf struct{ grant topology.Grant }

func (t *topologyOf) take(a *berthv1.Assignment) error { return scheduler.GrantInto(&t.grant, a) }

// meets says whether two grants want the same CPU, device or port, or else lie in a
// common cell.
func (t *topologyOf) meets(o *topologyOf) (exactly, cell bool) {
	for i := range t.grant.Cells {
		for k := range o.grant.Cells {
			if a, b := &t.grant.Cells[i], &o.grant.Cells[k]; a.Cell == b.Cell {
				cell = true
				exactly = exactly || a.CPUs.Overlaps(b.CPUs)
			}
		}
	}
	for _, d := range t.grant.Devices {
		exactly = exactly || slices.ContainsFunc(o.grant.Devices, func(x topology.DeviceGrant) bool { return x.ID == d.ID })
	}
	for _, p := range t.grant.Ports {
		exactly = exactly || slices.Contains(o.grant.Ports, p)
	}
	return exactly, cell
}
