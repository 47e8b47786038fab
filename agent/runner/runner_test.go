package runner

import (
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthd/berth/drivers"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// TestAssignedWhileItStarts brings assignments before Run begins, and has Run begin
// between taking them in and starting them: each task is started once.
func TestAssignedWhileItStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.load()
		n.onNode = func() {
			n.run()
			synctest.Wait()
		}
		job := jobOf(berthv1.Job_service, map[string]map[string]any{"web": {}})
		n.assign(complete(5, job, allocOf(job, "a1")))
		defer n.end()
		n.want("a1", berthv1.Alloc_running)
		if pids := n.driver.pids["a1/web"]; len(pids) != 1 {
			t.Errorf("the task was started %d times", len(pids))
		}
	})
}

func TestServiceRunsAndStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.start()
		defer n.end()
		job := jobOf(berthv1.Job_service, map[string]map[string]any{"web": {}})
		a := allocOf(job, "a1")
		n.assign(complete(5, job, a))
		u := n.want("a1", berthv1.Alloc_running)
		if pid := u.GetTasks()[0].GetPid(); pid == 0 {
			t.Error("no pid is reported")
		}
		stop := a.ShallowCopy()
		stop.Desired, stop.DesiredReason = berthv1.Alloc_stop, "scaled down"
		n.assign(&berthv1.Assignments{AppliesTo: 5, ResultsIn: 6, Allocs: []*berthv1.Alloc{stop}})
		n.want("a1", berthv1.Alloc_complete)
		if n.host.Has("a1/web") {
			t.Error("the driver was not told to clean up")
		}
		if _, err := os.Stat(n.dir + "/run/node/secrets/a1"); err == nil {
			t.Error("the secrets of an ended task are still there")
		}
		n.assign(&berthv1.Assignments{AppliesTo: 6, ResultsIn: 7, Removed: []string{"a1"}})
		synctest.Wait()
		if !n.m.cfg.Layout.untouched("a1") {
			t.Error("the directories of a removed alloc are still there")
		}
		if c, err := n.store.Load(); err != nil || len(c.Allocs)+len(c.Jobs)+len(c.Tasks)+len(c.Reports) != 0 {
			t.Errorf("the store still knows it: %+v, %v", c, err)
		}
	})
}

func TestBatchCompletesAndRestartsOnFailureOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.start()
		defer n.end()
		job := jobOf(berthv1.Job_batch, map[string]map[string]any{"ok": {"run_for": "10s"}})
		n.assign(complete(1, job, allocOf(job, "a1")))
		time.Sleep(11 * time.Second)
		n.want("a1", berthv1.Alloc_complete)

		bad := jobOf(berthv1.Job_batch, map[string]map[string]any{"bad": {"run_for": "1s", "exit_code": 3.0}})
		bad.Name = "bad"
		bad.Groups[0].Restart = restart(2, time.Second, "fail")
		n.assign(&berthv1.Assignments{AppliesTo: 1, ResultsIn: 2, Jobs: []*berthv1.Job{bad}, Allocs: []*berthv1.Alloc{allocOf(bad, "a2")}})
		time.Sleep(time.Minute)
		u := n.want("a2", berthv1.Alloc_failed)
		if got := u.GetTasks()[0].GetRestarts(); got != 2 {
			t.Errorf("%d restarts, want 2", got)
		}
		if want := `task "bad" failed: exit code 3; the restarts that the policy allows are used up`; u.GetStatusReason() != want {
			t.Errorf("reason %q, want %q", u.GetStatusReason(), want)
		}
	})
}

func TestAgentRestartRecoversTheSameProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.start()
		job := jobOf(berthv1.Job_service, map[string]map[string]any{"web": {}})
		n.assign(complete(5, job, allocOf(job, "a1")))
		pid := n.want("a1", berthv1.Alloc_running).GetTasks()[0].GetPid()
		n.restart()
		defer func() { n.end() }()
		u := n.want("a1", berthv1.Alloc_running)
		if got := u.GetTasks()[0].GetPid(); got != pid {
			t.Errorf("pid %d after the agent's restart, want %d", got, pid)
		}
		if calls := n.driver.Calls(); calls["Start"] != 0 || calls["Recover"] != 1 {
			t.Errorf("driver calls %v", calls)
		}
		// It ends while the agent is away.
		n.end()
		n.host.End("a1/web", drivers.Exit{Code: 1})
		n.start()
		time.Sleep(5 * time.Second)
		u = n.want("a1", berthv1.Alloc_running)
		if st := u.GetTasks()[0]; st.GetRestarts() != 1 || st.GetPid() == pid {
			t.Errorf("restarts %d, pid %d", st.GetRestarts(), st.GetPid())
		}
	})
}

func TestRebootIsSaidAndDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.start()
		job := jobOf(berthv1.Job_batch, map[string]map[string]any{"b": {"run_for": "1h"}})
		job.Groups[0].Restart = restart(0, time.Second, "fail")
		n.assign(complete(5, job, allocOf(job, "a1")))
		n.want("a1", berthv1.Alloc_running)
		n.end()
		n.host.Reboot()
		n.rebooted = true
		n.start()
		defer n.end()
		u := n.want("a1", berthv1.Alloc_running)
		said := false
		for _, e := range u.GetTasks()[0].GetEvents() {
			said = said || e.GetMessage() == "gone: the machine was rebooted"
		}
		if !said {
			t.Errorf("the reboot is not among the events: %v", u)
		}
	})
}

func TestStoreLostIsRecoveredFromHandles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.start()
		job := jobOf(berthv1.Job_service, map[string]map[string]any{"web": {}})
		done := jobOf(berthv1.Job_batch, map[string]map[string]any{"b": {"run_for": "1s"}})
		done.Name = "done"
		a, b := allocOf(job, "a1"), allocOf(done, "b1")
		as := complete(5, job, a, b)
		as.Jobs = append(as.Jobs, done)
		n.assign(as)
		time.Sleep(time.Minute)
		pid := n.want("a1", berthv1.Alloc_running).GetTasks()[0].GetPid()
		u := n.want("b1", berthv1.Alloc_complete)
		n.end()
		if err := os.WriteFile(n.dir+"/agent/state.db", []byte("nonsense"), 0o600); err != nil {
			t.Fatal(err)
		}
		n.start()
		defer n.end()
		b = b.ShallowCopy()
		b.Status, b.Tasks = u.GetStatus(), u.GetTasks()
		n.assign(complete(6, job, a, b)) // the job of what has ended is not sent
		if got := n.want("a1", berthv1.Alloc_running).GetTasks()[0].GetPid(); got != pid {
			t.Errorf("pid %d after the store was lost, want %d", got, pid)
		}
		n.want("b1", berthv1.Alloc_complete)
		if calls := n.driver.Calls(); calls["Start"] != 0 {
			t.Errorf("something was started again: %v", calls)
		}
	})
}
