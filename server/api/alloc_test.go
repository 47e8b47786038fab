package api

import (
	"encoding/json"
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// whole makes an id of its first 8 characters.
func whole(short string) string { return short + "-0000-4000-8000-000000000000" }

// alloc writes a job with one group of one task, a node and an allocation of it there;
// id is the first 8 characters of its id.
func (c *cluster) alloc(id, job string) {
	c.t.Helper()
	c.write(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_NodeRegistered{NodeRegistered: &berthv1.NodeRegistered{Node: &berthv1.Node{Id: "node-1", Name: "n1"}}}
	})
	if c.members[0].store.View().Job("default", job) == nil {
		c.members[0].call(c.t, "POST", "/v1/jobs", jobJSON(job, 1)).want(c.t, 200)
	}
	result := c.write(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_Plan{Plan: &berthv1.Plan{Placements: []*berthv1.Alloc{{
			Id: whole(id), Namespace: "default", Job: job, JobVersion: 1, Group: "web", NodeId: "node-1", NodeName: "n1",
			Assignment: &berthv1.Assignment{},
		}}}}
	})
	if len(result.Refused) > 0 {
		c.t.Fatalf("the allocation was refused: %v", result.Refused)
	}
}

func (c *cluster) report(update *berthv1.AllocStatusUpdate) {
	c.write(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_AllocsReported{AllocsReported: &berthv1.AllocsReported{Updates: []*berthv1.AllocStatusUpdate{update}}}
	})
}

func TestAllocs(t *testing.T) {
	c := newCluster(t, 1)
	m := c.members[0]
	c.alloc("aaaa0001", "web")
	c.alloc("aaaa0002", "web")
	c.alloc("bbbb0001", "db")
	c.report(&berthv1.AllocStatusUpdate{AllocId: whole("aaaa0001"), Status: berthv1.Alloc_running})

	for query, want := range map[string]string{
		"":                          "aaaa0001 aaaa0002 bbbb0001",
		"?job=web":                  "aaaa0001 aaaa0002",
		"?job=web&namespace=*":      "aaaa0001 aaaa0002",
		"?node_id=node-1":           "aaaa0001 aaaa0002 bbbb0001",
		"?node_id=node-1&job=db":    "bbbb0001",
		"?node_id=node-2":           "",
		"?prefix=bb":                "bbbb0001",
		"?namespace=other":          "",
		"?filter=status=='running'": "",
		"?filter=" + urlEscape(`status == "running"`):    "aaaa0001",
		"?filter=" + urlEscape(`assignment.nope == "1"`): "error",
	} {
		if strings.HasPrefix(query, "?filter=status=='") || want == "error" {
			m.call(t, "GET", "/v1/allocs"+query, "").problem(t, 400)
			continue
		}
		var ids []string
		for _, a := range m.call(t, "GET", "/v1/allocs"+query, "").want(t, 200)["allocs"].([]any) {
			ids = append(ids, a.(map[string]any)["id"].(string)[:8])
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}

	if p := m.call(t, "GET", "/v1/allocs/aaaa", "").problem(t, 400); !strings.Contains(p["reason"].(string), whole("aaaa0002")+" (web.web[0])") {
		t.Errorf("ambiguous: %v", p)
	}
	groups := m.call(t, "GET", "/v1/jobs/web/status", "").want(t, 200)["groups"].([]any)
	if g := groups[0].(map[string]any); g["running"] != 1.0 || g["pending"] != 1.0 {
		t.Errorf("groups: %v", groups)
	}

	stop := m.call(t, "POST", "/v1/allocs/aaaa0001/stop", "").want(t, 200)
	if a := m.call(t, "GET", "/v1/allocs/aaaa0001", "").want(t, 200); a["desired"] != "stop" || a["desired_reason"] == "" {
		t.Errorf("stopped: %v", a)
	}
	if e := m.call(t, "GET", "/v1/evaluations/"+stop["evaluation_id"].(string)[:8], "").want(t, 200); e["status"] != "pending" || e["job"] != "web" {
		t.Errorf("evaluation: %v", e)
	}
	c.report(&berthv1.AllocStatusUpdate{AllocId: whole("aaaa0001"), Status: berthv1.Alloc_complete})
	m.call(t, "POST", "/v1/allocs/aaaa0001/stop", "").problem(t, 409)
}

func log(data string) *berthv1.StreamFrame {
	return &berthv1.StreamFrame{Body: &berthv1.StreamFrame_Log{Log: &berthv1.LogFrame{Data: []byte(data)}}}
}

func done() *berthv1.StreamFrame {
	return &berthv1.StreamFrame{Body: &berthv1.StreamFrame_Done{Done: true}}
}

func failed(kind, reason string) *berthv1.StreamFrame {
	return &berthv1.StreamFrame{Body: &berthv1.StreamFrame_Problem{Problem: &berthv1.Problem{Kind: kind, Reason: reason}}}
}

// TestInsideAlloc asks for what an agent does, at a server that does not lead.
func TestInsideAlloc(t *testing.T) {
	c := newCluster(t, 2)
	m := c.members[1]
	c.alloc("aaaa0001", "web")
	var order *berthv1.StreamOrder
	say := func(frames ...*berthv1.StreamFrame) {
		m.agent = func(nodeID string, o *berthv1.StreamOrder) (Stream, error) {
			if nodeID != "node-1" {
				t.Errorf("asked node %q", nodeID)
			}
			order = o
			return newFakeAgent(frames...), nil
		}
	}

	say(log("one\n"), log("two\n"), done())
	logs := m.call(t, "GET", "/v1/allocs/aaaa/logs?follow&stream=stderr", "")
	if logs.body != "one\ntwo\n" || logs.header.Get("Content-Type") != plainText {
		t.Errorf("logs: %q %v", logs.body, logs.header)
	}
	if l := order.GetLogs(); !l.GetFollow() || l.GetStream() != "stderr" || l.GetTask() != "server" || l.GetAllocId() != whole("aaaa0001") {
		t.Errorf("order: %v", order)
	}

	say(&berthv1.StreamFrame{Body: &berthv1.StreamFrame_Chunk{Chunk: &berthv1.FileChunk{Data: []byte{0, 255}}}}, done())
	if file := m.call(t, "GET", "/v1/allocs/aaaa0001/read?path=x", ""); file.body != "\x00\xff" {
		t.Errorf("file: %q", file.body)
	}
	say(&berthv1.StreamFrame{Body: &berthv1.StreamFrame_Files{Files: &berthv1.ListFilesResponse{Files: []*berthv1.FileInfo{{Name: "alloc"}}}}}, done())
	if files := m.call(t, "GET", "/v1/allocs/aaaa0001/files", "").want(t, 200); len(files["files"].([]any)) != 1 {
		t.Errorf("files: %v", files)
	}
	say(&berthv1.StreamFrame{Body: &berthv1.StreamFrame_File{File: &berthv1.FileInfo{Name: "x", Size: 3}}}, done())
	if file := m.call(t, "GET", "/v1/allocs/aaaa0001/stat?path=x", "").want(t, 200); file["size"] != "3" {
		t.Errorf("stat: %v", file)
	}
	say(done())
	m.call(t, "POST", "/v1/allocs/aaaa0001/signal", `{"signal": "SIGHUP"}`).want(t, 200)
	if s := order.GetSignal(); s.GetSignal() != "SIGHUP" || s.GetTask() != "" {
		t.Errorf("order: %v", order)
	}
	m.call(t, "POST", "/v1/allocs/aaaa0001/restart", `{"task": "server"}`).want(t, 200)
	m.call(t, "POST", "/v1/allocs/aaaa0001/signal", ``).problem(t, 400)

	say(failed("not_found", "no such file"))
	if p := m.call(t, "GET", "/v1/allocs/aaaa0001/stat?path=y", "").problem(t, 404); p["reason"] != "no such file" {
		t.Errorf("stat: %v", p)
	}
	m.call(t, "GET", "/v1/allocs/aaaa0001/logs", "").problem(t, 404)
	m.call(t, "GET", "/v1/allocs/aaaa0001/logs?task=nope", "").problem(t, 404)
	m.call(t, "GET", "/v1/allocs/aaaa0001/logs?stream=nope", "").problem(t, 400)
	m.call(t, "GET", "/v1/allocs/aaaa0001/logs?nope=1", "").problem(t, 400)
	m.call(t, "GET", "/v1/allocs/ffff0001/logs", "").problem(t, 404)
	m.agent = nil
	m.call(t, "GET", "/v1/allocs/aaaa0001/logs", "").problem(t, 503)
}

// TestNewAllocIsFound: a server that has not heard of an allocation yet asks the leader.
func TestNewAllocIsFound(t *testing.T) {
	c := newCluster(t, 2)
	m := c.members[1]
	c.lagging = m
	c.alloc("aaaa0001", "web")
	m.agent = func(string, *berthv1.StreamOrder) (Stream, error) { return newFakeAgent(log("hello"), done()), nil }
	if logs := m.call(t, "GET", "/v1/allocs/aaaa0001/logs", ""); logs.body != "hello" {
		t.Fatalf("%d %s", logs.status, logs.body)
	}
}

func TestNDJSONLogs(t *testing.T) {
	c := newCluster(t, 1)
	c.alloc("aaaa0001", "web")
	c.members[0].agent = func(string, *berthv1.StreamOrder) (Stream, error) {
		return newFakeAgent(log("hello"), failed("unavailable", "the agent has gone")), nil
	}
	r := httptest.NewRequest("GET", "/v1/allocs/aaaa0001/logs", nil)
	r.Header.Set("Accept", "application/x-ndjson")
	w := httptest.NewRecorder()
	c.members[0].api.Handler().ServeHTTP(w, r)
	lines := strings.Split(strings.TrimSpace(w.Body.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], `"data":`) || strings.Contains(lines[0], "result") || !strings.HasPrefix(lines[1], `{"error":{"kind":"unavailable"`) {
		t.Fatalf("%q", lines)
	}
}

// TestLogsCutShort: a client can tell logs that end from logs that break off.
func TestLogsCutShort(t *testing.T) {
	c := newCluster(t, 1)
	c.alloc("aaaa0001", "web")
	c.members[0].agent = func(string, *berthv1.StreamOrder) (Stream, error) {
		return newFakeAgent(log("hello"), failed("unavailable", "the agent has gone")), nil
	}
	server := httptest.NewServer(c.members[0].api.Handler())
	defer server.Close()
	resp, err := server.Client().Get(server.URL + "/v1/allocs/aaaa0001/logs")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if data, err := io.ReadAll(resp.Body); err == nil || string(data) != "hello" {
		t.Fatalf("%q, %v", data, err)
	}
}

// TestQuietLogsBegin: the answer begins although nothing is written yet.
func TestQuietLogsBegin(t *testing.T) {
	c := newCluster(t, 1)
	c.alloc("aaaa0001", "web")
	agent := newFakeAgent()
	c.members[0].agent = func(string, *berthv1.StreamOrder) (Stream, error) { return agent, nil }
	server := httptest.NewServer(c.members[0].api.Handler())
	defer server.Close()
	resp, err := server.Client().Get(server.URL + "/v1/allocs/aaaa0001/logs?follow")
	if err != nil {
		t.Fatal(err)
	}
	agent.frames <- log("hello")
	agent.frames <- done()
	if data, err := io.ReadAll(resp.Body); err != nil || string(data) != "hello" {
		t.Fatalf("%q, %v", data, err)
	}
	_ = resp.Body.Close()
}

func TestExec(t *testing.T) {
	c := newCluster(t, 1)
	m := c.members[0]
	c.alloc("aaaa0001", "web")
	agent := newFakeAgent()
	var order *berthv1.StreamOrder
	m.agent = func(_ string, o *berthv1.StreamOrder) (Stream, error) {
		order = o
		return agent, nil
	}
	server := httptest.NewServer(m.api.Handler())
	defer server.Close()
	dial := func() *websocket.Conn {
		ws, _, err := websocket.Dial(t.Context(), server.URL+"/v1/allocs/aaaa/exec", nil)
		if err != nil {
			t.Fatal(err)
		}
		return ws
	}
	write := func(ws *websocket.Conn, text string) {
		if err := ws.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	read := func(ws *websocket.Conn) (m map[string]any) {
		_, data, err := ws.Read(t.Context())
		if err == nil {
			err = json.Unmarshal(data, &m)
		}
		if err != nil {
			t.Fatalf("%v: %s", err, data)
		}
		return m
	}

	ws := dial()
	write(ws, `{"start": {"command": ["sh"], "tty": true}}`)
	write(ws, `{"stdin": "aGk="}`)
	sent := <-agent.sent
	if string(sent.GetExec().GetStdin()) != "hi" || order.GetExec().GetTask() != "server" || order.GetExec().GetAllocId() != whole("aaaa0001") {
		t.Fatalf("%v %v", sent, order)
	}
	agent.frames <- &berthv1.StreamFrame{Body: &berthv1.StreamFrame_Exec{Exec: &berthv1.ExecFrame{Body: &berthv1.ExecFrame_Exit{Exit: &berthv1.ExecExit{Code: 3}}}}}
	agent.frames <- done()
	if exit := read(ws)["exit"].(map[string]any); exit["code"] != 3.0 {
		t.Fatalf("%v", exit)
	}
	if _, _, err := ws.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Fatalf("%v", err)
	}

	for _, first := range []string{`{"stdin": "aGk="}`, `{`, `{"start": {}}`, `{"start": {"command": ["sh"], "task": "nope"}}`} {
		ws := dial()
		write(ws, first)
		if p, ok := read(ws)["error"].(map[string]any); !ok || p["kind"] != "invalid" && p["kind"] != "not_found" {
			t.Fatalf("%s: %v", first, p)
		}
		if _, _, err := ws.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
			t.Fatalf("%s: %v", first, err)
		}
	}

	// A client that goes away takes the agent's side with it.
	gone := newFakeAgent()
	agent = gone
	ws = dial()
	write(ws, `{"start": {"command": ["sh"]}}`)
	write(ws, `{"stdin": ""}`)
	<-gone.sent
	_ = ws.CloseNow()
	<-gone.closed
}
