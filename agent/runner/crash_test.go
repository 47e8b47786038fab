package runner

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// crashCase is a life that is the same with a crash in it as without.
type crashCase struct {
	name string
	job  *berthv1.Job
	// stop has the alloc stopped after ten seconds.
	stop bool
	end  berthv1.Alloc_Status
	// starts are the processes of each task that there must have been at the end.
	starts map[string]int
	// order are pairs of tasks: the first has ended before the second was started ("a<b"),
	// was started before it ("a,b"), or ended before it did ("a>b").
	order []string
	// health is what must have been reported at the end.
	health berthv1.Alloc_Health
	// resize is another version with other limits, which it comes to after four seconds.
	resize *berthv1.Job
}

func crashCases() []crashCase {
	one := func(kind berthv1.Job_Type, config map[string]any, attempts uint32) *berthv1.Job {
		job := jobOf(kind, map[string]map[string]any{"t": config})
		job.Groups[0].Restart = restart(attempts, time.Second, "fail")
		return job
	}
	order := []string{"a-pre<main", "b-proxy,main", "main,c-after", "main,d-watch", "main>d-watch", "d-watch>b-proxy", "b-proxy<z-last", "main<z-last"}
	starts := map[string]int{"a-pre": 1, "b-proxy": 1, "main": 1, "c-after": 1, "d-watch": 1, "z-last": 1}
	leader := groupJob(berthv1.Job_batch, map[string]any{"run_for": "6s"})
	leader.Groups[0].Tasks = append(leader.Groups[0].Tasks, &berthv1.Task{Name: "helper", Driver: "mock"})
	findTask(leader.Groups[0], "main").Leader = true
	bad := groupJob(berthv1.Job_batch, map[string]any{"run_for": "6s"})
	findTask(bad.Groups[0], "a-pre").Config = mustStruct(map[string]any{"run_for": "1s", "exit_code": 1.0})
	slow := groupJob(berthv1.Job_service, map[string]any{"stop_delay": "1s"})
	findTask(slow.Groups[0], "main").ShutdownDelay = durationpb.New(2 * time.Second)
	withFiles := one(berthv1.Job_service, nil, 0)
	withFiles.Groups[0].Tasks[0].Artifacts = []*berthv1.Artifact{{Source: "file:///proc/version", Destination: "local"}}
	withFiles.Groups[0].Tasks[0].Templates = []*berthv1.Template{{Data: `{{ index (tryVar "v") "a" }}{{ env "BERTH_TASK_NAME" }}`, Destination: "local/t", ChangeMode: "script", ChangeScript: []string{"reload"}}}
	checked := groupJob(berthv1.Job_service, nil)
	checked.Groups[0].Services = webJob().Groups[0].Services
	checked.Groups[0].Update = &berthv1.UpdateStrategy{MinHealthyTime: durationpb.New(2 * time.Second), HealthyDeadline: durationpb.New(time.Minute)}
	checked.Groups[0].ShutdownDelay = durationpb.New(time.Second)
	return []crashCase{
		{"batch to its end", one(berthv1.Job_batch, map[string]any{"run_for": "5s"}, 0), false, berthv1.Alloc_complete, map[string]int{"t": 1}, nil, 0, nil},
		{"batch that fails", one(berthv1.Job_batch, map[string]any{"run_for": "2s", "exit_code": 1.0}, 2), false, berthv1.Alloc_failed, map[string]int{"t": 3}, nil, 0, nil},
		{"service that is stopped", one(berthv1.Job_service, map[string]any{"stop_delay": "1s"}, 0), true, berthv1.Alloc_complete, map[string]int{"t": 1}, nil, 0, nil},
		{"service with files", withFiles, true, berthv1.Alloc_complete, map[string]int{"t": 1}, nil, 0, nil},
		{"start fails for good", one(berthv1.Job_service, map[string]any{"start_error": "no"}, 3), false, berthv1.Alloc_failed, map[string]int{"t": 0}, nil, 0, nil},
		{"slow to prepare", one(berthv1.Job_batch, map[string]any{"prepare_delay": "3s", "run_for": "1s"}, 0), false, berthv1.Alloc_complete, map[string]int{"t": 1}, nil, 0, nil},
		{"group that is stopped", slow, true, berthv1.Alloc_complete, starts, order, 0, nil},
		{"group with a leader, to its end", leader, false, berthv1.Alloc_complete, with(starts, "helper", 1), append(order, "main>helper", "helper>b-proxy"), 0, nil},
		{"group that fails as it begins", bad, false, berthv1.Alloc_failed, map[string]int{"a-pre": 1, "b-proxy": 1, "z-last": 1}, []string{"a-pre>b-proxy", "b-proxy<z-last"}, 0, nil},
		{"service with other limits", one(berthv1.Job_service, nil, 0), true, berthv1.Alloc_complete, map[string]int{"t": 1}, nil, 0, withMemory(one(berthv1.Job_service, nil, 0), 2, 512)},
		{"group with checks", checked, true, berthv1.Alloc_complete, starts, order, berthv1.Alloc_healthy, nil},
	}
}

func with(m map[string]int, key string, n int) map[string]int {
	c := maps.Clone(m)
	c[key] = n
	return c
}

// groupJob has one task of every part, and a main task with this config.
func groupJob(kind berthv1.Job_Type, main map[string]any) *berthv1.Job {
	job := jobOf(kind, map[string]map[string]any{
		"a-pre": {"run_for": "2s"}, "b-proxy": {"stop_delay": "1s"}, "main": main,
		"c-after": {"run_for": "1s"}, "d-watch": {"stop_delay": "1s"}, "z-last": {"run_for": "1s"},
	})
	for _, t := range job.Groups[0].Tasks {
		switch t.Name {
		case "a-pre":
			t.Lifecycle = &berthv1.Lifecycle{Hook: "prestart"}
		case "b-proxy":
			t.Lifecycle = &berthv1.Lifecycle{Hook: "prestart", Sidecar: true}
		case "c-after":
			t.Lifecycle = &berthv1.Lifecycle{Hook: "poststart"}
		case "d-watch":
			t.Lifecycle = &berthv1.Lifecycle{Hook: "poststart", Sidecar: true}
		case "z-last":
			t.Lifecycle = &berthv1.Lifecycle{Hook: "poststop"}
		}
	}
	job.Groups[0].Restart = restart(0, time.Second, "fail")
	return job
}

// TestCrashAnywhere kills the agent at every point between two steps of the tasks' lives,
// starts it again, and wants the same end as without the crash: nothing is started
// twice, nothing is lost, nothing is out of order, nothing is left behind.
func TestCrashAnywhere(t *testing.T) {
	for _, tc := range crashCases() {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel() // the disk is what it waits for
			step := 1
			if testing.Short() {
				step = 5
			}
			// The n-th point is where it crashes; n grows until a life has none.
			for n := 1; ; n += step {
				crashed := false
				synctest.Test(t, func(t *testing.T) { crashed = tc.crashAt(t, n) })
				if t.Failed() || !crashed {
					t.Logf("%d points", n-step)
					return
				}
			}
		})
	}
}

func (tc *crashCase) crashAt(t *testing.T, at int) bool {
	n := newNode(t)
	count, crashed, where := 0, false, ""
	var mu sync.Mutex
	n.fault = func(p string) error {
		mu.Lock()
		defer mu.Unlock()
		if count++; crashed || count == at {
			if !crashed {
				where = p
			}
			crashed = true
			return errCrash
		}
		return nil
	}
	pids := map[string][]int{}
	note := func() {
		for name := range tc.starts {
			for _, p := range n.driver.started("a1/" + name) {
				if !slices.Contains(pids[name], p) {
					pids[name] = append(pids[name], p)
				}
			}
		}
	}
	restartIfCrashed := func() {
		synctest.Wait()
		mu.Lock()
		is := crashed
		mu.Unlock()
		if is && n.fault != nil {
			note()
			n.end()
			n.fault = nil
			n.start()
		}
	}
	n.start()
	defer n.end()
	a := webAlloc(tc.job, "a1")
	n.assign(complete(1, tc.job, a))
	for i := range 10 {
		if i == 4 {
			n.know(variable("v", "new")) // a template changes
		}
		restartIfCrashed()
		if i == 4 && tc.resize != nil {
			a = resizedAlloc(tc.resize, a)
			n.assign(complete(2, tc.resize, a))
		}
		time.Sleep(time.Second)
	}
	if len(tc.job.Groups[0].Tasks[0].GetTemplates()) > 0 && (n.file("local/t") != "newt" || n.file("local/version") == "") {
		t.Errorf("crash at %d (%s): the files are %q and %q", at, where, n.file("local/t"), n.file("local/version"))
	}
	if tc.resize != nil {
		tc.job = tc.resize
		if got := n.driver.task("a1/t").Grant.GetCells()[0].GetMemoryMib(); got != 512 {
			t.Errorf("crash at %d (%s): the driver was told of %d MiB last", at, where, got)
		}
	}
	if tc.stop {
		a = a.ShallowCopy()
		a.Desired = berthv1.Alloc_stop
		n.assign(complete(3, tc.job, a))
	}
	for range 60 {
		restartIfCrashed()
		time.Sleep(time.Second)
	}
	u := n.want("a1", tc.end)
	note()
	if u.GetHealth() != tc.health || len(u.GetServices()) != 0 {
		t.Errorf("crash at %d (%s): it is %v and offers %v", at, where, u.GetHealth(), u.GetServices())
	}
	for name, want := range tc.starts {
		if len(pids[name]) != want {
			t.Errorf("crash at %d (%s): processes %v of %s, want %d", at, where, pids[name], name, want)
		}
		if n.host.Has("a1/" + name) {
			t.Errorf("crash at %d (%s): the driver still has something of %s", at, where, name)
		}
	}
	for _, rule := range tc.order {
		if !follows(u, rule) {
			t.Errorf("crash at %d (%s): %s does not hold: %v", at, where, rule, u)
		}
	}
	// The servers forget it; that can crash as well.
	n.assign(&berthv1.Assignments{AppliesTo: 2, ResultsIn: 3, Removed: []string{"a1"}})
	for range 5 {
		restartIfCrashed()
		time.Sleep(time.Second)
	}
	if !n.m.cfg.Layout.untouched("a1") {
		t.Errorf("crash at %d (%s): its directories are still there", at, where)
	}
	if c, err := n.store.Load(); err != nil || len(c.Allocs)+len(c.Tasks)+len(c.Jobs) != 0 {
		t.Errorf("crash at %d (%s): the store still knows it: %+v, %v", at, where, c, err)
	}
	return crashed
}

// follows says whether a rule of crashCase.order holds, by the times that are reported.
func follows(u *berthv1.AllocStatusUpdate, rule string) bool {
	i := strings.IndexAny(rule, "<,>")
	find := func(name string) *berthv1.TaskState {
		for _, st := range u.GetTasks() {
			if st.GetTask() == name {
				return st
			}
		}
		return nil
	}
	first, second := find(rule[:i]), find(rule[i+1:])
	at := func(ts *timestamppb.Timestamp) time.Time { return ts.AsTime() }
	switch rule[i] {
	case '<':
		return !at(first.GetFinishTime()).After(at(second.GetStartTime()))
	case ',':
		return !at(first.GetStartTime()).After(at(second.GetStartTime()))
	}
	return !at(first.GetFinishTime()).After(at(second.GetFinishTime()))
}

func (r *recorder) started(id string) []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.pids[id])
}

func TestGroupFailsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.start()
		defer n.end()
		job := jobOf(berthv1.Job_service, map[string]map[string]any{"bad": {"run_for": "5s", "exit_code": 1.0}, "good": {"stop_delay": "2s"}})
		job.Groups[0].Restart = restart(0, time.Second, "fail")
		n.assign(complete(1, job, allocOf(job, "a1")))
		time.Sleep(6 * time.Second)
		n.want("a1", berthv1.Alloc_running) // the good one is still being stopped
		time.Sleep(2 * time.Second)
		u := n.want("a1", berthv1.Alloc_failed)
		if u.GetTasks()[1].GetFailed() || n.host.Running() != 0 {
			t.Errorf("%v, %d run", u, n.host.Running())
		}
	})
}

func TestInPlaceUpdateDoesNotRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.start()
		defer n.end()
		job := jobOf(berthv1.Job_service, map[string]map[string]any{"web": {}})
		a := allocOf(job, "a1")
		n.assign(complete(1, job, a))
		pid := n.want("a1", berthv1.Alloc_running).GetTasks()[0].GetPid()
		newer := jobOf(berthv1.Job_service, map[string]map[string]any{"web": {}})
		newer.Version = 2
		newer.Groups[0].Tasks[0].KillSignal = "SIGQUIT"
		b := allocOf(newer, "a1")
		b.Assignment = &berthv1.Assignment{Tasks: []*berthv1.TaskGrant{{Task: "web", Cells: []*berthv1.CellGrant{{Cell: 0, MemoryMib: 512}}}}}
		n.assign(&berthv1.Assignments{AppliesTo: 1, ResultsIn: 2, Jobs: []*berthv1.Job{newer}, Allocs: []*berthv1.Alloc{b}})
		if got := n.want("a1", berthv1.Alloc_running).GetTasks()[0].GetPid(); got != pid {
			t.Errorf("pid %d, was %d", got, pid)
		}
		if dt := n.driver.task("a1/web"); dt.Grant.GetCells()[0].GetMemoryMib() != 512 {
			t.Errorf("the driver was not told of the new grant: %v", dt.Grant)
		}
	})
}

func TestSharedCPUsFollowExclusiveGrants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.start()
		defer n.end()
		job := jobOf(berthv1.Job_service, map[string]map[string]any{"t": {}})
		shared, pinned := allocOf(job, "shared"), allocOf(job, "pinned")
		shared.Assignment = &berthv1.Assignment{Tasks: []*berthv1.TaskGrant{{Task: "t", Cells: []*berthv1.CellGrant{{Cell: 1, CpuMilli: 500}}}}}
		pinned.Assignment = &berthv1.Assignment{Tasks: []*berthv1.TaskGrant{{Task: "t", Cells: []*berthv1.CellGrant{{Cell: 1, Cpus: "2,6"}}}}}
		n.assign(complete(1, job, shared))
		synctest.Wait()
		got := func() string { synctest.Wait(); return n.driver.task("shared/t").SharedCPUs }
		if g := got(); g != "2-3,6-7" {
			t.Errorf("alone: %q", g)
		}
		if calls := n.driver.Calls(); calls["Update"] != 0 {
			t.Errorf("needless updates: %v", calls)
		}
		n.assign(&berthv1.Assignments{AppliesTo: 1, ResultsIn: 2, Allocs: []*berthv1.Alloc{pinned}})
		if g := got(); g != "3,7" {
			t.Errorf("beside a pinned one: %q", g)
		}
		stop := pinned.ShallowCopy()
		stop.Desired = berthv1.Alloc_stop
		n.assign(&berthv1.Assignments{AppliesTo: 2, ResultsIn: 3, Allocs: []*berthv1.Alloc{stop}})
		if g := got(); g != "2-3,6-7" {
			t.Errorf("alone again: %q", g)
		}
	})
}

func TestStopEndsAWait(t *testing.T) {
	for name, config := range map[string]map[string]any{
		"preparing":          {"prepare_delay": "1h"},
		"waits to start":     {"run_for": "1s", "exit_code": 1.0},
		"does not obey":      {"ignore_signal": true},
		"fails to start":     {"start_error": "later", "start_error_transient": true},
		"cannot be prepared": {"prepare_error": "later"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t)
				n.start()
				defer n.end()
				job := jobOf(berthv1.Job_service, map[string]map[string]any{"t": config})
				job.Groups[0].Restart = restart(100, 30*time.Minute, "delay")
				job.Groups[0].Restart.MaxDelay = job.Groups[0].Restart.Delay
				a := allocOf(job, "a1")
				n.assign(complete(1, job, a))
				time.Sleep(10 * time.Second)
				a = a.ShallowCopy()
				a.Desired = berthv1.Alloc_stop
				n.assign(complete(2, job, a))
				time.Sleep(6 * time.Second)
				n.want("a1", berthv1.Alloc_complete)
				if n.host.Has("a1/t") {
					t.Error("something is left behind")
				}
			})
		})
	}
}

func TestRestartOrderDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.start()
		defer n.end()
		job := jobOf(berthv1.Job_service, map[string]map[string]any{"t": {}})
		job.Groups[0].Restart = restart(0, time.Second, "fail")
		n.assign(complete(1, job, allocOf(job, "a1")))
		pid := n.want("a1", berthv1.Alloc_running).GetTasks()[0].GetPid()
		for range 3 {
			if err := n.m.Restart("a", ""); err != nil {
				t.Fatal(err)
			}
			u := n.want("a1", berthv1.Alloc_running)
			if got := u.GetTasks()[0].GetPid(); got == pid || got == 0 {
				t.Errorf("pid %d after a restart", got)
			}
			pid = n.status("a1").GetTasks()[0].GetPid()
		}
		if err := n.m.Signal(t.Context(), "a1", "t", "SIGTERM"); err != nil {
			t.Fatal(err)
		}
		n.want("a1", berthv1.Alloc_failed)
		if err := n.m.Restart("a1", ""); err == nil {
			t.Error("an ended alloc was restarted")
		}
	})
}

func TestBrokenAssignments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.start()
		defer n.end()
		good := jobOf(berthv1.Job_service, map[string]map[string]any{"t": {}})
		noGroup := allocOf(good, "no-group")
		noGroup.Group = "other"
		noDriver := jobOf(berthv1.Job_service, map[string]map[string]any{"t": {}})
		noDriver.Name, noDriver.Groups[0].Tasks[0].Driver = "no-driver", "vapour"
		badName := jobOf(berthv1.Job_service, map[string]map[string]any{"../../etc": {}})
		badName.Name = "bad-name"
		badEnv := jobOf(berthv1.Job_service, map[string]map[string]any{"t": {}})
		badEnv.Name, badEnv.Groups[0].Tasks[0].Env = "bad-env", map[string]string{"A": "${nothing}"}
		noJob := jobOf(berthv1.Job_service, nil)
		noJob.Name = "not-sent"
		as := complete(1, good, noGroup, allocOf(noDriver, "no-driver"), allocOf(badName, "bad-name"), allocOf(badEnv, "bad-env"), allocOf(noJob, "no-job"))
		as.Jobs = append(as.Jobs, noDriver, badName, badEnv)
		n.assign(as)
		for _, id := range []string{"no-group", "no-driver", "bad-name", "bad-env", "no-job"} {
			u := n.want(id, berthv1.Alloc_failed)
			if u.GetStatusReason() == "" {
				t.Errorf("%s failed without a word", id)
			}
			t.Log(id, u.GetStatusReason())
		}
		for _, id := range []string{"", "..", "a/b", "x\x00"} {
			if err := n.m.Apply(complete(2, good, allocOf(good, id))); err == nil {
				t.Errorf("an alloc with the id %q was taken", id)
			}
		}
		if err := n.m.Apply(&berthv1.Assignments{ResultsIn: 2, Allocs: []*berthv1.Alloc{allocOf(noJob, "x")}}); err == nil {
			t.Error("a delta without its job was taken")
		}
	})
}

func TestOldDirectoriesMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.start()
		defer n.end()
		n.m.cfg.MaxDead, n.m.cfg.MaxDiskPercent = 3, 100
		job := jobOf(berthv1.Job_batch, map[string]map[string]any{"t": {"run_for": "1s"}})
		as := complete(1, job)
		for i := range 6 {
			as.Allocs = append(as.Allocs, allocOf(job, fmt.Sprintf("a%d", i)))
			n.assign(as)
			time.Sleep(5 * time.Second)
		}
		time.Sleep(2 * housekeepingPeriod)
		for i := range 6 {
			if gone := n.m.cfg.Layout.untouched(fmt.Sprintf("a%d", i)); gone != (i < 3) {
				t.Errorf("a%d: its directory is gone: %v", i, gone)
			}
			n.want(fmt.Sprintf("a%d", i), berthv1.Alloc_complete)
		}
	})
}
