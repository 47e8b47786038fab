package fsm

import (
	"fmt"
	"slices"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// deploymentPlanned writes what the leader has made of a deployment. One that something
// else has changed meanwhile stays as it is: the leader looks at it again.
func (a *applier) deploymentPlanned(d *berthv1.Deployment) {
	job, stored := a.Job(d.GetNamespace(), d.GetJob()), a.Deployment(d.GetId())
	switch of := a.DeploymentOf(d.GetNamespace(), d.GetJob(), d.GetJobVersion()); {
	case d.GetId() == "" || job == nil || job.GetStopped() || job.GetVersion() != d.GetJobVersion():
		return
	case stored.GetModifyRevision() != d.GetModifyRevision() || of.GetId() != stored.GetId():
		return
	case stored != nil && !stored.Active() && stored.GetStatus() != d.GetStatus():
		return // what is over stays so
	}
	a.putDeployment(stored, revised(d, func(n *berthv1.Deployment) {
		n.Namespace, n.Job, n.JobVersion = job.GetNamespace(), job.GetName(), job.GetVersion()
	}))
	if d.GetStatus() == berthv1.Deployment_successful {
		a.SetStable(job.GetNamespace(), job.GetName(), job.GetVersion())
	}
}

// putDeployment stores a deployment, which belongs to nobody else, in place of another.
func (a *applier) putDeployment(stored, d *berthv1.Deployment) {
	d.CreateRevision, d.CreateTime = a.Revision(), a.timestamp
	if stored != nil {
		d.CreateRevision, d.CreateTime = stored.GetCreateRevision(), stored.GetCreateTime()
	}
	d.ModifyRevision, d.ModifyTime = a.Revision(), a.timestamp
	a.PutDeployment(d)
}

func (a *applier) changeDeployment(stored *berthv1.Deployment, set func(*berthv1.Deployment)) {
	a.putDeployment(stored, revised(stored, set))
}

// cancelDeployments ends the deployments of a job that are under way.
func (a *applier) cancelDeployments(namespace, job, why string) {
	for _, d := range slices.Collect(a.DeploymentsByJob(namespace, job)) {
		if d.Active() {
			a.changeDeployment(d, func(d *berthv1.Deployment) { d.Status, d.StatusReason = berthv1.Deployment_cancelled, why })
		}
	}
}

func supersededBy(version uint64) string { return fmt.Sprintf("version %d took over", version) }

// deploymentChanged is what an operator does.
func (a *applier) deploymentChanged(f *berthv1.DeploymentChanged) error {
	d := a.Deployment(f.GetDeploymentId())
	if d == nil {
		return problem.New(problem.NotFound, "deployment_id", "there is no deployment %q", f.GetDeploymentId()).WithRemedy("berth deployment list shows them")
	}
	if !d.Active() {
		return problem.New(problem.Conflict, "deployment_id", "the roll-out of version %d of %s is over: it is %s", d.GetJobVersion(), d.GetJob(), d.GetStatus()).
			WithRemedy("berth job revert %s goes back to an older version; berth job run begins another roll-out", d.GetJob())
	}
	var set func(*berthv1.Deployment)
	switch f.GetAction() {
	case berthv1.DeploymentAction_DEPLOYMENT_ACTION_PROMOTE:
		groups, err := a.promotable(d, f.GetGroups())
		if err != nil {
			return err
		}
		set = func(d *berthv1.Deployment) {
			if d.GetStatus() == berthv1.Deployment_running {
				d.StatusReason = "" // that it waits for this is not so any more
			}
			for _, name := range groups {
				g := d.GroupNamed(name)
				g.Promoted, g.ProgressBy = true, nil
			}
		}
	case berthv1.DeploymentAction_DEPLOYMENT_ACTION_PAUSE:
		if d.GetStatus() == berthv1.Deployment_paused {
			return problem.New(problem.Conflict, "action", "the roll-out is paused already").WithRemedy("berth deployment resume %.8s", d.GetId())
		}
		set = func(d *berthv1.Deployment) {
			d.Status, d.StatusReason = berthv1.Deployment_paused, "paused by hand"
			for _, g := range d.GetGroups() {
				g.ProgressBy = nil // its time is counted anew when it goes on
			}
		}
	case berthv1.DeploymentAction_DEPLOYMENT_ACTION_RESUME:
		if d.GetStatus() != berthv1.Deployment_paused {
			return problem.New(problem.Conflict, "action", "the roll-out is not paused")
		}
		set = func(d *berthv1.Deployment) { d.Status, d.StatusReason = berthv1.Deployment_running, "" }
	case berthv1.DeploymentAction_DEPLOYMENT_ACTION_FAIL:
		set = func(d *berthv1.Deployment) { d.Status, d.StatusReason = berthv1.Deployment_failed, "failed by hand" }
	default:
		return problem.New(problem.Invalid, "action", "nothing to do was named").WithRemedy("promote, pause, resume or fail it")
	}
	a.changeDeployment(d, set)
	return nil
}

// promotable gives the groups whose canaries are to take over: those that were named, or
// all that have any. Every canary must be healthy.
func (a *applier) promotable(d *berthv1.Deployment, named []string) (groups []string, err error) {
	for _, name := range named {
		switch g := d.GroupNamed(name); {
		case g == nil:
			return nil, problem.New(problem.NotFound, "groups", "the roll-out has no group %q", name)
		case g.GetCanaries() == 0:
			return nil, problem.New(problem.Conflict, "groups", "group %q has no canaries", name)
		case g.GetPromoted():
			return nil, problem.New(problem.Conflict, "groups", "group %q is promoted already", name)
		}
	}
	healthy := a.healthyCanaries(d)
	for _, g := range d.GetGroups() {
		if g.GetCanaries() == 0 || g.GetPromoted() || len(named) > 0 && !slices.Contains(named, g.GetGroup()) {
			continue
		}
		if n := healthy[g.GetGroup()]; n < g.GetCanaries() {
			return nil, problem.New(problem.Conflict, "groups", "of group %q %d of %d canaries are healthy", g.GetGroup(), n, g.GetCanaries()).
				WithRemedy("berth deployment status %.8s -monitor waits for them", d.GetId())
		}
		groups = append(groups, g.GetGroup())
	}
	if len(groups) == 0 {
		return nil, problem.New(problem.Conflict, "deployment_id", "there are no canaries to promote")
	}
	return groups, nil
}

// healthyCanaries counts a deployment's canaries that are healthy, by group.
func (a *applier) healthyCanaries(d *berthv1.Deployment) map[string]uint32 {
	n := map[string]uint32{}
	for row := range a.AllocRowsByJob(d.GetNamespace(), d.GetJob()) {
		if row.Canary() && row.JobVersion() == d.GetJobVersion() && row.Wanted() && !row.Terminal() && row.Health() == berthv1.Alloc_healthy {
			n[row.Group()]++
		}
	}
	return n
}

// allocHealthSet is an operator's word on allocations whose health is asked of operators.
func (a *applier) allocHealthSet(f *berthv1.AllocHealthSet) error {
	if f.GetHealth() != berthv1.Alloc_healthy && f.GetHealth() != berthv1.Alloc_unhealthy {
		return problem.New(problem.Invalid, "health", "an allocation is healthy or unhealthy")
	}
	for _, id := range f.GetAllocIds() {
		row := a.AllocRow(id)
		if !row.Exists() {
			return problem.New(problem.NotFound, "alloc_id", "there is no allocation %q", id)
		}
		if row.Terminal() || !row.Wanted() {
			return problem.New(problem.Conflict, "alloc_id", "allocation %s is over, or to be stopped", id)
		}
		group := a.JobVersion(row.Namespace(), row.Job(), row.JobVersion()).GroupNamed(row.Group())
		if group.GetUpdate().GetHealth() != "manual" {
			return problem.New(problem.Conflict, "alloc_id", "the health of group %q is not said by hand", row.Group()).
				WithRemedy(`write health = "manual" in its update strategy`)
		}
	}
	for _, id := range f.GetAllocIds() {
		a.amend(a.Alloc(id), func(n *berthv1.Alloc) { n.Health, n.HealthTime = f.GetHealth(), a.timestamp })
	}
	return nil
}

// healthReported takes over what an agent says of an allocation's health, where that is
// about the version that it runs.
func healthReported(n *berthv1.Alloc, u *berthv1.AllocStatusUpdate) {
	if h := u.GetHealth(); (h == berthv1.Alloc_healthy || h == berthv1.Alloc_unhealthy) && u.GetHealthVersion() == n.GetJobVersion() {
		n.Health, n.HealthTime = h, u.GetHealthTime()
	}
}

// versionChanged forgets an allocation's health where the version that it is to run asks
// something else of it than the one before.
func (a *applier) versionChanged(n *berthv1.Alloc, version uint64) {
	before := a.JobVersion(n.GetNamespace(), n.GetJob(), n.GetJobVersion()).GroupNamed(n.GetGroup())
	after := a.JobVersion(n.GetNamespace(), n.GetJob(), version).GroupNamed(n.GetGroup())
	if !after.SameHealth(before) {
		n.Health, n.HealthTime = berthv1.Alloc_undecided, a.timestamp // since then it is asked
	}
	n.JobVersion, n.AssignRevision = version, a.Revision()
}

// forgettable says whether an older version of a job may be forgotten: not the one that
// a roll-out that fails goes back to.
func (a *applier) forgettable(job *berthv1.Job, version uint64) bool {
	return version != job.GetVersion() && version != a.StableBelow(job.GetNamespace(), job.GetName(), job.GetVersion()).GetVersion()
}
