package plan

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
)

// Whatever instances do and operators say: no look leaves fewer instances that serve than
// the count less max_parallel, unless there were no more before; there are never two
// ordinary ones of an index; and in the end, when all are healthy, a version that nobody
// stops is rolled out.
func TestRolloutsNeverTakeTooMuch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLife(&testing.T{})
		var out strings.Builder
		pick := func(name string, of ...string) string { return rapid.SampledFrom(of).Draw(t, name) }
		job := func(env string) string {
			return fmt.Sprintf("job env=%s memory=%s count=%d parallel=%s canary=%s promote=%s progress=%s stagger=%s health=%s %s", env, pick("memory", "64", "64", "128"), rapid.IntRange(0, 6).Draw(t, "count"),
				pick("parallel", "1", "2", "50%", "100%"), pick("canary", "0", "1", "50%", "100%"), pick("promote", "manual", "healthy"),
				pick("progress", "0s", "1m", "10m"), pick("stagger", "0s", "0s", "20s"), pick("health", "checks", "tasks"), pick("revert", "", "auto_revert"))
		}
		l.run("case", &out)
		l.run("node up "+pick("limits", "", "full", "fixed"), &out)
		l.run(job("a"), &out)
		l.checkedLook(t, &out)
		for step := range rapid.IntRange(1, 12).Draw(t, "steps") {
			switch what := pick("what", "job", "same", "go", "healthy", "healthy", "healthy", "unhealthy", "fails", "dies", "operator", "leader"); what {
			case "job":
				l.run(job(fmt.Sprint("v", step)), &out)
			case "same":
				l.run(job("a"), &out)
			case "go":
				l.run("go "+pick("for", "5s", "30s", "2m"), &out)
			case "operator":
				if do := pick("do", "promote", "pause", "resume", "fail"); l.in.Deployment.Active() && l.allows(do) {
					l.run(do, &out)
				}
			case "leader":
				l.run(what, &out)
			default:
				l.run(what+pick("which", "", " 0 c0", " 1 2 old1", " c1 old0", " 3 4 5"), &out)
			}
			l.checkedLook(t, &out)
		}
		l.run("job env=last count=4 parallel=2", &out)
		for range 12 {
			l.checkedLook(t, &out)
			l.run("healthy", &out)
			l.run("go 1m", &out)
		}
		l.checkedLook(t, &out)
		if d := l.in.Deployment; d.GetStatus() != berthv1.Deployment_successful || l.serving(4) != 4 {
			t.Fatalf("it is not rolled out:\n%s", out.String())
		}
	})
}

// allows says whether the FSM would let an operator do it.
func (l *life) allows(what string) bool {
	d := l.in.Deployment
	switch what {
	case "pause":
		return d.GetStatus() == berthv1.Deployment_running
	case "resume":
		return d.GetStatus() == berthv1.Deployment_paused
	case "promote":
		healthy := 0
		for _, a := range l.allocs {
			if a.GetCanary() && a.Wanted() && isHealthy(a) && a.GetJobVersion() == l.in.Job.GetVersion() {
				healthy++
			}
		}
		return healthy > 0 && healthy >= int(d.GetGroups()[0].GetCanaries())
	}
	return true
}

// serving counts the ordinary instances that serve: new ones that are healthy, older ones
// that are healthy, or were not judged by their deadline.
func (l *life) serving(count int) (n int) {
	for _, a := range l.allocs {
		if !a.Wanted() || a.GetCanary() || a.GetStatus() != berthv1.Alloc_running || a.GetNodeId() != "up" || int(a.GetIndex()) >= count {
			continue
		}
		judged := a.GetCreateTime().AsTime().Add(defaultHealthyDeadline)
		if a.GetHealth() == berthv1.Alloc_healthy || a.GetHealth() == berthv1.Alloc_undecided && a.GetJobVersion() != l.in.Job.GetVersion() && !l.in.Now.Before(judged) {
			n++
		}
	}
	return n
}

// checkedLook is look, held against what every single step promises.
func (l *life) checkedLook(t *rapid.T, out *strings.Builder) {
	for range 12 {
		group := l.in.Job.GetGroups()[0]
		count := scheduler.GroupCount(group)
		parallel := max(1, scheduler.Share(group.GetUpdate().GetMaxParallel(), count, 1))
		before := l.serving(count)
		r := Reconcile(l.in)
		l.intents(r, out)
		l.carryOut(r, func() string { return "up" })
		if after := l.serving(count); after < before && after < count-parallel {
			t.Fatalf("%d serve, %d did before, of %d with %d at a time:\n%s", after, before, count, parallel, out.String())
		}
		taken := map[string]bool{}
		for _, a := range l.allocs {
			if a.CreateTime == nil {
				a.CreateTime = timestamppb.New(l.in.Now)
			}
			if !a.Wanted() || a.Terminal() {
				if !a.Wanted() && !a.Terminal() {
					a.Status = berthv1.Alloc_complete
				}
				continue
			}
			key := fmt.Sprint(a.GetIndex(), a.GetCanary())
			if taken[key] {
				t.Fatalf("two are %s:\n%s", key, out.String())
			}
			taken[key] = true
		}
		if r.Revert != nil {
			l.submit(Revert(l.in.Job, r.Revert))
			continue
		}
		if r.Deployment == nil && len(r.Changes)+len(r.Asks) == 0 {
			return
		}
	}
	t.Fatalf("it does not come to rest:\n%s", out.String())
}
