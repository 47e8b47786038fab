package plan

import (
	"time"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
	"github.com/berthd/berth/server/state"
)

// DryRun says what would become of a job's groups if it were registered now. It changes
// nothing: the fleet is its own, built from the view.
func DryRun(view *state.View, spec *berthv1.Job, now time.Time) ([]*berthv1.GroupOutcome, error) {
	fleet := fleetOf(view)
	j := &job{key: jobKey{spec.GetNamespace(), spec.GetName()}}
	stored := view.Job(spec.GetNamespace(), spec.GetName())
	next := asNext(spec, stored)
	for _, g := range next.GetGroups() {
		if _, err := j.compile(next, g); err != nil {
			return nil, err
		}
	}
	compile := func(g *berthv1.Group) (*scheduler.Group, error) { return j.compile(next, g) }
	in := input(view, j.key, next, now)
	in.Version = func(v uint64) *berthv1.Job { return view.JobVersion(spec.GetNamespace(), spec.GetName(), v) }
	in.Feasible = func(g *berthv1.Group) []string {
		compiled, _ := compile(g)
		return fleet.Feasible(compiled)
	}
	in.Allows = func(g *berthv1.Group, node string) bool {
		compiled, _ := compile(g)
		return fleet.Allows(compiled, node)
	}
	result := Reconcile(in)
	outcomes := map[string]*berthv1.GroupOutcome{}
	for _, o := range result.Groups {
		outcomes[o.GetGroup()] = o
	}
	for _, same := range identicals(result.Asks, compile) {
		dryPlace(fleet, same, outcomes[same.name()])
	}
	return result.Groups, nil
}

// dryPlace places asks; those that replace something may take its place.
func dryPlace(fleet *scheduler.Fleet, same *identical, o *berthv1.GroupOutcome) {
	stopped := uint32(0)
	for _, a := range same.asks {
		if a.Replaces {
			fleet.ChangeAlloc(a.Previous, nil)
			stopped++
		}
	}
	placements, unplaced := scheduler.Place(fleet, []*scheduler.Ask{same.ask(same.left, false)})
	o.Placed += uint32(len(placements))
	for _, u := range unplaced {
		o.Explanation = u.Explanation
		stopped -= min(stopped, uint32(u.Count))
	}
	o.Stopped += stopped
}

// asNext is the job as it would be stored: the stored one where nothing is new, else the
// version after it.
func asNext(spec, stored *berthv1.Job) *berthv1.Job {
	if stored != nil && !stored.GetStopped() && proto.Equal(specOf(spec), specOf(stored)) {
		return stored
	}
	next := cloneJob(spec)
	next.Version = stored.GetVersion() + 1
	next.Stopped, next.Purge = false, false
	next.Status = stored.GetStatus()
	if next.GetStatus() == berthv1.Job_dead {
		next.Status = berthv1.Job_pending
	}
	return next
}

// specOf is a job without what the servers set.
func specOf(j *berthv1.Job) *berthv1.Job {
	c := cloneJob(j)
	c.Version, c.Stopped, c.Status, c.StatusReason, c.SubmitTime, c.Source, c.Purge = 0, false, 0, "", nil, nil, false
	c.CreateRevision, c.ModifyRevision, c.SpecRevision = 0, 0, 0
	return c
}

func fleetOf(view *state.View) *scheduler.Fleet {
	fleet := scheduler.NewFleet()
	fleet.SetStrategy(view.SchedulerConfig().GetStrategy())
	for n := range view.Nodes("") {
		_, _ = fleet.UpsertNode(n) // one that makes no sense takes nothing
	}
	for a := range view.Allocs("") {
		fleet.ChangeAlloc(nil, a)
	}
	return fleet
}
