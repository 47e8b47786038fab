package api

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
)

func TestRegisterJob(t *testing.T) {
	c := newCluster(t, 1)
	m := c.members[0]

	first := m.call(t, "POST", "/v1/jobs", jobJSON("web", 3)).want(t, 200)
	if first["version"] != "1" || first["unchanged"] != false || first["evaluation_id"] == "" {
		t.Fatalf("first: %v", first)
	}
	again := m.call(t, "POST", "/v1/jobs", jobJSON("web", 3)).want(t, 200)
	if again["version"] != "1" || again["unchanged"] != true || again["spec_revision"] != first["spec_revision"] || again["evaluation_id"] == first["evaluation_id"] {
		t.Fatalf("the same again: %v", again)
	}
	second := m.call(t, "POST", "/v1/jobs", jobJSON("web", 4)).want(t, 200)
	if second["version"] != "2" || second["unchanged"] != false {
		t.Fatalf("changed: %v", second)
	}

	job := m.call(t, "GET", "/v1/jobs/web", "").want(t, 200)
	if job["version"] != "2" || job["namespace"] != "default" {
		t.Fatalf("job: %v", job)
	}
	if old := m.call(t, "GET", "/v1/jobs/web?version=1", "").want(t, 200); old["version"] != "1" {
		t.Fatalf("version 1: %v", old)
	}
	if p := m.call(t, "GET", "/v1/jobs/web?version=9", "").problem(t, 404); p["field"] != "version" {
		t.Fatalf("version 9: %v", p)
	}
	history := m.call(t, "GET", "/v1/jobs/web/history?diff", "").want(t, 200)["versions"].([]any)
	if len(history) != 2 || history[0].(map[string]any)["job"].(map[string]any)["version"] != "2" {
		t.Fatalf("history: %v", history)
	}
	evals := m.call(t, "GET", "/v1/evaluations?job=web", "").want(t, 200)["evaluations"].([]any)
	if len(evals) != 3 || evals[0].(map[string]any)["id"] != second["evaluation_id"] {
		t.Fatalf("evaluations, newest first: %v", evals)
	}
}

func TestRegisterJobRefuses(t *testing.T) {
	c := newCluster(t, 1)
	m := c.members[0]
	web := m.call(t, "POST", "/v1/jobs", jobJSON("web", 1)).want(t, 200)
	checked := func(revision string) string {
		return strings.TrimSuffix(jobJSON("web", 2), "}") + `, "check": true, "check_revision": "` + revision + `"}`
	}
	tests := []struct {
		name, body    string
		status        int
		field, reason string
	}{
		{"no job", `{}`, 400, "job", "no job"},
		{"no body", ``, 400, "job", "no job"},
		{"unknown field", `{"job": {"nmae": "x"}}`, 400, "job.nmae", "unknown field"},
		{"wrong type", `{"job": {"name": "x", "groups": [{"count": "many"}]}}`, 400, "job.groups[0].count", "invalid value"},
		{"unknown enum", `{"job": {"type": "cron"}}`, 400, "job.type", "invalid value"},
		{"enum number", `{"job": {"type": 77}}`, 400, "job.type", "77"},
		{"not JSON", "{\n  job}", 400, "body", "line 2, column 3"},
		{"not UTF-8", "{\"job\": {\"name\": \"\xff\"}}", 400, "body", "UTF-8"},
		{"deep", strings.Repeat(`{"job":`, 200), 400, "body", "deep"},
		{"deep config", `{"job":{"groups":[{"tasks":[{"config":` + strings.Repeat(`{"a":`, 70) + "1" + strings.Repeat("}", 70) + `}]}]}}`, 400, "body", "deep"},
		{"negative duration", `{"job":{"name":"x","groups":[{"name":"g","restart":{"delay":"-5s"}}]}}`, 400, "job.groups[0].restart.delay", "negative"},
		{"huge duration", `{"job":{"name":"x","groups":[{"name":"g","restart":{"delay":"999999999999999s"}}]}}`, 400, "job.groups[0].restart.delay", ""},
		{"huge body", `{"job":{"name":"` + strings.Repeat("x", 2<<20) + `"}}`, 400, "body", "longer than"},
		{"trailing", jobJSON("x", 1) + `{}`, 400, "body", ""},
		{"namespace", `{"job": {"name": "x", "namespace": "nope", "groups": [{"name": "g", "tasks": [{"name": "t", "driver": "mock"}]}]}}`, 404, "job.namespace", "nope"},
		{"check stale", checked("1"), 409, "check_revision", "is to be at revision 1"},
		{"check new", strings.Replace(checked("7"), `"web"`, `"other"`, 1), 409, "check_revision", "does not exist"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := m.call(t, "POST", "/v1/jobs", test.body).problem(t, test.status)
			if p["field"] != test.field || !strings.Contains(p["reason"].(string), test.reason) {
				t.Fatalf("field %q, reason %q", p["field"], p["reason"])
			}
		})
	}
	if resp := m.call(t, "POST", "/v1/jobs", checked(web["spec_revision"].(string))).want(t, 200); resp["version"] != "2" {
		t.Fatalf("check-and-set: %v", resp)
	}
}

// TestRegisterAtOnce: who submits the same job at the same time gets a version each.
func TestRegisterAtOnce(t *testing.T) {
	const users = 6
	m := newCluster(t, 1).members[0]
	versions := make(chan string, users)
	var all sync.WaitGroup
	for i := range users {
		all.Go(func() {
			a := m.call(t, "POST", "/v1/jobs", jobJSON("web", i+1))
			var resp struct{ Version string }
			if err := json.Unmarshal([]byte(a.body), &resp); err != nil || a.status != 200 {
				t.Errorf("%d %s", a.status, a.body)
			}
			versions <- resp.Version
		})
	}
	all.Wait()
	seen := map[string]bool{}
	for range users {
		seen[<-versions] = true
	}
	if len(seen) != users || !seen["1"] || !seen["6"] {
		t.Fatalf("versions: %v", seen)
	}
}

func TestJobTooLarge(t *testing.T) {
	m := newCluster(t, 1).members[0]
	large := strings.Replace(jobJSON("web", 1), `"name"`, `"meta": {"a": "`+strings.Repeat("x", 70<<10)+`"}, "name"`, 1)
	p := m.call(t, "POST", "/v1/jobs", large).problem(t, 400)
	if !strings.Contains(p["reason"].(string), "64 KiB") {
		t.Fatalf("%v", p)
	}
	sourced := strings.Replace(jobJSON("web", 1), `"name"`, `"source": {"text": "`+strings.Repeat("x", 70<<10)+`"}, "name"`, 1)
	resp := m.call(t, "POST", "/v1/jobs", sourced).want(t, 200)
	if w := resp["warnings"].([]any); len(w) != 1 {
		t.Fatalf("warnings: %v", w)
	}
}

func TestStopScaleEvaluate(t *testing.T) {
	m := newCluster(t, 1).members[0]
	m.call(t, "POST", "/v1/jobs", jobJSON("web", 1)).want(t, 200)

	if scaled := m.call(t, "POST", "/v1/jobs/web/scale", `{"count": 5}`).want(t, 200); scaled["version"] != "2" {
		t.Fatalf("scaled: %v", scaled)
	}
	if same := m.call(t, "POST", "/v1/jobs/web/scale", `{"count": 5, "group": "web"}`).want(t, 200); same["unchanged"] != true {
		t.Fatalf("scaled to the same: %v", same)
	}
	if p := m.call(t, "POST", "/v1/jobs/web/scale", `{"group": "db", "count": 1}`).problem(t, 404); p["field"] != "group" {
		t.Fatalf("no such group: %v", p)
	}
	m.call(t, "POST", "/v1/jobs/web/evaluate", "").want(t, 200)
	status := m.call(t, "GET", "/v1/jobs/web/status", "").want(t, 200)
	if g := status["groups"].([]any)[0].(map[string]any); g["wanted"] != 5.0 {
		t.Fatalf("status: %v", status)
	}
	m.call(t, "DELETE", "/v1/jobs/web", "").want(t, 200)
	if job := m.call(t, "GET", "/v1/jobs/web", "").want(t, 200); job["stopped"] != true {
		t.Fatalf("stopped: %v", job)
	}
	m.call(t, "DELETE", "/v1/jobs/web?purge", "").want(t, 200)
	if p := m.call(t, "POST", "/v1/jobs/web/scale", `{"count": 1}`).problem(t, 409); p["kind"] != "conflict" {
		t.Fatalf("scaled while stopped: %v", p)
	}
	if back := m.call(t, "POST", "/v1/jobs", jobJSON("web", 5)).want(t, 200); back["version"] != "3" || back["unchanged"] != false {
		t.Fatalf("back: %v", back)
	}
	m.call(t, "DELETE", "/v1/jobs/nope", "").problem(t, 404)
}
