package runner

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// groupOf reads a group from words, one a task: its part (pre, pre+, main, leader, post,
// post+, last; + is a sidecar) and how it is: - not started yet, > started, . ended well,
// ! failed, x ended without ever having been started.
func groupOf(words string) []member {
	parts := map[string]part{
		"pre": partBefore, "pre+": partBeforeSidecar, "main": partMain, "leader": partMain,
		"post": partAfter, "post+": partAfterSidecar, "last": partLast,
	}
	var group []member
	for i, word := range strings.Fields(words) {
		name, how := word[:len(word)-1], word[len(word)-1]
		st := &berthv1.TaskState{Task: fmt.Sprintf("t%d", i)}
		if strings.ContainsRune(">.!", rune(how)) {
			st.StartTime, st.Phase = nowPB(), berthv1.TaskState_started
		}
		if strings.ContainsRune(".!x", rune(how)) {
			st.Phase, st.Failed = berthv1.TaskState_dead, how == '!'
		}
		p, ok := parts[name]
		if !ok {
			panic(word)
		}
		group = append(group, member{part: p, leader: name == "leader", state: st})
	}
	return group
}

// TestDirect is what a group says to its tasks: h hold, g go, s stop.
func TestDirect(t *testing.T) {
	for _, tc := range []struct {
		name, group, want string
		stop              string
	}{
		{"one task", "main-", "g", ""},
		{"one task runs", "main>", "g", ""},
		{"told to stop", "main>", "s", "x"},
		{"prestart tasks first, all at once", "pre- pre- main-", "g g h", ""},
		{"one prestart task is done", "pre. pre> main-", "g g h", ""},
		{"all prestart tasks are done", "pre. pre. main-", "g g g", ""},
		{"whatever their order in the spec", "main- pre-", "h g", ""},
		{"a sidecar has to start first", "pre+- main-", "g h", ""},
		{"a sidecar has started", "pre+> main-", "g g", ""},
		{"a prestart task failed", "pre! pre> pre+> main- last-", "s s g s h", ""},
		{"what has not begun when it ends does not begin", "pre! pre+- main-", "s h s", ""},
		{"the sidecar waits while others are stopped", "pre! pre> pre+- main-", "s s h s", ""},
		{"poststart waits for all main tasks", "main> main- post- post+-", "g g h h", ""},
		{"poststart", "main> main> post- post+-", "g g g g", ""},
		{"a main task that has ended has started", "main. main> post-", "g g g", ""},
		{"a batch task ends, the other goes on", "main. main> pre+>", "g g g", ""},
		{"all main tasks have ended: sidecars, the last first", "pre+> pre+> main. post+> post+>", "g g g g s", ""},
		{"then the one before", "pre+> pre+> main. post+> post+.", "g g g s s", ""},
		{"then those that were first", "pre+> pre+> main. post+. post+.", "g s g s s", ""},
		{"then the first", "pre+> pre+. main. post+. post+.", "s s g s s", ""},
		{"a poststart task runs to its end before sidecars go", "pre+> main. post>", "g g g", ""},
		{"told to stop, sidecars stay", "pre. pre+> main> post> post+> last-", "s g s s g h", "x"},
		{"told to stop, a poststart sidecar that has not begun", "pre+> main> post+-", "g s h", "x"},
		{"told to stop, main tasks are gone", "pre. pre+> main. post. post+> last-", "s g s s s h", "x"},
		{"poststop when all others have ended", "pre. main. pre+. last-", "g g s g", ""},
		{"poststop after a failure", "pre! mainx last-", "s s g", ""},
		{"poststop when stopped", "main. last-", "s g", "x"},
		{"a poststop task is not stopped", "main. last>", "s g", "x"},
		{"no poststop where nothing ran", "prex mainx last-", "s s s", "x"},
		{"the leader ends", "leader. main> pre+> last-", "s s g h", ""},
		{"a main task that does not lead ends", "leader> main.", "g g", ""},
		{"a main task fails", "main! main> pre+>", "s s g", ""},
		{"a sidecar fails", "main> pre+!", "s g", ""},
		{"a poststop task fails", "main. last!", "g g", ""},
	} {
		var got []string
		for _, d := range direct(groupOf(tc.group), tc.stop) {
			switch {
			case d.stop != "":
				got = append(got, "s")
			case d.hold:
				got = append(got, "h")
			default:
				got = append(got, "g")
			}
		}
		if g := strings.Join(got, " "); g != tc.want {
			t.Errorf("%s: %s: %s, want %s", tc.name, tc.group, g, tc.want)
		}
	}
}

// TestDirectNeverSticks plays groups of every shape to their end: whatever ends when,
// and when the group is told to stop, everything is over in the end, in the promised
// order.
func TestDirectNeverSticks(t *testing.T) {
	parts := []string{"pre", "pre+", "main", "leader", "post", "post+", "last"}
	shapes := [][]string{{"main"}}
	for range 3 {
		for _, s := range shapes[:len(shapes):len(shapes)] {
			for _, p := range parts {
				shapes = append(shapes, append(append([]string(nil), s...), p))
			}
		}
	}
	for _, shape := range shapes {
		for _, stopAt := range []int{-1, 0, 1, 2, 3} {
			for _, fails := range []int{-1, 0, 1, 2} {
				play(t, shape, stopAt, fails)
			}
		}
	}
}

// play runs a group in steps, one change a step; the task with the index fails comes to a
// bad end, and the group is told to stop at step stopAt.
func play(t *testing.T, shape []string, stopAt, fails int) {
	t.Helper()
	var log []string
	group := groupOf(strings.Join(shape, "- ") + "-")
	stop := ""
	for step := range 40 {
		if step == stopAt {
			stop = "x"
		}
		ds := direct(group, stop)
		moved := false
		for i, d := range ds {
			st := group[i].state
			switch {
			case moved || group[i].dead():
			case d.stop != "":
				st.Phase, moved = berthv1.TaskState_dead, true
			case !group[i].ran() && !d.hold:
				checkStart(t, shape, log, group, i)
				st.StartTime, st.Phase, moved = nowPB(), berthv1.TaskState_started, true
			case group[i].ran() && (!group[i].part.sidecar() || i == fails):
				st.Phase, st.Failed, moved = berthv1.TaskState_dead, i == fails, true
			}
			if moved {
				log = append(log, fmt.Sprintf("%s%d:%s", shape[i], i, st.GetPhase()))
				break
			}
		}
		if !moved {
			break
		}
	}
	if !all(group, member.dead) {
		t.Errorf("%v, stop at %d, %d fails: stuck after %v", shape, stopAt, fails, log)
	}
}

// checkStart holds what must be so when a task starts.
func checkStart(t *testing.T, shape, log []string, group []member, i int) {
	t.Helper()
	for j, m := range group {
		bad := false
		switch group[i].part {
		case partMain:
			bad = m.part == partBefore && !m.dead() || m.part == partBeforeSidecar && !m.up()
		case partAfter, partAfterSidecar:
			bad = m.part == partMain && !m.up()
		case partLast:
			bad = m.part != partLast && !m.dead()
		}
		if bad {
			t.Errorf("%v: %s%d starts before %s%d: %v", shape, shape[i], i, shape[j], j, log)
		}
	}
}

func TestRollUp(t *testing.T) {
	for _, tc := range []struct {
		group string
		want  berthv1.Alloc_Status
	}{
		{"", berthv1.Alloc_pending}, {"main-", berthv1.Alloc_pending}, {"main> main-", berthv1.Alloc_pending},
		{"main> main>", berthv1.Alloc_running}, {"main> main.", berthv1.Alloc_running},
		{"main. main.", berthv1.Alloc_complete}, {"main. main!", berthv1.Alloc_failed},
		{"main> main!", berthv1.Alloc_running}, // still being stopped: its grant is not free
		{"pre> pre+> main-", berthv1.Alloc_pending}, {"pre. pre+> main>", berthv1.Alloc_running},
		{"main> post- post+- last-", berthv1.Alloc_running}, {"main. pre+>", berthv1.Alloc_running},
		{"main. last-", berthv1.Alloc_running}, {"main. last>", berthv1.Alloc_running}, {"main. last.", berthv1.Alloc_complete},
		{"main. last!", berthv1.Alloc_complete}, // the work was done
		{"pre! mainx last.", berthv1.Alloc_failed}, {"main. pre+!", berthv1.Alloc_failed},
		{"prex mainx lastx", berthv1.Alloc_complete},
	} {
		if got, _ := rollUp(groupOf(tc.group)); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.group, got, tc.want)
		}
	}
	group := groupOf("main>")
	group[0].state.Phase, group[0].state.Restarts = berthv1.TaskState_waiting, 1
	if got, why := rollUp(group); got != berthv1.Alloc_running || why == "" {
		t.Errorf("waits to be started again: %v, %q", got, why)
	}
}

// TestRestartsWithinAGroup: what a task's own restart means for the others, namely nothing.
func TestRestartsWithinAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.start()
		defer n.end()
		job := groupJob(berthv1.Job_service, map[string]any{"run_for": "5s", "exit_code": 1.0})
		job.Groups[0].Restart = restart(2, time.Second, "fail")
		findTask(job.Groups[0], "b-proxy").Config = mustStruct(map[string]any{"run_for": "7s"})
		n.assign(complete(1, job, allocOf(job, "a1")))
		n.want("a1", berthv1.Alloc_pending)
		time.Sleep(4 * time.Second)
		n.want("a1", berthv1.Alloc_running)
		time.Sleep(time.Minute)
		u := n.want("a1", berthv1.Alloc_failed)
		restarts := map[string]uint32{}
		for _, st := range u.GetTasks() {
			restarts[st.GetTask()] = st.GetRestarts()
		}
		for name, want := range map[string]uint32{"a-pre": 0, "b-proxy": 2, "main": 2, "c-after": 0, "z-last": 0} {
			if restarts[name] != want {
				t.Errorf("%s was restarted %d times, want %d", name, restarts[name], want)
			}
		}
		if want := `task "main" failed: exit code 1; the restarts that the policy allows are used up`; u.GetStatusReason() != want {
			t.Errorf("%q, want %q", u.GetStatusReason(), want)
		}
	})
}

func TestPrestartIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.start()
		defer n.end()
		job := groupJob(berthv1.Job_service, nil)
		job.Groups[0].Restart = restart(3, time.Second, "fail")
		findTask(job.Groups[0], "a-pre").Config = mustStruct(map[string]any{"run_for": "1s", "exit_code": 1.0})
		n.assign(complete(1, job, allocOf(job, "a1")))
		time.Sleep(time.Minute)
		u := n.want("a1", berthv1.Alloc_failed)
		if got := len(n.driver.started("a1/a-pre")); got != 4 {
			t.Errorf("the prestart task ran %d times, want 4", got)
		}
		if got := len(n.driver.started("a1/main")); got != 0 {
			t.Errorf("the main task ran %d times", got)
		}
		t.Log(u.GetStatusReason())
	})
}

// TestShutdownDelayOfATask: it goes on for so long after it was told to stop, and may end
// by itself meanwhile.
func TestShutdownDelayOfATask(t *testing.T) {
	for name, tc := range map[string]struct {
		config map[string]any
		end    time.Duration // after it was told to stop
		signal bool
	}{
		"is stopped":       {nil, 4 * time.Second, true},
		"ends by itself":   {map[string]any{"run_for": "12s"}, 2 * time.Second, false},
		"does not wait to": {map[string]any{"prepare_delay": "1h"}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t)
				n.start()
				defer n.end()
				job := jobOf(berthv1.Job_service, map[string]map[string]any{"t": tc.config})
				job.Groups[0].Tasks[0].ShutdownDelay = durationpb.New(4 * time.Second)
				a := allocOf(job, "a1")
				n.assign(complete(1, job, a))
				time.Sleep(10 * time.Second)
				a = a.ShallowCopy()
				a.Desired = berthv1.Alloc_stop
				n.assign(complete(2, job, a))
				if tc.end > 0 {
					time.Sleep(tc.end - time.Millisecond)
					n.want("a1", berthv1.Alloc_running)
				}
				time.Sleep(2 * time.Millisecond)
				n.want("a1", berthv1.Alloc_complete)
				if stops := n.driver.Calls()["Stop"]; (stops > 0) != tc.signal {
					t.Errorf("%d stops", stops)
				}
			})
		})
	}
}
