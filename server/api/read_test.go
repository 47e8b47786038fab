package api

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/fsm"
)

func (c *cluster) namespace(name string) fsm.Result {
	c.t.Helper()
	return c.write(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_NamespaceSet{NamespaceSet: &berthv1.Namespace{Name: name}}
	})
}

func TestBlockingQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		m := c.members[0]
		index := m.call(t, "GET", "/v1/namespaces", "").header.Get("Berth-Index")

		// What changes elsewhere does not wake it; what it asks for does.
		answers := make(chan answer, 1)
		start := time.Now()
		go func() { answers <- m.call(t, "GET", "/v1/namespaces?wait=1m&index="+index, "") }()
		time.Sleep(10 * time.Second)
		m.call(t, "POST", "/v1/jobs", jobJSON("web", 1)).want(t, 200)
		time.Sleep(10 * time.Second)
		want := c.namespace("team-a").Revision
		got := <-answers
		if got.header.Get("Berth-Index") != strconv.FormatUint(want, 10) || !strings.Contains(got.body, "team-a") {
			t.Fatalf("index %s, want %d: %s", got.header.Get("Berth-Index"), want, got.body)
		}
		if took := time.Since(start); took != 20*time.Second {
			t.Fatalf("it took %s", took)
		}

		// An index in the past does not wait.
		start = time.Now()
		m.call(t, "GET", "/v1/namespaces?index=1", "").want(t, 200)
		if took := time.Since(start); took != 0 {
			t.Fatalf("an old index waited %s", took)
		}

		// Without a change the wait ends, with a little jitter.
		got = m.call(t, "GET", fmt.Sprintf("/v1/namespaces?index=%d&wait=32s", want), "")
		got.want(t, 200)
		if took := time.Since(start); took < 32*time.Second || took > 34*time.Second+time.Millisecond {
			t.Fatalf("the wait took %s", took)
		}

		// The default is 5 minutes, and nothing waits longer than 10.
		for query, least := range map[string]time.Duration{"": 5 * time.Minute, "&wait=99h": 10 * time.Minute} {
			start = time.Now()
			m.call(t, "GET", fmt.Sprintf("/v1/namespaces?index=%d%s", want, query), "").want(t, 200)
			if took := time.Since(start); took < least || took > least+least/8 {
				t.Fatalf("%q took %s", query, took)
			}
		}
	})
}

func TestBlockingQueryOnOneItem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		m := c.members[0]
		m.call(t, "POST", "/v1/jobs", jobJSON("web", 1)).want(t, 200)
		index := m.call(t, "GET", "/v1/jobs/web", "").header.Get("Berth-Index")
		answers := make(chan answer, 1)
		go func() { answers <- m.call(t, "GET", "/v1/jobs/web?index="+index, "") }()
		synctest.Wait()
		m.call(t, "POST", "/v1/jobs", jobJSON("other", 1)).want(t, 200)
		synctest.Wait()
		select {
		case a := <-answers:
			t.Fatalf("another job woke it: %s", a.body)
		default:
		}
		m.call(t, "POST", "/v1/jobs", jobJSON("web", 2)).want(t, 200)
		if job := (<-answers).want(t, 200); job["version"] != "2" {
			t.Fatalf("job: %v", job)
		}
	})
}

func TestBlockingJobStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		m := c.members[0]
		c.alloc("aaaa0001", "web")
		c.alloc("bbbb0001", "other")
		index := m.call(t, "GET", "/v1/jobs/web/status", "").header.Get("Berth-Index")
		m.call(t, "POST", "/v1/jobs/other/evaluate", "").want(t, 200) // before it asks, and after
		answers := make(chan answer, 1)
		go func() { answers <- m.call(t, "GET", "/v1/jobs/web/status?index="+index, "") }()
		synctest.Wait()
		m.call(t, "POST", "/v1/jobs/other/evaluate", "").want(t, 200)
		c.report(&berthv1.AllocStatusUpdate{AllocId: whole("bbbb0001"), Status: berthv1.Alloc_running})
		synctest.Wait()
		select {
		case a := <-answers:
			t.Fatalf("another job woke it: %s", a.body)
		default:
		}
		c.report(&berthv1.AllocStatusUpdate{AllocId: whole("aaaa0001"), Status: berthv1.Alloc_running})
		if g := (<-answers).want(t, 200)["groups"].([]any)[0].(map[string]any); g["running"] != 1.0 {
			t.Fatalf("%v", g)
		}
	})
}

func TestClosingWakesQueries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		m := c.members[0]
		index := m.store.Revision()
		errs := make(chan error, 1)
		go func() {
			_, _, err := m.api.wait(context.Background(), &berthv1.ListJobsRequest{Index: index}, nil)
			errs <- err
		}()
		synctest.Wait()
		m.api.end(errClosing())
		if err := <-errs; !problem.Is(err, problem.Unavailable) {
			t.Fatalf("%v", err)
		}
	})
}

func TestPages(t *testing.T) {
	c := newCluster(t, 1)
	m := c.members[0]
	for i := range 7 {
		m.call(t, "POST", "/v1/jobs", jobJSON(fmt.Sprintf("job-%d", i), 1)).want(t, 200)
	}
	c.namespace("a-team")
	m.call(t, "POST", "/v1/jobs", strings.Replace(jobJSON("first", 1), `"name"`, `"namespace": "a-team", "name"`, 1)).want(t, 200)

	list := func(query string) (names []string) {
		token := ""
		for range 20 {
			page := m.call(t, "GET", "/v1/jobs?page_size=3&page_token="+token+query, "").want(t, 200)
			for _, j := range page["jobs"].([]any) {
				names = append(names, j.(map[string]any)["name"].(string))
			}
			if token = page["next_page_token"].(string); token == "" {
				return names
			}
			// What goes between two pages does not move what is left.
			m.call(t, "DELETE", "/v1/jobs/job-0?purge", "")
		}
		t.Fatal("the pages have no end")
		return nil
	}
	tests := map[string]string{
		"":                         "job-0 job-1 job-2 job-3 job-4 job-5 job-6",
		"&namespace=*":             "first job-0 job-1 job-2 job-3 job-4 job-5 job-6",
		"&namespace=a-team":        "first",
		"&prefix=job-3":            "job-3",
		"&namespace=*&prefix=job-": "job-0 job-1 job-2 job-3 job-4 job-5 job-6",
		"&prefix=nope":             "",
		"&filter=" + urlEscape(`name != "job-2" and priority == 50`):   "job-0 job-1 job-3 job-4 job-5 job-6",
		"&filter=" + urlEscape(`name matches "job-[56]"`):              "job-5 job-6",
		"&filter=" + urlEscape(`any groups as g { g.group == "web" }`): "job-0 job-1 job-2 job-3 job-4 job-5 job-6",
		"&filter=" + urlEscape(`type == "batch"`):                      "",
	}
	for query, want := range tests {
		if got := strings.Join(list(query), " "); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
}

func TestListRefuses(t *testing.T) {
	m := newCluster(t, 1).members[0]
	deep := strings.Repeat("(", 300) + `name == "x"` + strings.Repeat(")", 300)
	tests := []struct{ query, field, reason string }{
		{"page_size=10001", "page_size", "too many"},
		{"page_size=-1", "page_size", "invalid syntax"},
		{"page_token=!!!", "page_token", "not a page token"},
		{"filter=" + urlEscape(`name ==`), "filter", ""},
		{"filter=" + urlEscape(`nmae == "x"`), "filter", `no field "nmae"`},
		{"filter=" + urlEscape(`priority == "high"`), "filter", ""},
		{"filter=" + urlEscape(`priority is empty`), "filter", "does not fit"},
		{"filter=" + urlEscape(`name matches "["`), "filter", "regular expression"},
		{"filter=" + urlEscape(deep), "filter", ""},
		{"filter=" + strings.Repeat("x", 1025), "filter", "too long"},
		{"filter=" + urlEscape(`any groups as a { any groups as b { any groups as c { a == b } } }`), "filter", "nested"},
		{"index=-1", "index", ""},
		{"wait=soon", "wait", "invalid duration"},
		{"wait=-5s", "wait", "negative"},
		{"stale=perhaps", "stale", ""},
		{"namspace=x", "namspace", "no such parameter"},
		{"prefix=a&prefix=b", "prefix", "too many values"},
		{"prefix=%ff", "prefix", "UTF-8"},
		{"prefix=%zz", "query", ""},
		{"wait.seconds=5", "wait.seconds", "no such parameter"},
	}
	for _, test := range tests {
		p := m.call(t, "GET", "/v1/jobs?"+test.query, "").problem(t, 400)
		if p["field"] != test.field || !strings.Contains(p["reason"].(string), test.reason) {
			t.Errorf("%s: field %q, reason %q", test.query, p["field"], p["reason"])
		}
	}
}

// TestEveryFilterField compiles a filter over every field of every list's items: the
// form of an item has an end, and all of its fields can be named.
func TestEveryFilterField(t *testing.T) {
	for _, item := range []proto.Message{&berthv1.JobSummary{}, &berthv1.Alloc{}, &berthv1.Node{}, &berthv1.Evaluation{}, &berthv1.Namespace{}} {
		fields := item.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			f := &filter{}
			f.fields = append(f.fields, fields.Get(i))
			if form := f.form(item.ProtoReflect()); len(form) != 1 {
				t.Errorf("%s: %v", fields.Get(i).FullName(), form)
			}
		}
	}
}

func TestFindById(t *testing.T) {
	c := newCluster(t, 1)
	m := c.members[0]
	for id, name := range map[string]string{"aaaa1111": "n1", "aaaa2222": "n2", "bbbb3333": "aaaa", "cccc4444": "twin", "dddd5555": "twin"} {
		c.write(func(e *berthv1.LogEntry) {
			e.Fact = &berthv1.LogEntry_NodeRegistered{NodeRegistered: &berthv1.NodeRegistered{Node: &berthv1.Node{Id: id, Name: name}}}
		})
	}
	for given, want := range map[string]string{"aaaa1111": "n1", "aaaa2": "n2", "n2": "n2", "aaaa": "aaaa", "bbbb": "aaaa"} {
		if got := m.call(t, "GET", "/v1/nodes/"+given, "").want(t, 200); got["name"] != want {
			t.Errorf("%s: %v, want %s", given, got["name"], want)
		}
	}
	for given, want := range map[string]struct {
		status int
		reason string
	}{
		"aaa":    {400, "too short"},
		"twin":   {400, "cccc4444 (twin), dddd5555 (twin)"},
		"eeee":   {404, "no node"},
		"%ff%fe": {400, "UTF-8"},
	} {
		p := m.call(t, "GET", "/v1/nodes/"+given, "").problem(t, want.status)
		if !strings.Contains(p["reason"].(string), want.reason) {
			t.Errorf("%s: %v", given, p)
		}
	}
}
