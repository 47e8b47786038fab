package runner

import (
	"testing"
	"time"

	"github.com/berthd/berth/agent/store"
	"github.com/berthd/berth/drivers"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func TestNext(t *testing.T) {
	now := time.Unix(1000, 0)
	later := now.Add(time.Second)
	for _, tc := range []struct {
		name string
		s    situation
		want op
	}{
		{"new", situation{rec: &store.Task{Phase: store.Waiting}}, opPrepare},
		{"waits before a restart", situation{rec: &store.Task{Phase: store.Waiting, NotBefore: later}}, opSleep},
		{"has waited", situation{rec: &store.Task{Phase: store.Waiting, NotBefore: now}}, opPrepare},
		{"stopped before it began", situation{rec: &store.Task{Phase: store.Waiting}, stop: true}, opRemove},
		{"stopped while it waits", situation{rec: &store.Task{Phase: store.Waiting, NotBefore: later}, stop: true}, opRemove},
		{"cannot be built", situation{rec: &store.Task{Phase: store.Waiting, GiveUp: "no"}}, opRemove},
		{"prepared", situation{rec: &store.Task{Phase: store.Starting}}, opStart},
		{"stopped between prepare and start", situation{rec: &store.Task{Phase: store.Starting}, stop: true}, opRemove},
		{"agent restarted", situation{rec: &store.Task{Phase: store.Running}}, opRecover},
		{"agent restarted, to be stopped", situation{rec: &store.Task{Phase: store.Running}, stop: true}, opRecover},
		{"runs", situation{rec: &store.Task{Phase: store.Running}, attached: true}, opWait},
		{"runs, its grant has changed", situation{rec: &store.Task{Phase: store.Running}, attached: true, outdated: true}, opUpdate},
		{"to be stopped", situation{rec: &store.Task{Phase: store.Running}, attached: true, stop: true, outdated: true}, opStop},
		{"stopped", situation{rec: &store.Task{Phase: store.Running}, attached: true, stop: true, stopped: true}, opWait},
		{"held by its group", situation{rec: &store.Task{Phase: store.Waiting}, hold: true}, opHold},
		{"held, and prepared before a crash", situation{rec: &store.Task{Phase: store.Starting}, hold: true}, opHold},
		{"held and stopped", situation{rec: &store.Task{Phase: store.Waiting}, hold: true, stop: true}, opRemove},
		{"runs though its group would hold it now", situation{rec: &store.Task{Phase: store.Running}, hold: true, attached: true}, opWait},
		{"to be stopped after its delay", situation{rec: &store.Task{Phase: store.Running}, attached: true, stop: true, stopAt: later}, opWait},
		{"its delay has passed", situation{rec: &store.Task{Phase: store.Running}, attached: true, stop: true, stopAt: now}, opStop},
		{"given up within its delay", situation{rec: &store.Task{Phase: store.Running, GiveUp: "why"}, attached: true, stop: true, stopAt: later}, opStop},
		{"to be restarted", situation{rec: &store.Task{Phase: store.Running, Restart: "why"}, attached: true}, opStop},
		{"unwell", situation{rec: &store.Task{Phase: store.Running, Unhealthy: "why"}, attached: true}, opStop},
		{"unwell within its delay", situation{rec: &store.Task{Phase: store.Running, Unhealthy: "why"}, attached: true, stop: true, stopAt: later}, opStop},
		{"to be given up", situation{rec: &store.Task{Phase: store.Running, GiveUp: "why"}, attached: true}, opStop},
		{"ended", situation{rec: &store.Task{Phase: store.Exited}}, opRemove},
		{"over", situation{rec: &store.Task{Phase: store.Dead}}, opIdle},
		{"over, stopped", situation{rec: &store.Task{Phase: store.Dead}, stop: true}, opIdle},
	} {
		tc.s.now = now
		if got := next(tc.s); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestJudge(t *testing.T) {
	now := time.Unix(10000, 0)
	ok, bad := &drivers.Exit{}, &drivers.Exit{Code: 1}
	service := policy{attempts: 2, interval: time.Minute, delay: time.Second, maxDelay: 10 * time.Second, onSuccess: true}
	batch := service
	batch.onSuccess = false
	patient := service
	patient.waitOut = true
	ago := func(d ...time.Duration) []time.Time {
		var all []time.Time
		for _, d := range d {
			all = append(all, now.Add(-d))
		}
		return all
	}
	for _, tc := range []struct {
		name string
		rec  *store.Task
		p    policy
		stop bool
		want verdict
	}{
		{"a service ends well", &store.Task{Exit: ok}, service, false, verdict{again: true, counts: true, at: now.Add(time.Second)}},
		{"a service fails", &store.Task{Exit: bad}, service, false, verdict{again: true, counts: true, at: now.Add(time.Second)}},
		{"the delay doubles", &store.Task{Exit: bad, Restarts: ago(5 * time.Second)}, service, false, verdict{again: true, counts: true, at: now.Add(2 * time.Second)}},
		{"used up", &store.Task{Exit: bad, Restarts: ago(9*time.Second, 5*time.Second)}, service, false, verdict{failed: true, why: "the restarts that the policy allows are used up"}},
		{"old ones do not count", &store.Task{Exit: bad, Restarts: ago(2*time.Minute, 5*time.Second)}, service, false, verdict{again: true, counts: true, at: now.Add(2 * time.Second)}},
		{"used up, mode delay", &store.Task{Exit: bad, Restarts: ago(9*time.Second, 5*time.Second)}, patient, false,
			verdict{again: true, counts: true, at: now.Add(51 * time.Second), why: "the restarts of this interval are used up"}},
		{"a batch task ends well", &store.Task{Exit: ok}, batch, false, verdict{}},
		{"a batch task fails", &store.Task{Exit: bad}, batch, false, verdict{again: true, counts: true, at: now.Add(time.Second)}},
		{"stopped", &store.Task{Exit: &drivers.Exit{Signal: 15}}, service, true, verdict{}},
		{"given up", &store.Task{GiveUp: "bad config"}, service, false, verdict{failed: true, why: "bad config"}},
		{"given up and stopped", &store.Task{GiveUp: "bad config"}, service, true, verdict{failed: true, why: "bad config"}},
		{"restart ordered", &store.Task{Exit: ok, Restart: "somebody ordered it", Restarts: ago(1, 2, 3)}, batch, false, verdict{again: true, at: now, why: "somebody ordered it"}},
		{"unwell, and ended well", &store.Task{Exit: ok, Unhealthy: "check"}, batch, false, verdict{again: true, counts: true, at: now.Add(time.Second)}},
		{"unwell, used up", &store.Task{Exit: ok, Unhealthy: "check", Restarts: ago(9*time.Second, 5*time.Second)}, batch, false,
			verdict{failed: true, why: "the restarts that the policy allows are used up"}},
		{"unwell and stopped", &store.Task{Exit: ok, Unhealthy: "check"}, service, true, verdict{}},
		{"the clock went back", &store.Task{Exit: bad, Restarts: []time.Time{now.Add(time.Hour), now.Add(2 * time.Hour)}}, service, false,
			verdict{failed: true, why: "the restarts that the policy allows are used up"}},
	} {
		if got := judge(tc.rec, tc.p, tc.stop, now); got != tc.want {
			t.Errorf("%s:\n got %+v\nwant %+v", tc.name, got, tc.want)
		}
	}
}

func TestBackOffIsBounded(t *testing.T) {
	p := policy{delay: time.Second, maxDelay: time.Minute}
	for n, want := range []int{1, 2, 4, 8, 16, 32, 60, 60} {
		if got := backOff(p, n); got != time.Duration(want)*time.Second {
			t.Errorf("wait before restart %d: %s, want %ds", n, got, want)
		}
	}
	if got := backOff(p, 1000000); got != time.Minute {
		t.Errorf("after a million: %s", got)
	}
}

func TestWhoIsStartedAgainAfterAGoodEnd(t *testing.T) {
	for _, tc := range []struct {
		hook    string
		sidecar bool
		service bool // in a service job
		batch   bool
	}{
		{"", false, true, false}, {"prestart", false, false, false}, {"poststart", false, false, false}, {"poststop", false, false, false},
		{"prestart", true, true, true}, {"poststart", true, true, true},
	} {
		task := &berthv1.Task{}
		if tc.hook != "" {
			task.Lifecycle = &berthv1.Lifecycle{Hook: tc.hook, Sidecar: tc.sidecar}
		}
		for kind, want := range map[berthv1.Job_Type]bool{
			berthv1.Job_service: tc.service, berthv1.Job_system: tc.service, berthv1.Job_batch: tc.batch, berthv1.Job_sysbatch: tc.batch,
		} {
			if got := policyFor(&berthv1.Job{Type: kind}, &berthv1.Group{}, task).onSuccess; got != want {
				t.Errorf("%s, %q, sidecar %v: %v", kind, tc.hook, tc.sidecar, got)
			}
		}
	}
}
