package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/state"
)

// events opens a stream; what it gives returns the next event.
func (m *member) events(t *testing.T, q *berthv1.StreamEventsRequest) (next func() (*berthv1.Event, error)) {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	stream, err := berthv1.NewStatusServiceClient(m.dialed(t)).StreamEvents(ctx, q)
	if err != nil {
		t.Fatal(err)
	}
	return stream.Recv
}

func expect(t *testing.T, next func() (*berthv1.Event, error), topic, kind, key string) *berthv1.Event {
	t.Helper()
	e, err := next()
	if err != nil {
		t.Fatal(err)
	}
	if e.GetTopic() != topic || e.GetType() != kind || e.GetKey() != key {
		t.Fatalf("got %v, want %s %s %s", e, topic, kind, key)
	}
	return e
}

func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		m := c.members[1]
		next := m.events(t, &berthv1.StreamEventsRequest{})
		begin := expect(t, next, "", "", "").GetIndex()
		if begin != m.store.Revision() {
			t.Fatalf("it begins at %d, want %d", begin, m.store.Revision())
		}
		m.call(t, "POST", "/v1/jobs", jobJSON("web", 1)).want(t, 200)
		job := expect(t, next, "job", "created", "web")
		if job.GetJob().GetName() != "web" || job.GetIndex() != begin {
			t.Fatalf("more of its revision follows, so its index is the one before: %v", job)
		}
		eval, err := next()
		if err != nil || eval.GetEvaluation() == nil || eval.GetIndex() != m.store.Revision() {
			t.Fatalf("%v, %v", eval, err)
		}

		// Resuming with the index of any event loses nothing.
		again := m.events(t, &berthv1.StreamEventsRequest{Index: job.GetIndex()})
		expect(t, again, "", "", "")
		expect(t, again, "job", "created", "web")
		after := m.events(t, &berthv1.StreamEventsRequest{Index: eval.GetIndex()})
		if e := expect(t, after, "", "", ""); e.GetIndex() != eval.GetIndex() {
			t.Fatalf("heartbeat: %v", e)
		}
		start := time.Now()
		expect(t, after, "", "", "")
		if took := time.Since(start); took != heartbeatPeriod {
			t.Fatalf("the heartbeat took %s", took)
		}
	})
}

func TestEventFilters(t *testing.T) {
	c := newCluster(t, 1)
	m := c.members[0]
	begin := m.store.Revision()
	c.alloc("aaaa0001", "web")
	c.alloc("bbbb0001", "db")
	c.namespace("other")
	m.call(t, "POST", "/v1/jobs", strings.Replace(jobJSON("far", 1), `"name"`, `"namespace": "other", "name"`, 1)).want(t, 200)
	m.call(t, "DELETE", "/v1/namespaces/default", "").problem(t, 400)

	tests := []struct {
		q    *berthv1.StreamEventsRequest
		want string
	}{
		{&berthv1.StreamEventsRequest{Topics: []string{"alloc"}}, "alloc:aaaa0001 alloc:bbbb0001"},
		{&berthv1.StreamEventsRequest{Topics: []string{"alloc", "job"}, Job: "db"}, "job:db alloc:bbbb0001"},
		{&berthv1.StreamEventsRequest{Topics: []string{"job"}}, "job:web job:db"},
		{&berthv1.StreamEventsRequest{Topics: []string{"job"}, Namespace: "other"}, "job:far"},
		{&berthv1.StreamEventsRequest{Topics: []string{"job"}, Namespace: "*"}, "job:web job:db job:far"},
		{&berthv1.StreamEventsRequest{Topics: []string{"namespace"}}, "namespace:other"},
	}
	for _, test := range tests {
		test.q.Index = begin
		next := m.events(t, test.q)
		expect(t, next, "", "", "")
		var got []string
		for range strings.Fields(test.want) {
			e, err := next()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.GetTopic()+":"+e.GetKey()[:min(8, len(e.GetKey()))])
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%v: %v, want %s", test.q, got, test.want)
		}
	}
}

func TestEventsTooOld(t *testing.T) {
	c := newCluster(t, 1, func(c *Config) { c.Store = state.NewSized(4) })
	m := c.members[0]
	for i := range 9 {
		c.namespace(fmt.Sprintf("n%d", i))
	}
	p := m.call(t, "GET", "/v1/events?index=2", "").problem(t, 409)
	if p["kind"] != "conflict" || p["field"] != "index" || !strings.Contains(p["reason"].(string), "after "+itoa(m.store.OldestChange())) {
		t.Fatalf("%v", p)
	}
	next := m.events(t, &berthv1.StreamEventsRequest{Index: m.store.OldestChange()})
	expect(t, next, "", "", "")
	expect(t, next, "namespace", "created", "n5")
}

func TestEventsAfterRestore(t *testing.T) {
	c := newCluster(t, 1)
	m := c.members[0]
	saved := m.call(t, "GET", "/v1/operator/snapshot", "").body
	c.namespace("other")
	next := m.events(t, &berthv1.StreamEventsRequest{})
	expect(t, next, "", "", "")
	m.call(t, "PUT", "/v1/operator/snapshot", saved).want(t, 200)
	if _, err := next(); !problem.Is(err, problem.Conflict) || !strings.Contains(err.Error(), "snapshot of revision") {
		t.Fatalf("%v", err)
	}
}

func TestEventsOverHTTP(t *testing.T) {
	c := newCluster(t, 1)
	m := c.members[0]
	m.call(t, "GET", "/v1/events?topics=nope", "").problem(t, 400)

	begin := m.store.Revision()
	m.call(t, "POST", "/v1/jobs", jobJSON("web", 1)).want(t, 200)
	server := httptest.NewServer(m.api.Handler())
	defer server.Close()
	resp, err := server.Client().Get(server.URL + "/v1/events?topics=job&index=" + itoa(begin))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if ct := resp.Header.Get("Content-Type"); ct != "application/x-ndjson" {
		t.Errorf("content type %s", ct)
	}
	line := readLine(t, resp.Body)
	if !strings.Contains(line, `"topic":""`) {
		t.Errorf("heartbeat: %s", line)
	}
	if line = readLine(t, resp.Body); !strings.Contains(line, `"topic":"job"`) {
		t.Errorf("event: %s", line)
	}
}

func readLine(t *testing.T, r io.Reader) string {
	var line []byte
	one := make([]byte, 1)
	for {
		if _, err := r.Read(one); err != nil {
			t.Fatal(err)
		}
		if one[0] == '\n' {
			return strings.ReplaceAll(string(line), " ", "")
		}
		line = append(line, one[0])
	}
}

func TestEventsEndWithTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		m := c.members[0]
		next := m.events(t, &berthv1.StreamEventsRequest{})
		expect(t, next, "", "", "")
		m.api.end(errClosing())
		_, err := next()
		if !problem.Is(err, problem.Unavailable) || errors.Is(err, io.EOF) {
			t.Fatalf("%v", err)
		}
	})
}
