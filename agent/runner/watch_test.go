package runner

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/berthd/berth/agent/health"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// webJob is a service with one task, a port and a check "http" every second.
func webJob() *berthv1.Job {
	job := jobOf(berthv1.Job_service, map[string]map[string]any{"web": {}})
	g := job.Groups[0]
	g.Restart = restart(2, time.Second, "fail")
	g.Services = []*berthv1.Service{{
		Name: "web", Port: "http", Tags: []string{"front", "${node.name}"}, CanaryTags: []string{"canary"},
		Meta:   map[string]string{"zone": "${meta.zone}", "alloc": "${BERTH_ALLOC_ID}", "bad": "${nothing}"},
		Checks: []*berthv1.Check{{Name: "http", Interval: durationpb.New(time.Second), FailureThreshold: 2}},
	}}
	return job
}

func webAlloc(job *berthv1.Job, id string) *berthv1.Alloc {
	a := allocOf(job, id)
	a.Assignment = &berthv1.Assignment{Ports: []*berthv1.PortGrant{{Name: "http", Port: 20001, To: 80}}}
	return a
}

// web is the report's only service.
func web(t *testing.T, u *berthv1.AllocStatusUpdate) *berthv1.ServiceInstance {
	t.Helper()
	if len(u.GetServices()) != 1 || !u.GetHasServices() {
		t.Fatalf("services %v", u)
	}
	return u.GetServices()[0]
}

func (n *node) fail(check, words string) { n.probes.Store(check, health.Outcome{Output: words}) }
func (n *node) pass(check string)        { n.probes.Delete(check) }

// stopAlloc tells an alloc to stop.
func (n *node) stopAlloc(rev uint64, job *berthv1.Job, a *berthv1.Alloc, why string) {
	n.t.Helper()
	a = a.ShallowCopy()
	a.Desired, a.DesiredReason = berthv1.Alloc_stop, why
	n.assign(complete(rev, job, a))
}

func TestServiceFollowsItsChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.fail("http", "connection refused")
		n.start()
		defer n.end()
		job := webJob()
		a := webAlloc(job, "a1")
		n.assign(complete(1, job, a))
		i := web(t, n.want("a1", berthv1.Alloc_running))
		want := &berthv1.ServiceInstance{
			Service: "web", Address: "10.0.0.1", Port: 20001, Tags: []string{"front", "n1"},
			Meta:   map[string]string{"zone": "z1", "alloc": "a1", "bad": "${nothing}"},
			Reason: "check http has not passed yet", Checks: []*berthv1.CheckState{{Service: "web", Check: "http"}},
		}
		if !proto.Equal(i, want) {
			t.Errorf("%v, want %v", i, want)
		}
		time.Sleep(5 * time.Second)
		i = web(t, n.status("a1"))
		if i.GetReady() || i.GetReason() != "check http: connection refused" || i.GetChecks()[0].GetStatus() != berthv1.CheckState_failing {
			t.Errorf("it fails: %v", i)
		}
		n.pass("http")
		began := time.Now()
		time.Sleep(3 * time.Second)
		i = web(t, n.status("a1"))
		if c := i.GetChecks()[0]; !i.GetReady() || i.GetReason() != "" || c.GetStatus() != berthv1.CheckState_passing || c.GetOutput() != "fine" || c.GetSince() == nil {
			t.Errorf("it passes: %v", i)
		}
		if all := n.reports.since(began); len(all) != 1 || !all[0].urgent {
			t.Errorf("%d reports for one change: %v", len(all), all)
		}
		// It is told to stop: out of traffic at once, and gone with its end.
		began = time.Now()
		n.stopAlloc(2, job, a, "scaled down")
		u := n.want("a1", berthv1.Alloc_complete)
		if len(u.GetServices()) != 0 || !u.GetHasServices() {
			t.Errorf("what has ended offers %v", u)
		}
		first := n.reports.since(began)[0]
		if i := web(t, first.AllocStatusUpdate); i.GetReady() || i.GetReason() != "it is to stop: scaled down" || !first.urgent || first.GetTasks()[0].GetPhase() != berthv1.TaskState_started {
			t.Errorf("first it says %v", first)
		}
	})
}

func TestShutdownDelayOfAGroup(t *testing.T) {
	for _, crash := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			n := newNode(t)
			n.start()
			defer func() { n.end() }()
			job := webJob()
			job.Groups[0].ShutdownDelay = durationpb.New(5 * time.Second)
			a := webAlloc(job, "a1")
			n.assign(complete(1, job, a))
			time.Sleep(2 * time.Second)
			if i := web(t, n.want("a1", berthv1.Alloc_running)); !i.GetReady() {
				t.Fatalf("%v", i)
			}
			told := time.Now()
			n.stopAlloc(2, job, a, "x")
			if i := web(t, n.want("a1", berthv1.Alloc_running)); i.GetReady() {
				t.Errorf("still ready: %v", i)
			}
			if crash {
				n.restart()
			}
			time.Sleep(5*time.Second - time.Millisecond)
			if i := web(t, n.want("a1", berthv1.Alloc_running)); i.GetReady() {
				t.Errorf("ready again: %v", i)
			}
			time.Sleep(2 * time.Millisecond)
			n.want("a1", berthv1.Alloc_complete)
			if d := time.Since(told); d > 6*time.Second {
				t.Errorf("it took %s", d)
			}
		})
	}
}

func TestNoShutdownDelayForWhatDoesNotRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.start()
		defer n.end()
		job := webJob()
		job.Groups[0].ShutdownDelay = durationpb.New(time.Hour)
		job.Groups[0].Tasks[0].Config = mustStruct(map[string]any{"prepare_delay": "1h"})
		a := webAlloc(job, "a1")
		n.assign(complete(1, job, a))
		n.want("a1", berthv1.Alloc_pending)
		n.stopAlloc(2, job, a, "x")
		n.want("a1", berthv1.Alloc_complete)
	})
}

func TestCanaryGetsNoTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.start()
		defer n.end()
		job := webJob()
		a := webAlloc(job, "a1")
		a.Canary = true
		n.assign(complete(1, job, a))
		time.Sleep(2 * time.Second)
		i := web(t, n.want("a1", berthv1.Alloc_running))
		if i.GetReady() || !i.GetCanary() || i.GetReason() != "it is a canary that is not promoted" || fmt.Sprint(i.GetTags()) != "[canary]" {
			t.Errorf("%v", i)
		}
		a = a.ShallowCopy()
		a.Canary = false
		n.assign(complete(2, job, a))
		i = web(t, n.status("a1"))
		if !i.GetReady() || i.GetCanary() || fmt.Sprint(i.GetTags()) != "[front n1]" {
			t.Errorf("promoted: %v", i)
		}
	})
}

// TestFlappingIsReportedSlowly: a check that changes all the time causes a report a
// second, and one whose words alone change one in half a minute.
func TestFlappingIsReportedSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.start()
		defer n.end()
		job := webJob()
		c := job.Groups[0].Services[0].Checks[0]
		c.Interval, c.FailureThreshold = durationpb.New(100*time.Millisecond), 1
		n.assign(complete(1, job, webAlloc(job, "a1")))
		time.Sleep(2 * time.Second)
		began := time.Now()
		for i := range 100 {
			if i%2 == 0 {
				n.fail("http", "no")
			} else {
				n.pass("http")
			}
			time.Sleep(200 * time.Millisecond)
		}
		all := n.reports.since(began)
		if len(all) < 10 || len(all) > 21 {
			t.Errorf("%d reports in 20 s", len(all))
		}
		for i := range all[1:] {
			if d := all[i+1].at.Sub(all[i].at); d < time.Second {
				t.Errorf("two reports within %s", d)
			}
		}
		n.fail("http", "no")
		time.Sleep(2 * time.Second)
		began = time.Now()
		for i := range 120 {
			n.fail("http", fmt.Sprint("no ", i))
			time.Sleep(time.Second)
		}
		if all := n.reports.since(began); len(all) < 3 || len(all) > 5 {
			t.Errorf("%d reports in 2 min for words", len(all))
		}
	})
}

func TestLivenessRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.start()
		defer n.end()
		job := webJob()
		job.Groups[0].Services[0].Checks[0].On = "liveness"
		n.assign(complete(1, job, webAlloc(job, "a1")))
		time.Sleep(5 * time.Second)
		if i := web(t, n.want("a1", berthv1.Alloc_running)); !i.GetReady() {
			t.Fatalf("%v", i)
		}
		n.fail("http", "status 500")
		time.Sleep(3 * time.Second)
		n.pass("http")
		time.Sleep(3 * time.Second)
		u := n.want("a1", berthv1.Alloc_running)
		if got := u.GetTasks()[0].GetRestarts(); got != 1 {
			t.Errorf("%d restarts", got)
		}
		if i := web(t, u); !i.GetReady() {
			t.Errorf("%v", i)
		}
		said := ""
		for _, e := range u.GetTasks()[0].GetEvents() {
			if e.GetType() == "unhealthy" {
				said = e.GetMessage()
			}
		}
		if said != "check http of service web fails: status 500" {
			t.Errorf("it says %q", said)
		}
		n.fail("http", "status 500")
		time.Sleep(time.Minute)
		u = n.want("a1", berthv1.Alloc_failed)
		want := `task "web" failed: check http of service web fails: status 500; ended by SIGTERM; the restarts that the policy allows are used up`
		if u.GetTasks()[0].GetRestarts() != 2 || u.GetStatusReason() != want {
			t.Errorf("%d restarts, %q, want %q", u.GetTasks()[0].GetRestarts(), u.GetStatusReason(), want)
		}
	})
}

func TestScriptChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.start()
		defer n.end()
		job := webJob()
		job.Groups[0].Tasks = append(job.Groups[0].Tasks, &berthv1.Task{Name: "other", Driver: "bare"})
		script := func(task string, command ...string) *berthv1.Check {
			return &berthv1.Check{Name: "c", Type: "script", Task: task, Command: command, Interval: durationpb.New(time.Second), Timeout: durationpb.New(time.Second)}
		}
		for name, c := range map[string]*berthv1.Check{
			"good": script("web", "echo", "hello"), "bad": script("web", "exit", "3"), "slow": script("web", "sleep", "1h"),
			"whose": script("", "exit", "0"), "unknown": script("nobody", "exit", "0"), "bare": script("other", "exit", "0"),
		} {
			job.Groups[0].Services = append(job.Groups[0].Services, &berthv1.Service{Name: name, Checks: []*berthv1.Check{c}})
		}
		n.assign(complete(1, job, webAlloc(job, "a1")))
		time.Sleep(10 * time.Second)
		for _, i := range n.want("a1", berthv1.Alloc_running).GetServices() {
			want := map[string]string{
				"web": "", "good": "", "bad": "check c: exit code 3", "slow": "check c: did not end within 1s",
				"whose":   "check c: the group has 2 main tasks: the check must name the one that its script runs in",
				"bare":    `check c: the driver "bare" cannot run commands in a task`,
				"unknown": "check c has not passed yet", // its task never runs
			}[i.GetService()]
			if i.GetReason() != want {
				t.Errorf("%s: %q, want %q", i.GetService(), i.GetReason(), want)
			}
		}
	})
}

func TestHealthIsReportedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.start()
		defer func() { n.end() }()
		job := webJob()
		job.Update = &berthv1.UpdateStrategy{MinHealthyTime: durationpb.New(10 * time.Second), HealthyDeadline: durationpb.New(time.Minute)}
		a := webAlloc(job, "a1")
		n.assign(complete(1, job, a))
		time.Sleep(9 * time.Second)
		if u := n.want("a1", berthv1.Alloc_running); u.GetHealth() != berthv1.Alloc_undecided {
			t.Errorf("too early: %v", u)
		}
		time.Sleep(3 * time.Second)
		u := n.status("a1")
		if u.GetHealth() != berthv1.Alloc_healthy || u.GetHealthVersion() != 1 || u.GetHealthTime() == nil {
			t.Fatalf("%v", u)
		}
		at := u.GetHealthTime().AsTime()
		// It is not decided again, not even by the agent's next life.
		n.fail("http", "no")
		n.restart()
		time.Sleep(2 * time.Minute)
		if u := n.status("a1"); u.GetHealth() != berthv1.Alloc_healthy || !u.GetHealthTime().AsTime().Equal(at) {
			t.Errorf("%v", u)
		}
		// A newer version in place is another question.
		newer := proto.CloneOf(job)
		newer.Version, newer.Groups[0].Count = 2, proto.Uint32(7)
		b := webAlloc(newer, "a1")
		b.Health, b.HealthTime = u.GetHealth(), u.GetHealthTime() // the servers keep it
		n.assign(&berthv1.Assignments{AppliesTo: 1, ResultsIn: 2, Jobs: []*berthv1.Job{newer}, Allocs: []*berthv1.Alloc{b}})
		n.restart()
		time.Sleep(2 * time.Minute)
		if u := n.status("a1"); u.GetHealth() != berthv1.Alloc_healthy || u.GetHealthVersion() != 2 || !u.GetHealthTime().AsTime().Equal(at) {
			t.Errorf("nothing else is asked of this version: %v", u)
		}
		newer = proto.CloneOf(newer)
		newer.Version, newer.Groups[0].Services[0].Checks[0].Path = 3, "/new"
		n.assign(&berthv1.Assignments{AppliesTo: 2, ResultsIn: 3, Jobs: []*berthv1.Job{newer}, Allocs: []*berthv1.Alloc{webAlloc(newer, "a1")}})
		if u := n.status("a1"); u.GetHealth() != berthv1.Alloc_undecided {
			t.Errorf("the old version's health is said of the new one: %v", u)
		}
		time.Sleep(61 * time.Second)
		if u := n.status("a1"); u.GetHealth() != berthv1.Alloc_unhealthy || u.GetHealthVersion() != 3 {
			t.Errorf("%v", u)
		}
	})
}

func TestHealthOfTasks(t *testing.T) {
	for _, tc := range []struct {
		name   string
		update *berthv1.UpdateStrategy
		config map[string]any
		check  bool // passes
		want   berthv1.Alloc_Health
	}{
		{"checks fail", &berthv1.UpdateStrategy{Health: "checks"}, nil, false, berthv1.Alloc_unhealthy},
		{"checks fail, tasks count", &berthv1.UpdateStrategy{Health: "tasks"}, nil, false, berthv1.Alloc_healthy},
		{"it fails", &berthv1.UpdateStrategy{}, map[string]any{"run_for": "1s", "exit_code": 1.0}, true, berthv1.Alloc_unhealthy},
		{"it restarts all the time", &berthv1.UpdateStrategy{}, map[string]any{"run_for": "8s"}, true, berthv1.Alloc_unhealthy},
		{"somebody else says so", &berthv1.UpdateStrategy{Health: "manual"}, nil, true, berthv1.Alloc_undecided},
		{"nobody asks", nil, nil, true, berthv1.Alloc_undecided},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t)
				n.start()
				defer n.end()
				if !tc.check {
					n.fail("http", "no")
				}
				job := webJob()
				job.Groups[0].Update, job.Groups[0].Tasks[0].Config = tc.update, mustStruct(tc.config)
				if tc.update != nil {
					tc.update.HealthyDeadline = durationpb.New(30 * time.Second)
				}
				n.assign(complete(1, job, webAlloc(job, "a1")))
				time.Sleep(45 * time.Second)
				if u := n.status("a1"); u.GetHealth() != tc.want {
					t.Errorf("%v, want %v", u, tc.want)
				}
			})
		})
	}
}

// TestAgentRestartKeepsTraffic: an instance that is ready stays so while the agent is
// restarted, and a check that fails meanwhile is noticed.
func TestAgentRestartKeepsTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.start()
		defer func() { n.end() }()
		job := webJob()
		n.assign(complete(1, job, webAlloc(job, "a1")))
		time.Sleep(3 * time.Second)
		began := time.Now()
		n.restart()
		time.Sleep(10 * time.Second)
		for _, u := range n.reports.since(began) {
			if i := web(t, u.AllocStatusUpdate); !i.GetReady() {
				t.Errorf("out of traffic: %v", i)
			}
		}
		n.fail("http", "no")
		n.restart()
		time.Sleep(10 * time.Second)
		if i := web(t, n.status("a1")); i.GetReady() {
			t.Errorf("%v", i)
		}
		// The task is another one after the restart: it has to pass anew.
		n.pass("http")
		time.Sleep(5 * time.Second)
		n.end()
		n.host.Reboot()
		n.rebooted = true
		n.fail("http", "starting")
		n.start()
		time.Sleep(500 * time.Millisecond)
		if i := web(t, n.want("a1", berthv1.Alloc_running)); i.GetReady() || !strings.HasPrefix(i.GetReason(), "check http") {
			t.Errorf("%v", i)
		}
	})
}

// TestChecksChangeInPlace: what is asked otherwise is asked anew; what is only asked at
// other times goes on.
func TestChecksChangeInPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.start()
		defer n.end()
		job := webJob()
		n.assign(complete(1, job, webAlloc(job, "a1")))
		time.Sleep(3 * time.Second)
		change := func(version uint64, change func(*berthv1.Group)) []reported {
			t.Helper()
			began := time.Now()
			job = proto.CloneOf(job)
			job.Version = version
			change(job.Groups[0])
			n.assign(&berthv1.Assignments{AppliesTo: version - 1, ResultsIn: version, Jobs: []*berthv1.Job{job}, Allocs: []*berthv1.Alloc{webAlloc(job, "a1")}})
			time.Sleep(5 * time.Second)
			return n.reports.since(began)
		}
		for _, u := range change(2, func(g *berthv1.Group) { g.Services[0].Checks[0].Interval = durationpb.New(2 * time.Second) }) {
			if i := web(t, u.AllocStatusUpdate); !i.GetReady() {
				t.Errorf("another interval: %v", i)
			}
		}
		all := change(3, func(g *berthv1.Group) { g.Services[0].Checks[0].Path = "/new" })
		if web(t, all[0].AllocStatusUpdate).GetReady() || !web(t, all[len(all)-1].AllocStatusUpdate).GetReady() {
			t.Errorf("another path: %v", all)
		}
		all = change(4, func(g *berthv1.Group) { g.Services[0].Checks[0].On = "liveness" })
		if i := web(t, all[len(all)-1].AllocStatusUpdate); !i.GetReady() || i.GetChecks()[0].GetOn() != "liveness" {
			t.Errorf("on liveness: %v", i)
		}
		all = change(5, func(g *berthv1.Group) { g.Services = nil })
		if u := all[len(all)-1]; !u.GetHasServices() || len(u.GetServices()) != 0 {
			t.Errorf("no services any more: %v", u)
		}
		if pids := n.driver.started("a1/web"); len(pids) != 1 {
			t.Errorf("the task was started %d times", len(pids))
		}
	})
}
