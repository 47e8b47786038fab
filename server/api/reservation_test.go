package api

import (
	"fmt"
	"strings"
	"testing"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func fleetForReservations(t *testing.T) (*cluster, *member) {
	c := newCluster(t, 1)
	for i, name := range []string{"n1", "n2", "n3"} {
		c.write(func(e *berthv1.LogEntry) {
			e.Fact = &berthv1.LogEntry_NodeRegistered{NodeRegistered: &berthv1.NodeRegistered{Node: &berthv1.Node{
				Id: fmt.Sprintf("aaaa%d", i), Name: name, Arch: "amd64", Hardware: &berthv1.Hardware{DiskMib: 1000}, Taints: []*berthv1.Taint{{Key: "own"}}}}}
		})
	}
	return c, c.members[0]
}

func TestReservations(t *testing.T) {
	c, m := fleetForReservations(t)
	m.call(t, "POST", "/v1/jobs", jobJSON("web", 1)).want(t, 200)
	c.write(func(e *berthv1.LogEntry) { // n1 is not the emptiest
		e.Fact = &berthv1.LogEntry_Plan{Plan: &berthv1.Plan{Placements: []*berthv1.Alloc{{Id: "a0000000-0000-4000-8000-000000000000", Namespace: "default", Job: "web",
			JobVersion: 1, NodeId: "aaaa0", Assignment: &berthv1.Assignment{DiskMib: 1}}}}}
	})
	made := m.call(t, "POST", "/v1/reservations", `{"reservation": {"name": "training", "jobs": ["default/train"]}, "count": 2}`).want(t, 200)
	if ids := fmt.Sprint(made["node_ids"]); ids != "[aaaa1 aaaa2]" {
		t.Errorf("the emptiest two are %s", ids)
	}
	if got := m.call(t, "GET", "/v1/reservations/training", "").want(t, 200); fmt.Sprint(got) != fmt.Sprint(made) {
		t.Errorf("made %v, stored %v", made, got)
	}
	if list := m.call(t, "GET", "/v1/reservations?prefix=tr", "").want(t, 200)["reservations"].([]any); len(list) != 1 {
		t.Errorf("listed: %v", list)
	}
	job := func(name string) string {
		return strings.Replace(jobJSON(name, 1), `"name"`, `"reservation": "training", "name"`, 1)
	}
	m.call(t, "POST", "/v1/jobs", job("train")).want(t, 200)
	if p := m.call(t, "POST", "/v1/jobs", job("other")).problem(t, 403); p["field"] != "job.reservation" || !strings.Contains(p["remedy"].(string), "default/train") {
		t.Errorf("a job that may not: %v", p)
	}
	if p := m.call(t, "POST", "/v1/jobs/plan", strings.ReplaceAll(job("train"), "training", "nights")).problem(t, 404); p["field"] != "job.reservation" {
		t.Errorf("a reservation that is not there: %v", p)
	}
	m.call(t, "DELETE", "/v1/reservations/training", "").want(t, 200)
	m.call(t, "DELETE", "/v1/reservations/training", "").problem(t, 404)
}

func TestNamespaceUsage(t *testing.T) {
	c, m := fleetForReservations(t)
	m.call(t, "PUT", "/v1/namespaces/default", `{"quota": {"disk_mib": "500", "devices_milli": {"gpu": "4000"}}}`).want(t, 200)
	m.call(t, "POST", "/v1/jobs", jobJSON("web", 1)).want(t, 200)
	c.write(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_Plan{Plan: &berthv1.Plan{Placements: []*berthv1.Alloc{{Id: "a0000000-0000-4000-8000-000000000000", Namespace: "default", Job: "web",
			JobVersion: 1, NodeId: "aaaa0", Assignment: &berthv1.Assignment{DiskMib: 100}}}}}
	})
	got := m.call(t, "GET", "/v1/namespaces/default/usage", "").want(t, 200)
	used, quota := got["used"].(map[string]any), got["quota"].(map[string]any)
	if used["disk_mib"] != "100" || used["allocs"] != "1" || quota["disk_mib"] != "500" || fmt.Sprint(quota["devices_milli"]) != "map[gpu:4000]" {
		t.Errorf("usage: %v", got)
	}
	m.call(t, "GET", "/v1/namespaces/nowhere/usage", "").problem(t, 404)
}

func TestReservationRefusals(t *testing.T) {
	_, m := fleetForReservations(t)
	m.call(t, "POST", "/v1/reservations", `{"reservation": {"name": "r1", "namespaces": ["default"], "node_ids": ["n1", "aaaa0"]}}`).want(t, 200)
	for name, x := range map[string]struct {
		body   string
		status int
		field  string
	}{
		"name":       {`{"reservation": {"name": "R 1"}}`, 400, "reservation.name"},
		"nobody":     {`{"reservation": {"name": "r2", "node_ids": ["n2"]}}`, 400, "reservation.jobs"},
		"job":        {`{"reservation": {"name": "r2", "node_ids": ["n2"], "jobs": ["train"]}}`, 400, "reservation.jobs"},
		"no nodes":   {`{"reservation": {"name": "r2", "namespaces": ["x"]}}`, 400, "reservation.node_ids"},
		"both":       {`{"reservation": {"name": "r2", "namespaces": ["x"], "node_ids": ["n2"]}, "count": 1}`, 400, "count"},
		"times":      {`{"reservation": {"name": "r2", "namespaces": ["x"], "node_ids": ["n2"], "start_time": "2030-01-02T00:00:00Z", "end_time": "2030-01-01T00:00:00Z"}}`, 400, "reservation.end_time"},
		"taken":      {`{"reservation": {"name": "r2", "namespaces": ["x"], "node_ids": ["n1"]}}`, 409, "reservation.node_ids"},
		"exists":     {`{"reservation": {"name": "r1", "namespaces": ["x"], "node_ids": ["n2"]}}`, 409, "reservation.name"},
		"no node":    {`{"reservation": {"name": "r2", "namespaces": ["x"], "node_ids": ["n9999"]}}`, 404, "node_id"},
		"too many":   {`{"reservation": {"name": "r2", "namespaces": ["x"]}, "count": 3}`, 429, "count"},
		"constraint": {`{"reservation": {"name": "r2", "namespaces": ["x"]}, "count": 1, "constraints": [{"attribute": "node.name", "operator": "matches", "value": "("}]}`, 400, "value"},
	} {
		if p := m.call(t, "POST", "/v1/reservations", x.body).problem(t, x.status); p["field"] != x.field || p["reason"] == "" {
			t.Errorf("%s: %v", name, p)
		}
	}
	got := m.call(t, "POST", "/v1/reservations", `{"reservation": {"name": "r2", "namespaces": ["x"]}, "count": 1, "constraints": [{"attribute": "node.name", "operator": "!=", "value": "n2"}]}`).want(t, 200)
	if fmt.Sprint(got["node_ids"]) != "[aaaa2]" {
		t.Errorf("chosen %v", got["node_ids"])
	}
}

func TestNodeTaints(t *testing.T) {
	_, m := fleetForReservations(t)
	got := m.call(t, "POST", "/v1/nodes/n1/taints", `{"add": [{"key": "gpu", "value": "h100"}, {"key": "spot", "effect": "avoid"}]}`).want(t, 200)
	if taints := got["operator_taints"].([]any); len(taints) != 2 || taints[1].(map[string]any)["effect"] != "avoid" {
		t.Errorf("added: %v", got)
	}
	got = m.call(t, "POST", "/v1/nodes/n1/taints", `{"remove": ["gpu=h100", "none"]}`).want(t, 200)
	if taints := got["operator_taints"].([]any); len(taints) != 1 {
		t.Errorf("removed: %v", got)
	}
	if p := m.call(t, "POST", "/v1/nodes/n1/taints", `{"remove": ["own"]}`).problem(t, 409); !strings.Contains(p["reason"].(string), "agent") {
		t.Errorf("the agent's: %v", p)
	}
	if p := m.call(t, "POST", "/v1/nodes/n1/taints", `{"add": [{"key": "a=b"}]}`).problem(t, 400); p["field"] != "add" {
		t.Errorf("no key: %v", p)
	}
}
