package api

import (
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzHTTP sends anything to every route that changes something, and to those that list.
// The answer is always one that blames the client or none at all, and always JSON.
func FuzzHTTP(f *testing.F) {
	bodies := []string{
		"", "{}", "null", "[]", `"x"`, "{", "\xff", `{"job": 1}`, jobJSON("web", 1),
		`{"job": {"groups": [{"tasks": [{"config": {"a": [1, {"b": null}]}}]}]}}`,
		`{"namespace": "x", "count": -1}`, `{"addresses": [""]}`, `{"eligibility": 9}`,
		`{"text": "job \"x\" {}", "format": "hcl"}`, strings.Repeat("[", 1000),
		`{"job":{"groups":[{"restart":{"delay":"-1s"}}]}}`, `{"meta": {"\u0000": "\ud800"}}`,
	}
	for i, body := range bodies {
		f.Add(uint8(i), "x", "", []byte(body))
	}
	f.Add(uint8(0), "\xff", "filter=a==b", []byte("{}"))
	f.Add(uint8(3), "a/b", "page_size=1&page_token=AA", []byte("{}"))
	c := newCluster(f, 1)
	m := c.members[0]
	var routes []string
	endless := map[string]bool{"GET /v1/events": true, "GET /v1/scheduler/changes": true, "GET /v1/allocs/{alloc_id}/logs": true}
	for _, r := range m.api.gateway.everyRoute() {
		if verb, _, _ := strings.Cut(r, " "); verb != "GET" || strings.HasSuffix(r, "s") && !endless[r] {
			routes = append(routes, r)
		}
	}
	handler := m.api.Handler()
	f.Fuzz(func(t *testing.T, route uint8, param, query string, body []byte) {
		verb, path, _ := strings.Cut(routes[int(route)%len(routes)], " ")
		for strings.Contains(path, "{") {
			i, j := strings.Index(path, "{"), strings.Index(path, "}")
			path = path[:i] + url.PathEscape(param) + path[j+1:]
		}
		if strings.Contains(query, "index") { // would wait
			query = ""
		}
		target, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		target.RawQuery = query
		r := httptest.NewRequest(verb, "/", strings.NewReader(string(body)))
		r.URL = target
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code >= 500 && w.Code != 501 || !utf8.Valid(w.Body.Bytes()) {
			t.Fatalf("%s %s?%s: %d %s", verb, path, query, w.Code, w.Body)
		}
	})
}
