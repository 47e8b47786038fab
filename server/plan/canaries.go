package plan

import (
	"fmt"
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
)

// A canary is an instance of the new version beside the old instance of its index. Canary
// 0 to n-1 go with the indexes 0 to n-1. Promoted, each takes the place of the old one,
// which is stopped; should the roll-out fail, the canaries are stopped and the old ones
// have not been touched.

const (
	reasonRolloutFailed = "the roll-out of version %d failed"
	reasonNoCanary      = "it is no canary of version %d"
)

// canariesFor is how many canaries a version begins with: none where instances run already
// just as the new version's would, where there are no others, and for a return to a version.
func (r *reconciler) canariesFor(g *group) int {
	count := scheduler.GroupCount(g.spec)
	n := scheduler.Share(g.spec.GetUpdate().GetCanary(), count, 0)
	if n == 0 || r.Job.GetRevertedTo() != 0 || g.spec.GetStateful() != nil || r.perNode() {
		return 0
	}
	old := false
	for _, a := range g.live {
		switch {
		case a.GetCanary():
		case r.stays(g, a):
			return 0
		default:
			old = true
		}
	}
	if !old {
		return 0
	}
	return n
}

// canaries settles what becomes of a group's canaries, and takes them out of the lists of
// ordinary instances.
func (r *reconciler) canaries(g *group) {
	wanted := g.rollout.canaries()
	if !g.canary && wanted == 0 {
		return
	}
	isCanary := (*berthv1.Alloc).GetCanary
	live, away, ended := part(&g.live, isCanary), part(&g.away, isCanary), part(&g.ended, isCanary)
	for index, a := range g.told {
		if a.GetCanary() {
			delete(g.told, index)
		}
	}
	if !r.deployment.Active() && r.deployment.GetStatus() != berthv1.Deployment_successful {
		wanted = 0
	}
	seats := places{taken: make([]bool, wanted)}
	for _, a := range live {
		switch {
		case !g.rollout.promoted(r.deployment) && r.draining(a):
			r.stop(g, a, reasonDrained)
		case g.rollout.promoted(r.deployment) && a.GetJobVersion() == r.Job.GetVersion():
			r.takeOver(g, a)
		case r.stays(g, a) && seats.take(a.GetIndex()):
			r.live++
			if a.GetJobVersion() != r.Job.GetVersion() {
				r.change(a, &berthv1.AllocChange{JobVersion: r.Job.GetVersion()})
				g.outcome.Updated++
			}
		default:
			r.stop(g, a, r.noCanary())
		}
	}
	for _, a := range away {
		r.lose(g, a)
	}
	if !r.rolling() {
		return
	}
	for i := len(ended) - 1; i >= 0; i-- { // the newest speaks for its place
		a := ended[i]
		if !seats.free(a.GetIndex()) || a.GetJobVersion() != r.Job.GetVersion() {
			continue
		}
		seats.take(a.GetIndex())
		switch verdict, at := r.reschedule(g, a); verdict {
		case waits:
			r.waiting++
			r.wake(at)
		case isDue:
			r.ask(g, Ask{Canary: true, Index: a.GetIndex(), Previous: a, Penalised: a.GetNodeId(), Reschedules: r.recorded(a)})
		case givenUp, isDone:
		}
	}
	for index := range wanted {
		if !seats.taken[index] {
			r.ask(g, Ask{Canary: true, Index: uint32(index)})
		}
	}
}

// rolling says whether the roll-out is under way and not paused.
func (r *reconciler) rolling() bool {
	return r.deployment != nil && r.deployment.GetStatus() == berthv1.Deployment_running
}

// promoted says whether canaries are to become ordinary instances.
func (r *rollout) promoted(d *berthv1.Deployment) bool {
	return r != nil && r.so.GetPromoted() && (d.Active() || d.GetStatus() == berthv1.Deployment_successful)
}

// noCanary is why a canary is stopped.
func (r *reconciler) noCanary() string {
	if r.deployment.GetStatus() == berthv1.Deployment_failed {
		return fmt.Sprintf(reasonRolloutFailed, r.Job.GetVersion())
	}
	return fmt.Sprintf(reasonNoCanary, r.Job.GetVersion())
}

// takeOver makes a canary the instance of its index; the old one is stopped first, so that
// there are never two. One that is not healthy waits beside the old one until it is.
func (r *reconciler) takeOver(g *group, canary *berthv1.Alloc) {
	if !isHealthy(canary) || r.deployment.GetStatus() == berthv1.Deployment_paused {
		r.live++
		if g.rollout.beside == nil {
			g.rollout.beside = map[uint32]bool{}
		}
		g.rollout.beside[canary.GetIndex()] = true
		return
	}
	for _, old := range part(&g.live, func(a *berthv1.Alloc) bool { return a.GetIndex() == canary.GetIndex() }) {
		r.change(old, &berthv1.AllocChange{Desired: berthv1.Alloc_stop.Enum(), DesiredReason: updated(r.Job), NextAlloc: canary.GetId()})
		g.outcome.Stopped++
		r.live++
	}
	for _, a := range g.away {
		if a.GetIndex() == canary.GetIndex() && a.GetNextAlloc() == "" {
			r.change(a, &berthv1.AllocChange{NextAlloc: canary.GetId()})
		}
	}
	r.change(canary, &berthv1.AllocChange{Promote: true})
	g.live = append(g.live, canary)
}

// part takes those out of a list that are meant.
func part(list *[]*berthv1.Alloc, meant func(*berthv1.Alloc) bool) (out []*berthv1.Alloc) {
	for _, a := range *list {
		if meant(a) {
			out = append(out, a)
		}
	}
	if len(out) > 0 {
		*list = slices.DeleteFunc(slices.Clone(*list), meant)
	}
	return out
}
