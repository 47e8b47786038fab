package fsm

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// health has an update say how healthy its allocation is, of some version.
func (s *source) health(u *berthv1.AllocStatusUpdate) {
	if s.rng.IntN(2) == 0 {
		u.Health, u.HealthVersion, u.HealthTime = berthv1.Alloc_Health(s.rng.IntN(4)), uint64(s.rng.IntN(6)), timestamp(epoch)
	}
}

func deploymentID(job string, version uint64) string { return fmt.Sprintf("d-%s-%d", job, version) }

// deployment is one of a job's version, as of its newest change or an older one.
func (s *source) deployment() *berthv1.Deployment {
	name := s.jobName()
	view := s.store.View()
	version := view.Job("default", name).GetVersion() - uint64(s.rng.IntN(8)/7)
	stored := view.DeploymentOf("default", name, version)
	d := &berthv1.Deployment{
		Id: deploymentID(name, version), Namespace: "default", Job: name, JobVersion: version,
		Status:         berthv1.Deployment_Status(s.rng.IntN(5)),
		Groups:         []*berthv1.DeploymentGroup{{Group: "g", Canaries: uint32(s.rng.IntN(2)), ProgressBy: timestamp(epoch)}},
		ModifyRevision: stored.GetModifyRevision() + uint64(s.rng.IntN(8)/7),
	}
	if s.rng.IntN(20) == 0 {
		d.Id = s.pick("", "d-other")
	}
	return d
}

// deployed is what an operator says of a deployment, or of the health of allocations.
func (s *source) deployed(e *berthv1.LogEntry) {
	if s.rng.IntN(3) == 0 {
		e.Fact = &berthv1.LogEntry_AllocHealthSet{AllocHealthSet: &berthv1.AllocHealthSet{
			AllocIds: []string{s.allocID()}, Health: berthv1.Alloc_Health(s.rng.IntN(4))}}
		return
	}
	name := s.jobName()
	c := &berthv1.DeploymentChanged{DeploymentId: deploymentID(name, s.store.View().Job("default", name).GetVersion()),
		Action: berthv1.DeploymentAction(s.rng.IntN(6))}
	if s.rng.IntN(3) == 0 {
		c.Groups = []string{s.pick("g", "h")}
	}
	e.Fact = &berthv1.LogEntry_DeploymentChanged{DeploymentChanged: c}
}

// roll is a job of which version 2 is rolled out with a canary.
type roll struct {
	*FSM
	t     *testing.T
	index uint64
}

func newRoll(t *testing.T) *roll {
	f, _ := newTestFSM(t)
	r := &roll{FSM: f, t: t}
	r.must(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_ClusterCreated{ClusterCreated: &berthv1.ClusterCreated{ClusterId: "c"}}
	})
	r.must(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_NodeRegistered{NodeRegistered: &berthv1.NodeRegistered{Node: &berthv1.Node{Id: "n", Name: "n", Hardware: &berthv1.Hardware{DiskMib: 10}}}}
	})
	r.register(1, "manual")
	r.deployment(1, berthv1.Deployment_successful, 0)
	r.register(2, "manual")
	r.deployment(2, berthv1.Deployment_running, 1)
	r.must(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_Plan{Plan: &berthv1.Plan{Placements: []*berthv1.Alloc{
			{Id: allocID(0), Namespace: "default", Job: "j", JobVersion: 1, Group: "g", NodeId: "n"},
			{Id: allocID(1), Namespace: "default", Job: "j", JobVersion: 2, Group: "g", NodeId: "n", Canary: true, Health: berthv1.Alloc_healthy},
		}}}
	})
	return r
}

func (r *roll) propose(fact func(*berthv1.LogEntry)) error {
	r.index++
	return r.apply(r.index, encode(NewEntry(epoch, fact))).Err
}

func (r *roll) must(fact func(*berthv1.LogEntry)) {
	r.t.Helper()
	if err := r.propose(fact); err != nil {
		r.t.Fatal(err)
	}
}

func (r *roll) register(version uint64, health string) {
	r.t.Helper()
	r.must(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_JobRegistered{JobRegistered: &berthv1.JobRegistered{Job: &berthv1.Job{Name: "j", Namespace: "default", Version: version,
			Groups: []*berthv1.Group{{Name: "g", Update: &berthv1.UpdateStrategy{Health: health}}}}}}
	})
}

func (r *roll) deployment(version uint64, status berthv1.Deployment_Status, canaries uint32) {
	r.t.Helper()
	id := deploymentID("j", version)
	r.must(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_Plan{Plan: &berthv1.Plan{Deployments: []*berthv1.Deployment{{
			Id: id, Namespace: "default", Job: "j", JobVersion: version, Status: status, ModifyRevision: r.get(version).GetModifyRevision(),
			Groups: []*berthv1.DeploymentGroup{{Group: "g", Canaries: canaries, ProgressBy: timestamp(epoch)}}}}}}
	})
}

func (r *roll) get(version uint64) *berthv1.Deployment {
	return r.store.View().DeploymentOf("default", "j", version)
}

func (r *roll) act(action berthv1.DeploymentAction, groups ...string) error {
	return r.propose(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_DeploymentChanged{DeploymentChanged: &berthv1.DeploymentChanged{DeploymentId: deploymentID("j", 2), Action: action, Groups: groups}}
	})
}

func (r *roll) refused(err error, words string) {
	r.t.Helper()
	if p := problem.From(err); err == nil || !strings.Contains(p.Reason, words) {
		r.t.Errorf("%v does not say %q", err, words)
	}
}

func (r *roll) healthSet(id string, h berthv1.Alloc_Health) error {
	return r.propose(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_AllocHealthSet{AllocHealthSet: &berthv1.AllocHealthSet{AllocIds: []string{id}, Health: h}}
	})
}

const (
	promote = berthv1.DeploymentAction_DEPLOYMENT_ACTION_PROMOTE
	pause   = berthv1.DeploymentAction_DEPLOYMENT_ACTION_PAUSE
	resume  = berthv1.DeploymentAction_DEPLOYMENT_ACTION_RESUME
	fail    = berthv1.DeploymentAction_DEPLOYMENT_ACTION_FAIL
)

func TestPromotionWaitsForHealthyCanaries(t *testing.T) {
	r := newRoll(t)
	if a := r.store.View().Alloc(allocID(1)); a.GetHealth() != berthv1.Alloc_undecided || !a.GetCanary() {
		t.Errorf("placed as %v", a)
	}
	r.refused(r.act(promote), `0 of 1 canaries are healthy`)
	r.refused(r.act(promote, "other"), `no group "other"`)
	if err := r.healthSet(allocID(1), berthv1.Alloc_healthy); err != nil {
		t.Fatal(err)
	}
	if err := r.act(promote); err != nil || !r.get(2).GetGroups()[0].GetPromoted() {
		t.Fatalf("%v: %v", err, r.get(2))
	}
	r.refused(r.act(promote, "g"), "promoted already")
	r.refused(r.act(promote), "no canaries to promote")
	r.must(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_Plan{Plan: &berthv1.Plan{Changes: []*berthv1.AllocChange{{AllocId: allocID(1), Promote: true}}}}
	})
	if a := r.store.View().Alloc(allocID(1)); a.GetCanary() || a.GetAssignRevision() != r.index {
		t.Errorf("promoted: %v", a)
	}
}

func TestDeploymentsArePausedResumedAndFailed(t *testing.T) {
	r := newRoll(t)
	r.refused(r.act(resume), "not paused")
	if err := r.act(pause); err != nil || r.get(2).GetStatus() != berthv1.Deployment_paused || r.get(2).GetGroups()[0].GetProgressBy() != nil {
		t.Errorf("paused: %v %v", err, r.get(2))
	}
	r.refused(r.act(pause), "paused already")
	if err := r.act(resume); err != nil || r.get(2).GetStatus() != berthv1.Deployment_running {
		t.Errorf("resumed: %v %v", err, r.get(2))
	}
	if err := r.act(fail); err != nil || r.get(2).GetStatus() != berthv1.Deployment_failed {
		t.Errorf("failed: %v %v", err, r.get(2))
	}
	r.refused(r.act(pause), "is over: it is failed")
	r.refused(r.act(0), "is over")
}

func TestANewerVersionOrStoppingCancels(t *testing.T) {
	r := newRoll(t)
	r.register(3, "checks")
	if d := r.get(2); d.GetStatus() != berthv1.Deployment_cancelled || d.GetStatusReason() != "version 3 took over" {
		t.Errorf("%v", d)
	}
	if d := r.get(1); d.GetStatus() != berthv1.Deployment_successful {
		t.Errorf("what is over has changed: %v", d)
	}
	r.deployment(3, berthv1.Deployment_running, 0)
	r.must(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_JobStopped{JobStopped: &berthv1.JobStopped{Namespace: "default", Job: "j"}}
	})
	if d := r.get(3); d.GetStatus() != berthv1.Deployment_cancelled {
		t.Errorf("%v", d)
	}
	r.deployment(3, berthv1.Deployment_successful, 0)
	if d := r.get(3); d.GetStatus() != berthv1.Deployment_cancelled || r.store.View().Job("default", "j").GetStable() {
		t.Errorf("what is over came back: %v", d)
	}
}

func TestALateWordOnADeploymentIsPassedOver(t *testing.T) {
	r := newRoll(t)
	late := r.get(2)
	if err := r.act(pause); err != nil {
		t.Fatal(err)
	}
	r.must(func(e *berthv1.LogEntry) {
		d := revised(late, func(d *berthv1.Deployment) { d.Status = berthv1.Deployment_successful })
		e.Fact = &berthv1.LogEntry_Plan{Plan: &berthv1.Plan{Deployments: []*berthv1.Deployment{d}}}
	})
	if d := r.get(2); d.GetStatus() != berthv1.Deployment_paused {
		t.Errorf("%v", d)
	}
}

func TestSuccessMakesAVersionStableAndKeepsIt(t *testing.T) {
	r := newRoll(t)
	view := r.store.View()
	if !view.JobVersion("default", "j", 1).GetStable() || view.Job("default", "j").GetStable() {
		t.Fatal("version 1 is to be stable, version 2 not yet")
	}
	r.register(3, "checks")
	r.must(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_AllocsReported{AllocsReported: &berthv1.AllocsReported{Updates: []*berthv1.AllocStatusUpdate{
			{AllocId: allocID(0), Status: berthv1.Alloc_complete}, {AllocId: allocID(1), Status: berthv1.Alloc_complete}}}}
	})
	r.must(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_Collected{Collected: &berthv1.Collected{AllocIds: []string{allocID(0), allocID(1)}, Jobs: []*berthv1.JobRef{
			{Namespace: "default", Job: "j", Version: 1}, {Namespace: "default", Job: "j", Version: 2}}}}
	})
	var kept []uint64
	for _, v := range r.store.View().JobVersions("default", "j") {
		kept = append(kept, v.GetVersion())
	}
	if !slices.Equal(kept, []uint64{3, 1}) || r.get(2) != nil || r.get(1) == nil {
		t.Errorf("kept: %v, deployments %v and %v", kept, r.get(1), r.get(2))
	}
}

func TestHealthIsOfAVersion(t *testing.T) {
	r := newRoll(t)
	report := func(h berthv1.Alloc_Health, version uint64) berthv1.Alloc_Health {
		r.must(func(e *berthv1.LogEntry) {
			e.Fact = &berthv1.LogEntry_AllocsReported{AllocsReported: &berthv1.AllocsReported{Updates: []*berthv1.AllocStatusUpdate{
				{AllocId: allocID(0), Status: berthv1.Alloc_running, Health: h, HealthVersion: version, HealthTime: timestamp(epoch)}}}}
		})
		return r.store.View().Alloc(allocID(0)).GetHealth()
	}
	inPlace := func(version uint64) berthv1.Alloc_Health {
		r.must(func(e *berthv1.LogEntry) {
			e.Fact = &berthv1.LogEntry_Plan{Plan: &berthv1.Plan{Changes: []*berthv1.AllocChange{{AllocId: allocID(0), JobVersion: version}}}}
		})
		return r.store.View().Alloc(allocID(0)).GetHealth()
	}
	if h := report(berthv1.Alloc_healthy, 2); h != berthv1.Alloc_undecided {
		t.Errorf("of another version: %s", h)
	}
	if h := report(berthv1.Alloc_healthy, 1); h != berthv1.Alloc_healthy {
		t.Errorf("reported: %s", h)
	}
	if h := report(berthv1.Alloc_undecided, 0); h != berthv1.Alloc_healthy {
		t.Errorf("a report without a word on it: %s", h)
	}
	if h := inPlace(2); h != berthv1.Alloc_healthy {
		t.Errorf("version 2 asks the same: %s", h)
	}
	r.register(3, "checks")
	if h := inPlace(3); h != berthv1.Alloc_undecided {
		t.Errorf("version 3 asks otherwise: %s", h)
	}
	r.refused(r.healthSet(allocID(0), berthv1.Alloc_healthy), "not said by hand")
	r.refused(r.healthSet(allocID(5), berthv1.Alloc_healthy), "no allocation")
	r.refused(r.healthSet(allocID(0), berthv1.Alloc_undecided), "healthy or unhealthy")
}
