package fsm

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/state"
)

// family makes a fact about jobs with children, scaling, variables or images.
func (s *source) family(e *berthv1.LogEntry) {
	parent := s.jobName()
	child := fmt.Sprintf("%s.%d", parent, s.rng.IntN(6))
	at := timestamp(epoch.Add(time.Duration(s.serial-s.rng.IntN(20)) * time.Second))
	switch s.rng.IntN(8) {
	case 0:
		r := s.job()
		r.Job.Schedule = &berthv1.Schedule{Crons: []string{"@daily"}, Paused: s.rng.IntN(5) == 0}
		r.Job.LastScheduled = at
		e.Fact = &berthv1.LogEntry_JobRegistered{JobRegistered: r}
	case 1, 2:
		run := &berthv1.ScheduleRun{Namespace: "default", Job: parent, Evaluation: s.eval(child)}
		if s.rng.IntN(4) > 0 {
			run.Time, run.Skipped = at, s.pick("", "why")
		}
		if s.rng.IntN(4) > 0 {
			run.Child = &berthv1.Job{Name: child, Namespace: "default", Parent: s.pick(parent, parent, parent, "j0"), Version: 1, ScheduledTime: run.Time}
		}
		if s.rng.IntN(2) == 0 {
			run.Replaced = []string{parent + ".1", parent + ".2", "none"}
			run.ReplacedEvaluations = []*berthv1.Evaluation{s.eval(parent + ".1")}
		}
		e.Fact = &berthv1.LogEntry_ScheduleRun{ScheduleRun: run}
	case 3:
		e.Fact = &berthv1.LogEntry_JobRegistered{JobRegistered: &berthv1.JobRegistered{
			Job: &berthv1.Job{Name: child, Namespace: "default", Parent: parent, Payload: []byte("p"), DispatchToken: s.pick("", "t0", "t1"),
				Version: s.store.View().Job("default", child).GetVersion() + 1},
			UniqueToken: s.rng.IntN(2) == 0, Evaluation: s.eval(child), Scaling: &berthv1.ScalingEvent{Group: s.pick("g", "h"), Count: uint32(s.serial)},
		}}
	case 4:
		e.Fact = &berthv1.LogEntry_VariableSet{VariableSet: &berthv1.VariableSet{
			Variable: &berthv1.Variable{Namespace: s.pick("default", "a"), Name: s.pick("v", "w", ""), Items: map[string]string{"a": "1", "b": "2", "c": "3"}},
			Check:    s.rng.IntN(3) == 0,
		}}
	case 5:
		e.Fact = &berthv1.LogEntry_ImageRegistered{ImageRegistered: &berthv1.ImageRegistered{
			Image: &berthv1.Image{Name: s.pick("i", "j", ""), Digest: s.pick("sha256:a", "sha256:b", ""), Size: uint64(s.serial), Newest: true},
		}}
	case 6:
		e.Fact = &berthv1.LogEntry_ImageDeleted{ImageDeleted: &berthv1.ImageDeleted{Name: s.pick("i", "j"), Digests: []string{s.pick("sha256:a", "sha256:b"), "none"}}}
	default:
		e.Fact = &berthv1.LogEntry_VariableDeleted{VariableDeleted: &berthv1.VariableDeleted{
			Namespace: s.pick("default", "a"), Name: s.pick("v", "w"), Check: s.rng.IntN(3) == 0, CheckRevision: uint64(s.rng.IntN(s.serial + 1)),
		}}
	}
}

// world is an FSM to which facts are put one by one.
type world struct {
	t     *testing.T
	fsm   *FSM
	store *state.Store
	index uint64
}

func newWorld(t *testing.T) *world {
	w := &world{t: t}
	w.fsm, w.store = newTestFSM(t)
	w.put(&berthv1.LogEntry{Fact: &berthv1.LogEntry_ClusterCreated{ClusterCreated: &berthv1.ClusterCreated{ClusterId: "c"}}})
	return w
}

func (w *world) put(e *berthv1.LogEntry) error {
	w.index++
	e.Version, e.Time = 1, timestamp(epoch.Add(time.Duration(w.index)*time.Second))
	return w.fsm.apply(w.index, encode(e)).Err
}

func (w *world) job(name string) *berthv1.Job { return w.store.View().Job("default", name) }

// register puts the next version of a job.
func (w *world) register(r *berthv1.JobRegistered) error {
	r.Job.Namespace, r.Job.Version = "default", w.job(r.GetJob().GetName()).GetVersion()+1
	return w.put(&berthv1.LogEntry{Fact: &berthv1.LogEntry_JobRegistered{JobRegistered: r}})
}

func (w *world) run(r *berthv1.ScheduleRun) error {
	r.Namespace = "default"
	if r.GetChild() != nil {
		r.Child.Namespace, r.Child.Version, r.Child.Parent = "default", 1, r.GetJob()
	}
	return w.put(&berthv1.LogEntry{Fact: &berthv1.LogEntry_ScheduleRun{ScheduleRun: r}})
}

// second is a time of a schedule.
func second(n int) *timestamppb.Timestamp {
	return timestamp(epoch.Add(time.Duration(n) * time.Second))
}

func scheduled(last *timestamppb.Timestamp) *berthv1.JobRegistered {
	return &berthv1.JobRegistered{Job: &berthv1.Job{Name: "tick", LastScheduled: last, Schedule: &berthv1.Schedule{Crons: []string{"@every 1s"}}}}
}

func TestATimeIsRunOnce(t *testing.T) {
	w := newWorld(t)
	if err := w.register(scheduled(second(0))); err != nil {
		t.Fatal(err)
	}
	run := func(n int, child string) error {
		r := &berthv1.ScheduleRun{Job: "tick", Time: second(n)}
		if child != "" {
			r.Child = &berthv1.Job{Name: child, ScheduledTime: second(n)}
		}
		return w.run(r)
	}
	for _, step := range []struct {
		at    int
		child string
		there bool
		last  int
	}{
		{1, "tick.1", true, 1},
		{1, "tick.1", true, 1},
		{1, "tick.again", false, 1},
		{0, "tick.0", false, 1},
		{3, "", false, 3},
		{2, "tick.2", false, 3},
		{4, "tick.1", true, 4}, // somebody has that name: passed over
	} {
		if err := run(step.at, step.child); err != nil {
			t.Fatalf("%+v: %v", step, err)
		}
		if there := w.job(step.child) != nil; there != step.there || w.job("tick").GetLastScheduled().AsTime() != second(step.last).AsTime() {
			t.Fatalf("%+v: there %t, last %s", step, there, w.job("tick").GetLastScheduled().AsTime())
		}
	}
	if v := w.job("tick.1").GetVersion(); v != 1 {
		t.Errorf("tick.1 is at version %d", v)
	}
}

func TestAScheduleGoesOnWhereItWas(t *testing.T) {
	w := newWorld(t)
	last := func() time.Time { return w.job("tick").GetLastScheduled().AsTime() }
	put := func(r *berthv1.JobRegistered) {
		if err := w.register(r); err != nil {
			t.Fatal(err)
		}
	}
	put(scheduled(second(5)))
	_ = w.run(&berthv1.ScheduleRun{Job: "tick", Time: second(9)})
	put(scheduled(second(7))) // written from a look before that run
	if last() != second(9).AsTime() {
		t.Errorf("the schedule went back to %s", last())
	}
	_ = w.put(&berthv1.LogEntry{Fact: &berthv1.LogEntry_JobStopped{JobStopped: &berthv1.JobStopped{Namespace: "default", Job: "tick"}}})
	if err := w.run(&berthv1.ScheduleRun{Job: "tick", Time: second(10), Child: &berthv1.Job{Name: "tick.10"}}); err != nil || w.job("tick.10") != nil {
		t.Errorf("a stopped job was run (%v)", err)
	}
	if err := w.run(&berthv1.ScheduleRun{Job: "tick", Child: &berthv1.Job{Name: "tick.f"}}); !problem.Is(err, problem.Conflict) {
		t.Errorf("a stopped job was forced: %v", err)
	}
	put(scheduled(second(6))) // a clock that was wrong is put right by stopping and running
	if last() != second(6).AsTime() {
		t.Errorf("after a stop the schedule begins at %s", last())
	}
}

func TestReplacedChildrenAreStopped(t *testing.T) {
	w := newWorld(t)
	_ = w.register(scheduled(second(0)))
	_ = w.run(&berthv1.ScheduleRun{Job: "tick", Time: second(1), Child: &berthv1.Job{Name: "tick.1"}})
	_ = w.register(&berthv1.JobRegistered{Job: &berthv1.Job{Name: "other"}})
	err := w.run(&berthv1.ScheduleRun{
		Job: "tick", Time: second(2), Child: &berthv1.Job{Name: "tick.2"}, Replaced: []string{"tick.1", "other", "none"},
		ReplacedEvaluations: []*berthv1.Evaluation{{Id: "e1", Namespace: "default", Job: "tick.1"}, {Id: "e2", Namespace: "default", Job: "other"}},
	})
	if err != nil || !w.job("tick.1").GetStopped() || w.job("other").GetStopped() || w.job("tick.2").GetStopped() {
		t.Errorf("%v; stopped: %t, %t, %t", err, w.job("tick.1").GetStopped(), w.job("other").GetStopped(), w.job("tick.2").GetStopped())
	}
	if v := w.store.View(); v.Evaluation("e1") == nil || v.Evaluation("e2") != nil {
		t.Error("the evaluations are those of other jobs")
	}
}

func TestATokenIsDispatchedOnce(t *testing.T) {
	w := newWorld(t)
	child := func(name, token string) error {
		return w.register(&berthv1.JobRegistered{Job: &berthv1.Job{Name: name, Parent: "form", DispatchToken: token, Payload: []byte("x")}, UniqueToken: token != ""})
	}
	if err := child("form.1", "a"); !problem.Is(err, problem.NotFound) {
		t.Errorf("without a parent: %v", err)
	}
	_ = w.register(&berthv1.JobRegistered{Job: &berthv1.Job{Name: "form", Parameters: &berthv1.Parameters{}}})
	for _, c := range []struct {
		name, token string
		again       bool
	}{{"form.1", "a", false}, {"form.2", "a", true}, {"form.3", "b", false}, {"form.4", "", false}, {"form.5", "", false}} {
		if err := child(c.name, c.token); (err != nil) != c.again || c.again && !problem.Is(err, problem.Exists) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	// A new version of a child is still the same child.
	_ = w.register(&berthv1.JobRegistered{Job: &berthv1.Job{Name: "form.1", Priority: 9}})
	if j := w.job("form.1"); j.GetParent() != "form" || string(j.GetPayload()) != "x" || j.GetDispatchToken() != "a" || j.GetPriority() != 9 {
		t.Errorf("the child became %v", j)
	}
}
