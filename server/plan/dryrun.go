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
	fleet := fleetOf(view, now)
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
	in.Occupied = occupied(view)
	result := Reconcile(in)
	outcomes := map[string]*berthv1.GroupOutcome{}
	for _, o := range result.Groups {
		outcomes[o.GetGroup()] = o
	}
	d := dryRun{fleet: fleet, outcomes: outcomes, spec: next, config: view.SchedulerConfig(), crowd: newCrowd(func() *state.View { return view })}
	d.crowd.resizing = map[string]*resize{}
	d.trial = d.crowd.trial(fleet)
	units := identicals(result.Asks, compiler(j, next))
	if next.GetGang() {
		d.place(units, true)
		return result.Groups, nil
	}
	for _, same := range units {
		if same.resizes {
			if same = d.resize(same); same.left == 0 {
				continue
			}
		}
		d.place([]*identical{same}, same.group.Gang)
	}
	return result.Groups, nil
}

// resize changes the limits of those whose nodes have room, and gives the others.
func (d *dryRun) resize(same *identical) *identical {
	var rest []Ask
	for _, ask := range same.asks {
		to, err := d.fleet.Resize(same.group, ask.Previous)
		if err != nil {
			rest = append(rest, ask)
			continue
		}
		d.crowd.resizing[ask.Previous.GetId()] = &resize{to: to}
		o := d.outcomes[same.name()]
		o.Updated, o.Wanted = o.Updated+1, o.Wanted-1
	}
	return same.replacing(rest)
}

// dryRun is a fleet that is thrown away, and what became of the groups on it.
type dryRun struct {
	crowd    *crowd
	spec     *berthv1.Job
	config   *berthv1.SchedulerConfig
	fleet    *scheduler.Fleet
	trial    *scheduler.Trial
	outcomes map[string]*berthv1.GroupOutcome
}

// place places asks, all or none where they belong together; those that replace
// something may take its place. For what is left it finds who would give way.
func (d *dryRun) place(units []*identical, together bool) {
	asks := make([]*scheduler.Ask, len(units))
	for i, same := range units {
		for _, a := range same.asks {
			if a.Replaces {
				d.trial.TakeOut(a.Previous)
				d.outcomes[same.name()].Stopped++
			}
		}
		asks[i] = same.ask(same.left, false)
	}
	placements, unplaced := scheduler.Place(d.fleet, asks)
	if together && len(unplaced) > 0 {
		for _, p := range placements {
			d.fleet.Undo(units[p.Ask].group, p)
		}
		placements = nil
	}
	for _, p := range placements {
		d.outcomes[units[p.Ask].take(p).Group.GetName()].Placed++
	}
	if len(unplaced) == 0 {
		return
	}
	var rest []*identical
	for _, u := range unplaced {
		o := d.outcomes[units[u.Ask].name()]
		o.Explanation = u.Explanation
		o.Stopped -= min(o.GetStopped(), uint32(u.Count))
		rest = append(rest, units[u.Ask])
	}
	if together {
		rest = units
	}
	for _, same := range rest {
		for _, a := range same.asks {
			if a.Replaces {
				d.trial.PutBack(a.Previous) // it goes on
			}
		}
	}
	var ways []wayOf
	if preempts(d.spec, d.config) {
		ways, _ = findWays(d.trial, rest, maxDryWays, together)
	}
	if len(ways) == 0 {
		// A trial of its own: it is undone, and this one is not.
		enrich(d.fleet, d.crowd, d.crowd.trial(d.fleet), d.spec, d.config, rest,
			func(same *identical) *berthv1.Explanation { return d.outcomes[same.name()].GetExplanation() }, together)
	}
	for _, way := range ways {
		for _, v := range way.Victims {
			addPreemption(d.outcomes[way.same.name()], v)
		}
	}
}

// maxDryWays bounds how many instances others are looked for to give way to.
const maxDryWays = 512

// asNext is the job as it would be stored: the stored one where nothing is new, else the
// version after it.
func asNext(spec, stored *berthv1.Job) *berthv1.Job {
	if stored != nil && !stored.GetStopped() && proto.Equal(specOf(spec), specOf(stored)) {
		return stored
	}
	next := cloneJob(spec)
	next.Version = stored.GetVersion() + 1
	next.Stopped, next.Purge, next.Stable, next.RevertedTo = false, false, false, 0
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
	c.CreateRevision, c.ModifyRevision, c.SpecRevision, c.Stable, c.RevertedTo = 0, 0, 0, false, 0
	c.LastScheduled, c.LastSkipped = nil, nil
	return c
}

func fleetOf(view *state.View, now time.Time) *scheduler.Fleet {
	fleet := scheduler.NewFleet()
	fleet.SetStrategy(view.SchedulerConfig().GetStrategy())
	for n := range view.Nodes("") {
		_, _ = fleet.UpsertNode(n) // one that makes no sense takes nothing
	}
	fleet.SetDemand(scheduler.DemandOf(view.Jobs("", "")))
	limitFleet(fleet, view, now)
	for a := range view.Allocs("") {
		fleet.ChangeAlloc(nil, a)
	}
	return fleet
}
