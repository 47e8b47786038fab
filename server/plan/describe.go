package plan

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
	"github.com/berthd/berth/server/state"
)

// Rollout says in words how a job would be rolled out if it were registered now, by group.
// It is the look that the leader would take, so it says what would be.
func Rollout(view *state.View, spec *berthv1.Job, now time.Time) (lines []string) {
	stored := view.Job(spec.GetNamespace(), spec.GetName())
	next := asNext(spec, stored)
	if next == stored || spec.GetType() != berthv1.Job_service && spec.GetType() != berthv1.Job_system {
		return nil
	}
	fleet := fleetOf(view, now)
	in := input(view, jobKey{spec.GetNamespace(), spec.GetName()}, next, now)
	in.Feasible = func(g *berthv1.Group) []string {
		compiled, err := scheduler.Compile(next, g)
		if err != nil {
			return nil
		}
		return fleet.Feasible(compiled)
	}
	in.Allows = func(g *berthv1.Group, node string) bool {
		compiled, err := scheduler.Compile(next, g)
		return err == nil && fleet.Allows(compiled, node)
	}
	r := newReconciler(in)
	r.deploy()
	to := r.reverts() && r.Stable() != nil
	for _, g := range next.GetGroups() {
		compiled, err := scheduler.Compile(next, g)
		line := r.changesOf(r.groups[g.GetName()], func(a *berthv1.Alloc) error {
			if err == nil {
				_, err := fleet.Resize(compiled, a)
				return err
			}
			return err
		})
		if g.GetUpdate() != nil && line != "" {
			line += r.rules(r.groups[g.GetName()])
			if to && g.GetUpdate().GetAutoRevert() {
				line += fmt.Sprintf("; reverts to version %d if it fails", r.Stable().GetVersion())
			}
		}
		if line != "" {
			lines = append(lines, g.GetName()+": "+line)
		}
	}
	return lines
}

// changesOf says how many instances come to the version, and which way; "": none does.
// resize gives one other limits on its node, or says why it has no room for that.
func (r *reconciler) changesOf(g *group, resize func(*berthv1.Alloc) error) string {
	count := r.size(g)
	have := make([]bool, count)
	var there, stay, other, anew int
	var why string
	for _, a := range g.live {
		seat, has := r.seat(g, a)
		if a.GetCanary() || !has || have[seat] {
			continue
		}
		have[seat] = true
		there++
		switch r.updateOf(g, a) {
		case inPlace:
			stay++
		case resized:
			if err := resize(a); err == nil {
				other++
				break
			} else if p := (*problem.Error)(nil); errors.As(err, &p) {
				why = p.Reason
			}
			anew++
		case replaced:
			if r.between(g, a.GetJobVersion()) == resized {
				why = cmp.Or(r.fixed(g, a), "the node does not fit the new version")
			}
			anew++
		case upToDate:
		}
	}
	if why != "" {
		why = " (" + why + ")"
	}
	var words []string
	for _, part := range []struct {
		n    int
		what string
	}{{stay, "in place"}, {other, "in place with other limits"}, {anew, "replaced" + why}, {count - there, "new"}} {
		if part.n > 0 {
			words = append(words, fmt.Sprintf("%d %s", part.n, part.what))
		}
	}
	if other+anew > 0 && g.rollout == nil {
		words = append(words, "a quarter at a time")
	}
	return strings.Join(words, ", ")
}

// rules says how a group with an update strategy gets there.
func (r *reconciler) rules(g *group) (words string) {
	u, count := g.rollout.strategy, r.size(g)
	old := false
	for _, a := range g.live {
		old = old || !r.stays(g, a)
	}
	if old {
		words = ", " + strconv.Itoa(max(1, scheduler.Share(u.GetMaxParallel(), count, 1))) + " at a time"
		if d := u.GetStagger().AsDuration(); d > 0 {
			words += ", " + spell(d) + " apart"
		}
	}
	switch {
	case u.GetHealth() == "manual":
		words += ", each when it is said to be healthy"
	default:
		words += ", each healthy for " + spell(durationOr(u.GetMinHealthyTime(), defaultMinHealthy))
	}
	if n := g.rollout.canaries(); n > 0 {
		words += "; " + counted(n, "canary") + " first, promoted "
		if n > 1 {
			words = strings.Replace(words, "canarys", "canaries", 1)
		}
		switch d := u.GetPromoteAfter().AsDuration(); {
		case u.GetPromote() != "healthy":
			words += "by hand"
		case d > 0:
			words += "when healthy for " + spell(d)
		default:
			words += "when healthy"
		}
	}
	return words
}

// defaultMinHealthy is the schema's.
const defaultMinHealthy = 10 * time.Second

// spell writes a duration with a space: "10 s", "5 min", "1 h 30 min".
func spell(d time.Duration) string {
	var words []string
	for _, unit := range []struct {
		of   time.Duration
		name string
	}{{time.Hour, "h"}, {time.Minute, "min"}} {
		if n := d / unit.of; n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, unit.name))
			d %= unit.of
		}
	}
	if d > 0 || len(words) == 0 {
		words = append(words, strconv.FormatFloat(d.Seconds(), 'f', -1, 64)+" s")
	}
	return strings.Join(words, " ")
}
