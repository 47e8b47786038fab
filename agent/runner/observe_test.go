package runner

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/berthd/berth/drivers"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func TestNoteCondition(t *testing.T) {
	guest := &berthv1.Guest{Hostname: "db", Addresses: []string{"10.0.2.15"}}
	for name, tc := range map[string]struct {
		before, state string
		ready         bool
		event         string
		want          string // condition
		wantEvent     string
		changed       bool
	}{
		"as it should be":      {"", "running", true, "", "", "", false},
		"not ready yet":        {"", "running", false, "", notReady, "", true},
		"still not ready":      {notReady, "running", false, "", notReady, "", false},
		"ready":                {notReady, "running", true, "", "", "ready ", true},
		"paused":               {"", "paused", true, "", "paused", "paused ", true},
		"goes on":              {"paused", "running", true, "", "", "resumed ", true},
		"goes on, not ready":   {"paused", "running", false, "", notReady, "", true},
		"panicked":             {"", "panicked", true, "the guest's kernel panicked", "panicked", "panicked the guest's kernel panicked", true},
		"something happened":   {"", "running", true, "watchdog: reset", "", "machine watchdog: reset", true},
		"what a guest chooses": {"", "running", true, "a\x1b[31mb\xff", "", "machine a?[31mb?", true},
		"happened, not ready":  {"", "running", false, "reset", notReady, "machine reset", true},
	} {
		t.Run(name, func(t *testing.T) {
			st := &berthv1.TaskState{Condition: tc.before, Guest: guest}
			e, changed := noteCondition(st, drivers.Condition{State: tc.state, Ready: tc.ready, Event: tc.event})
			said := ""
			if e != nil {
				said = e.GetType() + " " + e.GetMessage()
			}
			if st.GetCondition() != tc.want || said != tc.wantEvent || changed != tc.changed || st.GetGuest() != guest {
				t.Errorf("%q, %q, %v, %v", st.GetCondition(), said, changed, st.GetGuest())
			}
		})
	}
}

func TestGuestOf(t *testing.T) {
	long := drivers.Condition{Hostname: strings.Repeat("ä", 200), OS: "a\nb", Addresses: make([]string, 100)}
	g := guestOf(long)
	if len(g.GetHostname()) > maxGuestWords || g.GetOs() != "a?b" || len(g.GetAddresses()) != maxAddresses {
		t.Errorf("%v", g)
	}
	if _, err := proto.Marshal(g); err != nil {
		t.Error(err)
	}
}

// TestMachineStandsStill pauses a machine and ends the agent meanwhile.
func TestMachineStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.start()
		defer n.end()
		job := webJob()
		job.Groups[0].Services[0].Checks[0].On = "both"
		n.assign(complete(1, job, webAlloc(job, "a1")))
		control := func(a drivers.Action) {
			if err := n.driver.Control(t.Context(), taskID("a1", "web"), a); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
		}
		state := func(condition string, ready bool) {
			t.Helper()
			u := n.want("a1", berthv1.Alloc_running)
			words := ""
			if condition != "" {
				words = fmt.Sprintf(`task "web" is %s`, condition)
			}
			if st := u.GetTasks()[0]; st.GetCondition() != condition || u.GetStatusReason() != words || web(t, u).GetReady() != ready || st.GetGuest().GetHostname() != "mock" {
				t.Errorf("want %q, ready %v: %v", condition, ready, u)
			}
		}
		time.Sleep(2 * time.Second)
		state("", true)
		control(drivers.ActionPause)
		n.fail("http", "it does not answer") // and does not cost it its life
		time.Sleep(time.Minute)
		state("paused", false)
		n.restart()
		time.Sleep(time.Minute)
		state("paused", false)
		n.pass("http")
		control(drivers.ActionResume)
		state("", true)
		var events []string
		for _, e := range n.status("a1").GetTasks()[0].GetEvents() {
			events = append(events, e.GetType())
		}
		if got := strings.Join(events, " "); got != "received started paused recovered resumed" {
			t.Errorf("events %s", got)
		}
		if n.host.Starts(taskID("a1", "web")) != 1 {
			t.Error("it was started again")
		}
		if err := n.driver.Control(t.Context(), taskID("a1", "web"), drivers.ActionPause); err != nil {
			t.Fatal(err)
		}
		a := webAlloc(job, "a1")
		n.stopAlloc(2, job, a, "enough")
		time.Sleep(time.Minute)
		if st := n.want("a1", berthv1.Alloc_complete).GetTasks()[0]; st.GetCondition() != "" || st.GetGuest() != nil {
			t.Errorf("it has ended, and is %v", st)
		}
	})
}

// TestNotReadyIsNotHealthy has a driver that says "not ready" for a while.
func TestNotReadyIsNotHealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.load()
		n.driver.observe = func(ctx context.Context, told func(drivers.Condition)) error {
			told(drivers.Condition{State: "running"})
			pause(ctx, time.Minute)
			told(drivers.Condition{State: "running", Ready: true})
			<-ctx.Done()
			return ctx.Err()
		}
		n.run()
		defer n.end()
		job := webJob()
		job.Update = &berthv1.UpdateStrategy{MinHealthyTime: durationpb.New(time.Second), HealthyDeadline: durationpb.New(10 * time.Minute)}
		n.assign(complete(1, job, webAlloc(job, "a1")))
		time.Sleep(50 * time.Second)
		if u := n.want("a1", berthv1.Alloc_running); u.GetHealth() != berthv1.Alloc_undecided || web(t, u).GetReady() {
			t.Errorf("not ready, and %v", u)
		}
		time.Sleep(20 * time.Second)
		if u := n.want("a1", berthv1.Alloc_running); u.GetHealth() != berthv1.Alloc_healthy || !web(t, u).GetReady() {
			t.Errorf("ready, and %v", u)
		}
	})
}

// TestGuestCannotFlood has a driver that tells something new all the time.
func TestGuestCannotFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.load()
		n.driver.observe = func(ctx context.Context, told func(drivers.Condition)) error {
			for i := 0; ctx.Err() == nil; i++ {
				told(drivers.Condition{State: "running", Ready: true, Hostname: fmt.Sprint(i)})
			}
			return ctx.Err()
		}
		n.run()
		defer n.end()
		job := jobOf(berthv1.Job_service, map[string]map[string]any{"web": {}})
		began := time.Now()
		n.assign(complete(1, job, allocOf(job, "a1")))
		time.Sleep(time.Minute)
		if told := len(n.reports.since(began)); told > 70+oftenAtOnce {
			t.Errorf("%d reports in a minute", told)
		}
	})
}

// TestFirstLookIsBounded has a driver that says nothing.
func TestFirstLookIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.load()
		n.driver.observe = func(ctx context.Context, _ func(drivers.Condition)) error { <-ctx.Done(); return ctx.Err() }
		n.run()
		defer n.end()
		job := jobOf(berthv1.Job_service, map[string]map[string]any{"web": {}})
		n.assign(complete(1, job, allocOf(job, "a1")))
		time.Sleep(firstLook + time.Second)
		if st := n.want("a1", berthv1.Alloc_running).GetTasks()[0]; st.GetCondition() != notReady {
			t.Errorf("it is %v", st)
		}
	})
}
