package plan

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

var updateWant = flag.Bool("update", false, "rewrite what the transcripts want")

// now is the time in all transcripts.
var now = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

// Each file in testdata has states and what Reconcile makes of them.
func TestReconcileTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			w := newWorld(t)
			for line := range strings.Lines(string(archive.Files[0].Data)) {
				w.run(strings.TrimRight(line, "\n"), &out)
			}
			if *updateWant {
				archive.Files = append(archive.Files[:1], txtar.File{Name: "want", Data: []byte(out.String())})
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := string(archive.Files[1].Data); out.String() != want {
				t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
			}
		})
	}
}

// world is a state in the making:
//
//	case WORDS                     starts with nothing
//	node NAME [STATUS] [since=DURATION]
//	job VERSION [type= count= env= kill= gone stopped dead attempts= delay= backoff= lost_after= keep= replace=false scheduled paused form]
//	                               the last one is the job, those before are kept versions
//	alloc ID INDEX NODE STATUS [v= stop next= rescheduled=N after=DURATION group=]
//	reconcile [at=DURATION]
//
// and what moves_test.go adds.
type world struct {
	t      testing.TB
	in     Input
	jobs   map[uint64]*berthv1.Job
	nodes  map[string]*berthv1.Node
	allocs []*berthv1.Alloc
	full   map[string]bool // nodes that have no room for other limits
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, jobs: map[uint64]*berthv1.Job{}, nodes: map[string]*berthv1.Node{}}
	w.in = Input{
		Now:     now,
		Version: func(v uint64) *berthv1.Job { return w.jobs[v] },
		Allocs:  func(yield func(*berthv1.Alloc) bool) { slices.Values(w.allocs)(yield) },
		Node:    func(id string) *berthv1.Node { return w.nodes[id] },
		Feasible: func(*berthv1.Group) (ids []string) {
			for id, n := range w.nodes {
				if n.GetStatus() == berthv1.Node_ready && n.GetEligibility() == berthv1.Node_eligible {
					ids = append(ids, id)
				}
			}
			slices.Sort(ids)
			return ids
		},
		Allows: func(*berthv1.Group, string) bool { return true },
	}
	return w
}

func fields(line string) (words []string, opts map[string]string) {
	opts = map[string]string{}
	for _, f := range strings.Fields(line) {
		if k, v, ok := strings.Cut(f, "="); ok {
			opts[k] = v
		} else {
			words = append(words, f)
			opts[f] = f
		}
	}
	return words, opts
}

func (w *world) duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil && s != "" {
		w.t.Fatal(err)
	}
	return d
}

func (w *world) number(s string, def uint64) uint64 {
	if s == "" {
		return def
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

func (w *world) run(line string, out *strings.Builder) {
	words, o := fields(line)
	if len(words) == 0 {
		return
	}
	switch words[0] {
	case "case":
		w.jobs, w.nodes, w.allocs, w.in.Job, w.in.Now = map[uint64]*berthv1.Job{}, map[string]*berthv1.Node{}, nil, nil, now
		w.in.Occupied, w.in.Told, w.in.Deployment = nil, nil, nil
		fmt.Fprintf(out, "%s\n", strings.TrimPrefix(line, "case "))
	case "node":
		n := &berthv1.Node{Id: words[1], Status: berthv1.Node_ready, StatusTime: timestamppb.New(now.Add(-w.duration(o["since"])))}
		if len(words) > 2 {
			n.Status = berthv1.Node_Status(berthv1.Node_Status_value[words[2]])
		}
		w.nodes[n.Id] = n
		w.drainOf(n, o)
		w.limitsOfNode(n, o)
	case "job":
		w.job(w.number(words[1], 1), o)
	case "alloc":
		w.alloc(words, o)
	case "reconcile":
		w.in.Now = now.Add(w.duration(o["at"]))
		draw(Reconcile(w.in), w.in.Now, out)
	default:
		w.t.Fatalf("unknown command %q", line)
	}
}

func (w *world) job(version uint64, o map[string]string) {
	count := uint32(w.number(o["count"], 1))
	g := &berthv1.Group{Name: "g", Count: &count, Tasks: []*berthv1.Task{{Name: "main", Env: map[string]string{"E": o["env"]}, KillSignal: o["kill"]}}}
	if o["attempts"] != "" {
		g.Reschedule = &berthv1.ReschedulePolicy{Attempts: proto.Uint32(uint32(w.number(o["attempts"], 0)))}
	}
	if o["delay"] != "" {
		if g.Reschedule == nil {
			g.Reschedule = &berthv1.ReschedulePolicy{}
		}
		g.Reschedule.Delay, g.Reschedule.Backoff = durationpb.New(w.duration(o["delay"])), o["backoff"]
	}
	if o["lost_after"] != "" {
		g.OnDisconnect = &berthv1.DisconnectPolicy{LostAfter: durationpb.New(w.duration(o["lost_after"])), Reconcile: o["keep"]}
		if o["replace"] == "false" {
			g.OnDisconnect.Replace = proto.Bool(false)
		}
	}
	movesOf(g, o, w)
	limitsOf(w, g, o)
	j := &berthv1.Job{Name: "j", Namespace: "default", Version: version, Groups: []*berthv1.Group{g}, Stopped: o["stopped"] != "",
		Type: berthv1.Job_Type(berthv1.Job_Type_value[o["type"]])}
	if o["dead"] != "" {
		j.Status = berthv1.Job_dead
	}
	if o["scheduled"] != "" || o["paused"] != "" {
		j.Schedule = &berthv1.Schedule{Crons: []string{"@daily"}, Paused: o["paused"] != ""}
	}
	if o["form"] != "" {
		j.Parameters = &berthv1.Parameters{}
	}
	w.jobs[version] = j
	if w.in.Job = j; o["gone"] != "" {
		w.in.Job = nil
	}
}

func (w *world) alloc(words []string, o map[string]string) {
	a := &berthv1.Alloc{Id: words[1], Job: "j", Namespace: "default", Group: "g", Index: uint32(w.number(words[2], 0)), NodeId: words[3],
		Status: berthv1.Alloc_Status(berthv1.Alloc_Status_value[words[4]]), JobVersion: w.number(o["v"], w.in.Job.GetVersion()),
		NextAlloc: o["next"], CreateRevision: uint64(len(w.allocs) + 1)}
	if o["stop"] != "" {
		a.Desired = berthv1.Alloc_stop
	}
	if o["group"] != "" {
		a.Group = o["group"]
	}
	for i := range w.number(o["rescheduled"], 0) {
		a.Reschedules = append(a.Reschedules, timestamppb.New(now.Add(-time.Duration(i+1)*time.Minute)))
	}
	if o["after"] != "" {
		a.RescheduleAfter = timestamppb.New(now.Add(w.duration(o["after"])))
	}
	w.movesOfAlloc(a, o)
	w.allocs = append(w.allocs, a)
}

// draw writes a result as a table.
func draw(r Result, at time.Time, out *strings.Builder) {
	for _, c := range r.Changes {
		fmt.Fprintf(out, "  change  %s", c.GetAllocId())
		if c.Desired != nil {
			fmt.Fprintf(out, "  %s: %s", c.GetDesired(), c.GetDesiredReason())
		}
		if c.Status != nil {
			fmt.Fprintf(out, "  is %s: %s", c.GetStatus(), c.GetStatusReason())
		}
		if c.GetJobVersion() != 0 {
			fmt.Fprintf(out, "  in place to v%d", c.GetJobVersion())
		}
		if c.GetPromote() {
			out.WriteString("  promoted")
		}
		if c.GetRescheduleAfter() != nil {
			fmt.Fprintf(out, "  not replaced for %s", c.GetRescheduleAfter().AsTime().Sub(at))
		}
		out.WriteString("\n")
	}
	for _, a := range r.Asks {
		fmt.Fprintf(out, "  ask     %s[%d]", a.Group.GetName(), a.Index)
		drawRolled(a, out)
		if a.Count > 1 {
			fmt.Fprintf(out, " to [%d]", int(a.Index)+a.Count-1)
		}
		if a.Node != "" {
			fmt.Fprintf(out, "  on %s", a.Node)
		}
		switch {
		case a.Resizes:
			fmt.Fprintf(out, "  other limits for, or else stopping %s", a.Previous.GetId())
		case a.Replaces:
			fmt.Fprintf(out, "  stopping %s", a.Previous.GetId())
		case a.Previous != nil:
			fmt.Fprintf(out, "  after %s", a.Previous.GetId())
		}
		if a.Moves {
			out.WriteString(" off its node")
		}
		drawIdentity(a, out)
		if a.Penalised != "" {
			fmt.Fprintf(out, "  rather not on %s", a.Penalised)
		}
		if len(a.Reschedules) > 0 {
			fmt.Fprintf(out, "  rescheduled %d times", len(a.Reschedules))
		}
		out.WriteString("\n")
	}
	drawHeld(r, out)
	if !r.Wake.IsZero() {
		fmt.Fprintf(out, "  wake    in %s\n", r.Wake.Sub(at))
	}
	fmt.Fprintf(out, "  job     %s", r.Status.Status)
	if r.Status.Reason != "" {
		fmt.Fprintf(out, " (%s)", r.Status.Reason)
	}
	for what, is := range map[string]bool{"rolling": r.Rolling} {
		if is {
			fmt.Fprintf(out, ", %s", what)
		}
	}
	out.WriteString("\n\n")
}

// carryOut does to the world what the FSM would do with a result of which every ask is
// placed, on any node that is up.
func (w *world) carryOut(r Result, pick func() string) {
	byID := map[string]*berthv1.Alloc{}
	for i, a := range w.allocs {
		w.allocs[i] = a.ShallowCopy()
		byID[a.GetId()] = w.allocs[i]
	}
	changes := slices.Clone(r.Changes)
	var asks []Ask
	for _, ask := range r.Asks {
		for k := range ask.Count {
			one := ask
			one.Index += uint32(k)
			asks = append(asks, one)
		}
	}
	for i, ask := range asks {
		if ask.Resizes && !w.full[ask.Previous.GetNodeId()] {
			changes = append(changes, &berthv1.AllocChange{AllocId: ask.Previous.GetId(), JobVersion: w.in.Job.GetVersion()})
			continue
		}
		if ask.StopsFirst {
			changes = append(changes, &berthv1.AllocChange{AllocId: ask.Previous.GetId(), Desired: berthv1.Alloc_stop.Enum()})
			continue
		}
		a := &berthv1.Alloc{Id: fmt.Sprintf("new-%d-%d", len(w.allocs), i), Job: "j", Namespace: "default", Group: ask.Group.GetName(),
			Index: ask.Index, NodeId: ask.Node, JobVersion: w.versionOf(ask), Canary: ask.Canary, PreviousAlloc: ask.Previous.GetId(),
			Reschedules: ask.Reschedules, CreateRevision: uint64(len(w.allocs) + 1)}
		if a.NodeId == "" {
			a.NodeId = pick()
		}
		if ask.Previous != nil {
			byID[ask.Previous.GetId()].NextAlloc = a.Id
		}
		if ask.Replaces {
			changes = append(changes, &berthv1.AllocChange{AllocId: ask.Previous.GetId(), Desired: berthv1.Alloc_stop.Enum()})
		}
		w.allocs = append(w.allocs, a)
	}
	for _, c := range changes {
		a := byID[c.GetAllocId()]
		if c.Desired != nil {
			a.Desired = c.GetDesired()
		}
		if c.Status != nil && !a.Ended() {
			a.Status = c.GetStatus()
		}
		if c.GetJobVersion() != 0 {
			w.inPlace(a, c.GetJobVersion())
		}
		if c.GetPromote() {
			a.Canary = false
		}
		if c.GetNextAlloc() != "" {
			a.NextAlloc = c.GetNextAlloc()
		}
		if c.GetRescheduleAfter() != nil {
			a.RescheduleAfter = c.GetRescheduleAfter()
		}
	}
	w.carryDeployment(r)
	if w.in.Job != nil {
		j := proto.Clone(w.in.Job).(*berthv1.Job)
		j.Status, j.StatusReason = r.Status.Status, r.Status.Reason
		w.in.Job, w.jobs[j.Version] = j, j
	}
}

func drawWorld(t *rapid.T) *world {
	w := newWorld(&testing.T{})
	var out strings.Builder
	pick := func(name string, of ...string) string { return rapid.SampledFrom(of).Draw(t, name) }
	w.run("node up", &out)
	for i := range rapid.IntRange(0, 3).Draw(t, "nodes") {
		w.run(fmt.Sprintf("node n%d %s since=%ds %s %s", i, pick("status", "ready", "down", "initializing"), rapid.IntRange(0, 120).Draw(t, "since"),
			pick("drain", "", "", "drain", "drain=-1s", "drain=1h occupied"), pick("limits", "", "", "full", "fixed")), &out)
	}
	kind := pick("type", "service", "batch", "system", "sysbatch")
	versions := rapid.IntRange(1, 3).Draw(t, "versions")
	for v := 1; v <= versions; v++ {
		w.run(fmt.Sprintf("job %d type=%s count=%d env=%s memory=%s %s %s %s %s %s", v, kind, rapid.IntRange(0, 5).Draw(t, "count"), pick("env", "a", "a", "b"), pick("memory", "64", "128"),
			pick("attempts", "", "attempts=2"), pick("delay", "", "delay=0s", "delay=10s backoff=constant"),
			pick("lost", "", "lost_after=60s", "lost_after=60s replace=false", "lost_after=60s keep=keep_old", "lost_after=60s keep=best"),
			pick("end", "", "", "", "stopped"), pick("most", "", "unavailable=0", "unavailable=2", "gang", "stateful", "stateful=parallel", "stateful sticky stop_after=60s")), &out)
	}
	for i := range rapid.IntRange(0, 8).Draw(t, "allocs") {
		next := ""
		if i > 0 {
			next = pick("next", "", "", fmt.Sprintf("next=a%d", rapid.IntRange(0, i-1).Draw(t, "which")))
		}
		w.run(fmt.Sprintf("alloc a%d %d %s %s v=%d %s %s rescheduled=%d %s %s", i, rapid.IntRange(0, 4).Draw(t, "index"),
			pick("node", "up", "n0", "n1", "gone"), pick("is", "pending", "running", "complete", "failed", "lost", "unknown"),
			rapid.IntRange(1, versions).Draw(t, "v"), pick("desired", "", "", "stop"), next,
			rapid.IntRange(0, 3).Draw(t, "rescheduled"), pick("after", "", "after=-1s", "after=30s"), pick("group", "", "", "", "group=other")), &out)
	}
	return w
}

// What Reconcile gives, carried out, leaves nothing to do, and no place is taken twice.
func TestReconcileIsAFixedPoint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		first := Reconcile(w.in)
		w.carryOut(first, func() string { return "up" })
		second := Reconcile(w.in)
		if len(second.Changes)+len(second.Asks) > 0 {
			var a, b strings.Builder
			draw(first, now, &a)
			draw(second, now, &b)
			t.Fatalf("first:\n%s\nthen:\n%s", a.String(), b.String())
		}
		w.carryOut(second, nil)
		if third := Reconcile(w.in); third.Status != second.Status {
			t.Fatalf("status %v, then %v", second.Status, third.Status)
		}
		taken := map[string]string{}
		for _, a := range w.allocs {
			if !a.Wanted() || a.Terminal() || a.GetStatus() == berthv1.Alloc_unknown {
				continue
			}
			key := fmt.Sprint(a.GetIndex())
			if strings.HasPrefix(w.in.Job.GetType().String(), "sys") {
				key = a.GetNodeId()
			}
			if other := taken[key]; other != "" {
				t.Fatalf("%s and %s are both in place %s", other, a.GetId(), key)
			}
			taken[key] = a.GetId()
			if !strings.HasPrefix(w.in.Job.GetType().String(), "sys") && w.in.Job.GetGroups()[0].GetStateful() == nil && a.GetIndex() >= w.in.Job.GetGroups()[0].GetCount() {
				t.Fatalf("%s has index %d", a.GetId(), a.GetIndex())
			}
		}
	})
}

// The result does not depend on the order of the allocations.
func TestReconcileDoesNotDependOnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		var a, b strings.Builder
		draw(Reconcile(w.in), now, &a)
		w.allocs = rapid.Permutation(w.allocs).Draw(t, "order")
		r := Reconcile(w.in)
		draw(r, now, &b)
		sorted := func(s string) []string { return slices.Sorted(strings.SplitSeq(s, "\n")) }
		if !slices.Equal(sorted(a.String()), sorted(b.String())) {
			t.Fatalf("in one order:\n%s\nin another:\n%s", a.String(), b.String())
		}
	})
}

func BenchmarkReconcile(b *testing.B) {
	for _, n := range []int{1, 100, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := newWorld(b)
			var out strings.Builder
			w.run("node up", &out)
			w.run(fmt.Sprintf("job 1 count=%d", n), &out)
			for i := range n {
				w.allocs = append(w.allocs, &berthv1.Alloc{Id: fmt.Sprint(i), Group: "g", Index: uint32(i), NodeId: "up", JobVersion: 1,
					Status: berthv1.Alloc_running})
			}
			b.ReportAllocs()
			for b.Loop() {
				if r := Reconcile(w.in); len(r.Changes)+len(r.Asks) > 0 {
					b.Fatal(r)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/alloc")
		})
	}
}
