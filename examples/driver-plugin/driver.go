package main

import (
	"context"
	"os/exec"
	"sort"
	"sync"
	"syscall"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/logs"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// driver runs scripts as children of the plugin's process. That process outlives the
// agent, and with it do the tasks; when it dies itself, the kernel kills them.
type driver struct {
	spawner *spawner

	mu    sync.Mutex
	tasks map[string]*task
}

// task is a script that runs or ran.
type task struct {
	pid     int
	started time.Time
	ended   chan struct{} // closed when exit is set
	exit    drivers.Exit
}

func newDriver() *driver { return &driver{spawner: newSpawner(), tasks: map[string]*task{}} }

func (d *driver) Info() drivers.Info { return drivers.Info{Name: "script", Version: "1.0.0"} }

func (d *driver) Probe(context.Context) (*berthv1.DriverInfo, error) {
	info := &berthv1.DriverInfo{Name: "script", Version: "1.0.0", Healthy: true, Message: "scripts run without isolation"}
	if _, err := exec.LookPath("sh"); err != nil {
		info.Healthy, info.Message = false, "the host has no sh"
	}
	return info, nil
}

// script reads the config block, which has one key.
func script(t *drivers.Task) (string, error) {
	for key := range t.Config.GetFields() {
		if key != "script" {
			return "", problem.New(problem.Invalid, "config."+key, "unknown key").WithRemedy(`the only key is "script"`)
		}
	}
	text := t.Config.GetFields()["script"].GetStringValue()
	if text == "" {
		return "", problem.New(problem.Invalid, "config.script", "must be the text of a script")
	}
	return text, nil
}

func (d *driver) Prepare(_ context.Context, t *drivers.Task, _ func(string)) error {
	_, err := script(t)
	return err
}

func (d *driver) Start(_ context.Context, t *drivers.Task) (*drivers.Handle, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if known := d.tasks[t.ID]; known != nil {
		return known.handle(), nil // Start is idempotent by id
	}
	text, err := script(t)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("sh", "-c", text)
	cmd.Dir = t.Dirs.Task
	for k, v := range t.Env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	sort.Strings(cmd.Env)
	stdout := logs.Open(t.Dirs.Logs, t.Name, "stdout", t.Logs.MaxFiles, t.Logs.MaxFileBytes)
	stderr := logs.Open(t.Dirs.Logs, t.Name, "stderr", t.Logs.MaxFiles, t.Logs.MaxFileBytes)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.WaitDelay = time.Second // for what a script leaves in the background
	// A session of its own, so that all of the script can be killed; and none without us.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if err := d.spawner.start(cmd); err != nil {
		stdout.Close()
		stderr.Close()
		return nil, problem.New(problem.Unavailable, "", "starting the script: %w", err)
	}
	started := &task{pid: cmd.Process.Pid, started: time.Now(), ended: make(chan struct{})}
	d.tasks[t.ID] = started
	go func() { // ends with the script; Remove waits for it
		started.exit = wait(cmd)
		stdout.Close()
		stderr.Close()
		close(started.ended)
	}()
	return started.handle(), nil
}

// wait waits for a script and kills what it left behind.
func wait(cmd *exec.Cmd) drivers.Exit {
	_ = cmd.Wait()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	exit := drivers.Exit{Code: cmd.ProcessState.ExitCode(), At: time.Now()}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		exit.Code, exit.Signal = 0, int(status.Signal())
	}
	return exit
}

func (t *task) handle() *drivers.Handle {
	return &drivers.Handle{Driver: "script", Version: 1, PID: t.pid, StartedAt: t.started}
}

// find gives a task that this process started: there are no others.
func (d *driver) find(id string) (*task, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t := d.tasks[id]; t != nil {
		return t, nil
	}
	return nil, problem.New(problem.NotFound, "task", "the script driver knows no task %q", id)
}

func (d *driver) Recover(_ context.Context, t *drivers.Task, _ *drivers.Handle) error {
	_, err := d.find(t.ID)
	return err
}

func (d *driver) Wait(ctx context.Context, id string) (*drivers.Exit, error) {
	t, err := d.find(id)
	if err != nil {
		return nil, err
	}
	select {
	case <-t.ended:
		exit := t.exit
		return &exit, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (d *driver) Stop(ctx context.Context, id, signal string, timeout time.Duration) error {
	t, err := d.find(id)
	if err != nil {
		return err
	}
	sig, err := drivers.ParseSignal(signal)
	if err != nil {
		return err
	}
	if timeout > 0 {
		t.signal(sig)
		select {
		case <-t.ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(timeout):
		}
	}
	t.signal(syscall.SIGKILL)
	<-t.ended
	return nil
}

// signal sends a signal to the whole script, if it runs.
func (t *task) signal(sig syscall.Signal) {
	select {
	case <-t.ended:
	default:
		_ = syscall.Kill(-t.pid, sig)
	}
}

func (d *driver) Remove(_ context.Context, t *drivers.Task, _ *drivers.Handle) error {
	known, err := d.find(t.ID)
	if err != nil {
		return nil // what is not there is removed
	}
	known.signal(syscall.SIGKILL)
	<-known.ended
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.tasks, t.ID)
	return nil
}

var _ drivers.Driver = (*driver)(nil)
