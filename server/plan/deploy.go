package plan

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Each version of a service with an update strategy has a deployment, made by the first
// look at the version. A look begins with it: it counts how the instances are (survey),
// decides whether the roll-out has failed or succeeded (judge), and then the groups go on
// by that: rollout.go and canaries.go. All that is known of a roll-out is in the deployment
// and the allocations, so any leader goes on from there.

// rollout is a group's part in the deployment.
type rollout struct {
	strategy *berthv1.UpdateStrategy
	// so is how far the group is, from now on.
	so *berthv1.DeploymentGroup
	// steady says that nothing is brought to the version now: canaries are to be promoted
	// first, the roll-out is paused or has failed. What is lost is replaced by an older one.
	steady bool
	// complete says that all instances are of the version and healthy.
	complete bool
	// unhealthy is an instance of the version that is; nil: none.
	unhealthy *berthv1.Alloc
	// beside are the indexes at which a promoted canary waits beside the old instance.
	beside map[uint32]bool
}

// canaries says how many canaries there are to be beside the old instances.
func (r *rollout) canaries() int {
	if r == nil || r.so.GetPromoted() {
		return 0
	}
	return int(r.so.GetCanaries())
}

// rolled says whether versions of a group are rolled out by a deployment.
func rolled(job *berthv1.Job, group *berthv1.Group) bool {
	return (job.GetType() == berthv1.Job_service || job.GetType() == berthv1.Job_system) && group.GetUpdate() != nil
}

// deploymentID is the id of the deployment of a job's version.
func deploymentID(job *berthv1.Job) string {
	return uuid.NewSHA1(uuid.Nil, fmt.Appendf(nil, "%s/%s/%d/%d", job.GetNamespace(), job.GetName(), job.GetCreateRevision(), job.GetVersion())).String()
}

// deploy takes the deployment up, or makes it.
func (r *reconciler) deploy() {
	made := r.Deployment == nil
	for _, spec := range r.Job.GetGroups() {
		if !rolled(r.Job, spec) {
			continue
		}
		if r.deployment == nil {
			r.deployment = proto.CloneOf(r.Deployment)
		}
		if r.deployment == nil {
			r.deployment = &berthv1.Deployment{Id: deploymentID(r.Job), Namespace: r.Job.GetNamespace(), Job: r.Job.GetName(), JobVersion: r.Job.GetVersion()}
		}
		g := r.groups[spec.GetName()]
		g.rollout = &rollout{strategy: spec.GetUpdate(), so: r.deployment.GroupNamed(spec.GetName())}
		if g.rollout.so == nil {
			g.rollout.so = &berthv1.DeploymentGroup{Group: spec.GetName()}
			r.deployment.Groups = append(r.deployment.Groups, g.rollout.so)
		}
		if made {
			g.rollout.so.Canaries = uint32(r.canariesFor(g))
		}
	}
	if r.deployment == nil {
		return
	}
	if r.deployment.Active() {
		r.eachRollout(r.survey)
	}
	r.judge()
	r.eachRollout(func(g *group) {
		ro := g.rollout
		ro.steady = r.deployment.GetStatus() != berthv1.Deployment_successful && (r.deployment.GetStatus() != berthv1.Deployment_running || ro.canaries() > 0)
		if ro.steady {
			g.base = r.baseOf(g)
		}
	})
}

func (r *reconciler) eachRollout(do func(*group)) {
	for _, spec := range r.Job.GetGroups() {
		if g := r.groups[spec.GetName()]; g.rollout != nil {
			do(g)
		}
	}
}

// baseOf is the version that ordinary instances are of while the new one is not trusted:
// the newest that was rolled out well, else the newest that they are of.
func (r *reconciler) baseOf(g *group) *berthv1.Job {
	if r.Stable != nil {
		if stable := r.Stable(); stable.GroupNamed(g.spec.GetName()) != nil {
			return stable
		}
	}
	newest := uint64(0)
	for _, list := range [][]*berthv1.Alloc{g.live, g.away, g.ended} {
		for _, a := range list {
			if v := a.GetJobVersion(); v != r.Job.GetVersion() && !a.GetCanary() {
				newest = max(newest, v)
			}
		}
	}
	if base := r.Version(newest); base.GroupNamed(g.spec.GetName()) != nil {
		return base
	}
	return nil
}

// survey counts how a group's instances are, and moves its deadlines.
func (r *reconciler) survey(g *group) {
	ro, count := g.rollout, r.size(g)
	healthyAt := make([]bool, count)
	var placed, canaries, healthy, unhealthy, old, whole int
	for _, a := range g.live {
		seat, has := r.seat(g, a)
		if a.GetJobVersion() != r.Job.GetVersion() {
			if has || !r.perNode() { // on a node that takes nothing new it stays as it is
				old++
			}
			continue
		}
		placed++
		switch {
		case a.GetHealth() == berthv1.Alloc_unhealthy || r.missedDeadline(g, a):
			unhealthy++
			ro.unhealthy = a
		case isHealthy(a):
			healthy++
			if a.GetCanary() {
				canaries++
			} else if has && !healthyAt[seat] {
				healthyAt[seat] = true
				whole++
			}
		}
	}
	for _, a := range g.ended {
		if a.GetJobVersion() == r.Job.GetVersion() && a.GetStatus() == berthv1.Alloc_failed {
			unhealthy++
			ro.unhealthy = a
		}
	}
	so := ro.so
	progress := healthy > int(so.GetHealthy())
	so.Desired, so.Placed, so.Healthy, so.Unhealthy = uint32(count), uint32(placed), uint32(healthy), uint32(unhealthy)
	ready := ro.canaries() > 0 && canaries >= ro.canaries()
	ro.complete = ro.canaries() == 0 && whole == count && old == 0
	if r.deployment.GetStatus() == berthv1.Deployment_paused {
		return
	}
	r.promoteBySelf(g, ready)
	r.deadline(g, progress, ro.complete || ready && !so.GetPromoted())
}

// isHealthy says whether an instance counts as one that takes over.
func isHealthy(a *berthv1.Alloc) bool {
	return a.GetHealth() == berthv1.Alloc_healthy && a.GetStatus() == berthv1.Alloc_running
}

// askedSince is since when it is asked whether an instance whose health is not decided is
// healthy: it was placed then, or came to a version that asks something else.
func askedSince(a *berthv1.Alloc) time.Time {
	return latest(a.GetCreateTime().AsTime(), a.GetHealthTime().AsTime())
}

// missedDeadline says whether an instance whose health operators decide on has waited for
// their word for too long; of others agents say so.
func (r *reconciler) missedDeadline(g *group, a *berthv1.Alloc) bool {
	if g.rollout.strategy.GetHealth() != "manual" || a.GetHealth() != berthv1.Alloc_undecided || a.GetCreateTime() == nil {
		return false
	}
	by := askedSince(a).Add(durationOr(g.rollout.strategy.GetHealthyDeadline(), defaultHealthyDeadline))
	if r.Now.Before(by) {
		r.wake(by)
		return false
	}
	return true
}

// promoteBySelf lets canaries take over that have been healthy for long enough.
func (r *reconciler) promoteBySelf(g *group, ready bool) {
	so := g.rollout.so
	switch {
	case g.rollout.canaries() == 0:
		return
	case !ready:
		so.CanariesHealthy = nil
		return
	case so.GetCanariesHealthy() == nil:
		so.CanariesHealthy = timestamppb.New(r.Now)
	}
	if g.rollout.strategy.GetPromote() != "healthy" {
		return
	}
	at := so.GetCanariesHealthy().AsTime().Add(g.rollout.strategy.GetPromoteAfter().AsDuration())
	if r.Now.Before(at) {
		r.wake(at)
		return
	}
	so.Promoted = true
}

// deadline moves the time by which an instance must become healthy. There is none while
// nothing is waited for but somebody's word.
func (r *reconciler) deadline(g *group, progress, idle bool) {
	so := g.rollout.so
	most := durationOr(g.rollout.strategy.GetProgressDeadline(), defaultProgressDeadline)
	switch {
	case idle || most <= 0:
		so.ProgressBy = nil
		return
	case progress || so.GetProgressBy() == nil:
		so.ProgressBy = timestamppb.New(r.Now.Add(most))
	}
	if r.Now.Before(so.GetProgressBy().AsTime()) {
		r.wake(so.GetProgressBy().AsTime())
	}
}

// defaultProgressDeadline is the schema's.
const defaultProgressDeadline = 10 * time.Minute

// judge decides what has come of the roll-out.
func (r *reconciler) judge() {
	d := r.deployment
	if d.GetStatus() == berthv1.Deployment_failed {
		r.goBack()
		return
	}
	if d.GetStatus() != berthv1.Deployment_running {
		return
	}
	var waits []string
	r.eachRollout(func(g *group) {
		if why := r.failure(g); why != "" && d.GetStatus() == berthv1.Deployment_running {
			d.Status, d.StatusReason = berthv1.Deployment_failed, why
		}
		if !g.rollout.complete {
			waits = append(waits, waitsFor(g))
		}
	})
	switch {
	case d.GetStatus() == berthv1.Deployment_failed:
		if r.reverts() && r.Stable() == nil {
			d.StatusReason += "; there is no version to go back to"
		}
		r.goBack()
	case len(waits) == 0:
		d.Status, d.StatusReason = berthv1.Deployment_successful, ""
	default:
		d.StatusReason = strings.Join(waits, "; ")
	}
}

// failure says why a group's roll-out has failed; "": it has not.
func (r *reconciler) failure(g *group) string {
	ro := g.rollout
	most := durationOr(ro.strategy.GetProgressDeadline(), defaultProgressDeadline)
	switch {
	case most <= 0 && ro.unhealthy != nil:
		if r.perNode() {
			return fmt.Sprintf("%s on %s is unhealthy", g.spec.GetName(), cmp.Or(ro.unhealthy.GetNodeName(), ro.unhealthy.GetNodeId()))
		}
		return fmt.Sprintf("%s[%d] is unhealthy", g.spec.GetName(), ro.unhealthy.GetIndex())
	case ro.so.GetProgressBy() != nil && !r.Now.Before(ro.so.GetProgressBy().AsTime()):
		return fmt.Sprintf("no instance of %s became healthy for %s", g.spec.GetName(), most)
	}
	return ""
}

// waitsFor says what a group's roll-out waits for.
func waitsFor(g *group) string {
	ro, name := g.rollout, g.spec.GetName()
	switch n := ro.canaries(); {
	case n > 0 && ro.so.GetCanariesHealthy() != nil && ro.strategy.GetPromote() != "healthy":
		return fmt.Sprintf("%s: %s to be promoted", name, canaryWords(n))
	case n > 0:
		return fmt.Sprintf("%s: %s to be healthy", name, canaryWords(n))
	}
	return fmt.Sprintf("%s: %d of %d healthy", name, ro.so.GetHealthy(), ro.so.GetDesired())
}

func canaryWords(n int) string {
	if n == 1 {
		return "1 canary is"
	}
	return fmt.Sprintf("%d canaries are", n)
}

// reverts says whether the job goes back by itself when its roll-out fails. A version that
// is itself a return to another does not: it would go round in circles.
func (r *reconciler) reverts() bool {
	if r.Job.GetRevertedTo() != 0 || r.Stable == nil {
		return false
	}
	for _, g := range r.Job.GetGroups() {
		if rolled(r.Job, g) && g.GetUpdate().GetAutoRevert() {
			return true
		}
	}
	return false
}

// goBack has a roll-out that failed go back to the newest version that was rolled out
// well: it first says so in the deployment, and when that is stored, asks for it.
func (r *reconciler) goBack() {
	d := r.deployment
	if !r.reverts() {
		return
	}
	if d.GetRevertedTo() != 0 {
		r.result.Revert = r.Version(d.GetRevertedTo())
		return
	}
	if to := r.Stable(); to != nil {
		d.RevertedTo = to.GetVersion()
		d.StatusReason += fmt.Sprintf("; back to version %d", to.GetVersion())
	}
}

// deployed notes what has become of the deployment.
func (r *reconciler) deployed() {
	if r.deployment == nil {
		return
	}
	if !proto.Equal(r.deployment, r.Deployment) {
		r.result.Deployment = r.deployment
	}
	r.result.Rolling = r.result.Rolling || r.deployment.Active()
}

func durationOr(d *durationpb.Duration, def time.Duration) time.Duration {
	if d == nil {
		return def
	}
	return d.AsDuration()
}
