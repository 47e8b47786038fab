package api

import (
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"testing"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// batchJSON is a batch job with a group that does nothing, and more fields.
func batchJSON(name, more string) string {
	return fmt.Sprintf(`{"job": {"name": %q, "type": "batch", "groups": [{"name": "g", "tasks": [{"name": "t", "driver": "mock"}]}], %s}}`, name, more)
}

func (m *member) names(t *testing.T, status map[string]any) (names []string) {
	t.Helper()
	children, _ := status["children"].([]any)
	for _, c := range children {
		names = append(names, c.(map[string]any)["name"].(string))
	}
	return names
}

func TestDispatch(t *testing.T) {
	m := newCluster(t, 3).members[1] // a follower: it is forwarded
	m.call(t, "POST", "/v1/jobs", batchJSON("form", `"meta": {"fixed": "1", "speed": "low"}, "parameters": {"required": ["input"], "optional": ["speed"]}`)).want(t, 200)
	m.call(t, "POST", "/v1/jobs", batchJSON("strict", `"parameters": {"payload": "required"}`)).want(t, 200)
	m.call(t, "POST", "/v1/jobs", batchJSON("bare", `"parameters": {"payload": "forbidden"}`)).want(t, 200)
	m.call(t, "POST", "/v1/jobs", batchJSON("plain", `"priority": 3`)).want(t, 200)
	big := base64.StdEncoding.EncodeToString(make([]byte, maxPayload+1))
	for _, test := range []struct{ job, body, field, reason string }{
		{"plain", `{}`, "job", "no parameters"},
		{"form", `{}`, "meta.input", "must be dispatched with"},
		{"form", `{"meta": {"input": "a", "fixed": "2"}}`, "meta.fixed", "does not take"},
		{"form", `{"meta": {"input": "a"}, "payload": "` + big + `"}`, "payload", "16 KiB"},
		{"form", `{"meta": {"input": "a"}, "token": "` + strings.Repeat("t", maxToken+1) + `"}`, "token", "128"},
		{"strict", `{}`, "payload", "must be dispatched with a payload"},
		{"bare", `{"payload": "eA=="}`, "payload", "takes no payload"},
	} {
		if p := m.call(t, "POST", "/v1/jobs/"+test.job+"/dispatch", test.body).problem(t, 400); p["field"] != test.field || !strings.Contains(p["reason"].(string), test.reason) {
			t.Errorf("%s %s: %v", test.job, test.body, p)
		}
	}
	m.call(t, "POST", "/v1/jobs/nope/dispatch", `{}`).problem(t, 404)

	one := m.call(t, "POST", "/v1/jobs/form/dispatch", `{"meta": {"input": "a", "speed": "high"}, "payload": "aGk=", "token": "t1"}`).want(t, 200)
	again := m.call(t, "POST", "/v1/jobs/form/dispatch", `{"meta": {"input": "other"}, "token": "t1"}`).want(t, 200)
	other := m.call(t, "POST", "/v1/jobs/form/dispatch", `{"meta": {"input": "a"}}`).want(t, 200)
	if one["job"] != again["job"] || one["evaluation_id"] != again["evaluation_id"] || again["repeated_token"] != true || one["repeated_token"] != false || other["job"] == one["job"] {
		t.Errorf("one %v, again %v, other %v", one, again, other)
	}
	child := m.call(t, "GET", "/v1/jobs/"+one["job"].(string), "").want(t, 200)
	meta := child["meta"].(map[string]any)
	if child["parent"] != "form" || child["payload"] != "aGk=" || meta["fixed"] != "1" || meta["speed"] != "high" || meta["input"] != "a" || child["parameters"] != nil {
		t.Errorf("child %v", child)
	}
	status := m.call(t, "GET", "/v1/jobs/form/status", "").want(t, 200)
	if names := m.names(t, status); len(names) != 2 || names[0] != other["job"] || names[1] != one["job"] || status["children_pending"] != 2.0 {
		t.Errorf("status %v", status)
	}
	list := m.call(t, "GET", "/v1/jobs?filter="+urlEscape(`parent == "form"`), "").want(t, 200)["jobs"].([]any)
	if len(list) != 2 {
		t.Errorf("children listed: %v", list)
	}
	m.call(t, "DELETE", "/v1/jobs/form", "").want(t, 200)
	m.call(t, "POST", "/v1/jobs/form/dispatch", `{"meta": {"input": "a"}}`).problem(t, 409)
	if child := m.call(t, "GET", "/v1/jobs/"+one["job"].(string), "").want(t, 200); child["stopped"] != false {
		t.Error("stopping the parent stopped a child")
	}
	m.call(t, "DELETE", "/v1/jobs/form?children", "").want(t, 200)
	if child := m.call(t, "GET", "/v1/jobs/"+one["job"].(string), "").want(t, 200); child["stopped"] != true {
		t.Error("stopping the children did not")
	}
}

// Who dispatches with the same token at the same time, at any server, gets the same child.
func TestDispatchAtOnce(t *testing.T) {
	const users = 12
	c := newCluster(t, 3)
	c.members[0].call(t, "POST", "/v1/jobs", batchJSON("form", `"parameters": {}`)).want(t, 200)
	jobs := make(chan any, users)
	var all sync.WaitGroup
	for i := range users {
		all.Go(func() {
			jobs <- c.members[i%3].call(t, "POST", "/v1/jobs/form/dispatch", `{"token": "same"}`).want(t, 200)["job"]
		})
	}
	all.Wait()
	first := <-jobs
	for range users - 1 {
		if other := <-jobs; other != first {
			t.Errorf("%v and %v", first, other)
		}
	}
}

func TestForceSchedule(t *testing.T) {
	c := newCluster(t, 1)
	m := c.members[0]
	scheduled := func(name, overlap string) {
		m.call(t, "POST", "/v1/jobs", batchJSON(name, `"schedule": {"crons": ["@yearly"], "overlap": "`+overlap+`"}`)).want(t, 200)
	}
	scheduled("tick", "allow")
	one := m.call(t, "POST", "/v1/jobs/tick/force", `{}`).want(t, 200)
	m.call(t, "POST", "/v1/jobs/tick/force", `{}`).want(t, 200)
	child := m.call(t, "GET", "/v1/jobs/"+one["job"].(string), "").want(t, 200)
	if child["parent"] != "tick" || child["schedule"] != nil || child["scheduled_time"] != nil || !strings.HasPrefix(one["job"].(string), "tick.force-") {
		t.Errorf("forced %v", child)
	}
	scheduled("skip", "skip")
	first := m.call(t, "POST", "/v1/jobs/skip/force", `{}`).want(t, 200)
	if p := m.call(t, "POST", "/v1/jobs/skip/force", `{}`).problem(t, 409); !strings.Contains(p["reason"].(string), first["job"].(string)) {
		t.Errorf("two at a time: %v", p)
	}
	scheduled("replace", "replace")
	first = m.call(t, "POST", "/v1/jobs/replace/force", `{}`).want(t, 200)
	m.call(t, "POST", "/v1/jobs/replace/force", `{}`).want(t, 200)
	if old := m.call(t, "GET", "/v1/jobs/"+first["job"].(string), "").want(t, 200); old["stopped"] != true {
		t.Error("the run before was not replaced")
	}
	m.call(t, "POST", "/v1/jobs", jobJSON("web", 1)).want(t, 200)
	m.call(t, "POST", "/v1/jobs/web/force", `{}`).problem(t, 400)

	status := m.call(t, "GET", "/v1/jobs/tick/status", "").want(t, 200)
	if next := status["next_scheduled"]; next == nil || !strings.HasSuffix(next.(string), "-01-01T00:00:00Z") || status["children_pending"] != 2.0 {
		t.Errorf("status %v", status)
	}
	summary := m.call(t, "GET", "/v1/jobs?filter="+urlEscape("scheduled == true"), "").want(t, 200)["jobs"].([]any)
	if len(summary) != 3 || summary[0].(map[string]any)["next_scheduled"] == nil {
		t.Errorf("scheduled: %v", summary)
	}
	planned := m.call(t, "POST", "/v1/jobs/plan", batchJSON("new", `"schedule": {"crons": ["@yearly"]}`)).want(t, 200)
	if times := planned["next_scheduled"].([]any); len(times) != plannedRuns {
		t.Errorf("planned %v", times)
	}
}

// A new version of a job goes on with its schedule, and a child stays one.
func TestNewVersionsOfFamilies(t *testing.T) {
	c := newCluster(t, 1)
	m := c.members[0]
	job := func(name string) *berthv1.Job { return m.store.View().Job("default", name) }
	m.call(t, "POST", "/v1/jobs", batchJSON("tick", `"schedule": {"crons": ["@yearly"]}`)).want(t, 200)
	begun := job("tick").GetLastScheduled().AsTime()
	m.call(t, "POST", "/v1/jobs", batchJSON("tick", `"priority": 7, "schedule": {"crons": ["@yearly"]}`)).want(t, 200)
	if now := job("tick").GetLastScheduled().AsTime(); begun.IsZero() || !now.Equal(begun) {
		t.Errorf("it began at %s, and at %s in the next version", begun, now)
	}
	m.call(t, "POST", "/v1/jobs", batchJSON("tick", `"schedule": {"crons": ["@monthly"]}`)).want(t, 200)
	if now := job("tick").GetLastScheduled().AsTime(); !now.After(begun) {
		t.Errorf("another schedule goes on from %s", now)
	}
	child := m.call(t, "POST", "/v1/jobs/tick/force", `{}`).want(t, 200)["job"].(string)
	m.call(t, "POST", "/v1/jobs/"+child+"/scale", `{"count": 3}`).want(t, 200)
	if j := job(child); j.GetParent() != "tick" || j.GetVersion() != 2 {
		t.Errorf("scaled, the child is %v", j)
	}
}

func TestScalingBounds(t *testing.T) {
	m := newCluster(t, 1).members[0]
	spec := func(count string) string {
		return `{"job": {"name": "web", "groups": [{"name": "g", ` + count + ` "scaling": {"min": 2, "max": 5}, "tasks": [{"name": "t", "driver": "mock"}]}]}}`
	}
	count := func() float64 {
		return m.call(t, "GET", "/v1/jobs/web", "").want(t, 200)["groups"].([]any)[0].(map[string]any)["count"].(float64)
	}
	m.call(t, "POST", "/v1/jobs", spec("")).want(t, 200)
	if n := count(); n != 2 {
		t.Errorf("a new job without a count has %v", n)
	}
	for _, n := range []string{"1", "6"} {
		if p := m.call(t, "POST", "/v1/jobs/web/scale", `{"count": `+n+`}`).problem(t, 400); p["field"] != "count" || !strings.Contains(p["reason"].(string), "2 to 5") {
			t.Errorf("scaled to %s: %v", n, p)
		}
	}
	m.call(t, "POST", "/v1/jobs/web/scale", `{"count": 4, "reason": "more visitors"}`).want(t, 200)
	if again := m.call(t, "POST", "/v1/jobs", spec("")).want(t, 200); again["unchanged"] != true || count() != 4 {
		t.Errorf("submitted again: %v, count %v", again, count())
	}
	m.call(t, "POST", "/v1/jobs", spec(`"count": 3,`)).want(t, 200)
	if n := count(); n != 3 {
		t.Errorf("submitted with a count of 3 it has %v", n)
	}
	m.call(t, "POST", "/v1/jobs/web/scale", `{"count": 5}`).want(t, 200)
	events := m.call(t, "GET", "/v1/jobs/web/scaling", "").want(t, 200)["events"].([]any)
	if len(events) != 2 {
		t.Fatalf("events %v", events)
	}
	newest, first := events[0].(map[string]any), events[1].(map[string]any)
	if newest["count"] != 5.0 || newest["previous"] != 3.0 || first["count"] != 4.0 || first["previous"] != 2.0 || first["reason"] != "more visitors" || first["group"] != "g" || first["job_version"] != "2" {
		t.Errorf("events %v", events)
	}
	m.call(t, "GET", "/v1/jobs/nope/scaling", "").problem(t, 404)
}

func TestAllowedDrivers(t *testing.T) {
	m := newCluster(t, 1).members[0]
	m.call(t, "PUT", "/v1/namespaces/default", `{"allowed_drivers": ["exec"]}`).want(t, 200)
	for _, path := range []string{"/v1/jobs", "/v1/jobs/plan"} {
		p := m.call(t, "POST", path, jobJSON("web", 1)).problem(t, 403)
		if p["field"] != "job.groups[web].tasks[server].driver" || !strings.Contains(p["remedy"].(string), "exec") {
			t.Errorf("%s: %v", path, p)
		}
	}
	m.call(t, "POST", "/v1/jobs", strings.ReplaceAll(jobJSON("web", 1), "mock", "exec")).want(t, 200)
}
