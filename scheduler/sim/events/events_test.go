package events

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// stream writes events a minute apart.
type stream struct {
	t *testing.T
	bytes.Buffer
	n int
}

func (s *stream) add(e *berthv1.Event) {
	s.n++
	e.Index, e.Time = uint64(s.n), timestamppb.New(time.Unix(int64(60*s.n), 0))
	line, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(e)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Write(append(line, '\n'))
}

func (s *stream) alloc(i int, status berthv1.Alloc_Status) {
	s.add(&berthv1.Event{Topic: "alloc", Type: "updated", Key: fmt.Sprint(i), Item: &berthv1.Event_Alloc{Alloc: &berthv1.Alloc{
		Id: fmt.Sprint(i), Namespace: "default", Job: "web", Group: "main", NodeId: "n1", Status: status}}})
}

func node(name string) *berthv1.Node {
	return &berthv1.Node{Id: name, Name: name, Status: berthv1.Node_ready, Drivers: []*berthv1.DriverInfo{{Name: "exec", Healthy: true}},
		Hardware: &berthv1.Hardware{Cells: []*berthv1.Cell{{MemoryMib: 1000, Cores: []string{"0", "1", "2", "3"}}}}}
}

func TestReplay(t *testing.T) {
	s := &stream{t: t}
	s.WriteString("{\"index\":\"1\"}\n\n") // a heartbeat, and an empty line
	s.add(&berthv1.Event{Topic: "node", Type: "created", Item: &berthv1.Event_Node{Node: node("n1")}})
	s.alloc(0, berthv1.Alloc_pending) // its job is not known yet
	s.add(&berthv1.Event{Topic: "job", Type: "created", Item: &berthv1.Event_Job{Job: &berthv1.Job{Name: "web", Namespace: "default", Type: berthv1.Job_batch,
		Groups: []*berthv1.Group{{Name: "main", Tasks: []*berthv1.Task{{Name: "t", Driver: "exec", Resources: &berthv1.Resources{Cores: 2, MemoryMib: 10}}}}}}}})
	s.alloc(1, berthv1.Alloc_pending)
	s.alloc(1, berthv1.Alloc_running) // the same
	s.alloc(2, berthv1.Alloc_running)
	s.alloc(3, berthv1.Alloc_running) // n1 is full
	s.alloc(1, berthv1.Alloc_complete)
	s.alloc(4, berthv1.Alloc_running)
	s.add(&berthv1.Event{Topic: "alloc", Type: "deleted", Key: "2"})
	s.add(&berthv1.Event{Topic: "node", Type: "deleted", Key: "n1"})
	text := s.String()
	for _, test := range []struct {
		nodes []*berthv1.Node
		want  Result
	}{
		{nil, Result{Arrived: 4, Unplaced: 1, Skipped: 1, Events: 11}},
		{[]*berthv1.Node{node("m1"), node("m2")}, Result{Arrived: 4, Skipped: 1, Events: 11}},
	} {
		for _, policy := range Policies() {
			r, err := Replay(strings.NewReader(text), &Start{Nodes: test.nodes}, policy)
			if err != nil {
				t.Fatal(err)
			}
			if r.Arrived != test.want.Arrived || r.Unplaced != test.want.Unplaced || r.Skipped != test.want.Skipped || r.Events != test.want.Events || r.Violations != 0 {
				t.Errorf("%s with %d nodes: %+v", policy, len(test.nodes), r)
			}
			if len(r.Samples) < 10 {
				t.Fatalf("%d samples", len(r.Samples))
			}
			if full := r.Samples[6]; test.nodes == nil && (full.CPUPercent != 100 || full.Allocs != 2 || full.EmptyNodes != 0) {
				t.Errorf("while n1 is full: %+v", full)
			}
			if last := r.Samples[len(r.Samples)-1]; last.Nodes != len(test.nodes) || test.nodes == nil && last.Allocs != 0 {
				t.Errorf("at the end: %+v", last)
			}
		}
	}
}

// What was there before the first event is placed first.
func TestReplayFromTheMiddle(t *testing.T) {
	s := &stream{t: t}
	s.alloc(1, berthv1.Alloc_complete)
	job := &berthv1.Job{Name: "web", Namespace: "default", Type: berthv1.Job_batch, Groups: []*berthv1.Group{{Name: "main",
		Tasks: []*berthv1.Task{{Name: "t", Driver: "exec", Resources: &berthv1.Resources{Cores: 2, MemoryMib: 10}}}}}}
	start := &Start{Nodes: []*berthv1.Node{node("n1")}, Jobs: []*berthv1.Job{job}}
	for i, status := range []berthv1.Alloc_Status{berthv1.Alloc_complete, berthv1.Alloc_running, berthv1.Alloc_running} {
		start.Allocs = append(start.Allocs, &berthv1.Alloc{Id: fmt.Sprint(i), Namespace: "default", Job: "web", Group: "main", NodeId: "n1", Status: status})
	}
	r, err := Replay(s, start, "berth")
	if err != nil || r.Arrived != 2 || len(r.Samples) != 1 || r.Samples[0].Allocs != 1 || r.Samples[0].CPUPercent != 50 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestReplayRefuses(t *testing.T) {
	if _, err := Replay(strings.NewReader("{}\nnonsense\n"), &Start{}, "berth"); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Error(err)
	}
	if _, err := Replay(strings.NewReader(""), &Start{}, "FGD"); err == nil || !strings.Contains(err.Error(), "no policy") {
		t.Error(err)
	}
}
