package virtual

import (
	"context"
	"time"

	"google.golang.org/grpc"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/plan"
	"github.com/berthd/berth/server/state"
)

// team is a namespace with a quota, below what its job may ask for.
const team = "team"

var teamQuota = &berthv1.Quota{Allocs: 5, CpuMilli: 3000}

// The jobs of the random workload: together they ask for more than there is, so that the
// higher priorities take places, a gang waits until all of it fits, and a quota ends.
var workload = map[string]func(*berthv1.Job){
	"low":  func(j *berthv1.Job) { j.Priority = 20; need(j, 1200) },
	"mid":  func(j *berthv1.Job) { j.Priority = 50; need(j, 700) },
	"high": func(j *berthv1.Job) { j.Priority = 80; need(j, 1500) },
	"gang": func(j *berthv1.Job) { j.Priority = 65; need(j, 2000); j.Groups[0].Gang = true },
	"kept": func(j *berthv1.Job) { j.Priority = 50; need(j, 600); j.Namespace = team },
}

// names are the workload's, in order.
var names = []string{"low", "mid", "high", "gang", "kept"}

func need(j *berthv1.Job, milli uint32) { j.Groups[0].Tasks[0].Resources.CpuMilli = milli }

// job is one of the workload, or any other service.
func job(name string, count int) *berthv1.Job {
	j := service(name, count)
	if amend := workload[name]; amend != nil {
		amend(j)
	}
	return j
}

func (c *cluster) openTeam() {
	c.t.Helper()
	apply := func(ctx context.Context, conn grpc.ClientConnInterface, req *berthv1.SetNamespaceRequest) (*berthv1.Namespace, error) {
		return berthv1.NewNamespaceServiceClient(conn).SetNamespace(ctx, req)
	}
	if _, err := call(c, apply, &berthv1.SetNamespaceRequest{Namespace: &berthv1.Namespace{Name: team, Quota: teamQuota}}); err != nil {
		c.t.Fatal(err)
	}
}

// evictions says that whatever was told to give way did so to a higher priority, which
// of a job of the workload never changes.
func (k *checker) evictions(name string, view *state.View) {
	k.c.t.Helper()
	for row := range view.AllocRows() {
		if row.Desired() != berthv1.Alloc_evict || k.evicted[row.ID()] {
			continue
		}
		a := row.Alloc()
		k.evicted[row.ID()] = true
		var by *berthv1.Job
		for taker := range view.JobsFrom("", "") {
			if taker.GetNamespace()+"/"+taker.GetName()+"/g" == a.GetPreemptedBy() {
				by = taker
			}
		}
		if victim := view.Job(a.GetNamespace(), a.GetJob()); by.GetPriority() <= victim.GetPriority() {
			k.c.t.Fatalf("%s at revision %d: %s (priority %d) gives way to %q (priority %d)", name, view.Revision(), a.Name(),
				victim.GetPriority(), a.GetPreemptedBy(), by.GetPriority())
		}
	}
}

// quotas says that the team holds no more than it may.
func (k *checker) quotas(name string, view *state.View) {
	k.c.t.Helper()
	allocs, milli := uint64(0), uint64(0)
	for a := range view.AllocRowsByJob(team, "kept") {
		if !a.HoldsGrant() {
			continue
		}
		allocs++
		for _, t := range a.Assignment().GetTasks() {
			for _, cell := range t.GetCells() {
				milli += uint64(cell.GetCpuMilli())
			}
		}
	}
	if allocs > teamQuota.GetAllocs() || milli > teamQuota.GetCpuMilli() {
		k.c.t.Fatalf("%s at revision %d: the team holds %d allocations and %d thousandths", name, view.Revision(), allocs, milli)
	}
	k.full = k.full || milli == teamQuota.GetCpuMilli()
}

// couldPlace says how many more instances of a job would be placed by somebody who looks
// at the whole state anew. A claim that is kept for nobody, or somebody who waits and was
// forgotten, shows as one.
func couldPlace(view *state.View, namespace, name string) (n uint32, err error) {
	outcomes, err := plan.DryRun(view, view.Job(namespace, name), time.Now())
	for _, o := range outcomes {
		n += o.GetPlaced() + uint32(len(o.GetPreemptions()))
	}
	return n, err
}
