package api

import (
	"fmt"
	"strings"
	"testing"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

const (
	deploymentOne = "d1000000-0000-5000-8000-000000000001"
	deploymentTwo = "d2000000-0000-5000-8000-000000000002"
	rolledAlloc   = "a0000000-0000-4000-8000-000000000000"
)

// rolledJob is the job web in two versions, of which the first was rolled out well and the
// second has a canary.
func rolledJob(t *testing.T) (*cluster, *member) {
	c, m := fleetForReservations(t)
	spec := func(count int) string {
		return strings.Replace(jobJSON("web", count), `"groups": [{`, `"groups": [{"update": {"health": "manual", "canary": "1"}, `, 1)
	}
	for v := range uint64(2) {
		m.call(t, "POST", "/v1/jobs", spec(int(v)+1)).want(t, 200)
		d := &berthv1.Deployment{Id: deploymentOne, Namespace: "default", Job: "web", JobVersion: 1, Status: berthv1.Deployment_successful}
		if v == 1 {
			d = &berthv1.Deployment{Id: deploymentTwo, Namespace: "default", Job: "web", JobVersion: 2, Groups: []*berthv1.DeploymentGroup{{Group: "web", Canaries: 1}}}
		}
		c.write(func(e *berthv1.LogEntry) {
			e.Fact = &berthv1.LogEntry_Plan{Plan: &berthv1.Plan{Deployments: []*berthv1.Deployment{d}}}
		})
	}
	group := m.store.View().Job("default", "web").GetGroups()[0].GetName()
	c.write(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_Plan{Plan: &berthv1.Plan{Placements: []*berthv1.Alloc{{Id: rolledAlloc, Namespace: "default", Job: "web", Group: group,
			JobVersion: 2, NodeId: "aaaa0", Canary: true, Assignment: &berthv1.Assignment{DiskMib: 1}}}}}
	})
	return c, m
}

func TestDeploymentsOverHTTP(t *testing.T) {
	_, m := rolledJob(t)
	list := m.call(t, "GET", "/v1/deployments?job=web", "").want(t, 200)["deployments"].([]any)
	if len(list) != 2 || list[0].(map[string]any)["id"] != deploymentTwo {
		t.Errorf("newest first: %v", list)
	}
	page := m.call(t, "GET", "/v1/deployments?job=web&page_size=1", "").want(t, 200)
	rest := m.call(t, "GET", fmt.Sprintf("/v1/deployments?job=web&page_token=%s", page["next_page_token"]), "").want(t, 200)["deployments"].([]any)
	if len(rest) != 1 || rest[0].(map[string]any)["id"] != deploymentOne {
		t.Errorf("the second page: %v", rest)
	}
	if got := m.call(t, "GET", `/v1/deployments?filter=status+==+"successful"&namespace=*`, "").want(t, 200)["deployments"].([]any); len(got) != 1 {
		t.Errorf("filtered: %v", got)
	}
	if got := m.call(t, "GET", "/v1/deployments/d200", "").want(t, 200); got["job_version"] != "2" {
		t.Errorf("by a prefix: %v", got)
	}
	m.call(t, "GET", "/v1/deployments/d3000000", "").problem(t, 404)
	status := m.call(t, "GET", "/v1/jobs/web/status", "").want(t, 200)
	if d := status["deployment"].(map[string]any); d["id"] != deploymentTwo {
		t.Errorf("the job's: %v", d)
	}
}

func TestDeploymentsAreChanged(t *testing.T) {
	_, m := rolledJob(t)
	change := func(action string, status int) map[string]any {
		t.Helper()
		return m.call(t, "POST", "/v1/deployments/d200/change", fmt.Sprintf(`{"action": "DEPLOYMENT_ACTION_%s"}`, action)).want(t, status)
	}
	m.call(t, "POST", "/v1/deployments/d200/change", `{}`).problem(t, 400)
	m.call(t, "POST", "/v1/deployments/d200/change", `{"action": "DEPLOYMENT_ACTION_PAUSE", "groups": ["web"]}`).problem(t, 400)
	if d := change("PAUSE", 200)["deployment"].(map[string]any); d["status"] != "paused" {
		t.Errorf("paused: %v", d)
	}
	change("PAUSE", 409)
	change("RESUME", 200)
	if p := m.call(t, "POST", "/v1/deployments/d200/change", `{"action": "DEPLOYMENT_ACTION_PROMOTE"}`).problem(t, 409); !strings.Contains(p["remedy"].(string), "deployment status d2000000") {
		t.Errorf("not healthy yet: %v", p)
	}
	change("FAIL", 200)
	change("RESUME", 409)
}

func TestHealthByHand(t *testing.T) {
	_, m := rolledJob(t)
	if got := m.call(t, "POST", "/v1/allocs/a0000000/health", `{"healthy": true}`).want(t, 200); got["health"] != "healthy" || got["health_time"] == nil {
		t.Errorf("healthy: %v", got)
	}
	if got := m.call(t, "POST", "/v1/allocs/a0000000/health", `{}`).want(t, 200); got["health"] != "unhealthy" {
		t.Errorf("unhealthy: %v", got)
	}
	m.call(t, "POST", "/v1/allocs/b0000000/health", `{}`).problem(t, 404)
}

func TestJobsAreReverted(t *testing.T) {
	_, m := rolledJob(t)
	got := m.call(t, "POST", "/v1/jobs/web/revert", `{}`).want(t, 200)
	job := m.store.View().Job("default", "web")
	if got["version"] != "3" || job.GetRevertedTo() != 1 || job.GetGroups()[0].GetCount() != 1 || job.GetStable() {
		t.Errorf("reverted: %v\n%v", got, job)
	}
	if again := m.call(t, "POST", "/v1/jobs/web/revert", `{"version": "1"}`).want(t, 200); again["unchanged"] != true {
		t.Errorf("again: %v", again)
	}
	m.call(t, "POST", "/v1/jobs/web/revert", `{"version": "2"}`).want(t, 200)
	if job := m.store.View().Job("default", "web"); job.GetRevertedTo() != 2 || job.GetVersion() != 4 {
		t.Errorf("to version 2: %v", job)
	}
	m.call(t, "POST", "/v1/jobs/web/revert", `{"version": "9"}`).problem(t, 404)
	m.call(t, "POST", "/v1/jobs/none/revert", `{}`).problem(t, 404)
	m.call(t, "POST", "/v1/jobs", jobJSON("new", 1)).want(t, 200)
	if p := m.call(t, "POST", "/v1/jobs/new/revert", `{}`).problem(t, 404); !strings.Contains(p["remedy"].(string), "job history") {
		t.Errorf("nothing to go back to: %v", p)
	}
}

func TestPlansSayHowTheyAreRolledOut(t *testing.T) {
	_, m := rolledJob(t)
	got := m.call(t, "POST", "/v1/jobs/plan", jobJSON("web", 3)).want(t, 200)
	if lines := got["rollout"].([]any); len(lines) != 1 {
		t.Errorf("%v", got)
	}
}
