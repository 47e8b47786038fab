package drivertest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
)

// lifeTests hold the promises of Driver's methods in an agent that does not crash.
var lifeTests = map[string]func(*testing.T, *bench){
	"info and probe":                      testInfo,
	"start twice is one task":             testStartTwice,
	"exit codes":                          testExitCodes,
	"wait often and at once":              testWaitOften,
	"wait gives up with its context":      testWaitContext,
	"stop asks first":                     testStopAsks,
	"stop kills after the timeout":        testStopKills,
	"stop with no time kills at once":     testStopAtOnce,
	"stop gives up with its context":      testStopContext,
	"stop of what has ended":              testStopEnded,
	"stop refuses an unknown signal":      testStopBadSignal,
	"remove kills":                        testRemoveKills,
	"remove twice, and of what never was": testRemoveTwice,
	"start again after remove":            testStartAfterRemove,
	"unknown tasks are not found":         testUnknown,
	"invalid config names the field":      testInvalid,
	"failed start leaves nothing":         testFailing,
	"cancelled start leaves nothing":      testCancelledStart,
	"many tasks at once":                  testMany,
	"memory beyond the grant kills":       testOOM,
}

func testInfo(t *testing.T, b *bench) {
	info := b.d.Info()
	if info.Name == "" || info.Version == "" {
		t.Errorf("Info lacks a name or a version: %+v", info)
	}
	probe, err := b.d.Probe(b.ctx())
	if err != nil {
		t.Fatalf("Probe: %v", err)
	}
	if !probe.GetHealthy() {
		t.Fatalf("Probe: not healthy: %s", probe.GetMessage())
	}
	if probe.GetName() != info.Name || probe.GetVersion() != info.Version {
		t.Errorf("Probe says %s %s, Info %s %s", probe.GetName(), probe.GetVersion(), info.Name, info.Version)
	}
	if len(probe.GetCapabilities()) != len(info.Capabilities) {
		t.Errorf("Probe's capabilities %v are not Info's %v", probe.GetCapabilities(), info.Capabilities)
	}
}

func testStartTwice(t *testing.T, b *bench) {
	task := b.task(b.f.Forever)
	first := b.start(task)
	second := b.start(task)
	if first.PID != second.PID || !first.StartedAt.Equal(second.StartedAt) {
		t.Errorf("Start gave %+v, then %+v", first, second)
	}
	b.running(task)
}

func testExitCodes(t *testing.T, b *bench) {
	b.need(b.f.ExitWith != nil, "ExitWith")
	for _, code := range []int{0, 1, 42, 255} {
		task := b.task(b.f.ExitWith(0, code))
		before := time.Now()
		b.start(task)
		exit := b.wait(task)
		if exit.Code != code || exit.Signal != 0 || exit.OOMKilled || exit.Err != "" {
			t.Errorf("ended with %+v, want code %d", exit, code)
		}
		if exit.At.Before(before.Add(-time.Second)) || exit.At.After(time.Now().Add(time.Second)) {
			t.Errorf("ended at %v, which is not now", exit.At)
		}
	}
}

func testWaitOften(t *testing.T, b *bench) {
	b.need(b.f.ExitWith != nil, "ExitWith")
	task := b.task(b.f.ExitWith(100*time.Millisecond, 7))
	b.start(task)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 2 {
				if exit, err := b.d.Wait(b.ctx(), task.ID); err != nil || exit.Code != 7 {
					t.Errorf("Wait = %+v, %v", exit, err)
				}
			}
		})
	}
	wg.Wait()
}

func testWaitContext(t *testing.T, b *bench) {
	task := b.task(b.f.Forever)
	b.start(task)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		_, err := b.d.Wait(ctx, task.ID)
		done <- err
	}()
	cancel()
	if err := <-done; err == nil || !(errors.Is(err, context.Canceled) || problem.Is(err, problem.Canceled)) {
		t.Errorf("Wait gave %v, want the context's error", err)
	}
	b.running(task)
}

func testStopAsks(t *testing.T, b *bench) {
	task := b.task(b.f.Forever)
	b.start(task)
	if err := b.d.Stop(b.ctx(), task.ID, "SIGTERM", b.patience()); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	if exit := b.wait(task); exit.Signal == int(syscall.SIGKILL) {
		t.Errorf("it was killed: %+v", exit)
	}
}

func testStopKills(t *testing.T, b *bench) {
	b.need(b.f.Stubborn != nil, "Stubborn")
	task := b.task(b.f.Stubborn)
	b.start(task)
	b.settle(task)
	if err := b.d.Stop(b.ctx(), task.ID, "SIGTERM", 50*time.Millisecond); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	if exit := b.wait(task); exit.Signal != int(syscall.SIGKILL) || exit.OOMKilled {
		t.Errorf("ended with %+v, want signal 9", exit)
	}
}

// settle gives a task the time to get as far as ignoring signals: it says so by output
// where its recipe prints, else by a moment's wait.
func (b *bench) settle(task *drivers.Task) {
	b.t.Helper()
	for range 60 {
		if output(task, "stdout") != "" {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func testStopAtOnce(t *testing.T, b *bench) {
	task := b.task(b.f.Forever)
	b.start(task)
	if err := b.d.Stop(b.ctx(), task.ID, "SIGTERM", 0); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	if exit := b.wait(task); exit.Signal != int(syscall.SIGKILL) {
		t.Errorf("ended with %+v, want signal 9", exit)
	}
}

func testStopContext(t *testing.T, b *bench) {
	b.need(b.f.Stubborn != nil, "Stubborn")
	task := b.task(b.f.Stubborn)
	b.start(task)
	b.settle(task)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := b.d.Stop(ctx, task.ID, "SIGTERM", b.patience()); err == nil {
		t.Error("Stop succeeded on a task that ignores the signal")
	}
	b.running(task)
}

func testStopEnded(t *testing.T, b *bench) {
	b.need(b.f.ExitWith != nil, "ExitWith")
	task := b.task(b.f.ExitWith(0, 3))
	b.start(task)
	b.wait(task)
	for range 2 {
		if err := b.d.Stop(b.ctx(), task.ID, "SIGTERM", b.patience()); err != nil {
			t.Fatalf("Stop: %v", err)
		}
	}
	if exit := b.wait(task); exit.Code != 3 {
		t.Errorf("Stop changed how it ended: %+v", exit)
	}
}

func testStopBadSignal(t *testing.T, b *bench) {
	task := b.task(b.f.Forever)
	b.start(task)
	if err := b.d.Stop(b.ctx(), task.ID, "SIGNAL", b.patience()); !problem.Is(err, problem.Invalid) {
		t.Errorf("Stop = %v, want an Invalid problem", err)
	}
	b.running(task)
}

func testRemoveKills(t *testing.T, b *bench) {
	task := b.task(b.f.Forever)
	h := b.start(task)
	if err := b.d.Remove(b.ctx(), task, h); err != nil {
		t.Fatalf("Remove: %v", err)
	}
	b.nothingLeft(task)
	if _, err := b.d.Wait(b.ctx(), task.ID); !problem.Is(err, problem.NotFound) {
		t.Errorf("Wait after Remove = %v, want NotFound", err)
	}
	if err := b.d.Recover(b.ctx(), task, h); !problem.Is(err, problem.NotFound) {
		t.Errorf("Recover after Remove = %v, want NotFound", err)
	}
}

func testRemoveTwice(t *testing.T, b *bench) {
	task := b.task(b.f.Forever)
	if err := b.d.Remove(b.ctx(), task, nil); err != nil {
		t.Errorf("Remove of what never was: %v", err)
	}
	h := b.start(task)
	for range 2 {
		if err := b.d.Remove(b.ctx(), task, h); err != nil {
			t.Errorf("Remove: %v", err)
		}
	}
}

func testStartAfterRemove(t *testing.T, b *bench) {
	b.need(b.f.ExitWith != nil, "ExitWith")
	task := b.task(b.f.ExitWith(0, 5))
	for range 2 {
		h := b.start(task)
		if exit := b.wait(task); exit.Code != 5 {
			t.Fatalf("ended with %+v", exit)
		}
		if err := b.d.Remove(b.ctx(), task, h); err != nil {
			t.Fatalf("Remove: %v", err)
		}
	}
}

func testUnknown(t *testing.T, b *bench) {
	task := b.task(b.f.Forever)
	handle := &drivers.Handle{Driver: b.d.Info().Name, Version: 1, PID: 1, StartedAt: time.Now()}
	_, waitErr := b.d.Wait(b.ctx(), task.ID)
	for name, err := range map[string]error{
		"Recover": b.d.Recover(b.ctx(), task, handle),
		"Wait":    waitErr,
		"Stop":    b.d.Stop(b.ctx(), task.ID, "SIGTERM", 0),
	} {
		if !problem.Is(err, problem.NotFound) {
			t.Errorf("%s = %v, want NotFound", name, err)
		}
	}
}

func testInvalid(t *testing.T, b *bench) {
	b.need(len(b.f.Invalid) > 0, "Invalid")
	for field, c := range b.f.Invalid {
		t.Run(field, func(t *testing.T) {
			task := b.task(c)
			err := b.d.Prepare(b.ctx(), task, nil)
			if err == nil {
				_, err = b.d.Start(b.ctx(), task)
			}
			if !problem.Is(err, problem.Invalid) || problem.From(err).Field != field {
				t.Errorf("got %v, want an Invalid problem of %s", err, field)
			}
			b.nothingLeft(task)
		})
	}
}

func testFailing(t *testing.T, b *bench) {
	b.need(len(b.f.Failing) > 0, "Failing")
	for name, c := range b.f.Failing {
		t.Run(name, func(t *testing.T) {
			task := b.task(c)
			if err := b.d.Prepare(b.ctx(), task, nil); err != nil {
				t.Fatalf("Prepare: %v", err)
			}
			_, err := b.d.Start(b.ctx(), task)
			if err == nil {
				t.Fatal("Start succeeded")
			}
			if p := problem.From(err); p.Kind == problem.Internal || strings.TrimSpace(p.Reason) == "" {
				t.Errorf("Start's problem is not one that a user can act on: %s: %v", p.Kind, err)
			}
			t.Logf("Start said: %v", err)
			if _, err := b.d.Wait(b.ctx(), task.ID); !problem.Is(err, problem.NotFound) {
				t.Errorf("Wait after a failed Start = %v, want NotFound", err)
			}
			if err := b.d.Remove(b.ctx(), task, nil); err != nil {
				t.Errorf("Remove: %v", err)
			}
			b.nothingLeft(task)
		})
	}
}

// testCancelledStart: a Start whose context ends has either started the task or left nothing.
func testCancelledStart(t *testing.T, b *bench) {
	for _, after := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond} {
		task := b.task(b.f.Forever)
		if err := b.d.Prepare(b.ctx(), task, nil); err != nil {
			t.Fatalf("Prepare: %v", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), after)
		_, err := b.d.Start(ctx, task)
		cancel()
		if err == nil {
			b.running(task)
			continue
		}
		// The runner does what it does after every failed Start.
		if err := b.d.Remove(b.ctx(), task, nil); err != nil {
			t.Errorf("Remove: %v", err)
		}
		b.nothingLeft(task)
	}
}

func testMany(t *testing.T, b *bench) {
	b.need(b.f.ExitWith != nil, "ExitWith")
	var wg sync.WaitGroup
	for i := range 6 {
		task := b.task(b.f.ExitWith(20*time.Millisecond, i))
		wg.Go(func() {
			if _, err := b.d.Start(b.ctx(), task); err != nil {
				t.Errorf("Start: %v", err)
				return
			}
			if exit, err := b.d.Wait(b.ctx(), task.ID); err != nil || exit.Code != i {
				t.Errorf("Wait = %+v, %v, want code %d", exit, err, i)
			}
		})
	}
	wg.Wait()
}

func testOOM(t *testing.T, b *bench) {
	b.need(b.f.Hog != nil, "Hog")
	task := b.task(b.f.Hog(256))
	b.start(task)
	if exit := b.wait(task); !exit.OOMKilled {
		t.Errorf("ended with %+v, want OOMKilled", exit)
	}
	small := b.task(b.f.Hog(8))
	b.start(small)
	if err := b.d.Stop(b.ctx(), small.ID, "SIGTERM", b.patience()); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	if exit := b.wait(small); exit.OOMKilled {
		t.Errorf("a task within its grant ended with %+v", exit)
	}
}
