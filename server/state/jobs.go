package state

import (
	"cmp"
	"iter"
	"slices"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func compareJobs(a, b *berthv1.Job) int {
	return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
}

func compareJobVersions(a, b *berthv1.Job) int {
	return cmp.Or(compareJobs(a, b), cmp.Compare(a.GetVersion(), b.GetVersion()))
}

// Job gives the newest version of a job; nil: there is none.
func (t *tables) Job(namespace, name string) *berthv1.Job {
	return get(t.jobs, &berthv1.Job{Namespace: namespace, Name: name})
}

// JobVersion gives one version of a job that is still kept; nil: it is not.
func (t *tables) JobVersion(namespace, name string, version uint64) *berthv1.Job {
	if job := t.Job(namespace, name); job != nil && job.GetVersion() == version {
		return job
	}
	return get(t.jobVersions, &berthv1.Job{Namespace: namespace, Name: name, Version: version})
}

// JobVersions gives the versions of a job that are kept, newest first.
func (t *tables) JobVersions(namespace, name string) []*berthv1.Job {
	var versions []*berthv1.Job
	for job := range t.olderVersions(namespace, name) {
		versions = append(versions, job)
	}
	if job := t.Job(namespace, name); job != nil {
		versions = append(versions, job)
	}
	slices.Reverse(versions)
	return versions
}

func (t *tables) olderVersions(namespace, name string) iter.Seq[*berthv1.Job] {
	return from(t.jobVersions, &berthv1.Job{Namespace: namespace, Name: name}, func(j *berthv1.Job) bool {
		return j.GetNamespace() == namespace && j.GetName() == name
	})
}

// Jobs iterates over the jobs of a namespace (all of them when it is empty) by
// namespace and name, starting at the first whose name is not below start. With an
// empty namespace, start is ignored: use JobsFrom.
func (t *tables) Jobs(namespace, start string) iter.Seq[*berthv1.Job] {
	if namespace == "" {
		return t.JobsFrom("", "")
	}
	return from(t.jobs, &berthv1.Job{Namespace: namespace, Name: start}, func(j *berthv1.Job) bool {
		return j.GetNamespace() == namespace
	})
}

// JobsFrom iterates over all jobs by namespace and name, starting at the first that is
// not below the given one.
func (t *tables) JobsFrom(namespace, name string) iter.Seq[*berthv1.Job] {
	return from(t.jobs, &berthv1.Job{Namespace: namespace, Name: name}, nil)
}

// allJobVersions iterates over all older versions of all jobs in order.
func (t *tables) allJobVersions() iter.Seq[*berthv1.Job] {
	return from(t.jobVersions, &berthv1.Job{}, nil)
}

// PutJob stores a job's newest version. If it is a new version, the one before is kept
// as an older one.
func (tx *Tx) PutJob(job *berthv1.Job) {
	before, replaced := tx.jobs.Set(job)
	if replaced && before.GetVersion() != job.GetVersion() {
		tx.jobVersions.Set(before)
	}
	tx.indexJob(before, job)
	tx.changed(change{table: TableJobs, namespace: job.GetNamespace(), key: job.GetName(), after: job, before: orNil(before, replaced)})
}

// SetStable marks a version of a job that is kept as one that was rolled out well.
func (tx *Tx) SetStable(namespace, name string, version uint64) {
	stored := tx.JobVersion(namespace, name, version)
	if stored == nil || stored.GetStable() {
		return
	}
	stable := proto.CloneOf(stored)
	stable.Stable = true
	if version != tx.Job(namespace, name).GetVersion() {
		tx.jobVersions.Set(stable)
		return
	}
	stable.ModifyRevision = tx.revision
	tx.PutJob(stable)
}

// StableBelow is the newest version of a job that was rolled out well and is older than
// the given one; nil: there is none.
func (t *tables) StableBelow(namespace, name string, version uint64) *berthv1.Job {
	for _, job := range t.JobVersions(namespace, name) {
		if job.GetStable() && job.GetVersion() < version {
			return job
		}
	}
	return nil
}

// DeleteJob forgets a job with all its versions, deployments and scaling events.
func (tx *Tx) DeleteJob(namespace, name string) {
	before, ok := tx.jobs.Delete(&berthv1.Job{Namespace: namespace, Name: name})
	for _, v := range slices.Collect(tx.olderVersions(namespace, name)) {
		tx.jobVersions.Delete(v)
	}
	tx.deleteDeployments(namespace, name, 0)
	tx.deleteScalingEvents(namespace, name)
	if ok {
		tx.indexJob(before, nil)
		tx.changed(change{table: TableJobs, namespace: namespace, key: name, before: before})
	}
}

// DeleteJobVersion forgets an older version of a job, and its deployment.
func (tx *Tx) DeleteJobVersion(namespace, name string, version uint64) {
	tx.jobVersions.Delete(&berthv1.Job{Namespace: namespace, Name: name, Version: version})
	tx.deleteDeployments(namespace, name, version)
}
