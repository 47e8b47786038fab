package scheduler

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// nodesOf makes a fleet of nodes with a cell of so many cores, each changed by set.
func nodesOf(t *testing.T, names string, cores int, set func(name string, n *berthv1.Node)) *world {
	t.Helper()
	w := &world{t: t, f: NewFleet(), nodes: map[string]*berthv1.Node{}}
	for _, name := range strings.Fields(names) {
		w.run("node " + name)
		w.run(fmt.Sprintf("cell %dx1 64000", cores))
		if set != nil {
			set(name, w.last)
		}
	}
	w.flush()
	return w
}

func placeJob(t *testing.T, f *Fleet, job *berthv1.Job) (byNode map[string]int, left *berthv1.Explanation) {
	t.Helper()
	g, err := Compile(job, job.GetGroups()[0])
	if err != nil {
		t.Fatal(err)
	}
	placed, unplaced := Place(f, []*Ask{{Group: g, Count: g.Count}})
	byNode = map[string]int{}
	for _, p := range placed {
		byNode[p.NodeName]++
	}
	if len(unplaced) > 0 {
		left = unplaced[0].Explanation
	}
	return byNode, left
}

func TestTolerates(t *testing.T) {
	for _, c := range []struct {
		toleration *berthv1.Toleration
		taint      string
		want       bool
	}{
		{&berthv1.Toleration{Key: "a", Value: "1", Operator: "="}, "a=1", true},
		{&berthv1.Toleration{Key: "a", Value: "1"}, "a=1", true},
		{&berthv1.Toleration{Key: "a", Value: "1"}, "a=2", false},
		{&berthv1.Toleration{Key: "a", Value: "1"}, "b=1", false},
		{&berthv1.Toleration{Key: "a"}, "a", true},
		{&berthv1.Toleration{Key: "a"}, "a=1", false},
		{&berthv1.Toleration{Key: "a", Operator: "exists"}, "a=1", true},
		{&berthv1.Toleration{Key: "a", Operator: "exists"}, "a", true},
		{&berthv1.Toleration{Key: "a", Operator: "exists"}, "ab", false},
		{&berthv1.Toleration{Operator: "exists"}, "anything=x", true},
		{&berthv1.Toleration{}, "a", false},
	} {
		key, value, _ := strings.Cut(c.taint, "=")
		compiled := compileTolerations([]*berthv1.Toleration{c.toleration, c.toleration})
		if len(compiled) != 1 {
			t.Errorf("%v twice is %d tolerations", c.toleration, len(compiled))
		}
		if got := compiled[0].tolerates(&berthv1.Taint{Key: key, Value: value}); got != c.want {
			t.Errorf("%v tolerates %s: %v, want %v", c.toleration, c.taint, got, c.want)
		}
	}
}

// Taints of the agent and the operator keep off; avoid gives way; a toleration of job or
// group lets it on.
func TestTaints(t *testing.T) {
	set := func(name string, n *berthv1.Node) {
		switch name {
		case "kept":
			n.Taints = []*berthv1.Taint{{Key: "dedicated", Value: "db"}}
		case "ops":
			n.OperatorTaints = []*berthv1.Taint{{Key: "maintenance"}}
		case "avoid":
			n.Taints = []*berthv1.Taint{{Key: "spot", Effect: berthv1.Taint_avoid}}
		}
	}
	job := func() *berthv1.Job {
		return jobOf(t, "web", parseOptions([]string{"count=8", "cpu=1000", "mem=100", "type=batch"}))
	}
	got, left := placeJob(t, nodesOf(t, "kept ops avoid free", 4, set).f, job())
	if want := map[string]int{"free": 4, "avoid": 4}; !maps.Equal(got, want) || left != nil {
		t.Errorf("placed %v (%v), want %v", got, left, want)
	}
	one := job()
	one.Groups[0].Count = new(uint32)
	*one.Groups[0].Count = 4
	if got, _ = placeJob(t, nodesOf(t, "avoid free", 4, set).f, one); got["avoid"] != 0 {
		t.Errorf("an avoided node was taken while another fits: %v", got)
	}
	f := nodesOf(t, "kept ops", 4, set).f
	_, left = placeJob(t, f, job())
	text := left.String()
	for _, want := range []string{"taint dedicated=db", "taint maintenance", `1 node would fit with toleration { key = \"dedicated\", value = \"db\" }`,
		`1 node would fit with toleration { key = \"maintenance\" }`} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %s", want, text)
		}
	}
	tolerant := job()
	tolerant.Tolerations = []*berthv1.Toleration{{Key: "dedicated", Value: "db"}}
	tolerant.Groups[0].Tolerations = []*berthv1.Toleration{{Key: "maintenance", Operator: "exists"}}
	if got, left = placeJob(t, f, tolerant); left != nil || got["kept"] != 4 || got["ops"] != 4 {
		t.Errorf("tolerating both, it is on %v (%v)", got, left)
	}
}

// Architectures get their shares; one without a weight only what fits nowhere else.
func TestArchWeights(t *testing.T) {
	set := func(name string, n *berthv1.Node) { n.Arch, _, _ = strings.Cut(name, "-") }
	weights := []*berthv1.ArchWeight{{Arch: "amd64", Weight: 3}, {Arch: "arm64", Weight: 1}}
	for _, c := range []struct {
		count int
		want  map[string]int
	}{
		{8, map[string]int{"amd64-1": 6, "arm64-1": 2}},
		{4, map[string]int{"amd64-1": 3, "arm64-1": 1}},
		{16, map[string]int{"amd64-1": 8, "arm64-1": 8}},
		{20, map[string]int{"amd64-1": 8, "arm64-1": 8, "riscv64-1": 4}},
	} {
		job := jobOf(t, "web", parseOptions([]string{fmt.Sprintf("count=%d", c.count), "cpu=1000", "mem=100", "type=batch"}))
		job.ArchWeights = weights
		got, left := placeJob(t, nodesOf(t, "riscv64-1 amd64-1 arm64-1", 8, set).f, job)
		if !maps.Equal(got, c.want) || left != nil {
			t.Errorf("%d instances are on %v (%v), want %v", c.count, got, left, c.want)
		}
	}
}

// A job's strategy is over the cluster's.
func TestJobStrategy(t *testing.T) {
	for _, cluster := range []berthv1.SchedulerConfig_Strategy{berthv1.SchedulerConfig_binpack, berthv1.SchedulerConfig_spread} {
		for strategy, nodes := range map[string]int{"binpack": 1, "spread": 4} {
			w := nodesOf(t, "n1 n2 n3 n4", 8, nil)
			w.f.SetStrategy(cluster)
			job := jobOf(t, "job", parseOptions([]string{"count=4", "cpu=1000", "mem=100", "type=batch"}))
			job.Strategy = strategy
			if got, _ := placeJob(t, w.f, job); len(got) != nodes {
				t.Errorf("in a cluster with %v, %s gives %v, want %d nodes", cluster, strategy, got, nodes)
			}
		}
	}
	job := jobOf(t, "job", options{})
	job.Strategy = "best"
	if _, err := Compile(job, job.GetGroups()[0]); err == nil {
		t.Error("a strategy that does not exist compiles")
	}
}

func TestReserve(t *testing.T) {
	w := nodesOf(t, "n1 n2", 4, nil)
	training := &berthv1.Reservation{Name: "training", NodeIds: []string{"id-n1", "id-later"}, Jobs: []string{"default/train"}}
	place := func(name, reservation string) (map[string]int, string) {
		job := jobOf(t, name, parseOptions([]string{"count=1", "cpu=100", "mem=100", "type=batch"}))
		job.Reservation = reservation
		got, left := placeJob(t, w.f, job)
		return got, left.String()
	}
	if _, why := place("train", "training"); !strings.Contains(why, "node is not reserved by training") {
		t.Errorf("before it holds: %s", why)
	}
	w.f.Reserve([]*berthv1.Reservation{training})
	if got, _ := place("web", ""); got["n2"] != 1 {
		t.Errorf("another job is on %v", got)
	}
	if got, _ := place("train", "training"); got["n1"] != 1 {
		t.Errorf("its job is on %v", got)
	}
	if _, why := place("other", "training"); !strings.Contains(why, "reservation training is not for this job") {
		t.Errorf("a job that may not: %s", why)
	}
	if _, why := place("train", "nights"); !strings.Contains(why, "node is not reserved by nights") {
		t.Errorf("a reservation that is not there: %s", why)
	}
	w.run("node later")
	w.run("cell 4x1 64000")
	w.flush()
	if got, _ := place("web", ""); got["later"] != 0 {
		t.Errorf("a reserved node that comes later takes %v", got)
	}
	w.f.Reserve(nil)
	if got, _ := place("big", ""); len(got) != 1 {
		t.Errorf("when it is over, nothing fits: %v", got)
	}
	if _, why := place("train", "training"); !strings.Contains(why, "node is not reserved by training") {
		t.Errorf("when it is over: %s", why)
	}
}

func TestReservationTimes(t *testing.T) {
	at := func(h int) time.Time { return time.Date(2026, 1, 1, h, 0, 0, 0, time.UTC) }
	r := func(start, end int) *berthv1.Reservation {
		out := &berthv1.Reservation{NodeIds: []string{"a", "b"}}
		if start > 0 {
			out.StartTime = timestamppb.New(at(start))
		}
		if end > 0 {
			out.EndTime = timestamppb.New(at(end))
		}
		return out
	}
	for _, c := range []struct {
		r     *berthv1.Reservation
		now   int
		holds bool
		next  int // 0: never
	}{
		{r(0, 0), 5, true, 0}, {r(3, 0), 2, false, 3}, {r(3, 0), 3, true, 0},
		{r(3, 6), 2, false, 3}, {r(3, 6), 5, true, 6}, {r(3, 6), 6, false, 0}, {r(0, 6), 1, true, 6},
	} {
		next := ReservationChange(c.r, at(c.now))
		if got := ReservationHolds(c.r, at(c.now)); got != c.holds || next.IsZero() != (c.next == 0) || c.next > 0 && !next.Equal(at(c.next)) {
			t.Errorf("%v at %d: holds %v, next %v", c.r, c.now, got, next)
		}
	}
	for _, c := range []struct {
		a, b *berthv1.Reservation
		want bool
	}{
		{r(0, 0), r(0, 0), true}, {r(1, 2), r(2, 3), false}, {r(2, 3), r(1, 2), false}, {r(1, 3), r(2, 4), true},
		{r(0, 2), r(2, 0), false}, {r(0, 3), r(2, 0), true},
	} {
		if _, got := ReservationsOverlap(c.a, c.b); got != c.want {
			t.Errorf("%v and %v overlap: %v", c.a, c.b, got)
		}
	}
}
