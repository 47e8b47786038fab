package fsm

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func timestamp(t time.Time) *timestamppb.Timestamp { return timestamppb.New(t) }

// DefaultNamespace is there from the start and cannot be deleted.
const DefaultNamespace = "default"

func (a *applier) clusterCreated(f *berthv1.ClusterCreated) error {
	if a.ClusterID() != "" {
		return nil // another leader was first
	}
	a.SetClusterID(f.GetClusterId())
	return a.namespaceSet(&berthv1.Namespace{Name: DefaultNamespace, Description: "Where jobs live that name no other."})
}

func (a *applier) jobRegistered(f *berthv1.JobRegistered) error {
	job := f.GetJob()
	if job.GetName() == "" || job.GetNamespace() == "" {
		return problem.New(problem.Invalid, "job", "a job without name or namespace")
	}
	if a.Namespace(job.GetNamespace()) == nil {
		return problem.New(problem.NotFound, "namespace", "there is no namespace %q", job.GetNamespace()).
			WithRemedy("berth namespace apply %s", job.GetNamespace())
	}
	stored := a.Job(job.GetNamespace(), job.GetName())
	if f.GetCheck() && stored.GetSpecRevision() != f.GetCheckRevision() {
		return checkFailed("job "+job.GetName(), f.GetCheckRevision(), stored.GetSpecRevision())
	}
	if job.GetVersion() != stored.GetVersion()+1 {
		return problem.New(problem.Conflict, "job "+job.GetName(), "version %d was submitted while %d is stored", job.GetVersion(), stored.GetVersion()).
			WithRemedy("somebody changed the job at the same time: try again")
	}
	if stored == nil {
		if err := a.orphaned(f); err != nil {
			return err
		}
	}
	a.putVersion(job, stored)
	a.scaled(job, f.GetScaling())
	a.cancelDeployments(job.GetNamespace(), job.GetName(), supersededBy(job.GetVersion()))
	a.putEvaluation(f.GetEvaluation())
	return nil
}

func (a *applier) jobStopped(f *berthv1.JobStopped) error {
	stored := a.Job(f.GetNamespace(), f.GetJob())
	if stored == nil {
		return problem.New(problem.NotFound, "job", "there is no job %q in namespace %q", f.GetJob(), f.GetNamespace())
	}
	if f.GetCheck() && stored.GetSpecRevision() != f.GetCheckRevision() {
		return checkFailed("job "+f.GetJob(), f.GetCheckRevision(), stored.GetSpecRevision())
	}
	a.stopJob(stored, f.GetPurge())
	a.putEvaluation(f.GetEvaluation())
	return nil
}

func (a *applier) stopJob(stored *berthv1.Job, purge bool) {
	a.PutJob(revised(stored, func(j *berthv1.Job) {
		j.Stopped = true
		j.Purge = j.GetPurge() || purge
		j.ModifyRevision, j.SpecRevision = a.Revision(), a.Revision()
	}))
	a.cancelDeployments(stored.GetNamespace(), stored.GetName(), "the job was stopped")
}

func checkFailed(what string, wanted, stored uint64) error {
	if stored == 0 {
		return problem.New(problem.Conflict, what, "check-and-set at revision %d, but there is none", wanted).
			WithRemedy("check at revision 0 to create it")
	}
	return problem.New(problem.Conflict, what, "check-and-set at revision %d, but revision %d is stored", wanted, stored).
		WithRemedy("read it again and decide anew")
}

func (a *applier) jobStatusChanged(c *berthv1.JobStatusChange) {
	stored := a.Job(c.GetNamespace(), c.GetJob())
	if stored == nil || (stored.GetStatus() == c.GetStatus() && stored.GetStatusReason() == c.GetReason()) {
		return
	}
	a.PutJob(revised(stored, func(j *berthv1.Job) {
		j.Status, j.StatusReason, j.ModifyRevision = c.GetStatus(), c.GetReason(), a.Revision()
	}))
}

// putEvaluation stores an evaluation; nil and nameless ones are passed over.
func (a *applier) putEvaluation(eval *berthv1.Evaluation) {
	if eval.GetId() == "" {
		return
	}
	stored := a.Evaluation(eval.GetId())
	a.PutEvaluation(revised(eval, func(e *berthv1.Evaluation) {
		e.CreateRevision, e.CreateTime = a.Revision(), a.timestamp
		if stored != nil { // its job and creation never change
			e.Namespace, e.Job = stored.GetNamespace(), stored.GetJob()
			e.CreateRevision, e.CreateTime = stored.GetCreateRevision(), stored.GetCreateTime()
		}
		e.ModifyRevision, e.ModifyTime = a.Revision(), a.timestamp
	}))
}

func (a *applier) evaluationsCreated(f *berthv1.EvaluationsCreated) error {
	for _, eval := range f.GetEvaluations() {
		if a.Job(eval.GetNamespace(), eval.GetJob()) == nil {
			return problem.New(problem.NotFound, "job", "there is no job %q in namespace %q", eval.GetJob(), eval.GetNamespace())
		}
	}
	for _, eval := range f.GetEvaluations() {
		a.putEvaluation(eval)
	}
	return nil
}

func (a *applier) namespaceSet(ns *berthv1.Namespace) error {
	if ns.GetName() == "" {
		return problem.New(problem.Invalid, "name", "a namespace without a name")
	}
	stored := a.Namespace(ns.GetName())
	a.PutNamespace(revised(ns, func(n *berthv1.Namespace) {
		n.CreateRevision = a.Revision()
		if stored != nil {
			n.CreateRevision = stored.GetCreateRevision()
		}
		n.ModifyRevision = a.Revision()
	}))
	a.grants.quotas.Open(ns.GetName(), ns.GetQuota(), a.grants.heldIn(a, ns.GetName()))
	return nil
}

func (a *applier) namespaceDeleted(f *berthv1.NamespaceDeleted) error {
	if f.GetName() == DefaultNamespace {
		return problem.New(problem.Invalid, "namespace", "the namespace %q cannot be deleted", DefaultNamespace)
	}
	if a.Namespace(f.GetName()) == nil {
		return problem.New(problem.NotFound, "namespace", "there is no namespace %q", f.GetName())
	}
	for job := range a.Jobs(f.GetName(), "") {
		return problem.New(problem.Conflict, "namespace "+f.GetName(), "it has jobs, %q among them", job.GetName()).
			WithRemedy("berth job stop -purge -namespace %s %s", f.GetName(), job.GetName())
	}
	for v := range a.Variables(f.GetName(), "") {
		return problem.New(problem.Conflict, "namespace "+f.GetName(), "it has variables, %q among them", v.GetName()).
			WithRemedy("berth var delete -namespace %s %s", f.GetName(), v.GetName())
	}
	a.DeleteNamespace(f.GetName())
	a.grants.quotas.Open(f.GetName(), nil, nil)
	return nil
}
