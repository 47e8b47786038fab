package plan

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
)

// roll brings a group with an update strategy to the job's version, max_parallel instances
// at a time. Every index without an old instance and without a healthy new one counts
// against that, whatever the reason: so of its own doing a roll-out never has more than
// max_parallel instances missing. Old instances that do not serve anyway go first, and
// those that do only when with them no more are missing.
func (r *reconciler) roll(g *group, live []*berthv1.Alloc, count int) {
	ro := g.rollout
	parallel := max(1, scheduler.Share(ro.strategy.GetMaxParallel(), count, 1))
	if g.spec.GetGang() || r.Job.GetGang() {
		parallel = count // all together
	}
	var down, up []*berthv1.Alloc
	missing := count
	for _, a := range live {
		r.live++
		switch {
		case a.GetJobVersion() == r.Job.GetVersion():
			if isHealthy(a) {
				missing--
			}
		case ro.steady || ro.beside[a.GetIndex()]:
			missing--
		case r.unaffected(g, a):
			r.renew(g, a)
			if isHealthy(a) {
				missing--
			}
		case r.serves(g, a):
			missing--
			up = append(up, a)
		default:
			missing--
			down = append(down, a)
		}
	}
	if len(down)+len(up) == 0 || !r.staggered(g) {
		return
	}
	for _, a := range down {
		if missing < parallel {
			r.takeTurn(g, a)
		}
		missing++ // it does not serve either way
	}
	for _, a := range up {
		if missing < parallel {
			r.takeTurn(g, a)
			missing++
		}
	}
}

// staggered says whether instances may be replaced now, as far as stagger goes.
func (r *reconciler) staggered(g *group) bool {
	if g.rollout == nil {
		return true
	}
	last := g.rollout.so.GetReplacedTime()
	if last == nil {
		return true
	}
	next := last.AsTime().Add(g.rollout.strategy.GetStagger().AsDuration())
	if r.Now.Before(next) {
		r.wake(next)
		return false
	}
	return true
}

// serves says whether an old instance does what it is there for. Of one of a version that
// was not rolled out by its health nobody knows that.
func (r *reconciler) serves(g *group, a *berthv1.Alloc) bool {
	if r.Version(a.GetJobVersion()).GroupNamed(g.spec.GetName()).GetUpdate() == nil {
		return a.GetStatus() == berthv1.Alloc_running
	}
	return r.up(g, a)
}

// unaffected says whether an instance comes to the version in place and stays as healthy as
// it is.
func (r *reconciler) unaffected(g *group, a *berthv1.Alloc) bool {
	return r.updateOf(g, a) == inPlace && g.spec.SameHealth(r.Version(a.GetJobVersion()).GroupNamed(g.spec.GetName()))
}

// takeTurn brings an instance to the job's version that may be missing for it.
func (r *reconciler) takeTurn(g *group, a *berthv1.Alloc) {
	r.renew(g, a)
	r.tookTurn(g)
}

// tookTurn notes when instances were replaced last, where the next wait for so long.
func (r *reconciler) tookTurn(g *group) {
	if g.rollout != nil && g.rollout.strategy.GetStagger().AsDuration() > 0 {
		g.rollout.so.ReplacedTime = timestamppb.New(r.Now)
	}
}

// renew brings an instance to the job's version.
func (r *reconciler) renew(g *group, a *berthv1.Alloc) {
	if r.updateOf(g, a) == inPlace {
		r.change(a, &berthv1.AllocChange{JobVersion: r.Job.GetVersion()})
		g.outcome.Updated++
		return
	}
	r.ask(g, r.successor(g, a))
}
