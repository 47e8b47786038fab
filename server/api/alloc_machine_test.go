package api

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// machineAlloc makes an allocation whose node says what its driver can do.
func machineAlloc(c *cluster, capabilities ...string) {
	c.alloc("aaaa0001", "web")
	driver := c.members[0].store.View().Job("default", "web").GetGroups()[0].GetTasks()[0].GetDriver()
	c.write(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_NodeRegistered{NodeRegistered: &berthv1.NodeRegistered{Node: &berthv1.Node{
			Id: "node-1", Name: "n1", Drivers: []*berthv1.DriverInfo{{Name: driver, Healthy: true, Capabilities: capabilities}},
		}}}
	})
}

func TestMachines(t *testing.T) {
	c := newCluster(t, 1)
	m := c.members[0]
	machineAlloc(c, "pause", "screenshot", "snapshot")
	var order *berthv1.StreamOrder
	var answer *berthv1.StreamFrame
	m.agent = func(_ string, o *berthv1.StreamOrder) (Stream, error) {
		order = o
		if answer == nil {
			return newFakeAgent(done()), nil
		}
		return newFakeAgent(answer, done()), nil
	}
	shot := &berthv1.StreamFrame{Body: &berthv1.StreamFrame_Screenshot{Screenshot: &berthv1.ScreenshotAllocResponse{Png: []byte("png")}}}
	one := &berthv1.StreamFrame{Body: &berthv1.StreamFrame_Snapshot{Snapshot: &berthv1.AllocSnapshot{Name: "s1", Bytes: 7}}}
	list := &berthv1.StreamFrame{Body: &berthv1.StreamFrame_Snapshots{Snapshots: &berthv1.ListAllocSnapshotsResponse{Snapshots: []*berthv1.AllocSnapshot{{Name: "s1"}}}}}
	long := strings.Repeat("x", 64)
	for _, tc := range []struct {
		verb, path, body string
		answer           *berthv1.StreamFrame
		status           int
		want             string // in the order, or in the problem
	}{
		{"POST", "control", `{"action": "pause"}`, nil, 200, `action:"pause"`},
		{"POST", "control", `{"action": "resume"}`, nil, 200, `action:"resume"`},
		{"POST", "control", `{"action": "suspend"}`, nil, 501, "has no suspend on node n1"},
		{"POST", "control", `{"action": "jump"}`, nil, 400, "it may be freeze, nmi"},
		{"POST", "control", `{"action": "pause", "task": "nope"}`, nil, 404, "has no task"},
		{"GET", "screenshot", "", shot, 200, "screenshot:{"},
		{"GET", "screenshot", "", nil, 500, "something else"},
		{"POST", "snapshots", `{"name": "s1", "memory": true}`, one, 200, "memory:true"},
		{"POST", "snapshots", `{"name": "../s1"}`, one, 400, "cannot be named"},
		{"POST", "snapshots", `{"name": "` + long + `"}`, one, 400, "cannot be named"},
		{"GET", "snapshots", "", list, 200, "list_snapshots:{"},
		{"POST", "snapshots/s1/revert", "{}", nil, 200, `revert:{`},
		{"DELETE", "snapshots/s1", "", nil, 200, `delete_snapshot:{`},
		{"DELETE", "snapshots/-", "", nil, 400, "cannot be named"},
	} {
		order, answer = nil, tc.answer
		got := m.call(t, tc.verb, "/v1/allocs/aaaa/"+tc.path, tc.body)
		said := got.body
		if tc.status == 200 {
			said = strings.ReplaceAll(order.String(), ":  ", ":")
			said = strings.ReplaceAll(said, ": ", ":")
			if !strings.Contains(said, whole("aaaa0001")) || !strings.Contains(said, `task:"server"`) {
				t.Errorf("%s %s: the order is %s", tc.verb, tc.path, said)
			}
		}
		if got.status != tc.status || !strings.Contains(said, tc.want) {
			t.Errorf("%s %s: %d %s, want %d %q", tc.verb, tc.path, got.status, said, tc.status, tc.want)
		}
		if tc.status != 200 && tc.status != 500 && order != nil {
			t.Errorf("%s %s %s reached the agent", tc.verb, tc.path, tc.body)
		}
	}
}

func TestAttach(t *testing.T) {
	c := newCluster(t, 1)
	m := c.members[0]
	machineAlloc(c, "console")
	agent := newFakeAgent()
	m.agent = func(_ string, o *berthv1.StreamOrder) (Stream, error) {
		if o.GetAttach().GetAllocId() != whole("aaaa0001") || o.GetAttach().GetTask() != "server" {
			t.Errorf("the order is %v", o)
		}
		return agent, nil
	}
	server := httptest.NewServer(m.api.Handler())
	defer server.Close()
	talk := func(texts ...string) *websocket.Conn {
		ws, _, err := websocket.Dial(t.Context(), server.URL+"/v1/allocs/aaaa/attach", nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range texts {
			if err := ws.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		return ws
	}
	read := func(ws *websocket.Conn, want string) {
		t.Helper()
		if _, data, err := ws.Read(t.Context()); err != nil || !strings.Contains(string(data), want) {
			t.Fatalf("%s, %v; want %s", data, err, want)
		}
	}

	ws := talk(`{"start": {"channel": "console"}}`, `{"data": "bHM="}`)
	if sent := <-agent.sent; string(sent.GetAttach().GetData()) != "ls" {
		t.Fatalf("the agent got %v", sent)
	}
	agent.frames <- &berthv1.StreamFrame{Body: &berthv1.StreamFrame_Attach{Attach: &berthv1.AttachFrame{Body: &berthv1.AttachFrame_Data{Data: []byte("hi")}}}}
	read(ws, `"aGk="`)
	agent.frames <- done()
	if _, _, err := ws.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Fatal(err)
	}
	for first, want := range map[string]string{
		`{"data": "bHM="}`:                "must be start",
		`{"start": {"channel": "vnc"}}`:   "has no vnc",
		`{"start": {"channel": "front"}}`: "no channel",
	} {
		read(talk(first), want)
	}
}
