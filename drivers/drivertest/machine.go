package drivertest

import (
	"bytes"
	"context"
	"image/png"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
)

// machineTests hold the promises of the powers of machines, each where the driver has it.
var machineTests = map[string]func(*testing.T, *bench){
	"console gives the scrollback first":   testConsoleScrollback,
	"console is shared":                    testConsoleShared,
	"console after a crash":                testConsoleCrash,
	"console ends with its caller":         testConsoleCaller,
	"console ends with its task":           testConsoleTaskEnds,
	"attach to what cannot be":             testAttachErrors,
	"display":                              testDisplay,
	"pause and resume":                     testPause,
	"pause outlives the agent":             testPauseCrash,
	"suspend and resume":                   testSuspend,
	"suspend outlives the agent":           testSuspendCrash,
	"suspended machine is removed":         testSuspendRemove,
	"suspended machine is stopped":         testSuspendStop,
	"powerdown ends the task well":         testPowerdown,
	"reset and nmi":                        testReset,
	"freeze and thaw":                      testFreeze,
	"control of what cannot be":            testControlErrors,
	"screenshot":                           testScreenshot,
	"snapshots":                            testSnapshots,
	"snapshot of what cannot be":           testSnapshotErrors,
	"observe tells the condition at once":  testObserve,
	"observe ends with its task":           testObserveTaskEnds,
	"observe and attach to what has ended": testMachineEnded,
}

// watch collects a task's conditions until the test ends.
type watch struct {
	mu   sync.Mutex
	seen []drivers.Condition
	done chan error
}

func (b *bench) observe(task *drivers.Task) *watch {
	b.t.Helper()
	p := power[drivers.Observer](b, drivers.CapObserve)
	w := &watch{done: make(chan error, 1)}
	ctx := b.t.Context()
	go func() {
		w.done <- p.Observe(ctx, task.ID, func(c drivers.Condition) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.seen = append(w.seen, c)
		})
	}()
	return w
}

func (w *watch) last() drivers.Condition {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.seen) == 0 {
		return drivers.Condition{}
	}
	return w.seen[len(w.seen)-1]
}

// is waits for a state of the task.
func (b *bench) is(w *watch, state string) {
	b.t.Helper()
	b.eventually("the state "+state, func() bool { return w.last().State == state })
}

func (b *bench) control(task *drivers.Task, action drivers.Action) {
	b.t.Helper()
	if err := b.d.(drivers.Controller).Control(b.ctx(), task.ID, action); err != nil {
		b.t.Fatalf("Control(%s): %v", action, err)
	}
}

// machine starts a task that has a power of a Controller.
func (b *bench) machine(c drivers.Capability) (*drivers.Task, *drivers.Handle) {
	b.t.Helper()
	power[drivers.Controller](b, c)
	task := b.task(b.f.Forever)
	return task, b.start(task)
}

func testPause(_ *testing.T, b *bench) {
	task, _ := b.machine(drivers.CapPause)
	w := b.observe(task)
	b.is(w, "running")
	for range 2 {
		b.control(task, drivers.ActionPause)
		b.is(w, "paused")
	}
	b.running(task)
	for range 2 {
		b.control(task, drivers.ActionResume)
		b.is(w, "running")
	}
}

func testPauseCrash(t *testing.T, b *bench) {
	task, h := b.machine(drivers.CapPause)
	b.control(task, drivers.ActionPause)
	b.crash()
	if err := b.d.Recover(b.ctx(), task, h); err != nil {
		t.Fatalf("Recover: %v", err)
	}
	w := b.observe(task)
	b.is(w, "paused")
	b.control(task, drivers.ActionResume)
	b.is(w, "running")
}

func testSuspend(t *testing.T, b *bench) {
	task, _ := b.machine(drivers.CapSuspend)
	w := b.observe(task)
	b.is(w, "running")
	for range 2 {
		b.control(task, drivers.ActionSuspend)
		b.is(w, "suspended")
	}
	b.running(task)
	b.control(task, drivers.ActionResume)
	b.is(w, "running")
	b.running(task)
	if err := b.d.Stop(b.ctx(), task.ID, "SIGTERM", 0); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	b.wait(task)
}

func testSuspendCrash(t *testing.T, b *bench) {
	task, h := b.machine(drivers.CapSuspend)
	b.control(task, drivers.ActionSuspend)
	b.crash()
	again, err := b.d.Start(b.ctx(), task)
	if err != nil || !again.StartedAt.Equal(h.StartedAt) {
		t.Errorf("Start of a suspended machine = %+v, %v, want the same task", again, err)
	}
	b.crash()
	if err := b.d.Recover(b.ctx(), task, h); err != nil {
		t.Fatalf("Recover: %v", err)
	}
	w := b.observe(task)
	b.is(w, "suspended")
	b.running(task)
	b.control(task, drivers.ActionResume)
	b.is(w, "running")
	b.crash()
	if err := b.d.Recover(b.ctx(), task, h); err != nil {
		t.Fatalf("Recover of what was resumed: %v", err)
	}
	b.is(b.observe(task), "running")
}

func testSuspendRemove(t *testing.T, b *bench) {
	task, h := b.machine(drivers.CapSuspend)
	b.control(task, drivers.ActionSuspend)
	if err := b.d.Remove(b.ctx(), task, h); err != nil {
		t.Fatalf("Remove: %v", err)
	}
	b.nothingLeft(task)
}

func testSuspendStop(t *testing.T, b *bench) {
	task, _ := b.machine(drivers.CapSuspend)
	b.control(task, drivers.ActionSuspend)
	if err := b.d.Stop(b.ctx(), task.ID, "SIGTERM", b.patience()); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	b.wait(task)
}

func testPowerdown(t *testing.T, b *bench) {
	task, _ := b.machine(drivers.CapPowerdown)
	b.settle(task)
	b.eventually("the guest's end", func() bool {
		// A guest that is still booting does not feel the button: it is pressed again.
		err := b.d.(drivers.Controller).Control(b.ctx(), task.ID, drivers.ActionPowerdown)
		if err != nil && !problem.Is(err, problem.NotFound) && !problem.Is(err, problem.Conflict) {
			t.Fatalf("Control: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = b.d.Wait(ctx, task.ID)
		return err == nil
	})
	if exit := b.wait(task); !exit.OK() {
		t.Errorf("ended with %+v, want code 0", exit)
	}
}

func testReset(t *testing.T, b *bench) {
	task, _ := b.machine(drivers.CapReset)
	b.control(task, drivers.ActionReset)
	b.running(task)
	if slices.Contains(b.d.Info().Capabilities, drivers.CapNMI) {
		b.control(task, drivers.ActionNMI)
		b.running(task)
	}
}

func testFreeze(t *testing.T, b *bench) {
	power[drivers.Controller](b, drivers.CapFreeze)
	b.need(b.f.Exec != nil, "Exec: a guest with an agent")
	task, _ := b.machine(drivers.CapFreeze)
	b.control(task, drivers.ActionFreeze)
	b.control(task, drivers.ActionThaw)
	b.running(task)
}

func testControlErrors(t *testing.T, b *bench) {
	task, _ := b.machine(drivers.CapPause)
	p := b.d.(drivers.Controller)
	if err := p.Control(b.ctx(), task.ID, "sing"); !problem.Is(err, problem.Invalid) {
		t.Errorf("an unknown action: %v, want an Invalid problem", err)
	}
	if err := p.Control(b.ctx(), task.ID+"x", drivers.ActionPause); !problem.Is(err, problem.NotFound) {
		t.Errorf("an unknown task: %v, want NotFound", err)
	}
	b.control(task, drivers.ActionPause)
	if err := p.Control(b.ctx(), task.ID, drivers.ActionPowerdown); !problem.Is(err, problem.Conflict) {
		t.Errorf("the power button of a paused machine: %v, want a Conflict", err)
	}
}

func testScreenshot(t *testing.T, b *bench) {
	p := power[drivers.Screenshotter](b, drivers.CapScreenshot)
	task := b.task(b.f.Forever)
	b.start(task)
	picture, err := p.Screenshot(b.ctx(), task.ID)
	if err != nil {
		t.Fatalf("Screenshot: %v", err)
	}
	if c, err := png.DecodeConfig(bytes.NewReader(picture)); err != nil || c.Width == 0 || c.Height == 0 {
		t.Errorf("the picture: %+v, %v", c, err)
	}
	if _, err := p.Screenshot(b.ctx(), task.ID+"x"); !problem.Is(err, problem.NotFound) {
		t.Errorf("Screenshot of an unknown task = %v, want NotFound", err)
	}
}

func testObserve(t *testing.T, b *bench) {
	power[drivers.Observer](b, drivers.CapObserve)
	task := b.task(b.f.Forever)
	b.start(task)
	w := b.observe(task)
	b.is(w, "running")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.d.(drivers.Observer).Observe(ctx, task.ID, func(drivers.Condition) {}) }()
	cancel()
	if err := b.ends("a cancelled Observe", ended); err == nil {
		t.Error("a cancelled Observe succeeded")
	}
}

func testObserveTaskEnds(t *testing.T, b *bench) {
	power[drivers.Observer](b, drivers.CapObserve)
	task := b.task(b.f.Forever)
	b.start(task)
	w := b.observe(task)
	b.is(w, "running")
	if err := b.d.Stop(b.ctx(), task.ID, "SIGTERM", 0); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	if err := b.ends("Observe of a task that has ended", w.done); err != nil {
		t.Errorf("Observe = %v", err)
	}
}

func testMachineEnded(t *testing.T, b *bench) {
	task, _ := b.machine(drivers.CapPause)
	if err := b.d.Stop(b.ctx(), task.ID, "SIGTERM", 0); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	b.wait(task)
	if err := b.d.(drivers.Controller).Control(b.ctx(), task.ID, drivers.ActionPause); !problem.Is(err, problem.NotFound) {
		t.Errorf("Control = %v, want NotFound", err)
	}
	if a, ok := b.d.(drivers.Attacher); ok {
		err := a.Attach(b.ctx(), task.ID, drivers.CapConsole, &wire{Reader: strings.NewReader("")})
		if !problem.Is(err, problem.NotFound) {
			t.Errorf("Attach = %v, want NotFound", err)
		}
	}
}
