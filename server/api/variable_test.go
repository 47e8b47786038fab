package api

import (
	"strings"
	"testing"
)

func TestVariables(t *testing.T) {
	m := newCluster(t, 3).members[2]
	set := func(name, items, more string) answer {
		return m.call(t, "POST", "/v1/variables", `{"variable": {"name": "`+name+`", "items": `+items+`}`+more+`}`)
	}
	first := set("shop.db", `{"host": "10.0.0.1", "port": "5432"}`, "").want(t, 200)
	if first["namespace"] != "default" || first["modify_revision"] == "0" || first["modify_time"] == nil {
		t.Fatalf("set: %v", first)
	}
	got := m.call(t, "GET", "/v1/variables/shop.db", "").want(t, 200)
	if got["items"].(map[string]any)["host"] != "10.0.0.1" {
		t.Fatalf("got %v", got)
	}
	if p := set("shop.db", `{}`, `, "check": true, "check_revision": "1"`).problem(t, 409); p["field"] != "check_revision" {
		t.Errorf("a stale check: %v", p)
	}
	if p := set("shop.db", `{}`, `, "check": true`).problem(t, 409); p["field"] != "check_revision" {
		t.Errorf("only if new: %v", p)
	}
	second := set("shop.db", `{"host": "10.0.0.2"}`, `, "check": true, "check_revision": "`+first["modify_revision"].(string)+`"`).want(t, 200)
	if second["create_revision"] != first["create_revision"] || len(second["items"].(map[string]any)) != 1 {
		t.Errorf("second: %v", second)
	}
	set("shop.cache", `{"a": "b"}`, "").want(t, 200)
	set("other", `{"a": "b"}`, "").want(t, 200)
	if list := m.call(t, "GET", "/v1/variables?prefix=shop", "").want(t, 200)["variables"].([]any); len(list) != 2 {
		t.Errorf("list %v", list)
	}
	if list := m.call(t, "GET", "/v1/variables?namespace=*", "").want(t, 200)["variables"].([]any); len(list) != 3 {
		t.Errorf("list of all %v", list)
	}
	m.call(t, "DELETE", "/v1/variables/other?check&check_revision=1", "").problem(t, 409)
	m.call(t, "DELETE", "/v1/variables/other", "").want(t, 200)
	m.call(t, "GET", "/v1/variables/other", "").problem(t, 404)
	m.call(t, "DELETE", "/v1/variables/other", "").problem(t, 404)
}

func TestVariablesRefuse(t *testing.T) {
	m := newCluster(t, 1).members[0]
	for _, test := range []struct{ variable, field string }{
		{`{"name": ""}`, "variable.name"},
		{`{"name": "a/b"}`, "variable.name"},
		{`{"name": "a b"}`, "variable.name"},
		{`{"name": "` + strings.Repeat("a", 129) + `"}`, "variable.name"},
		{`{"name": "a", "items": {"": "x"}}`, "variable.items"},
		{`{"name": "a", "items": {"k": "` + strings.Repeat("x", maxVariable) + `"}}`, "variable.items"},
	} {
		if p := m.call(t, "POST", "/v1/variables", `{"variable": `+test.variable+`}`).problem(t, 400); p["field"] != test.field {
			t.Errorf("%.60s: %v", test.variable, p)
		}
	}
	m.call(t, "POST", "/v1/variables", `{"variable": {"name": "a", "namespace": "nope"}}`).problem(t, 404)
	m.call(t, "POST", "/v1/variables", `{"variable": {"name": "a", "items": {"k": "`+strings.Repeat("x", maxVariable-1)+`"}}}`).want(t, 200)

	m.call(t, "PUT", "/v1/namespaces/team", `{}`).want(t, 200)
	m.call(t, "POST", "/v1/variables", `{"variable": {"name": "a", "namespace": "team"}}`).want(t, 200)
	if p := m.call(t, "DELETE", "/v1/namespaces/team", "").problem(t, 409); !strings.Contains(p["remedy"].(string), "berth var delete") {
		t.Errorf("a namespace with variables: %v", p)
	}
	m.call(t, "DELETE", "/v1/variables/a?namespace=team", "").want(t, 200)
	m.call(t, "DELETE", "/v1/namespaces/team", "").want(t, 200)
}
