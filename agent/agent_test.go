package agent_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func wantStatus(t *testing.T, c *cluster, id string, want berthv1.Alloc_Status) *berthv1.AllocStatusUpdate {
	t.Helper()
	time.Sleep(2 * time.Second)
	u := c.status(id)
	if u == nil || u.GetStatus() != want {
		t.Fatalf("alloc %s: reported %v, want %v", id, u, want)
	}
	return u
}

func TestAssignmentRunsAndIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "s1")
		defer c.stop()
		h := newHost(t, c, "s1")
		h.start()
		defer h.end()
		job := mockJob("web", nil)
		time.Sleep(time.Second)
		c.change(job, nil, allocOf(job, "a1"))
		u := wantStatus(t, c, "a1", berthv1.Alloc_running)
		if u.GetTasks()[0].GetPid() == 0 {
			t.Error("no pid")
		}
		c.change(nil, []string{"a1"})
		time.Sleep(10 * time.Second)
		if n := h.mock.Running(); n != 0 {
			t.Errorf("%d tasks run after the alloc was removed", n)
		}
	})
}

func TestWorkloadsOutliveTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "s1")
		defer c.stop()
		h := newHost(t, c, "s1")
		h.start()
		job := mockJob("web", nil)
		time.Sleep(time.Second)
		c.change(job, nil, allocOf(job, "a1"))
		pid := wantStatus(t, c, "a1", berthv1.Alloc_running).GetTasks()[0].GetPid()
		id := h.agent.NodeID()
		h.end()
		h.start()
		defer h.end()
		if h.agent.NodeID() != id {
			t.Error("the node has another id")
		}
		if got := wantStatus(t, c, "a1", berthv1.Alloc_running).GetTasks()[0].GetPid(); got != pid {
			t.Errorf("pid %d, want %d", got, pid)
		}
	})
}

func TestSessionMovesToAnotherServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "s1", "s2")
		defer c.stop()
		h := newHost(t, c, "s1", "s2")
		h.start()
		defer h.end()
		time.Sleep(time.Second)
		first := h.agent.Connected()
		c.stopServer(first)
		time.Sleep(5 * time.Second)
		second := h.agent.Connected()
		if second == first || second == "" {
			t.Fatalf("connected to %q after %q went away", second, first)
		}
		job := mockJob("web", nil)
		c.change(job, nil, allocOf(job, "a1"))
		wantStatus(t, c, "a1", berthv1.Alloc_running)
		// A redirect: the other one is back.
		c.startServer(first)
		c.mu.Lock()
		c.broadcast(&berthv1.ServerMessage{Body: &berthv1.ServerMessage_Redirect{Redirect: &berthv1.Redirect{Reason: "going away"}}})
		c.mu.Unlock()
		time.Sleep(5 * time.Second)
		if got := h.agent.Connected(); got != first {
			t.Errorf("connected to %q after the redirect, want %q", got, first)
		}
	})
}

func TestGapAndDoubledMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "s1")
		defer c.stop()
		h := newHost(t, c, "s1")
		h.start()
		defer h.end()
		time.Sleep(time.Second)
		job := mockJob("web", nil)
		c.mu.Lock()
		c.skip = true
		c.mu.Unlock()
		c.change(job, nil, allocOf(job, "a1")) // lost on the way
		c.change(nil, nil, allocOf(job, "a2")) // shows the gap
		time.Sleep(5 * time.Second)
		wantStatus(t, c, "a1", berthv1.Alloc_running)
		wantStatus(t, c, "a2", berthv1.Alloc_running)
		c.mu.Lock()
		sessions := len(c.hellos)
		c.double = true
		c.mu.Unlock()
		if sessions != 2 {
			t.Errorf("%d sessions, want 2", sessions)
		}
		for _, id := range []string{"a3", "a4", "a5"} {
			c.change(nil, nil, allocOf(job, id))
			time.Sleep(20 * time.Second)
			wantStatus(t, c, id, berthv1.Alloc_running)
		}
		if n := h.mock.Running(); n != 5 {
			t.Errorf("%d tasks run, want 5", n)
		}
	})
}

func TestServersLostAndLagging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "s1", "s2")
		defer c.stop()
		h := newHost(t, c, "s1", "s2")
		h.start()
		defer h.end()
		time.Sleep(time.Second)
		job := mockJob("web", nil)
		c.change(job, nil, allocOf(job, "a1"))
		wantStatus(t, c, "a1", berthv1.Alloc_running)
		c.stop()
		time.Sleep(3 * time.Hour)
		if h.mock.Running() != 1 {
			t.Fatal("the workload did not outlive the servers' absence")
		}
		// They are back but lag: nothing is taken away for a while.
		c.mu.Lock()
		c.lag = 5
		c.mu.Unlock()
		c.startServer("s1")
		c.startServer("s2")
		time.Sleep(40 * time.Second)
		if h.mock.Running() != 1 {
			t.Error("a lagging server took a workload away")
		}
		c.mu.Lock()
		c.lag = 0
		c.mu.Unlock()
		time.Sleep(time.Minute)
		if h.agent.Connected() == "" || h.mock.Running() != 1 {
			t.Error("the agent did not come back")
		}
	})
}

func TestRestoredClusterIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "s1")
		defer c.stop()
		h := newHost(t, c, "s1")
		h.start()
		defer h.end()
		time.Sleep(time.Second)
		job := mockJob("web", nil)
		c.change(job, nil, allocOf(job, "a1"), allocOf(job, "a2"))
		wantStatus(t, c, "a1", berthv1.Alloc_running)
		c.stop()
		c.mu.Lock()
		c.revision, c.reported = 3, map[string]*berthv1.AllocStatusUpdate{}
		delete(c.allocs, "a2")
		c.mu.Unlock()
		c.startServer("s1")
		time.Sleep(3 * time.Minute)
		wantStatus(t, c, "a1", berthv1.Alloc_running)
		if n := h.mock.Running(); n != 1 {
			t.Errorf("%d tasks run, want 1", n)
		}
	})
}

func TestReportsAreRepeatedUntilDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "s1")
		defer c.stop()
		h := newHost(t, c, "s1")
		h.start()
		time.Sleep(time.Second)
		c.mu.Lock()
		c.refuse = true
		c.mu.Unlock()
		job := mockJob("batch", map[string]any{"run_for": "1s"})
		job.Type = berthv1.Job_batch
		c.change(job, nil, allocOf(job, "a1"))
		time.Sleep(time.Minute)
		if u := c.status("a1"); u != nil {
			t.Fatalf("reported %v although nothing is durable", u)
		}
		h.end() // the report survives the agent
		c.mu.Lock()
		c.refuse = false
		c.mu.Unlock()
		h.start()
		defer h.end()
		wantStatus(t, c, "a1", berthv1.Alloc_complete)
	})
}

func TestReportsCoalesce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "s1")
		defer c.stop()
		h := newHost(t, c, "s1")
		h.start()
		defer h.end()
		time.Sleep(time.Second)
		job := mockJob("web", nil)
		var allocs []*berthv1.Alloc
		for i := range 100 {
			allocs = append(allocs, allocOf(job, "a"+string(rune('0'+i/10))+string(rune('0'+i%10))))
		}
		c.change(job, nil, allocs...)
		time.Sleep(10 * time.Second)
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.reported) != 100 || c.reports > 10 {
			t.Errorf("%d allocs in %d reports", len(c.reported), c.reports)
		}
	})
}

func TestStopAfterDisconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "s1")
		defer c.stop()
		h := newHost(t, c, "s1")
		h.start()
		defer h.end()
		time.Sleep(time.Second)
		job := mockJob("web", nil)
		job.Groups[0].OnDisconnect = &berthv1.DisconnectPolicy{StopAfter: durationpbOf(time.Hour)}
		keep := mockJob("keep", nil)
		c.change(job, nil, allocOf(job, "a1"))
		c.change(keep, nil, allocOf(keep, "a2"))
		wantStatus(t, c, "a1", berthv1.Alloc_running)
		c.stop()
		time.Sleep(59 * time.Minute)
		if n := h.mock.Running(); n != 2 {
			t.Fatalf("%d tasks run before stop_after, want 2", n)
		}
		time.Sleep(2 * time.Minute)
		if n := h.mock.Running(); n != 1 {
			t.Fatalf("%d tasks run after stop_after, want 1", n)
		}
		c.startServer("s1")
		time.Sleep(time.Minute)
		wantStatus(t, c, "a1", berthv1.Alloc_failed)
	})
}

func TestOtherClusterIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "s1")
		h := newHost(t, c, "s1")
		h.start()
		time.Sleep(time.Second)
		job := mockJob("web", nil)
		c.change(job, nil, allocOf(job, "a1"))
		wantStatus(t, c, "a1", berthv1.Alloc_running)
		h.end()
		c.stop()
		other := newCluster(t, "s1")
		other.id = "cluster-2"
		other.revision = 1000
		defer other.stop()
		h.cluster = other
		h.start()
		defer h.end()
		time.Sleep(5 * time.Minute)
		if h.mock.Running() != 1 || h.agent.Connected() != "" {
			t.Error("the agent followed servers of another cluster")
		}
	})
}

func TestStopWorkloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "s1")
		defer c.stop()
		h := newHost(t, c, "s1")
		h.start()
		time.Sleep(time.Second)
		job := mockJob("web", nil)
		c.change(job, nil, allocOf(job, "a1"))
		wantStatus(t, c, "a1", berthv1.Alloc_running)
		if err := h.agent.StopWorkloads(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := h.mock.Running(); n != 0 {
			t.Errorf("%d tasks run", n)
		}
		h.end()
	})
}

func TestClockSkewIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "s1")
		defer c.stop()
		h := newHost(t, c, "s1")
		h.start()
		defer h.end()
		skew := func() string {
			time.Sleep(3 * time.Second)
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.node.GetAttributes()["clock.skew"]
		}
		if got := skew(); got != "" {
			t.Errorf("skew %q with equal clocks", got)
		}
		c.mu.Lock()
		c.clockOff = -time.Hour
		c.mu.Unlock()
		if got := skew(); got != "-1h0m0s" {
			t.Errorf("skew %q, want -1h0m0s", got)
		}
		c.mu.Lock()
		c.clockOff = 0
		c.mu.Unlock()
		if got := skew(); got != "" {
			t.Errorf("skew %q when the clocks agree again", got)
		}
	})
}

func TestServersAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "s1", "s2")
		defer c.stop()
		c.tell = []string{"s1", "s2"}
		h := newHost(t, c, "s1")
		h.start()
		time.Sleep(time.Second)
		h.end()
		c.stopServer("s1")
		h.start()
		defer h.end()
		time.Sleep(30 * time.Second)
		if got := h.agent.Connected(); got != "s2" {
			t.Errorf("connected to %q, want s2", got)
		}
		if !slices.Contains(c.hellos, "s2") {
			t.Error("s2 was not dialled")
		}
	})
}

func TestStreamsAreOpenedAndServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "s1")
		defer c.stop()
		h := newHost(t, c, "s1")
		h.start()
		defer h.end()
		time.Sleep(time.Second)
		job := mockJob("web", map[string]any{"stdout": "hello\n"})
		c.change(job, nil, allocOf(job, "a1"))
		wantStatus(t, c, "a1", berthv1.Alloc_running)
		open := func(order *berthv1.StreamOrder) grpc.BidiStreamingServer[berthv1.StreamFrame, berthv1.StreamFrame] {
			order.StreamId = "stream-1"
			c.mu.Lock()
			s := c.servers["s1"]
			c.broadcast(&berthv1.ServerMessage{Body: &berthv1.ServerMessage_Open{Open: order}})
			c.mu.Unlock()
			stream := <-s.opened
			if f, err := stream.Recv(); err != nil || f.GetStreamId() != "stream-1" {
				t.Fatalf("the first frame is %v, %v", f, err)
			}
			return stream
		}
		stream := open(&berthv1.StreamOrder{Order: &berthv1.StreamOrder_Logs{Logs: &berthv1.LogsRequest{AllocId: "a1", FromStart: true}}})
		if f, err := stream.Recv(); err != nil || string(f.GetLog().GetData()) != "hello\n" {
			t.Errorf("log: %v, %v", f, err)
		}
		if f, err := stream.Recv(); err != nil || !f.GetDone() {
			t.Errorf("end: %v, %v", f, err)
		}
		stream = open(&berthv1.StreamOrder{Order: &berthv1.StreamOrder_Exec{Exec: &berthv1.ExecStart{AllocId: "a1", Command: []string{"cat"}}}})
		for _, f := range []*berthv1.ExecFrame{
			{Body: &berthv1.ExecFrame_Stdin{Stdin: []byte("echo")}}, {Body: &berthv1.ExecFrame_StdinClose{StdinClose: true}},
		} {
			if err := stream.Send(&berthv1.StreamFrame{Body: &berthv1.StreamFrame_Exec{Exec: f}}); err != nil {
				t.Fatal(err)
			}
		}
		if f, err := stream.Recv(); err != nil || string(f.GetExec().GetStdout()) != "echo" {
			t.Errorf("exec: %v, %v", f, err)
		}
		if f, err := stream.Recv(); err != nil || f.GetExec().GetExit() == nil {
			t.Errorf("exit: %v, %v", f, err)
		}
		stream = open(&berthv1.StreamOrder{Order: &berthv1.StreamOrder_Restart{Restart: &berthv1.RestartAllocRequest{AllocId: "nothing"}}})
		if f, err := stream.Recv(); err != nil || f.GetProblem().GetKind() != "not_found" {
			t.Errorf("restart of nothing: %v, %v", f, err)
		}
	})
}
