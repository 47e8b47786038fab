package plan

import (
	"cmp"
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

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// drawRolled writes what is said of an ask that is not for an ordinary instance of the
// newest version.
func drawRolled(a Ask, out *strings.Builder) {
	if a.Canary {
		out.WriteString(" as a canary")
	}
	if a.Job != nil {
		fmt.Fprintf(out, " of v%d", a.Job.GetVersion())
	}
}

func (w *world) versionOf(a Ask) uint64 {
	if a.Job != nil {
		return a.Job.GetVersion()
	}
	return w.in.Job.GetVersion()
}

// inPlace does what the FSM does when an allocation comes to another version.
func (w *world) inPlace(a *berthv1.Alloc, version uint64) {
	if !w.jobs[version].GroupNamed(a.GetGroup()).SameHealth(w.jobs[a.GetJobVersion()].GroupNamed(a.GetGroup())) {
		a.Health = berthv1.Alloc_undecided
	}
	a.JobVersion = version
}

// carryDeployment stores a result's deployment.
func (w *world) carryDeployment(r Result) {
	if r.Deployment == nil {
		return
	}
	d := proto.CloneOf(r.Deployment)
	d.ModifyRevision++
	w.in.Deployment = d
	if d.GetStatus() == berthv1.Deployment_successful {
		j := proto.CloneOf(w.in.Job)
		j.Stable = true
		w.in.Job, w.jobs[j.GetVersion()] = j, j
	}
}

// Each file in testdata/rollouts is the life of a job: what happens to it, and at every
// look what Reconcile makes of it and how it is then.
func TestRolloutTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/rollouts/*.txtar")
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
			l := newLife(t)
			for line := range strings.Lines(string(archive.Files[0].Data)) {
				l.run(strings.TrimSpace(line), &out)
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

// life is a world to which something happens:
//
//	case WORDS           starts with nothing; the one node "up" is there
//	node NAME [full fixed]   as in resize_test.go
//	job [type= stateful=ORDER count= env= memory= parallel= stagger= canary= promote= after= progress= health= auto_revert plain gang check= tag=]
//	                     submits the next version
//	healthy [INDEX...]   instances of the newest version run and are healthy (all; c0: a canary)
//	unhealthy, fails, dies   likewise: is unhealthy; its tasks fail; its node goes down with it
//	go DURATION          time passes
//	promote, pause, resume, fail    what an operator does
//	leader               all is forgotten that is not in the state
//	look                 reconciles until nothing more is to be done
type life struct{ *world }

func newLife(t testing.TB) *life {
	l := &life{world: newWorld(t)}
	l.in.Stable = func() *berthv1.Job {
		for v := l.in.Job.GetVersion() - 1; v > 0; v-- {
			if j := l.jobs[v]; j.GetStable() {
				return j
			}
		}
		return nil
	}
	return l
}

func (l *life) run(line string, out *strings.Builder) {
	words, o := fields(line)
	if len(words) == 0 {
		return
	}
	if words[0] != "case" {
		fmt.Fprintf(out, "> %s\n", line)
	}
	switch words[0] {
	case "case":
		l.world.run(line, out)
		l.world.run("node up", out)
	case "node":
		l.world.run(line, out)
	case "job":
		l.submit(strategyOf(l.world, o))
	case "go":
		l.in.Now = l.in.Now.Add(l.duration(words[1]))
	case "healthy", "unhealthy", "fails", "dies":
		for _, a := range l.named(words[1:]) {
			l.happens(words[0], a)
		}
	case "promote", "pause", "resume", "fail":
		l.operator(words[0])
	case "leader":
		slices.Reverse(l.allocs)
		for i, a := range l.allocs {
			l.allocs[i] = proto.CloneOf(a)
		}
		l.in.Deployment = proto.CloneOf(l.in.Deployment)
	case "look":
		l.look(out)
	default:
		l.t.Fatalf("unknown command %q", line)
	}
}

// strategyOf makes the next version of the job.
func strategyOf(w *world, o map[string]string) *berthv1.Job {
	count := uint32(w.number(o["count"], 3))
	g := &berthv1.Group{Name: "g", Count: &count, Gang: o["gang"] != "", Tasks: []*berthv1.Task{{Name: "main", Env: map[string]string{"E": o["env"]}}}}
	limitsOf(w, g, o)
	if order := o["stateful"]; order != "" {
		g.Stateful = &berthv1.Stateful{Order: order}
	}
	if o["check"] != "" {
		g.Services = []*berthv1.Service{{Name: "web", Tags: []string{o["tag"]}, Checks: []*berthv1.Check{{Type: "http", Path: o["check"]}}}}
	}
	if o["plain"] == "" {
		g.Update = &berthv1.UpdateStrategy{MaxParallel: cmp.Or(o["parallel"], "1"), Canary: o["canary"], Promote: o["promote"], Health: cmp.Or(o["health"], "checks"),
			AutoRevert: o["auto_revert"] != "", Stagger: durationpb.New(w.duration(o["stagger"])), PromoteAfter: durationpb.New(w.duration(o["after"])),
			ProgressDeadline: durationpb.New(w.duration(cmp.Or(o["progress"], "10m")))}
	}
	return &berthv1.Job{Name: "j", Namespace: "default", Groups: []*berthv1.Group{g}, Type: berthv1.Job_Type(berthv1.Job_Type_value[o["type"]])}
}

// submit makes a job the newest version, as the FSM does.
func (l *life) submit(j *berthv1.Job) {
	j.Version, j.CreateRevision = l.in.Job.GetVersion()+1, 1
	l.jobs[j.GetVersion()], l.in.Job, l.in.Deployment = j, j, nil
}

// named gives the instances of the newest version that are wanted and not over.
func (l *life) named(names []string) (out []*berthv1.Alloc) {
	for i, a := range l.allocs {
		name := l.nameOf(a)
		old := slices.Contains(names, "old"+name)
		if !a.Wanted() || a.Terminal() || a.GetJobVersion() != l.in.Job.GetVersion() && !old || len(names) > 0 && !slices.Contains(names, name) && !old {
			continue
		}
		l.allocs[i] = a.ShallowCopy() // what the world has is never changed
		out = append(out, l.allocs[i])
	}
	return out
}

// nameOf is how a script calls an instance: by its index, or its node in a system job.
func (l *life) nameOf(a *berthv1.Alloc) string {
	switch {
	case l.in.Job.GetType() == berthv1.Job_system:
		return a.GetNodeId()
	case a.GetCanary():
		return "c" + strconv.Itoa(int(a.GetIndex()))
	}
	return strconv.Itoa(int(a.GetIndex()))
}

func (l *life) happens(what string, a *berthv1.Alloc) {
	switch what {
	case "healthy":
		a.Status, a.Health = berthv1.Alloc_running, berthv1.Alloc_healthy
	case "unhealthy":
		a.Status, a.Health = berthv1.Alloc_running, berthv1.Alloc_unhealthy
	case "fails":
		a.Status = berthv1.Alloc_failed
	case "dies":
		a.NodeId = "gone"
	}
}

// operator does what the FSM does for an operator.
func (l *life) operator(what string) {
	d := proto.CloneOf(l.in.Deployment)
	d.ModifyRevision++
	switch what {
	case "promote":
		for _, g := range d.GetGroups() {
			g.Promoted, g.ProgressBy = g.GetCanaries() > 0, nil
		}
	case "pause":
		d.Status, d.StatusReason = berthv1.Deployment_paused, "paused by hand"
		for _, g := range d.GetGroups() {
			g.ProgressBy = nil
		}
	case "resume":
		d.Status = berthv1.Deployment_running
	case "fail":
		d.Status, d.StatusReason = berthv1.Deployment_failed, "failed by hand"
	}
	l.in.Deployment = d
}

// look reconciles, and carries out what comes of it, until nothing more does. What is told
// to stop has stopped by the next look.
func (l *life) look(out *strings.Builder) {
	for range 10 {
		r := Reconcile(l.in)
		l.carryOut(r, func() string { return "up" })
		l.intents(r, out)
		for _, a := range l.allocs {
			if !a.Wanted() && !a.Terminal() {
				a.Status = berthv1.Alloc_complete
			}
			if a.CreateTime == nil {
				a.CreateTime = timestamppb.New(l.in.Now)
			}
		}
		if r.Revert != nil {
			back := proto.CloneOf(r.Revert)
			back.RevertedTo, back.Stable = r.Revert.GetVersion(), false
			fmt.Fprintf(out, "  submit  v%d as v%d\n", r.Revert.GetVersion(), l.in.Job.GetVersion()+1)
			l.submit(back)
			continue
		}
		if r.Deployment == nil && len(r.Changes)+len(r.Asks) == 0 {
			l.state(r, out)
			return
		}
	}
	l.t.Fatalf("it does not come to an end:\n%s", out.String())
}

// intents draws what is to be done.
func (l *life) intents(r Result, out *strings.Builder) {
	var b strings.Builder
	r.Wake = time.Time{}
	draw(r, l.in.Now, &b)
	for line := range strings.Lines(b.String()) {
		if strings.TrimSpace(line) != "" && !strings.HasPrefix(line, "  job ") {
			out.WriteString(line)
		}
	}
}

// state draws the instances that are wanted, and the deployment.
func (l *life) state(r Result, out *strings.Builder) {
	var is []string
	for _, a := range l.allocs {
		if !a.Wanted() || a.Terminal() {
			continue
		}
		name, how := l.nameOf(a), a.GetHealth().String()
		if a.GetStatus() != berthv1.Alloc_running {
			how = a.GetStatus().String()
		}
		is = append(is, fmt.Sprintf("%s:v%d %s", name, a.GetJobVersion(), how))
	}
	slices.Sort(is)
	fmt.Fprintf(out, "  now     %s\n", strings.Join(is, "  "))
	if d := l.in.Deployment; d != nil {
		fmt.Fprintf(out, "  v%-6d %s", d.GetJobVersion(), d.GetStatus())
		if d.GetStatusReason() != "" {
			fmt.Fprintf(out, " (%s)", d.GetStatusReason())
		}
		if !r.Wake.IsZero() {
			fmt.Fprintf(out, "; looks again in %s", r.Wake.Sub(l.in.Now))
		}
		out.WriteString("\n")
	}
	out.WriteString("\n")
}
