package mock

import (
	"bytes"
	"context"
	"image"
	"image/color"
	"image/png"
	"io"
	"slices"
	"time"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/attach"
	"github.com/berthd/berth/problem"
)

// maxScrollback is how much of a console's output is kept, in bytes.
const maxScrollback = 64 << 10

// machine is what a task has as a machine. Its host's mu guards it.
type machine struct {
	state     string // as Condition.State
	frozen    bool
	console   []byte // the newest output
	viewers   map[*attach.Viewer]bool
	snapshots []*drivers.Snapshot
	// told has every condition since the start; changed is closed when one is added.
	told    []drivers.Condition
	changed chan struct{}
}

func newMachine(words string) machine {
	return machine{state: "running", console: []byte(words), viewers: map[*attach.Viewer]bool{}, changed: make(chan struct{})}
}

func (m *machine) conditionLocked(event string) drivers.Condition {
	return drivers.Condition{
		State: m.state, Ready: true, Event: event,
		Hostname: "mock", OS: "Mock OS 1", Addresses: []string{"192.0.2.1"},
	}
}

// becomeLocked tells the observers; event may be "".
func (m *machine) becomeLocked(state, event string) {
	m.state = state
	m.told = append(m.told, m.conditionLocked(event))
	close(m.changed)
	m.changed = make(chan struct{})
}

// printLocked writes to the console: to all who look at it.
func (m *machine) printLocked(b []byte) {
	m.console = append(m.console, b...)
	m.console = m.console[max(0, len(m.console)-maxScrollback):]
	for v := range m.viewers {
		v.Add(b)
	}
}

// Attach implements drivers.Attacher. The console echoes what is typed; the display says
// the first words of its protocol and echoes too.
func (d *Driver) Attach(ctx context.Context, id string, channel drivers.Capability, rw io.ReadWriter) error {
	d.count("Attach")
	t, err := d.running(id)
	if err != nil {
		return err
	}
	v := attach.NewViewer()
	typed := v.Add // of the display: nobody else sees it
	switch channel {
	case drivers.CapConsole:
		t.host.mu.Lock()
		v.Add(t.console)
		t.viewers[v] = true
		t.host.mu.Unlock()
		defer func() {
			t.host.mu.Lock()
			defer t.host.mu.Unlock()
			delete(t.viewers, v)
		}()
		typed = func(b []byte) {
			t.host.mu.Lock()
			defer t.host.mu.Unlock()
			t.printLocked(b)
		}
	case drivers.CapVNC:
		v.Add([]byte("RFB 003.008\n"))
	default:
		return problem.New(problem.Invalid, "channel", "the mock driver has no channel %q", channel)
	}
	return v.Serve(ctx, rw, typed, t.ended, nil)
}

// Control implements drivers.Controller.
func (d *Driver) Control(_ context.Context, id string, action drivers.Action) error {
	d.count("Control")
	t, err := d.running(id)
	if err != nil {
		return err
	}
	t.host.mu.Lock()
	defer t.host.mu.Unlock()
	return t.controlLocked(action)
}

func (t *task) controlLocked(action drivers.Action) error {
	conflict := func() error {
		return problem.New(problem.Conflict, "action", "%s cannot be done to a machine that is %s", action, t.state)
	}
	switch action {
	case drivers.ActionPause:
		if t.state == "suspended" {
			return conflict()
		}
		t.becomeLocked("paused", "")
	case drivers.ActionResume:
		t.becomeLocked("running", "")
	case drivers.ActionSuspend:
		t.becomeLocked("suspended", "")
	case drivers.ActionReset, drivers.ActionNMI, drivers.ActionPowerdown, drivers.ActionFreeze, drivers.ActionThaw:
		if t.state != "running" {
			return conflict()
		}
		t.actLocked(action)
	default:
		return problem.New(problem.Invalid, "action", "the mock driver has no action %q", action)
	}
	return nil
}

// actLocked does what needs a machine that runs.
func (t *task) actLocked(action drivers.Action) {
	switch action {
	case drivers.ActionFreeze, drivers.ActionThaw:
		t.frozen = action == drivers.ActionFreeze
	case drivers.ActionPowerdown:
		if !t.config.GetIgnoreSignal() {
			t.endLocked(drivers.Exit{})
		}
	default:
		t.printLocked([]byte(string(action) + "\n"))
		t.becomeLocked(t.state, string(action))
	}
}

// Screenshot implements drivers.Screenshotter: a small blue picture.
func (d *Driver) Screenshot(_ context.Context, id string) ([]byte, error) {
	if _, err := d.running(id); err != nil {
		return nil, err
	}
	picture := image.NewRGBA(image.Rect(0, 0, 64, 48))
	for i := range picture.Bounds().Dx() * picture.Bounds().Dy() {
		picture.Set(i%64, i/64, color.RGBA{B: 160, A: 255})
	}
	var b bytes.Buffer
	if err := png.Encode(&b, picture); err != nil {
		return nil, problem.New(problem.Internal, "", "%w", err)
	}
	return b.Bytes(), nil
}

// Snapshot implements drivers.Snapshotter.
func (d *Driver) Snapshot(_ context.Context, id string, req *drivers.SnapshotRequest) (*drivers.Snapshot, error) {
	d.count("Snapshot")
	t, err := d.running(id)
	if err != nil {
		return nil, err
	}
	if req.Name == "" {
		return nil, problem.New(problem.Invalid, "name", "is missing")
	}
	t.host.mu.Lock()
	defer t.host.mu.Unlock()
	if t.snapshotLocked(req.Name) >= 0 {
		return nil, problem.New(problem.Conflict, "name", "there is a snapshot %q already", req.Name)
	}
	s := &drivers.Snapshot{
		Name: req.Name, Description: req.Description, At: time.Now(),
		Memory: req.Memory, Consistent: req.Consistent, Bytes: 1 << 20,
	}
	t.snapshots = append(t.snapshots, s)
	kept := *s
	return &kept, nil
}

func (m *machine) snapshotLocked(name string) int {
	return slices.IndexFunc(m.snapshots, func(s *drivers.Snapshot) bool { return s.Name == name })
}

// Snapshots implements drivers.Snapshotter.
func (d *Driver) Snapshots(_ context.Context, id string) ([]*drivers.Snapshot, error) {
	t, err := d.task(id)
	if err != nil {
		return nil, err
	}
	t.host.mu.Lock()
	defer t.host.mu.Unlock()
	all := make([]*drivers.Snapshot, 0, len(t.snapshots))
	for _, s := range t.snapshots {
		kept := *s
		all = append(all, &kept)
	}
	return all, nil
}

// Revert implements drivers.Snapshotter.
func (d *Driver) Revert(_ context.Context, id, name string) error {
	d.count("Revert")
	return d.withSnapshot(id, name, func(t *task, _ int) { t.becomeLocked("running", "reverted to "+name) })
}

// DeleteSnapshot implements drivers.Snapshotter.
func (d *Driver) DeleteSnapshot(_ context.Context, id, name string) error {
	return d.withSnapshot(id, name, func(t *task, i int) { t.snapshots = slices.Delete(t.snapshots, i, i+1) })
}

func (d *Driver) withSnapshot(id, name string, do func(*task, int)) error {
	t, err := d.task(id)
	if err != nil {
		return err
	}
	t.host.mu.Lock()
	defer t.host.mu.Unlock()
	i := t.snapshotLocked(name)
	if i < 0 {
		return problem.New(problem.NotFound, "name", "the task has no snapshot %q", name)
	}
	do(t, i)
	return nil
}

// Observe implements drivers.Observer.
func (d *Driver) Observe(ctx context.Context, id string, told func(drivers.Condition)) error {
	t, err := d.running(id)
	if err != nil {
		return err
	}
	t.host.mu.Lock()
	next := len(t.told)
	now := t.conditionLocked("")
	t.host.mu.Unlock()
	told(now)
	for {
		t.host.mu.Lock()
		news, changed := t.told[next:], t.changed
		next = len(t.told)
		t.host.mu.Unlock()
		for _, c := range news {
			told(c)
		}
		select {
		case <-changed:
		case <-t.ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// running gives a task that has not ended.
func (d *Driver) running(id string) (*task, error) {
	t, err := d.task(id)
	if err != nil {
		return nil, err
	}
	select {
	case <-t.ended:
		return nil, problem.New(problem.NotFound, "task", "task %q has ended", id)
	default:
		return t, nil
	}
}
