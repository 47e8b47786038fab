package api

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/consensus"
)

// dialed gives a client connection to a server's gRPC port.
func (m *member) dialed(t testing.TB) *grpc.ClientConn {
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return m.listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// TestWhere holds the table of which server carries out what, so that a new method
// cannot take its place by accident.
func TestWhere(t *testing.T) {
	var asked []string
	for _, m := range methods {
		if m.local {
			asked = append(asked, m.short)
		}
	}
	slices.Sort(asked)
	want := `AllocService/Attach AllocService/ControlAlloc AllocService/DeleteAllocSnapshot AllocService/Exec AllocService/ListAllocSnapshots AllocService/ListFiles AllocService/Logs AllocService/ReadFile AllocService/RestartAlloc AllocService/RevertAlloc AllocService/ScreenshotAlloc AllocService/SignalAlloc AllocService/SnapshotAlloc AllocService/StatFile JobService/ParseJob JobService/ValidateJob SchedulerService/StreamChanges StatusService/GetHealth StatusService/GetMembers StatusService/GetVersion StatusService/JoinServers StatusService/LeaveServer StatusService/StreamEvents`
	if got := strings.Join(asked, " "); got != want {
		t.Errorf("the asked server carries out\n%s\nwant\n%s", got, want)
	}
}

func TestForward(t *testing.T) {
	c := newCluster(t, 2)
	leader, follower := c.members[0], c.members[1]
	follower.contact = 1500 * time.Millisecond

	resp := follower.call(t, "POST", "/v1/jobs", jobJSON("web", 1)).want(t, 200)
	if resp["version"] != "1" || leader.proposed != 1 || follower.proposed != 0 {
		t.Fatalf("%v; proposed %d and %d", resp, leader.proposed, follower.proposed)
	}
	if p := follower.call(t, "GET", "/v1/jobs/nope", "").problem(t, 404); p["field"] != "job" || p["remedy"] == "" {
		t.Fatalf("a problem lost something on its way: %v", p)
	}

	// A server that has not kept up answers stale reads from what it has, and others not.
	c.lagging = follower
	follower.call(t, "POST", "/v1/jobs", jobJSON("web", 2)).want(t, 200)
	stale := follower.call(t, "GET", "/v1/jobs/web?stale", "")
	if job := stale.want(t, 200); job["version"] != "1" {
		t.Fatalf("stale: %v", job)
	}
	if h := stale.header; h.Get("Berth-Known-Leader") != "true" || h.Get("Berth-Last-Contact-Ms") != "1500" || h.Get("Berth-Index") == "" {
		t.Fatalf("headers: %v", h)
	}
	for _, query := range []string{"", "?consistent"} {
		fresh := follower.call(t, "GET", "/v1/jobs/web"+query, "")
		if job := fresh.want(t, 200); job["version"] != "2" || fresh.header.Get("Berth-Index") == stale.header.Get("Berth-Index") {
			t.Fatalf("%q: %v, %v", query, job, fresh.header)
		}
	}
}

func TestForwardStreams(t *testing.T) {
	c := newCluster(t, 2)
	leader, follower := c.members[0], c.members[1]
	c.lagging = follower
	leader.call(t, "POST", "/v1/jobs", jobJSON("web", 1)).want(t, 200)

	saved := follower.call(t, "GET", "/v1/operator/snapshot", "")
	if saved.status != 200 || saved.header.Get("Content-Type") != "application/octet-stream" {
		t.Fatalf("%d %v", saved.status, saved.header)
	}
	here := leader.call(t, "GET", "/v1/operator/snapshot", "")
	if here.body != saved.body {
		t.Fatal("the snapshot through the follower differs from the leader's")
	}
	leader.call(t, "POST", "/v1/jobs", jobJSON("web", 9)).want(t, 200)
	resp := follower.call(t, "PUT", "/v1/operator/snapshot", saved.body).want(t, 200)
	if resp["cluster_id"] != "c1" || string(leader.restored) != saved.body || follower.restored != nil {
		t.Fatalf("restored %v", resp)
	}
	if job := leader.call(t, "GET", "/v1/jobs/web", "").want(t, 200); job["version"] != "1" {
		t.Fatalf("after the restore: %v", job)
	}
	follower.call(t, "PUT", "/v1/operator/snapshot", "nonsense").problem(t, 400)
}

func TestRidesOverElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		c.elect(nil)
		answers := make(chan answer, 1)
		go func() { answers <- c.members[1].call(t, "POST", "/v1/jobs", jobJSON("web", 1)) }()
		time.Sleep(3 * time.Second)
		c.elect(c.members[2])
		(<-answers).want(t, 200)
		if c.members[2].proposed != 1 {
			t.Fatal("the new leader did not propose it")
		}

		// The leader finds out only when it proposes.
		c.members[2].refuses(consensus.ErrNotLeader)
		go func() { answers <- c.members[1].call(t, "POST", "/v1/jobs", jobJSON("web", 2)) }()
		time.Sleep(time.Second)
		c.elect(c.members[0])
		(<-answers).want(t, 200)
	})
}

func TestNoLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		c.elect(nil)
		start := time.Now()
		p := c.members[0].call(t, "POST", "/v1/jobs", jobJSON("web", 1)).problem(t, 503)
		if p["field"] != "leader" || p["kind"] != "unavailable" {
			t.Fatalf("%v", p)
		}
		if took := time.Since(start); took != defaultLeaderWait {
			t.Fatalf("it took %s", took)
		}
		c.members[0].call(t, "GET", "/v1/jobs?stale", "").want(t, 200)
		if h := c.members[0].call(t, "GET", "/v1/health", "").want(t, 503); h["reason"] != "there is no leader" {
			t.Fatalf("%v", h)
		}
	})
}

// TestUncertain: what may have been done is done again only where that changes nothing.
func TestUncertain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		uncertain := problem.New(problem.Unavailable, "", "%w", consensus.ErrUncertain)
		c.members[0].refuses(uncertain)
		checked := strings.TrimSuffix(jobJSON("web", 1), "}") + `, "check": true}`
		p := c.members[1].call(t, "POST", "/v1/jobs", checked).problem(t, 503)
		if n := c.members[0].proposed; n != 1 || !strings.Contains(p["reason"].(string), "leadership was lost") {
			t.Fatalf("proposed %d times: %v", n, p)
		}
		answers := make(chan answer, 1)
		go func() { answers <- c.members[1].call(t, "POST", "/v1/jobs", jobJSON("web", 1)) }()
		time.Sleep(time.Second)
		c.members[0].refuses(nil)
		(<-answers).want(t, 200)
	})
}

// TestLeaderLost: the leader goes away with a call that may not be made again.
func TestLeaderLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		c.members[0].hang = make(chan struct{})
		answers := make(chan answer, 1)
		checked := strings.TrimSuffix(jobJSON("web", 1), "}") + `, "check": true}`
		go func() { answers <- c.members[1].call(t, "POST", "/v1/jobs", checked) }()
		synctest.Wait()
		c.members[0].server.Stop()
		p := (<-answers).problem(t, 503)
		if !strings.Contains(p["reason"].(string), "the leader was lost") || !strings.Contains(p["remedy"].(string), "may be done or not") {
			t.Fatalf("%v", p)
		}
	})
}

// TestLoopGuard: two servers that each believe the other leads do not play ball.
func TestLoopGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2)
		a, b := c.members[0], c.members[1]
		b.api.leadership = believer{b, "s0"}
		a.api.leadership = believer{a, "s1"}
		p := a.call(t, "POST", "/v1/jobs", jobJSON("web", 1)).problem(t, 503)
		if p["field"] != "leader" {
			t.Fatalf("%v", p)
		}
	})
}

// believer believes that somebody else leads.
type believer struct {
	*member
	address string
}

func (b believer) IsLeader() bool                    { return false }
func (b believer) Leader() (string, <-chan struct{}) { return b.address, nil }

func TestPanicIsAProblem(t *testing.T) {
	c := newCluster(t, 1)
	m := c.members[0]
	m.agent = func(string, *berthv1.StreamOrder) (Stream, error) { panic("a defect") }
	m.api.planner = nil
	p := m.call(t, "POST", "/v1/system/gc", "").problem(t, 500)
	if p["kind"] != "internal" || strings.Contains(p["reason"].(string), "nil pointer") {
		t.Fatalf("%v", p)
	}
	c.alloc("a0000001", "web")
	m.call(t, "GET", "/v1/allocs/a0000001/logs", "").problem(t, 500)
}

func TestForwardedStreamErrors(t *testing.T) {
	c := newCluster(t, 2)
	stream, err := berthv1.NewOperatorServiceClient(c.members[1].dialed(t)).RestoreSnapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&berthv1.SnapshotChunk{Data: []byte("no snapshot")}); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if _, err := stream.CloseAndRecv(); !problem.Is(err, problem.Invalid) {
		t.Fatalf("%v", err)
	}
}
