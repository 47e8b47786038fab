package state

import (
	"cmp"
	"iter"
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func compareDeploymentsByJob(a, b *berthv1.Deployment) int {
	return cmp.Or(
		cmp.Compare(a.GetNamespace(), b.GetNamespace()),
		cmp.Compare(a.GetJob(), b.GetJob()),
		cmp.Compare(a.GetJobVersion(), b.GetJobVersion()),
		cmp.Compare(a.GetId(), b.GetId()))
}

// Deployment gives a deployment; nil: there is none.
func (t *tables) Deployment(id string) *berthv1.Deployment {
	return t.deployments.get(&berthv1.Deployment{Id: id})
}

// DeploymentOf gives the deployment of a version of a job; nil: it has none.
func (t *tables) DeploymentOf(namespace, job string, version uint64) *berthv1.Deployment {
	for d := range t.deploymentsFrom(namespace, job, version) {
		if d.GetJobVersion() == version {
			return d
		}
		break
	}
	return nil
}

// Deployments iterates over all deployments by id, starting at the first not below start.
func (t *tables) Deployments(start string) iter.Seq[*berthv1.Deployment] {
	return t.deployments.from(&berthv1.Deployment{Id: start})
}

// DeploymentsByJob iterates over a job's deployments, that of the oldest version first.
func (t *tables) DeploymentsByJob(namespace, job string) iter.Seq[*berthv1.Deployment] {
	return t.deploymentsFrom(namespace, job, 0)
}

func (t *tables) deploymentsFrom(namespace, job string, version uint64) iter.Seq[*berthv1.Deployment] {
	return from(t.deploymentsByJob, &berthv1.Deployment{Namespace: namespace, Job: job, JobVersion: version}, func(d *berthv1.Deployment) bool {
		return d.GetJob() == job && d.GetNamespace() == namespace
	})
}

// PutDeployment stores a deployment. Its job and version never change.
func (tx *Tx) PutDeployment(d *berthv1.Deployment) {
	before, replaced := tx.deployments.set(d)
	tx.deploymentsByJob.Set(d)
	tx.changed(change{
		table: TableDeployments, namespace: d.GetNamespace(), key: d.GetId(),
		job: d.GetJob(), after: d, before: orNil(before, replaced),
	})
}

// deleteDeployments forgets the deployment of a version of a job that is forgotten; with
// version 0 those of all.
func (tx *Tx) deleteDeployments(namespace, job string, version uint64) {
	for _, d := range slices.Collect(tx.DeploymentsByJob(namespace, job)) {
		if version != 0 && d.GetJobVersion() != version {
			continue
		}
		tx.deployments.remove(d)
		tx.deploymentsByJob.Delete(d)
		tx.changed(change{table: TableDeployments, namespace: namespace, key: d.GetId(), job: job, before: d})
	}
}
