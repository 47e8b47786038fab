package schedule

import (
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// scheduledName is how a child's name gives its time, in UTC.
const scheduledName = "20060102-150405"

// Scheduled gives the job that is run for a time of a schedule.
func Scheduled(parent *berthv1.Job, at time.Time) *berthv1.Job {
	child := childOf(parent, at.UTC().Format(scheduledName))
	child.ScheduledTime = timestamppb.New(at)
	return child
}

// Forced gives the job that is run from a schedule by hand. The id is random, of 8
// characters.
func Forced(parent *berthv1.Job, id string) *berthv1.Job { return childOf(parent, "force-"+id) }

// Dispatched gives the job that is run from one with parameters. The id is random, of 8
// characters.
func Dispatched(parent *berthv1.Job, id string, payload []byte, meta map[string]string, token string) *berthv1.Job {
	child := childOf(parent, id)
	child.Payload, child.DispatchToken = payload, token
	if len(meta) > 0 && child.Meta == nil {
		child.Meta = map[string]string{}
	}
	maps.Copy(child.Meta, meta)
	return child
}

// childOf gives a new job that runs once what its parent describes.
func childOf(parent *berthv1.Job, name string) *berthv1.Job {
	child := proto.CloneOf(parent)
	child.Name, child.Parent = parent.GetName()+"."+name, parent.GetName()
	child.Schedule, child.Parameters, child.LastScheduled = nil, nil, nil
	child.LastSkipped = nil
	child.Version, child.Status, child.StatusReason = 1, berthv1.Job_pending, ""
	child.CreateRevision, child.ModifyRevision, child.SpecRevision, child.RevertedTo = 0, 0, 0, 0
	child.Source = nil // it is the parent's
	return child
}

// NewEvaluation is a reason to look at a job, not looked at yet.
func NewEvaluation(job *berthv1.Job, id string, at time.Time) *berthv1.Evaluation {
	now := timestamppb.New(at)
	return &berthv1.Evaluation{
		Id: id, Namespace: job.GetNamespace(), Job: job.GetName(), JobVersion: job.GetVersion(),
		Trigger: berthv1.Evaluation_job_changed, Status: berthv1.Evaluation_pending, CreateTime: now, ModifyTime: now,
	}
}

// stoppedAtOnce is how many children one entry stops: each takes up to 300 bytes.
const stoppedAtOnce = 150

// StopFacts stops children of a job, as facts that each fit into an entry.
func StopFacts(children []*berthv1.Job, newID func() string, at time.Time) []*berthv1.ScheduleRun {
	var facts []*berthv1.ScheduleRun
	for some := range slices.Chunk(children, stoppedAtOnce) {
		f := &berthv1.ScheduleRun{Namespace: some[0].GetNamespace(), Job: some[0].GetParent()}
		for _, child := range some {
			f.Replaced = append(f.Replaced, child.GetName())
			f.ReplacedEvaluations = append(f.ReplacedEvaluations, NewEvaluation(child, newID(), at))
		}
		facts = append(facts, f)
	}
	return facts
}
