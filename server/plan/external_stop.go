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
		case c.o.replaces(id):
			b.change(c.j, &berthv1.AllocChange{AllocId: id, Desired: berthv1.Alloc_stop.Enum(), DesiredReason: updated(c.o.spec)})
		default:
			if result.Conflict = c.preemptable(a); result.Conflict == nil {
				by := c.j.key.namespace + "/" + c.j.key.name + "/" + c.forGroup
				b.change(c.j, &berthv1.AllocChange{AllocId: id, Desired: berthv1.Alloc_evict.Enum(), PreemptedBy: by,
					DesiredReason: fmt.Sprintf("it gives way to %s (priority %d), as scheduler %s has decided", by, c.o.spec.GetPriority(), c.r.plan.Scheduler)})
			}
		}
	}
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
	victim, spec := c.l.view.Job(a.GetNamespace(), a.GetJob()), c.o.spec
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
	case victim.GetPriority() >= spec.GetPriority():
		return no("%s has priority %d, and gives way only to a higher one", a.Name(), victim.GetPriority())
	}
	if left, bounded := c.mayLose(victim, a.GetGroup()); bounded && left <= 0 {
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

// mayLose is how many more instances of a group may be taken away now.
func (c *carrier) mayLose(job *berthv1.Job, name string) (left int, bounded bool) {
	g := groupOf(job, name)
	if g.GetDisruption().GetMaxUnavailable() == "" {
		return 0, false
	}
	up, wanted := 0, 0
	for a := range c.l.view.AllocsByJob(job.GetNamespace(), job.GetName()) {
		if a.GetGroup() != name || !a.Wanted() || a.Terminal() || slices.Contains(c.r.plan.Stops[:len(c.out.Stops)-1], a.GetId()) {
			continue
		}
		if wanted++; a.GetStatus() == berthv1.Alloc_running {
			up++
		}
	}
	count := scheduler.GroupCount(g)
	if t := job.GetType(); t == berthv1.Job_system || t == berthv1.Job_sysbatch {
		count = wanted
	}
	return scheduler.MaxUnavailable(g, count) - max(0, count-up), true
}
