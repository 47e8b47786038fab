package plan

import (
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
)

// demand is what the known jobs want of GPUs, placed or not. The scheduler is told of it
// when much of it has changed, not at every change: it judges all nodes anew then.
type demand struct {
	byJob   map[jobKey]wantedBy
	total   int // instances that are wanted
	told    int // of those, when the scheduler was told
	changed int // instances that came or went since
}

// wantedBy is what a version of a job wants.
type wantedBy struct {
	version uint64
	wanted  []scheduler.Wanted
}

// demandStep is the part of the demand that must have changed: one eighth.
const demandStep = 8

// note takes in what a job wants now; spec nil: it is gone.
func (d *demand) note(j *job, spec *berthv1.Job) {
	before, known := d.byJob[j.key]
	over := spec == nil || spec.GetStopped() || spec.GetStatus() == berthv1.Job_dead
	if known && !over && before.version == spec.GetVersion() {
		return
	}
	for _, w := range before.wanted {
		d.total -= w.Count
		d.changed += w.Count
	}
	delete(d.byJob, j.key)
	if over {
		return
	}
	wanted := devicesWanted(j, spec)
	for _, w := range wanted {
		d.total += w.Count
		d.changed += w.Count
	}
	if len(wanted) == 0 {
		return
	}
	if d.byJob == nil {
		d.byJob = map[jobKey]wantedBy{}
	}
	d.byJob[j.key] = wantedBy{spec.GetVersion(), wanted}
}

// tell hands the demand on, where it has changed enough.
func (d *demand) tell(f *scheduler.Fleet) {
	if d.changed == 0 || d.changed*demandStep < d.told {
		return
	}
	d.told, d.changed = d.total, 0
	f.SetDemand(d.all())
}

func (d *demand) all() []scheduler.Wanted {
	var all []scheduler.Wanted
	for _, by := range d.byJob { // their order does not count
		all = append(all, by.wanted...)
	}
	return all
}

// devicesWanted is what a job's groups want that ask for devices.
func devicesWanted(j *job, spec *berthv1.Job) []scheduler.Wanted {
	var wanted []scheduler.Wanted
	for _, group := range spec.GetGroups() {
		if !scheduler.AsksDevices(group) {
			continue
		}
		if g, err := j.compile(spec, group); err == nil {
			wanted = append(wanted, scheduler.Wanted{Group: g, Count: g.Count})
		}
	}
	return wanted
}
