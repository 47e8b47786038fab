package drivertest

import (
	"fmt"
	"testing"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
)

// crashTests hold the promises about agents that die.
var crashTests = map[string]func(*testing.T, *bench){
	"between any two steps":             testCrashAnywhere,
	"after every step":                  testCrashEverywhere,
	"start finds what a dead one began": testStartAfterCrash,
	"ended while away":                  testEndedWhileAway,
	"remove without recover":            testRemoveWithoutRecover,
	"recover twice":                     testRecoverTwice,
}

// steps are the life of a task as the runner drives it. Each may be done again after a
// crash, by a driver that has recovered the task if it was started.
type life struct {
	task   *drivers.Task
	handle *drivers.Handle
}

var steps = []struct {
	name string
	do   func(b *bench, l *life) error
}{
	{"prepare", func(b *bench, l *life) error { return b.d.Prepare(b.ctx(), l.task, nil) }},
	{"start", func(b *bench, l *life) error {
		h, err := b.d.Start(b.ctx(), l.task)
		if err == nil && l.handle != nil && (h.PID != l.handle.PID || !h.StartedAt.Equal(l.handle.StartedAt)) {
			return fmt.Errorf("a second Start gave another task: %+v, then %+v", l.handle, h)
		}
		l.handle = h
		return err
	}},
	{"run", func(b *bench, l *life) error { b.running(l.task); return nil }},
	{"stop", func(b *bench, l *life) error { return b.d.Stop(b.ctx(), l.task.ID, "SIGTERM", b.patience()) }},
	{"wait", func(b *bench, l *life) error {
		exit, err := b.d.Wait(b.ctx(), l.task.ID)
		if err == nil && exit.Err != "" {
			return fmt.Errorf("how it ended was lost: %+v", exit)
		}
		return err
	}},
	{"remove", func(b *bench, l *life) error { return b.d.Remove(b.ctx(), l.task, l.handle) }},
}

// live drives a task through its steps; crashes(i) says whether the agent dies after step i
// was done and before it was noted, so that the step is done again.
func (b *bench) live(crashes func(step int) bool) {
	l := &life{task: b.task(b.f.Forever)}
	for i, s := range steps {
		if err := s.do(b, l); err != nil {
			b.t.Fatalf("%s: %v", s.name, err)
		}
		if !crashes(i) {
			continue
		}
		b.crash()
		if s.name != "prepare" && s.name != "start" && s.name != "remove" {
			if err := b.d.Recover(b.ctx(), l.task, l.handle); err != nil {
				b.t.Fatalf("Recover after %s: %v", s.name, err)
			}
		}
		if err := s.do(b, l); err != nil {
			b.t.Fatalf("%s again after a crash: %v", s.name, err)
		}
	}
	b.nothingLeft(l.task)
}

func testCrashAnywhere(t *testing.T, b *bench) {
	for i, s := range steps {
		t.Run(s.name, func(t *testing.T) {
			if b.f.Parallel {
				t.Parallel()
			}
			newBench(t, b.f).live(func(step int) bool { return step == i })
		})
	}
}

func testCrashEverywhere(_ *testing.T, b *bench) {
	b.live(func(int) bool { return true })
}

func testStartAfterCrash(t *testing.T, b *bench) {
	task := b.task(b.f.Forever)
	first := b.start(task)
	b.crash()
	second, err := b.d.Start(b.ctx(), task)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	if first.PID != second.PID || !first.StartedAt.Equal(second.StartedAt) {
		t.Errorf("Start gave %+v, then %+v", first, second)
	}
	b.running(task)
}

func testEndedWhileAway(t *testing.T, b *bench) {
	b.need(b.f.ExitWith != nil, "ExitWith")
	task := b.task(b.f.ExitWith(100*time.Millisecond, 9))
	h := b.start(task)
	b.wait(task)
	b.crash()
	if _, err := b.d.Wait(b.ctx(), task.ID); !problem.Is(err, problem.NotFound) {
		t.Errorf("Wait before Recover = %v, want NotFound", err)
	}
	if err := b.d.Recover(b.ctx(), task, h); err != nil {
		t.Fatalf("Recover: %v", err)
	}
	if exit := b.wait(task); exit.Code != 9 || exit.Err != "" {
		t.Errorf("ended with %+v, want code 9", exit)
	}
	b.crash()
	again, err := b.d.Start(b.ctx(), task)
	if err != nil || again.PID != h.PID {
		t.Errorf("Start of what had ended = %+v, %v, want the same task", again, err)
	}
	if exit := b.wait(task); exit.Code != 9 {
		t.Errorf("ended with %+v, want code 9", exit)
	}
}

func testRemoveWithoutRecover(t *testing.T, b *bench) {
	for _, withHandle := range []bool{true, false} {
		task := b.task(b.f.Forever)
		h := b.start(task)
		if !withHandle {
			h = nil
		}
		b.crash()
		if err := b.d.Remove(b.ctx(), task, h); err != nil {
			t.Fatalf("Remove: %v", err)
		}
		b.nothingLeft(task)
	}
}

func testRecoverTwice(t *testing.T, b *bench) {
	task := b.task(b.f.Forever)
	h := b.start(task)
	for range 2 {
		if err := b.d.Recover(b.ctx(), task, h); err != nil {
			t.Errorf("Recover: %v", err)
		}
	}
	b.running(task)
}
