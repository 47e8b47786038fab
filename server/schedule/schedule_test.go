package schedule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/jobspec/cron"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/fsm"
	"github.com/berthd/berth/server/state"
)

// raftLog applies entries as they are proposed, in a bubble of virtual time.
type raftLog struct {
	t     *testing.T
	store *state.Store
	fsm   *fsm.FSM

	mu    sync.Mutex
	index uint64
	fails int // so many entries are refused
}

func newLog(t *testing.T) *raftLog {
	store := state.New()
	l := &raftLog{t: t, store: store, fsm: fsm.New(store, func(err error) { t.Error(err) })}
	l.put(&berthv1.LogEntry{Fact: &berthv1.LogEntry_ClusterCreated{ClusterCreated: &berthv1.ClusterCreated{ClusterId: "c"}}})
	return l
}

func (l *raftLog) Propose(_ context.Context, e *berthv1.LogEntry) (fsm.Result, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fails > 0 {
		l.fails--
		return fsm.Result{}, errors.New("no leader")
	}
	data, err := fsm.Encode(e)
	if err != nil {
		return fsm.Result{}, err
	}
	l.index++
	return l.fsm.Apply(&raft.Log{Index: l.index, Type: raft.LogCommand, Data: data}).(fsm.Result), nil
}

func (l *raftLog) put(e *berthv1.LogEntry) {
	l.t.Helper()
	e.Version, e.Time = 1, timestamppb.Now()
	if r, err := l.Propose(context.Background(), e); err != nil || r.Err != nil {
		l.t.Fatal(err, r.Err)
	}
}

// register submits a job as the API does.
func (l *raftLog) register(job *berthv1.Job) {
	stored := l.store.View().Job("default", job.GetName())
	job.Namespace, job.Version = "default", stored.GetVersion()+1
	job.LastScheduled = timestamppb.New(Begin(job, stored, time.Now()))
	l.put(&berthv1.LogEntry{Fact: &berthv1.LogEntry_JobRegistered{JobRegistered: &berthv1.JobRegistered{Job: job}}})
}

// end says that a job is over.
func (l *raftLog) end(name string) {
	l.put(&berthv1.LogEntry{Fact: &berthv1.LogEntry_Plan{Plan: &berthv1.Plan{
		Jobs: []*berthv1.JobStatusChange{{Namespace: "default", Job: name, Status: berthv1.Job_dead}},
	}}})
}

// runs are the children of a job, oldest first: what follows its name, and whether it was
// told to stop.
func (l *raftLog) runs(parent string) string {
	var names []string
	for child := range l.store.View().Children("default", parent) {
		name := strings.TrimPrefix(child.GetName(), parent+".")
		if child.GetStopped() {
			name += " stopped"
		}
		names = append(names, name)
	}
	slices.Reverse(names)
	return strings.Join(names, ", ")
}

func (l *raftLog) wantRuns(parent, want string) {
	l.t.Helper()
	synctest.Wait()
	if got := l.runs(parent); got != want {
		l.t.Errorf("runs of %s:\n%s, want\n%s", parent, got, want)
	}
}

// lead begins a term; the answer ends it.
func (l *raftLog) lead() (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := New(l.store, l, slog.New(slog.DiscardHandler)).Run(ctx); !errors.Is(err, context.Canceled) {
			l.t.Error(err)
		}
	}()
	return func() { cancel(); <-done }
}

func tick(crons ...string) *berthv1.Job {
	return &berthv1.Job{Name: "tick", Type: berthv1.Job_batch, Schedule: &berthv1.Schedule{Crons: crons}}
}

func sleepTo(t *testing.T, at string) {
	t.Helper()
	when, err := time.Parse(time.RFC3339, at)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(when))
}

func TestEachTimeIsRunOnceUnderManyLeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t)
		l.register(tick("@every 2s"))
		for i := range 40 {
			end := l.lead()
			also := func() {}
			if i%3 == 0 {
				also = l.lead() // it does not know yet that it leads no longer
			}
			time.Sleep(time.Duration(700*(i%4)+50) * time.Millisecond)
			end()
			also()
		}
		synctest.Wait()
		last := l.store.View().Job("default", "tick").GetLastScheduled().AsTime()
		want := int(last.Sub(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)) / (2 * time.Second))
		if got := len(strings.Split(l.runs("tick"), ", ")); got != want || want < 20 {
			t.Errorf("%d runs, want %d: %s", got, want, l.runs("tick"))
		}
	})
}

func TestRunsAcrossTheChangesOfClocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t)
		job := tick("30 2 * * *")
		job.Schedule.TimeZone = "Europe/Berlin"
		clock := &berthv1.Job{Name: "clock", Type: berthv1.Job_batch, Schedule: &berthv1.Schedule{Crons: []string{"15 * * * *"}, TimeZone: "America/New_York", CatchUp: "none"}}
		sleepTo(t, "2000-03-25T00:00:00Z")
		l.register(job)
		end := l.lead()
		sleepTo(t, "2000-03-27T12:00:00Z")
		l.wantRuns("tick", "20000325-013000, 20000326-010000, 20000327-003000")
		end()
		sleepTo(t, "2000-10-28T00:00:00Z") // missed half a year: the newest is run
		end = l.lead()
		defer end()
		sleepTo(t, "2000-10-29T00:00:00Z")
		l.register(clock)
		sleepTo(t, "2000-10-29T08:20:00Z")
		l.wantRuns("tick", "20000325-013000, 20000326-010000, 20000327-003000, 20001027-003000, 20001028-003000, 20001029-003000")
		// 01:15 comes twice in New York: at 05:15 and 06:15 UTC.
		l.wantRuns("clock", "20001029-001500, 20001029-011500, 20001029-021500, 20001029-031500, 20001029-041500, 20001029-051500, 20001029-061500, 20001029-071500, 20001029-081500")
	})
}

func TestOverlap(t *testing.T) {
	for _, test := range []struct{ overlap, want string }{
		{"allow", "20000101-000100, 20000101-000200, 20000101-000300, 20000101-000400"},
		{"skip", "20000101-000100, 20000101-000400"},
		{"replace", "20000101-000100 stopped, 20000101-000200 stopped, 20000101-000300, 20000101-000400"},
	} {
		t.Run(test.overlap, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLog(t)
				job := tick("* * * * *")
				job.Schedule.Overlap = test.overlap
				l.register(job)
				defer l.lead()()
				time.Sleep(210 * time.Second)
				synctest.Wait()
				for child := range l.store.View().Children("default", "tick") {
					l.end(child.GetName())
				}
				time.Sleep(time.Minute)
				l.wantRuns("tick", test.want)
				skipped, want := l.store.View().Job("default", "tick").GetLastSkipped(), ""
				if test.overlap == "skip" {
					want = "00:03:00 the run before, tick.20000101-000100, was not over"
				}
				if got := skipped.GetTime().AsTime().Format("15:04:05 ") + skipped.GetReason(); skipped != nil && got != want || (skipped == nil) != (want == "") {
					t.Errorf("passed over: %q", got)
				}
			})
		})
	}
}

func TestCatchUp(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse("02 15:04:05", s)
		if err != nil {
			t.Fatal(err)
		}
		return v.AddDate(2026, 0, 0)
	}
	for _, test := range []struct {
		name, cron, catchUp, last, now string
		want                           string
	}{
		{"nothing is due", "0 * * * *", "all", "01 03:00:00", "01 03:59:59", ""},
		{"on time", "0 * * * *", "none", "01 03:00:00", "01 04:00:00", "04:00:00 of 04:00:00"},
		{"an election late", "0 * * * *", "none", "01 03:00:00", "01 04:00:40", "04:00:00 of 04:00:00"},
		{"several within an election", "@every 1s", "none", "01 03:00:00", "01 03:00:03", "03:00:01 03:00:02 03:00:03 of 03:00:03"},
		{"missed: none", "0 * * * *", "none", "01 03:00:00", "01 06:10:00", " of 06:00:00"},
		{"missed: none, and one is due", "0 * * * *", "none", "01 03:00:00", "01 06:00:10", "06:00:00 of 06:00:00"},
		{"missed: one", "0 * * * *", "one", "01 03:00:00", "01 06:10:00", "06:00:00 of 06:00:00"},
		{"missed: all", "0 * * * *", "all", "01 03:00:00", "01 06:10:00", "04:00:00 05:00:00 06:00:00 of 06:00:00"},
		{"the clock was ahead", "0 * * * *", "all", "02 03:00:00", "01 06:10:00", ""},
	} {
		s, err := cron.Parse([]string{test.cron}, "")
		if err != nil {
			t.Fatal(err)
		}
		run, newest := due(s, test.catchUp, at(test.last), at(test.now))
		var words []string
		for _, r := range run {
			words = append(words, r.Format("15:04:05"))
		}
		got := strings.Join(words, " ")
		if !newest.IsZero() {
			got += " of " + newest.Format("15:04:05")
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	s, _ := cron.Parse([]string{"@every 1s"}, "")
	if run, _ := due(s, "all", at("01 00:00:00"), at("30 00:00:00")); len(run) != catchUpMost || !run[len(run)-1].Equal(at("30 00:00:00")) {
		t.Errorf("%d times of a month of seconds, the last %s", len(run), run[len(run)-1])
	}
}

func TestDowntime(t *testing.T) {
	for _, test := range []struct{ catchUp, want string }{
		{"none", "20000101-010000, 20000101-050000"},
		{"one", "20000101-010000, 20000101-040000, 20000101-050000"},
		{"all", "20000101-010000, 20000101-020000, 20000101-030000, 20000101-040000, 20000101-050000"},
	} {
		t.Run(test.catchUp, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLog(t)
				job := tick("0 * * * *")
				job.Schedule.CatchUp = test.catchUp
				l.register(job)
				end := l.lead()
				time.Sleep(70 * time.Minute)
				end()
				time.Sleep(3 * time.Hour)
				end = l.lead()
				time.Sleep(time.Hour)
				end()
				l.wantRuns("tick", test.want)
			})
		})
	}
}

func TestAScheduleIsChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t)
		l.register(tick("0 0 * * * *"))
		defer l.lead()()
		time.Sleep(61 * time.Minute)
		paused := tick("0 0 * * * *")
		paused.Schedule.Paused = true
		l.register(paused)
		time.Sleep(2 * time.Hour)
		l.wantRuns("tick", "20000101-010000")
		l.register(tick("0 0 * * * *")) // what was passed while it was paused is not caught up
		time.Sleep(time.Hour)
		l.wantRuns("tick", "20000101-010000, 20000101-040000")
		l.register(tick("0 30 * * * *"))
		time.Sleep(30 * time.Minute)
		l.wantRuns("tick", "20000101-010000, 20000101-040000, 20000101-043000")
		l.put(&berthv1.LogEntry{Fact: &berthv1.LogEntry_JobStopped{JobStopped: &berthv1.JobStopped{Namespace: "default", Job: "tick"}}})
		time.Sleep(3 * time.Hour)
		l.register(tick("0 30 * * * *"))
		time.Sleep(time.Hour)
		l.wantRuns("tick", "20000101-010000, 20000101-040000, 20000101-043000, 20000101-083000")
		l.register(&berthv1.Job{Name: "tick"}) // without a schedule now
		time.Sleep(3 * time.Hour)
		l.wantRuns("tick", "20000101-010000, 20000101-040000, 20000101-043000, 20000101-083000")
	})
}

func TestWhatFailsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t)
		l.register(tick("0 * * * *"))
		l.register(&berthv1.Job{Name: "tick.20000101-020000"}) // somebody's own
		l.fails = 3
		defer l.lead()()
		time.Sleep(time.Hour + 10*time.Second)
		l.wantRuns("tick", "20000101-010000")
		time.Sleep(2 * time.Hour)
		l.wantRuns("tick", "20000101-010000, 20000101-030000")
	})
}

func TestManyAreDueAtMidnight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(t)
		for i := range 1000 {
			job := tick("@daily")
			job.Name = fmt.Sprint("job-", i)
			l.register(job)
		}
		defer l.lead()()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		for i := range 1000 {
			if got := l.runs(fmt.Sprint("job-", i)); got != "20000102-000000" {
				t.Fatalf("runs of job %d: %q", i, got)
			}
		}
	})
}

func TestAChildIsAJobOfItsOwn(t *testing.T) {
	parent := tick("@daily")
	parent.Namespace, parent.Version, parent.Status, parent.SpecRevision, parent.CreateRevision = "default", 7, berthv1.Job_running, 9, 8
	parent.Meta, parent.Source, parent.LastScheduled = map[string]string{"a": "1", "b": "1"}, &berthv1.JobSource{Text: "x"}, timestamppb.Now()
	at := time.Date(2026, 11, 2, 4, 0, 0, 0, time.FixedZone("", 3600))
	child := Scheduled(parent, at)
	if child.GetName() != "tick.20261102-030000" || child.GetParent() != "tick" || child.GetVersion() != 1 || child.IsParent() || child.GetSource() != nil ||
		child.GetLastScheduled() != nil || !child.GetScheduledTime().AsTime().Equal(at) || child.GetStatus() != berthv1.Job_pending || child.GetSpecRevision() != 0 {
		t.Errorf("child %v", child)
	}
	child = Dispatched(parent, "0badcafe", []byte("p"), map[string]string{"b": "2"}, "token")
	if child.GetName() != "tick.0badcafe" || child.GetMeta()["a"]+child.GetMeta()["b"] != "12" || parent.GetMeta()["b"] != "1" || child.GetDispatchToken() != "token" {
		t.Errorf("dispatched %v", child)
	}
	if child = Forced(parent, "0badcafe"); child.GetName() != "tick.force-0badcafe" || child.GetScheduledTime() != nil {
		t.Errorf("forced %v", child)
	}
	var many []*berthv1.Job
	for i := range 400 {
		many = append(many, &berthv1.Job{Namespace: strings.Repeat("n", 63), Parent: "tick", Name: strings.Repeat("x", 60) + fmt.Sprint(i)})
	}
	n := 0
	for _, f := range StopFacts(many, func() string { return strings.Repeat("i", 36) }, at) {
		n += len(f.GetReplaced())
		if _, err := fsm.Encode(fsm.NewEntry(at, func(e *berthv1.LogEntry) { e.Fact = &berthv1.LogEntry_ScheduleRun{ScheduleRun: f} })); err != nil {
			t.Error(err)
		}
	}
	if n != len(many) {
		t.Errorf("%d are stopped", n)
	}
}
