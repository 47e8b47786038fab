package command

import (
	"fmt"
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// rollsOut says whether the job's versions have deployments: then it is watched until
// that of its version is over.
func (f *follower) rollsOut() bool {
	t := f.job.GetType()
	return (t == berthv1.Job_service || t == berthv1.Job_system) && (f.job.GetUpdate() != nil ||
		slices.ContainsFunc(f.job.GetGroups(), func(g *berthv1.Group) bool { return g.GetUpdate() != nil }))
}

// judgeRollout is judge for a job with an update strategy.
func (f *follower) judgeRollout(s sight) (bool, error) {
	job, d, e := s.status.GetJob(), s.status.GetDeployment(), s.status.GetEvaluation()
	if job.GetVersion() > f.version {
		return true, f.overtaken(job)
	}
	f.tellRestarts(s.allocs)
	if d.GetJobVersion() != f.version {
		return false, nil // it is not begun yet
	}
	stages := rolloutStages(d)
	if e.GetStatus() == berthv1.Evaluation_blocked && d.Active() {
		return f.tellBlocked(stages, e)
	}
	if f.blocked {
		f.blocked, f.progress = false, f.newProgress()
	}
	f.progress.update(stages)
	switch d.GetStatus() {
	case berthv1.Deployment_successful:
		return true, f.done()
	case berthv1.Deployment_failed:
		if d.GetRevertedTo() != 0 {
			return false, nil // the return is on its way
		}
		f.printf("The roll-out of v%d failed: %s. berth deployment status %s\n", f.version, d.GetStatusReason(), shortID(d.GetId()))
		return true, &exitStatus{code: exitError}
	case berthv1.Deployment_cancelled:
		f.printf("The roll-out of v%d was cancelled: %s.\n", f.version, d.GetStatusReason())
		return true, &exitStatus{code: exitError}
	case berthv1.Deployment_running, berthv1.Deployment_paused:
		if d.GetStatus() == berthv1.Deployment_running && f.onlyPromotionLeft(d) {
			f.printf("v%d waits to be promoted. %[2]s promote %[3]s lets its canaries take over, %[2]s fail %[3]s ends it.\n",
				f.version, "berth deployment", shortID(d.GetId()))
			return true, nil
		}
		if line := waitsForPeople(d); line != "" && !slices.Contains(f.told, line) {
			f.told = append(f.told, line)
			f.progress.say("  %s", line)
		}
	}
	return false, nil
}

// onlyPromotionLeft says that a roll-out goes no further before somebody promotes it: its
// canaries are healthy and not promoted by themselves, and its other groups are done.
func (f *follower) onlyPromotionLeft(d *berthv1.Deployment) bool {
	waits := false
	for _, g := range d.GetGroups() {
		switch strategy := f.job.GroupNamed(g.GetGroup()).GetUpdate(); {
		case g.GetCanaries() == 0 || g.GetPromoted():
			if g.GetHealthy() < g.GetDesired() {
				return false
			}
		case g.GetCanariesHealthy() == nil, strategy == nil && f.job.GetUpdate().GetPromote() == "healthy", strategy.GetPromote() == "healthy":
			return false
		default:
			waits = true
		}
	}
	return waits
}

// overtaken says that the version that is watched is not the newest any more.
func (f *follower) overtaken(job *berthv1.Job) error {
	if to := job.GetRevertedTo(); to != 0 {
		f.printf("The roll-out of v%d failed; %s goes back to v%d (as v%d). berth deployment list -job %s\n",
			f.version, job.GetName(), to, job.GetVersion(), job.GetName())
	} else {
		f.printf("v%d took over from v%d. berth job status %s\n", job.GetVersion(), f.version, job.GetName())
	}
	return &exitStatus{code: exitError}
}

// rolloutStages is how far a roll-out is: the canaries while they wait, and all instances.
func rolloutStages(d *berthv1.Deployment) []stage {
	var canaries, canariesHealthy, desired, placed, healthy int
	for _, g := range d.GetGroups() {
		if n := int(g.GetCanaries()); n > 0 && !g.GetPromoted() {
			canaries += n
			canariesHealthy += min(n, int(g.GetHealthy()))
		}
		desired += int(g.GetDesired())
		placed += min(int(g.GetDesired()), int(g.GetPlaced()))
		healthy += min(int(g.GetDesired()), int(g.GetHealthy()))
	}
	if canaries > 0 {
		return []stage{{label: "canaries", done: canariesHealthy, of: canaries, detail: "healthy"}}
	}
	return []stage{{label: "placed", done: placed, of: desired, detail: fmt.Sprintf("v%d", d.GetJobVersion())}, {label: "healthy", done: healthy, of: desired}}
}

// waitsForPeople says what somebody must do for a roll-out to go on; "": nothing.
func waitsForPeople(d *berthv1.Deployment) string {
	if d.GetStatus() == berthv1.Deployment_paused {
		return fmt.Sprintf("paused. berth deployment resume %s", shortID(d.GetId()))
	}
	waiting := 0
	for _, g := range d.GetGroups() {
		if g.GetCanaries() > 0 && !g.GetPromoted() {
			if g.GetCanariesHealthy() == nil {
				return ""
			}
			waiting += int(g.GetCanaries())
		}
	}
	if waiting == 0 {
		return ""
	}
	return fmt.Sprintf("%s to be promoted. berth deployment promote %s", count(waiting, "canary"), shortID(d.GetId()))
}
