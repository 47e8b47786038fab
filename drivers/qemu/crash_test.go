package qemu_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/qemu"
	"github.com/berthd/berth/drivers/qemu/image"
	"github.com/berthd/berth/drivers/qemu/qemutest"
)

// agentLife is what a process is told that lives as an agent until it is killed.
type agentLife struct {
	Parent, Images, Guest string
	Task                  *drivers.Task
	Then                  []drivers.Action
}

const lifeVariable = "BERTH_TEST_AGENT"

// live starts the task, and does to it what it is told.
func live(words string) error {
	var l agentLife
	if err := json.Unmarshal([]byte(words), &l); err != nil {
		return err
	}
	ctx, cancel := contextFor(patience)
	defer cancel()
	d := qemu.New(qemu.Config{CgroupParent: l.Parent, Images: image.Config{Dir: l.Images, HostDirs: []string{l.Guest}}})
	if _, err := d.Start(ctx, l.Task); err != nil {
		return err
	}
	for _, action := range l.Then {
		if err := d.Control(ctx, l.Task.ID, action); err != nil {
			return err
		}
	}
	fmt.Println("done")
	time.Sleep(patience)
	return nil
}

// die has an agent of its own process do so much, and kills it after a while.
func (f *fixture) die(t *drivers.Task, after time.Duration, then ...drivers.Action) {
	f.Helper()
	words, err := json.Marshal(agentLife{Parent: parent, Images: f.images, Guest: filepath.Dir(f.g.Kernel), Task: t, Then: then})
	if err != nil {
		f.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		f.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), lifeVariable+"="+string(words))
	cmd.Stderr = f.Output()
	if err := cmd.Start(); err != nil {
		f.Fatal(err)
	}
	time.Sleep(after)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// An agent that is killed at any moment of a start leaves one machine or none, and the
// next one finds or makes it.
func TestKilledWhileStarting(t *testing.T) {
	f := setUp(t)
	for _, after := range []int{20, 60, 100, 140, 180, 220, 260, 300, 400, 600, 1000} {
		task := f.task(qemutest.Machine(f.g))
		f.die(task, time.Duration(after)*time.Millisecond)
		if n := machines(task); n > 1 {
			t.Errorf("after %d ms: %d machines after the agent's death", after, n)
		}
		f.again()
		h, err := f.d.Start(f.ctx(), task)
		if err != nil {
			t.Fatalf("after %d ms: Start: %v", after, err)
		}
		if n := machines(task); n != 1 {
			t.Errorf("after %d ms: %d machines after the next start", after, n)
		}
		f.condition(task, "running")
		if err := f.d.Remove(f.ctx(), task, h); err != nil {
			t.Fatal(err)
		}
	}
}

// An agent that is killed at any moment of a suspension or of what follows leaves a
// machine that runs, or one that is suspended and goes on.
func TestKilledWhileSuspending(t *testing.T) {
	f := setUp(t)
	seen := map[string]int{}
	for _, after := range []int{300, 350, 400, 450, 500, 550, 600, 700, 900, 1500} {
		task := f.task(qemutest.Machine(f.g))
		f.die(task, time.Duration(after)*time.Millisecond, drivers.ActionSuspend, drivers.ActionResume, drivers.ActionSuspend)
		f.again()
		h, err := f.d.Start(f.ctx(), task)
		if err != nil {
			t.Fatalf("after %d ms: Start: %v", after, err)
		}
		state := ""
		ctx, cancel := contextFor(patience)
		_ = f.d.Observe(ctx, task.ID, func(c drivers.Condition) { state = c.State; cancel() })
		cancel()
		seen[state]++
		if n := machines(task); state == "suspended" && n != 0 || state != "suspended" && n != 1 {
			t.Errorf("after %d ms: %d machines of one that is %s", after, n, state)
		}
		if err := f.d.Control(f.ctx(), task.ID, drivers.ActionResume); err != nil {
			t.Errorf("after %d ms: resuming one that is %s: %v", after, state, err)
		}
		f.condition(task, "running")
		if n := machines(task); n != 1 {
			t.Errorf("after %d ms: %d machines after a resumption", after, n)
		}
		if err := f.d.Remove(f.ctx(), task, h); err != nil {
			t.Fatal(err)
		}
	}
	t.Log(seen)
}
