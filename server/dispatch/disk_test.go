package dispatch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// diskWorld has a stateful job "db", and the sessions of the nodes n1 at s1 and n2 at s2.
func diskWorld(t *testing.T) (*world, map[string]*client) {
	w, _ := newWorld(t)
	job := &berthv1.Job{Name: "db", Namespace: "default", Version: 1, Groups: []*berthv1.Group{
		{Name: "g", Stateful: &berthv1.Stateful{StickyDisk: true}}, {Name: "bare", Stateful: &berthv1.Stateful{}}}}
	w.propose(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_JobRegistered{JobRegistered: &berthv1.JobRegistered{Job: job}}
	})
	clients := map[string]*client{"n1": w.dial("s1", testNode("n1")), "n2": w.dial("s2", testNode("n2"))}
	for _, c := range clients {
		c.assignments()
	}
	time.Sleep(2 * time.Second) // the leader hears where the sessions are
	return w, clients
}

// succeed places an alloc in the place of another one (0: none), which has ended.
func (w *world) succeed(node, group string, id, before int, ran bool) {
	w.t.Helper()
	a := &berthv1.Alloc{Id: allocID(id), Namespace: "default", Job: "db", JobVersion: 1, Group: group, NodeId: node,
		Assignment: &berthv1.Assignment{Tasks: []*berthv1.TaskGrant{{Task: "t", Cells: []*berthv1.CellGrant{{MemoryMib: 10}}}}}}
	if before > 0 {
		a.PreviousAlloc = allocID(before)
	}
	w.propose(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_Plan{Plan: &berthv1.Plan{Placements: []*berthv1.Alloc{a}}}
	})
	if ran {
		w.report(id, berthv1.Alloc_complete, &berthv1.TaskState{Task: "t", StartTime: timestamppb.Now()})
	}
}

func (w *world) report(id int, status berthv1.Alloc_Status, tasks ...*berthv1.TaskState) {
	w.t.Helper()
	w.propose(func(e *berthv1.LogEntry) {
		e.Fact = &berthv1.LogEntry_AllocsReported{AllocsReported: &berthv1.AllocsReported{
			Updates: []*berthv1.AllocStatusUpdate{{AllocId: allocID(id), Status: status, Tasks: tasks}}}}
	})
}

// serveDisks answers the orders for a node's disks with as many chunks as sent counts down.
func (w *world) serveDisks(c *client, server string, disks map[string]int, sent *atomic.Int64) {
	for {
		m, err := c.stream.Recv()
		if err != nil {
			return
		}
		order := m.GetOpen()
		if order == nil {
			continue
		}
		go func() {
			s, err := berthv1.NewAgentServiceClient(w.conns[server]).Stream(context.Background())
			if err != nil {
				return
			}
			_ = s.Send(&berthv1.StreamFrame{Body: &berthv1.StreamFrame_StreamId{StreamId: order.GetStreamId()}})
			id := order.GetSendDisk().GetAllocId()
			last := &berthv1.StreamFrame{Body: &berthv1.StreamFrame_Done{Done: true}}
			chunks, has := disks[id]
			if !has {
				last.Body = &berthv1.StreamFrame_Problem{Problem: problem.New(problem.NotFound, "", "alloc %s has no sticky disk", id).Proto()}
			}
			for i := range chunks {
				c := &berthv1.FileChunk{Data: bytes.Repeat([]byte(id[len(id)-1:]), 1000), Offset: int64(i) * 1000}
				if s.Send(&berthv1.StreamFrame{Body: &berthv1.StreamFrame_Chunk{Chunk: c}}) != nil {
					return
				}
				sent.Add(1)
			}
			_ = s.Send(last)
			_ = s.CloseSend()
		}()
	}
}

// fetch has a node fetch the disk for an alloc, at s2, and gives what came.
func (w *world) fetch(node string, id int) (string, error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	stream, err := berthv1.NewAgentServiceClient(w.conns["s2"]).FetchDisk(ctx, &berthv1.FetchDiskRequest{NodeId: node, AllocId: allocID(id)})
	if err != nil {
		w.t.Fatal(err)
	}
	var got []byte
	for {
		c, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return string(got), nil
		}
		if err != nil {
			return string(got), problem.From(err)
		}
		got = append(got, c.GetData()...)
	}
}

// A disk goes from the agent of one server to the agent of another, from the newest
// predecessor that has one.
func TestDisksAreRelayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, clients := diskWorld(t)
		w.succeed("n1", "g", 1, 0, true)
		w.succeed("n1", "g", 2, 1, false) // never ran: 1 has the disk
		w.report(2, berthv1.Alloc_failed)
		w.succeed("n2", "g", 3, 2, false) // so did this, on the node that asks
		w.report(3, berthv1.Alloc_failed)
		w.succeed("n2", "g", 4, 3, false)
		w.succeed("n2", "g", 5, 0, false)    // the first
		w.succeed("n1", "g", 6, 0, true)     // ran, and has none
		w.succeed("n2", "g", 7, 6, false)    // its successor
		w.succeed("n2", "bare", 8, 6, false) // its group has no sticky disk
		w.succeed("n1", "g", 9, 1, false)    // of another node
		var sent atomic.Int64
		go w.serveDisks(clients["n1"], "s1", map[string]int{allocID(1): 100}, &sent)
		go w.serveDisks(clients["n2"], "s2", nil, &sent)

		if got, err := w.fetch("n2", 4); err != nil || got != strings.Repeat("1", 100000) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		for id, kind := range map[int]problem.Kind{5: problem.NotFound, 7: problem.NotFound, 8: problem.Denied, 9: problem.Denied, 3: problem.Denied, 99: problem.Denied} {
			got, err := w.fetch("n2", id)
			if !problem.Is(err, kind) || got != "" {
				t.Errorf("alloc %d: %q, %v, want %s", id, got, err, kind)
			}
			t.Logf("alloc %d: %v", id, err)
		}
		if _, err := w.fetch("n1", 4); !problem.Is(err, problem.Unavailable) {
			t.Errorf("for a node of another server: %v", err)
		}
	})
}

// While the node that has the disk is away its successor waits; when it is gone for good
// the disk is, too.
func TestADiskWhoseNodeIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, clients := diskWorld(t)
		go func() { // n2 stays
			for t.Context().Err() == nil {
				select {
				case <-t.Context().Done():
				case <-time.After(time.Second):
				}
				if clients["n2"].stream.Send(&berthv1.AgentMessage{Body: &berthv1.AgentMessage_Heartbeat{Heartbeat: &berthv1.Heartbeat{}}}) != nil {
					return
				}
			}
		}()
		go w.serveDisks(clients["n2"], "s2", nil, &atomic.Int64{})
		w.succeed("n1", "g", 1, 0, true)
		w.succeed("n2", "g", 2, 1, false)
		clients["n1"].cancel()
		for range 3 {
			time.Sleep(10 * time.Second)
			_, err := w.fetch("n2", 2)
			if !problem.Is(err, problem.Unavailable) {
				t.Errorf("its node is away: %v", err)
			}
			t.Log(err)
		}
		if s := w.store.View().Node("n1").GetStatus(); s != berthv1.Node_down {
			t.Fatalf("it is %v", s)
		}
		w.propose(func(e *berthv1.LogEntry) {
			e.Fact = &berthv1.LogEntry_NodesChanged{NodesChanged: &berthv1.NodesChanged{NodeIds: []string{"n1"}, Remove: true}}
		})
		_, err := w.fetch("n2", 2)
		if !problem.Is(err, problem.NotFound) {
			t.Errorf("its node was removed: %v", err)
		}
		t.Log(err)
	})
}

// A large disk for a slow agent is not kept on the way, and one that goes away ends it.
func TestASlowAgentSlowsDownTheSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, clients := diskWorld(t)
		w.succeed("n1", "g", 1, 0, true)
		w.succeed("n2", "g", 2, 1, false)
		var sent atomic.Int64
		go w.serveDisks(clients["n1"], "s1", map[string]int{allocID(1): 100000}, &sent)
		go w.serveDisks(clients["n2"], "s2", nil, &sent)
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := berthv1.NewAgentServiceClient(w.conns["s2"]).FetchDisk(ctx, &berthv1.FetchDiskRequest{NodeId: "n2", AllocId: allocID(2)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		stuck := sent.Load()
		if stuck == 0 || stuck > 2000 {
			t.Errorf("%d kB of 100 MB are on the way to an agent that has read 1 kB", stuck)
		}
		t.Logf("%d kB are on the way", stuck)
		cancel()
		time.Sleep(time.Minute)
		if got := sent.Load(); got > stuck+2000 {
			t.Errorf("it goes on to nobody: %d kB", got)
		}
	})
}
