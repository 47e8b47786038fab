package api

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
)

// document is the part of the OpenAPI document that the tests read.
type document struct {
	OpenAPI string
	Paths   map[string]map[string]struct {
		OperationID string
		Responses   map[string]any
	}
	Components struct{ Schemas map[string]any }
}

func TestOpenAPI(t *testing.T) {
	m := newCluster(t, 1).members[0]
	got := m.call(t, "GET", "/v1/openapi.json", "")
	var doc document
	if err := json.Unmarshal([]byte(got.body), &doc); err != nil || !strings.HasPrefix(doc.OpenAPI, "3.") {
		t.Fatalf("%q, %v", doc.OpenAPI, err)
	}
	described := map[string]bool{}
	for path, verbs := range doc.Paths {
		for verb, op := range verbs {
			described[strings.ToUpper(verb)+" "+path] = true
			if op.Responses["default"] == nil || op.OperationID == "" {
				t.Errorf("%s %s lacks its errors or its name", verb, path)
			}
		}
	}
	for _, route := range m.api.gateway.everyRoute() {
		route = strings.ReplaceAll(route, "{namespace.name}", "{name}")
		if !described[route] {
			t.Errorf("%s is served and not described", route)
		}
		delete(described, route)
	}
	for route := range described {
		t.Errorf("%s is described and not served", route)
	}
	for _, r := range bytes.Split([]byte(got.body), []byte(`"#/components/schemas/`))[1:] {
		name, _, _ := strings.Cut(string(r), `"`)
		if doc.Components.Schemas[name] == nil {
			t.Errorf("schema %s is not there", name)
		}
	}
}

// TestEveryRouteAnswers asks for every route: each is there, and none fails.
func TestEveryRouteAnswers(t *testing.T) {
	c := newCluster(t, 1)
	m := c.members[0]
	for _, route := range m.api.gateway.everyRoute() {
		if route == "GET /v1/events" || route == "GET /v1/scheduler/changes" { // never ends
			continue
		}
		verb, path, _ := strings.Cut(route, " ")
		for _, param := range []string{"job", "alloc_id", "node_id", "evaluation_id", "namespace.name", "name", "server_id"} {
			path = strings.ReplaceAll(path, "{"+param+"}", "some-thing")
		}
		got := m.call(t, verb, path, "")
		if got.status >= 500 {
			t.Errorf("%s: %d %s", route, got.status, got.body)
		}
		if got.status == 404 && got.problem(t, 404)["field"] == "path" {
			t.Errorf("%s is not served: %s", route, got.body)
		}
	}
}

func TestNoRoute(t *testing.T) {
	m := newCluster(t, 1).members[0]
	tests := []struct {
		verb, path string
		status     int
		kind, says string
	}{
		{"GET", "/v1/job/web", 404, "not_found", "/v1/jobs/{job}"},
		{"GET", "/jobs", 404, "not_found", "use /v1/jobs"},
		{"GET", "/", 404, "not_found", "openapi.json"},
		{"GET", "/v1/jobs/", 404, "not_found", "use /v1/jobs,"},
		{"GET", "/v1//jobs/./web/../x", 404, "not_found", "use /v1/jobs/x,"},
		{"PATCH", "/v1/jobs/web", 405, "unsupported", "DELETE or GET"},
		{"POST", "/v1/operator/snapshot", 405, "unsupported", "GET or PUT"},
		{"DELETE", "/v1/metrics", 405, "unsupported", "GET"},
		{"POST", "/v1/jobs?namespace=x", 400, "invalid", "in the body"},
		{"GET", "/v1/allocs/x/exec", 426, "", ""},
	}
	for _, test := range tests {
		got := m.call(t, test.verb, test.path, "")
		if got.status != test.status {
			t.Errorf("%s %s: %d %s", test.verb, test.path, got.status, got.body)
			continue
		}
		if test.kind != "" {
			p := got.problem(t, test.status)
			if p["kind"] != test.kind || !strings.Contains(p["reason"].(string)+p["remedy"].(string), test.says) {
				t.Errorf("%s %s: %v", test.verb, test.path, p)
			}
		}
	}
}

func TestOtherServices(t *testing.T) {
	c := newCluster(t, 2)
	m := c.members[1] // everything is forwarded, or about itself

	if v := m.call(t, "GET", "/v1/version", "").want(t, 200); v["version"] != "1.2.3" || v["cluster_id"] != "c1" {
		t.Errorf("version: %v", v)
	}
	if h := m.call(t, "GET", "/v1/health", "").want(t, 200); h["healthy"] != true || h["leader_address"] != "s0" || h["leader"] != false {
		t.Errorf("health: %v", h)
	}
	m.contact = 2 * outOfTouch
	if h := m.call(t, "GET", "/v1/health", "").want(t, 503); !strings.Contains(h["reason"].(string), "20s ago") {
		t.Errorf("health: %v", h)
	}
	if ms := m.call(t, "GET", "/v1/members", "").want(t, 200)["members"].([]any); ms[0].(map[string]any)["id"] != "s1" {
		t.Errorf("members: %v", ms)
	}
	if j := m.call(t, "POST", "/v1/members/join", `{"addresses": ["a:1", "b:1"]}`).want(t, 200); j["joined"] != 2.0 {
		t.Errorf("join: %v", j)
	}
	m.call(t, "POST", "/v1/members/join", `{}`).problem(t, 400)
	m.call(t, "POST", "/v1/members/leave", ``).want(t, 200)

	if ns := m.call(t, "PUT", "/v1/namespaces/team-a", `{"description": "A"}`).want(t, 200); ns["name"] != "team-a" || ns["description"] != "A" {
		t.Errorf("namespace: %v", ns)
	}
	m.call(t, "PUT", "/v1/namespaces/Team_A", `{}`).problem(t, 400)
	m.call(t, "DELETE", "/v1/namespaces/default", ``).problem(t, 400)
	m.call(t, "DELETE", "/v1/namespaces/nope", ``).problem(t, 404)
	m.call(t, "POST", "/v1/jobs", strings.Replace(jobJSON("web", 1), `"name"`, `"namespace": "team-a", "name"`, 1)).want(t, 200)
	if p := m.call(t, "DELETE", "/v1/namespaces/team-a", ``).problem(t, 409); p["remedy"] == "" {
		t.Errorf("namespace with jobs: %v", p)
	}

	sc := m.call(t, "PUT", "/v1/operator/scheduler", `{"strategy": "spread", "paused": true}`).want(t, 200)
	if sc["strategy"] != "spread" || sc["modify_revision"] == "0" {
		t.Errorf("scheduler: %v", sc)
	}
	m.call(t, "PUT", "/v1/operator/scheduler?check&check_revision=1", `{}`).problem(t, 409)
	m.call(t, "PUT", "/v1/operator/scheduler?check&check_revision="+sc["modify_revision"].(string), `{}`).want(t, 200)
	m.call(t, "PUT", "/v1/operator/scheduler", ``).problem(t, 400)
	if p := m.call(t, "PUT", "/v1/operator/scheduler", `{"strategy": "pile"}`).problem(t, 400); p["field"] != "strategy" {
		t.Errorf("scheduler: %v", p)
	}

	if r := m.call(t, "GET", "/v1/operator/raft", "").want(t, 200); len(r["peers"].([]any)) != 2 {
		t.Errorf("raft: %v", r)
	}
	m.call(t, "DELETE", "/v1/operator/raft/s1", "").want(t, 200)
	m.call(t, "DELETE", "/v1/operator/raft/s9", "").problem(t, 404)
	if c.members[0].removed != "s1" {
		t.Errorf("removed %q", c.members[0].removed)
	}
	m.call(t, "POST", "/v1/operator/raft/transfer", "").want(t, 200)
	if g := m.call(t, "POST", "/v1/system/gc", "").want(t, 200); g["jobs"] != 1.0 {
		t.Errorf("gc: %v", g)
	}

	c.alloc("aaaa0001", "db")
	m.call(t, "POST", "/v1/nodes/n1/eligibility", `{"eligibility": "ineligible"}`).want(t, 200)
	if n := m.call(t, "GET", "/v1/nodes/n1", "").want(t, 200); n["eligibility"] != "ineligible" {
		t.Errorf("node: %v", n)
	}
	m.call(t, "DELETE", "/v1/nodes/n1", "").problem(t, 409)

	metrics := m.call(t, "GET", "/v1/metrics", "").body
	for _, name := range []string{"berth_api_calls_total", "berth_leader 0", "berth_revision"} {
		if !strings.Contains(metrics, name) {
			t.Errorf("the metrics lack %s", name)
		}
	}
}

func TestPlanValidateParse(t *testing.T) {
	m := newCluster(t, 1).members[0]
	plan := func(count int) map[string]any {
		return m.call(t, "POST", "/v1/jobs/plan", strings.TrimSuffix(jobJSON("web", count), "}")+`, "diff": true}`).want(t, 200)
	}
	if p := plan(1); p["changes"] != true || p["spec_revision"] != "0" || len(p["diff"].([]any)) == 0 {
		t.Errorf("new: %v", p)
	}
	m.call(t, "POST", "/v1/jobs", jobJSON("web", 1)).want(t, 200)
	if p := plan(1); p["changes"] != false || len(p["diff"].([]any)) != 0 {
		t.Errorf("unchanged: %v", p)
	}
	if p := plan(2); p["changes"] != true || len(p["diff"].([]any)) != 1 {
		t.Errorf("changed: %v", p)
	}
	if v := m.call(t, "POST", "/v1/jobs/validate", jobJSON("web", 1)).want(t, 200); len(v["problems"].([]any)) != 0 {
		t.Errorf("valid: %v", v)
	}
	v := m.call(t, "POST", "/v1/jobs/validate", `{"job": {"name": "x", "priority": 101}}`).want(t, 200)
	if len(v["problems"].([]any)) < 2 {
		t.Errorf("invalid: %v", v)
	}
	spec := `{"text": "job \"web\" {\n group \"g\" {\n task \"t\" {\n driver = \"mock\"\n }\n }\n}"}`
	if j := m.call(t, "POST", "/v1/jobs/parse", spec).want(t, 200); j["name"] != "web" {
		t.Errorf("parsed: %v", j)
	}
	if p := m.call(t, "POST", "/v1/jobs/parse", `{"text": "jobb {}", "file": "x.hcl"}`); p.status != 400 || !strings.Contains(p.body, "x.hcl:1:1") {
		t.Errorf("parsed: %v", p)
	}
}

func TestOtherSitesAreRefused(t *testing.T) {
	m := newCluster(t, 1).members[0]
	r := httptest.NewRequest("POST", "/v1/system/gc", strings.NewReader("{}"))
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	w := httptest.NewRecorder()
	m.api.Handler().ServeHTTP(w, r)
	if w.Code != 403 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
}
