// Package mock is a driver whose tasks are timers in memory: for tests of everything
// above the drivers, and for trying a cluster without running anything. It keeps the
// contract of package drivers as a real driver does; a task outlives the driver through
// the Host that both were made over.
//
// It uses package time alone, so it works in testing/synctest bubbles: an hour's task
// ends after no real time. Its tasks are machines too, as far as the powers of machines go:
// a console that echoes, a display of one colour, snapshots of nothing.
package mock

import (
	"context"
	"maps"
	"sync"
	"syscall"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/config"
	"github.com/berthd/berth/drivers/logs"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Driver is the mock driver of one life of an agent.
type Driver struct {
	host *Host

	mu    sync.Mutex
	known map[string]*task // started or recovered by this instance
	calls map[string]int
}

var (
	_ drivers.Driver        = (*Driver)(nil)
	_ drivers.Signaler      = (*Driver)(nil)
	_ drivers.Execer        = (*Driver)(nil)
	_ drivers.StatsReader   = (*Driver)(nil)
	_ drivers.Updater       = (*Driver)(nil)
	_ drivers.Attacher      = (*Driver)(nil)
	_ drivers.Controller    = (*Driver)(nil)
	_ drivers.Screenshotter = (*Driver)(nil)
	_ drivers.Snapshotter   = (*Driver)(nil)
	_ drivers.Observer      = (*Driver)(nil)
)

// New makes a driver over host.
func New(host *Host) *Driver {
	return &Driver{host: host, known: map[string]*task{}, calls: map[string]int{}}
}

// Calls gives how often each method was called on this instance, by name.
func (d *Driver) Calls() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.calls)
}

func (d *Driver) count(method string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls[method]++
}

// Info implements drivers.Driver.
func (d *Driver) Info() drivers.Info {
	return drivers.Info{Name: "mock", Version: "1", Capabilities: []drivers.Capability{
		drivers.CapSignal, drivers.CapExec, drivers.CapStats, drivers.CapUpdate,
		drivers.CapConsole, drivers.CapVNC, drivers.CapPause, drivers.CapReset, drivers.CapPowerdown, drivers.CapNMI,
		drivers.CapSuspend, drivers.CapFreeze, drivers.CapScreenshot, drivers.CapSnapshot, drivers.CapObserve,
	}}
}

// Probe implements drivers.Driver.
func (d *Driver) Probe(context.Context) (*berthv1.DriverInfo, error) {
	info := &berthv1.DriverInfo{Name: "mock", Healthy: true, Version: "1", Message: "tasks are timers in memory"}
	for _, c := range d.Info().Capabilities {
		info.Capabilities = append(info.Capabilities, string(c))
	}
	return info, nil
}

// Prepare implements drivers.Driver.
func (d *Driver) Prepare(ctx context.Context, t *drivers.Task, progress func(string)) error {
	d.count("Prepare")
	c, err := decode(t)
	if err != nil {
		return err
	}
	if delay := c.GetPrepareDelay().AsDuration(); delay > 0 {
		if progress != nil {
			progress("preparing for " + delay.String())
		}
		if err := sleep(ctx, delay); err != nil {
			return err
		}
	}
	if c.GetPrepareError() != "" {
		return problem.New(problem.Unavailable, "", "%s", c.GetPrepareError())
	}
	d.host.mu.Lock()
	defer d.host.mu.Unlock()
	d.host.prepared[t.ID] = true
	return nil
}

// Start implements drivers.Driver.
func (d *Driver) Start(ctx context.Context, t *drivers.Task) (*drivers.Handle, error) {
	d.count("Start")
	if h := d.find(t.ID); h != nil {
		return h, nil
	}
	c, err := decode(t)
	if err != nil {
		return nil, err
	}
	if err := sleep(ctx, c.GetStartDelay().AsDuration()); err != nil {
		return nil, err
	}
	if c.GetStartError() != "" {
		kind := problem.Invalid
		if c.GetStartErrorTransient() {
			kind = problem.Unavailable
		}
		return nil, problem.New(kind, "", "%s", c.GetStartError())
	}
	d.host.mu.Lock()
	d.host.startLocked(t.ID, c)
	d.host.mu.Unlock()
	write(t, "stdout", c.GetStdout())
	write(t, "stderr", c.GetStderr())
	return d.find(t.ID), nil
}

// Recover implements drivers.Driver.
func (d *Driver) Recover(_ context.Context, t *drivers.Task, _ *drivers.Handle) error {
	d.count("Recover")
	if d.find(t.ID) == nil {
		return notFound(t.ID)
	}
	return nil
}

// Wait implements drivers.Driver.
func (d *Driver) Wait(ctx context.Context, id string) (*drivers.Exit, error) {
	d.count("Wait")
	t, err := d.task(id)
	if err != nil {
		return nil, err
	}
	select {
	case <-t.ended:
		exit := *t.exit
		return &exit, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Stop implements drivers.Driver.
func (d *Driver) Stop(ctx context.Context, id, signal string, timeout time.Duration) error {
	d.count("Stop")
	t, err := d.task(id)
	if err != nil {
		return err
	}
	sig, err := drivers.ParseSignal(signal)
	if err != nil {
		return err
	}
	if timeout > 0 {
		t.signal(sig)
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		select {
		case <-t.ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
	}
	t.signal(syscall.SIGKILL)
	return nil
}

// Remove implements drivers.Driver.
func (d *Driver) Remove(_ context.Context, t *drivers.Task, _ *drivers.Handle) error {
	d.count("Remove")
	d.host.mu.Lock()
	defer d.host.mu.Unlock()
	if running := d.host.tasks[t.ID]; running != nil {
		running.signalLocked(syscall.SIGKILL)
	}
	delete(d.host.tasks, t.ID)
	delete(d.host.prepared, t.ID)
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.known, t.ID)
	return nil
}

// Signal implements drivers.Signaler.
func (d *Driver) Signal(_ context.Context, id, signal string) error {
	d.count("Signal")
	t, err := d.task(id)
	if err != nil {
		return err
	}
	sig, err := drivers.ParseSignal(signal)
	if err != nil {
		return err
	}
	t.signal(sig)
	return nil
}

// Stats implements drivers.StatsReader.
func (d *Driver) Stats(_ context.Context, id string) (*drivers.Stats, error) {
	t, err := d.task(id)
	if err != nil {
		return nil, err
	}
	return &drivers.Stats{Time: time.Now(), CPUTime: time.Since(t.started) / 100, MemoryBytes: 1 << 20, PIDs: 1}, nil
}

// Update implements drivers.Updater.
func (d *Driver) Update(_ context.Context, t *drivers.Task) error {
	d.count("Update")
	_, err := d.task(t.ID)
	return err
}

// find takes the host's task up; nil: it has none of this id.
func (d *Driver) find(id string) *drivers.Handle {
	d.host.mu.Lock()
	t := d.host.tasks[id]
	d.host.mu.Unlock()
	if t == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known[id] = t
	return &drivers.Handle{Driver: "mock", Version: 1, PID: t.pid, StartedAt: t.started}
}

func (d *Driver) task(id string) (*task, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t := d.known[id]; t != nil {
		return t, nil
	}
	return nil, notFound(id)
}

func (t *task) signal(sig syscall.Signal) {
	t.host.mu.Lock()
	defer t.host.mu.Unlock()
	t.signalLocked(sig)
}

func decode(t *drivers.Task) (*berthv1.MockConfig, error) {
	c := &berthv1.MockConfig{}
	if err := config.Decode(t.Config, c); err != nil {
		return nil, err
	}
	return c, nil
}

func notFound(id string) error {
	return problem.New(problem.NotFound, "task", "the mock driver knows no task %q", id)
}

func write(t *drivers.Task, stream, words string) {
	if words == "" || t.Dirs.Logs == "" {
		return
	}
	w := logs.Open(t.Dirs.Logs, t.Name, stream, t.Logs.MaxFiles, t.Logs.MaxFileBytes)
	defer w.Close()
	_, _ = w.Write([]byte(words))
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
