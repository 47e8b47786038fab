package whatif

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
	"github.com/berthd/berth/scheduler/sim/draw"
)

// node makes one of a cell with so many cores of one thread and a GiB each.
func node(name string, cores int) *berthv1.Node {
	cell := &berthv1.Cell{MemoryMib: uint64(cores) * 1024}
	for k := range cores {
		cell.Cores = append(cell.Cores, fmt.Sprint(k))
	}
	return &berthv1.Node{Id: "id-" + name, Name: name, Status: berthv1.Node_ready, Arch: "amd64",
		Drivers: []*berthv1.DriverInfo{{Name: "exec", Healthy: true}}, Hardware: &berthv1.Hardware{Cells: []*berthv1.Cell{cell}}}
}

func job(name string, priority, count, cores uint32) *berthv1.Job {
	return &berthv1.Job{Name: name, Namespace: "default", Type: berthv1.Job_service, Priority: priority, Groups: []*berthv1.Group{{
		Name: "main", Count: &count, Tasks: []*berthv1.Task{{Name: "main", Driver: "exec", Resources: &berthv1.Resources{Cores: cores, MemoryMib: 64}}}}}}
}

// state places the jobs on the nodes as far as they fit.
func state(t *testing.T, nodes []*berthv1.Node, jobs ...*berthv1.Job) *State {
	t.Helper()
	s := &State{Config: &berthv1.SchedulerConfig{}, Nodes: nodes, Jobs: jobs}
	f := scheduler.NewFleet()
	for _, n := range nodes {
		if _, err := f.UpsertNode(n); err != nil {
			t.Fatal(err)
		}
	}
	for _, j := range jobs {
		g, err := scheduler.Compile(j, j.GetGroups()[0])
		if err != nil {
			t.Fatal(err)
		}
		placed, _ := scheduler.Place(f, []*scheduler.Ask{{Group: g, Count: g.Count, Silent: true}})
		for i, p := range placed {
			s.Allocs = append(s.Allocs, &berthv1.Alloc{Id: fmt.Sprintf("%s-%d", j.GetName(), i), Namespace: "default", Job: j.GetName(), Group: "main",
				Index: uint32(i), NodeId: p.NodeID, Assignment: p.Assignment, Status: berthv1.Alloc_running})
		}
	}
	return s
}

func answer(t *testing.T, s *State, q *Question) *Answer {
	t.Helper()
	before := proto.Clone(s.Nodes[0])
	a, err := Ask(s, q)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Ask(s, q)
	if err != nil || !reflect.DeepEqual(words(a), words(again)) {
		t.Errorf("the same question has another answer: %v, %v", words(again), err)
	}
	if !proto.Equal(before, s.Nodes[0]) {
		t.Error("the state was changed")
	}
	return a
}

// words is an answer in short.
func words(a *Answer) string {
	var b strings.Builder
	for _, p := range a.Placements {
		fmt.Fprintf(&b, "%s %s on %s; ", p.Why, p.Job, p.Node)
	}
	for _, u := range a.Unplaced {
		fmt.Fprintf(&b, "%s: %d of %s not placed", u.Why, u.Count, u.Job)
		for _, w := range u.Ways {
			fmt.Fprintf(&b, ", on %s without", w.NodeName)
			for _, v := range w.Victims {
				fmt.Fprintf(&b, " %s", v.Alloc.GetId())
			}
		}
		b.WriteString("; ")
	}
	return strings.TrimSuffix(b.String(), "; ")
}

func TestAsk(t *testing.T) {
	two := func() []*berthv1.Node { return []*berthv1.Node{node("n1", 4), node("n2", 4)} }
	tests := []struct {
		name  string
		state *State
		q     Question
		want  string
	}{
		{"nothing asked, nothing waits", state(t, two(), job("a", 50, 2, 2)), Question{}, ""},
		{"a job fits", state(t, two(), job("a", 50, 1, 2)), Question{Job: job("b", 50, 1, 4)}, "job b on n1"},
		{"a job does not", state(t, two(), job("a", 50, 2, 4)), Question{Job: job("b", 50, 1, 4)}, "job: 1 of b not placed"},
		{"a job does not, but others would give way", state(t, two(), job("a", 50, 2, 4)), Question{Job: job("b", 60, 1, 4)},
			"job: 1 of b not placed, on n2 without a-0"},
		{"a newer version takes the place of the older", state(t, two(), job("a", 50, 2, 4)), Question{Job: job("a", 50, 1, 3)}, "job a on n2"},
		{"what waits finds a place on a new node", state(t, two(), job("a", 50, 3, 4)), Question{Add: 1, Like: "n1"}, "waiting a on n1-new1"},
		{"what waits goes on waiting", state(t, two(), job("a", 50, 3, 4)), Question{}, "waiting: 1 of a not placed"},
		{"a drained node is emptied", state(t, two(), job("a", 50, 1, 3)), Question{Drain: []string{"n2"}}, "displaced a on n1"},
		{"a removed node too", state(t, two(), job("a", 50, 1, 3)), Question{Remove: []string{"id-n2"}}, "displaced a on n1"},
		{"nowhere to go", state(t, two(), job("a", 50, 2, 3)), Question{Drain: []string{"n2"}}, "displaced: 1 of a not placed"},
		{"one comes for one that goes", state(t, two(), job("a", 50, 2, 3)), Question{Remove: []string{"n2"}, Add: 1, Like: "n1"}, "displaced a on n1-new1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a := answer(t, test.state, &test.q)
			if got := words(a); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			for _, u := range a.Unplaced {
				if u.Explanation.GetNodes() == 0 {
					t.Errorf("not explained: %v", u.Explanation)
				}
			}
		})
	}
}

func TestLoadAndPicture(t *testing.T) {
	s := state(t, []*berthv1.Node{node("n1", 4), node("n2", 4)}, job("a", 50, 2, 2), job("b", 20, 1, 2))
	a := answer(t, s, &Question{Add: 2, Like: "n1", Drain: []string{"n2"}, Job: job("c", 70, 2, 4)})
	want := Load{Nodes: 2, Allocs: 3, Milli: 8000, MilliUsed: 6000, MemoryMiB: 8192, MemoryUsed: 192}
	if a.Before != want {
		t.Errorf("before %+v, want %+v", a.Before, want)
	}
	if a.After.Nodes != 4 || a.After.Milli != 16000 {
		t.Errorf("after %+v", a.After)
	}
	f := a.Picture(s, "it", false)
	marks := map[draw.Mark]int{}
	for _, n := range f.Nodes {
		marks[n.Mark]++
	}
	if marks[draw.Added] != 2 || marks[draw.Leaving] != 1 || len(f.Nodes) != 4 {
		t.Errorf("marks of nodes: %v", marks)
	}
	added := 0
	for _, x := range f.Allocs {
		if x.Mark == draw.Added {
			added++
		}
	}
	if added != len(a.Placements) || added == 0 {
		t.Errorf("%d new in the picture, %d placed", added, len(a.Placements))
	}
	if svg := string(draw.SVG(f)); !strings.Contains(svg, "n1-new2") {
		t.Error("a new node is not in the picture")
	}
}

func TestSenselessQuestions(t *testing.T) {
	s := state(t, []*berthv1.Node{node("n1", 4), node("n1", 4)})
	s.Nodes[1].Id = "id-x"
	for want, q := range map[string]Question{
		"-add-nodes":    {Add: -1, Like: "n1"},
		"-like":         {Like: "id-x"},
		"-remove-nodes": {Remove: []string{"nobody"}},
		"-drain":        {Drain: []string{"n1"}}, // there are two
	} {
		_, err := Ask(s, &q)
		if err == nil || problem.From(err).Field != want {
			t.Errorf("%s: %v", want, err)
		}
	}
	bad := job("bad", 50, 1, 1)
	bad.Groups[0].Tasks[0].Resources.CoreUnit = "half"
	if _, err := Ask(s, &Question{Job: bad}); err == nil {
		t.Error("a job that makes no sense was taken")
	}
}

// Quotas and reservations count as they do on the servers.
func TestLimits(t *testing.T) {
	two := []*berthv1.Node{node("n1", 4), node("n2", 4)}
	quota := func(milli uint64) func(*State) {
		return func(s *State) {
			s.Namespaces = []*berthv1.Namespace{{Name: "default", Quota: &berthv1.Quota{CpuMilli: milli}}}
		}
	}
	reserved := func(s *State) {
		s.Reservations = []*berthv1.Reservation{{Name: "r", NodeIds: []string{"id-n1", "id-n2"}, Jobs: []string{"default/mine"}}}
	}
	mine := job("mine", 50, 1, 2)
	mine.Reservation = "r"
	for _, test := range []struct {
		name  string
		limit func(*State)
		job   *berthv1.Job
		want  string
	}{
		{"no quota", func(*State) {}, job("b", 90, 1, 2), "job b on n1"},
		{"quota has room", quota(4000), job("b", 90, 1, 2), "job b on n1"},
		{"quota is used, nobody gives way", quota(3000), job("b", 90, 1, 2), "job: 1 of b not placed"},
		{"an older version's part of it is free again", quota(2000), job("a", 50, 1, 2), "job a on n1"},
		{"reserved for another", reserved, job("b", 50, 1, 2), "job: 1 of b not placed"},
		{"reserved for it", reserved, mine, "job mine on n1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := state(t, two, job("a", 20, 1, 2))
			on := s.Allocs[0].GetNodeId()
			test.limit(s)
			got := words(answer(t, s, &Question{Job: test.job}))
			if got = strings.ReplaceAll(got, strings.TrimPrefix(on, "id-"), "n1"); got != test.want && strings.ReplaceAll(got, "n2", "n1") != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}
