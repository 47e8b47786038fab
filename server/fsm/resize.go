package fsm

import (
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
)

// resizeVersion is the format of entries that change grants, or say why a time of a schedule
// is passed over: an older server, which would not see that, stops instead.
const resizeVersion = 3

// resize takes what an allocation is to be granted on its node in place of what it was
// granted, for the version of its job that it is to run; or says why that cannot be.
func (a *applier) resize(stored *berthv1.Alloc, c *berthv1.AllocChange) error {
	if !stored.Wanted() || stored.Terminal() {
		return problem.New(problem.Conflict, "alloc "+stored.GetId(), "it is over, or to be stopped")
	}
	if _, err := a.jobTakes(stored.GetNamespace(), stored.GetJob(), c.GetJobVersion()); err != nil {
		return err
	}
	return a.grants.exchange(stored, c.GetAssignment())
}

// exchange takes a grant in place of the one that an allocation has; after an error that
// is held as before. A quota is asked for what is added.
func (g *grants) exchange(stored *berthv1.Alloc, to *berthv1.Assignment) error {
	usage, err := g.usage(stored.GetNodeId())
	if err != nil {
		return err
	}
	if err := scheduler.GrantInto(&g.scratch, to); err != nil {
		return problem.New(problem.Invalid, "assignment", "%w", err)
	}
	more := scheduler.Growth(stored.GetAssignment(), to)
	if err := g.afford(stored.GetNamespace(), &more); err != nil {
		return err
	}
	old, err := scheduler.GrantOf(stored.GetAssignment())
	if err != nil {
		return problem.New(problem.Invalid, "assignment", "%w", err)
	}
	usage.Remove(&old)
	if err := g.take(usage, stored.GetNodeId(), &g.scratch); err != nil {
		usage.Force(&old)
		return err
	}
	g.quotas.Release(stored.GetNamespace(), stored.GetNodeId(), stored.GetAssignment())
	g.quotas.Hold(stored.GetNamespace(), stored.GetNodeId(), to)
	return nil
}
