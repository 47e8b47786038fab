package runner

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/berthd/berth/agent/store"
	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// AllocInfo is what serving people's requests needs to know of an alloc.
type AllocInfo struct {
	ID    string
	Tasks []string
	// Dir is what may be looked into; Logs is inside it.
	Dir, Logs string
	// Data is its sticky disk; "": it has none.
	Data  string
	Ended bool
}

// Find gives the alloc with this id, or the only one whose id begins so.
func (m *Manager) Find(prefix string) (*AllocInfo, error) {
	a, err := m.find(prefix)
	if err != nil {
		return nil, err
	}
	info := &AllocInfo{ID: a.id, Dir: m.cfg.Layout.AllocDir(a.id), Logs: m.cfg.Layout.LogsDir(a.id), Ended: a.terminal()}
	if a.keepsDisk() {
		info.Data = m.cfg.Layout.DataDir(a.id)
	}
	for _, t := range a.tasks {
		info.Tasks = append(info.Tasks, t.def)
	}
	if len(a.tasks) == 0 { // it ended in a former life of the store
		for _, st := range a.current().GetTasks() {
			info.Tasks = append(info.Tasks, st.GetTask())
		}
	}
	return info, nil
}

func (m *Manager) find(prefix string) (*alloc, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a, ok := m.allocs[prefix]; ok {
		return a, nil
	}
	var found *alloc
	for id, a := range m.allocs {
		if prefix == "" || !strings.HasPrefix(id, prefix) {
			continue
		}
		if found != nil {
			return nil, problem.New(problem.Invalid, prefix, "several allocations on this node begin so").WithRemedy("give more of the id")
		}
		found = a
	}
	if found == nil {
		return nil, problem.New(problem.NotFound, prefix, "there is no such allocation on this node")
	}
	return found, nil
}

// Running gives the driver's task of a running task, and its driver.
func (m *Manager) Running(prefix, name string) (drivers.Driver, *drivers.Task, error) {
	a, err := m.find(prefix)
	if err != nil {
		return nil, nil, err
	}
	ts, err := a.pick(name)
	if err != nil {
		return nil, nil, err
	}
	if len(ts) != 1 {
		return nil, nil, problem.New(problem.Invalid, "task", "the allocation has %d tasks: %s", len(ts), a.taskNames()).WithRemedy("name one")
	}
	t := ts[0]
	if !a.started(t.def) {
		return nil, nil, problem.New(problem.Conflict, t.def, "the task is not running")
	}
	d, err := t.driver()
	if err != nil {
		return nil, nil, err
	}
	dt, _ := t.build()
	return d, dt, nil
}

// started says that a task runs, by what is published of it.
func (a *alloc) started(name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.states[name].GetPhase() == berthv1.TaskState_started
}

// pick gives the named task, or all of them for "".
func (a *alloc) pick(name string) ([]*task, error) {
	if name == "" {
		return a.tasks, nil
	}
	if t := a.find(name); t != nil {
		return []*task{t}, nil
	}
	return nil, problem.New(problem.NotFound, name, "the allocation has no such task").WithRemedy("it has %s", a.taskNames())
}

func (a *alloc) taskNames() string {
	var names []string
	for _, t := range a.tasks {
		names = append(names, t.def)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// Restart has a task, or every task for "", stopped and started again. It returns when
// that is ordered, not when it is done.
func (m *Manager) Restart(prefix, name string) error {
	a, err := m.find(prefix)
	if err != nil {
		return err
	}
	ts, err := a.pick(name)
	if err != nil {
		return err
	}
	if a.terminal() {
		return problem.New(problem.Conflict, a.id, "the allocation has ended and cannot be restarted")
	}
	for _, t := range ts {
		t.order(func() { t.restart = "somebody ordered it" })
	}
	return nil
}

// Signal sends a signal to a task, or to every running one for "".
func (m *Manager) Signal(ctx context.Context, prefix, name, signal string) error {
	a, err := m.find(prefix)
	if err != nil {
		return err
	}
	ts, err := a.pick(name)
	if err != nil {
		return err
	}
	sent := 0
	for _, t := range ts {
		if !a.started(t.def) {
			continue
		}
		d, err := t.driver()
		if err != nil {
			return err
		}
		s, ok := d.(drivers.Signaler)
		if !ok {
			return problem.New(problem.Unsupported, t.def, "the driver %q cannot send signals", d.Info().Name)
		}
		if err := s.Signal(ctx, taskID(a.id, t.def), signal); err != nil {
			return fmt.Errorf("sending %s to task %s: %w", signal, t.def, err)
		}
		sent++
	}
	if sent == 0 {
		return problem.New(problem.Conflict, a.id, "no such task of the allocation is running")
	}
	return nil
}

// StopAll stops every workload and returns when all have ended, or ctx has. Nothing new
// is taken afterwards. Run must be running.
func (m *Manager) StopAll(ctx context.Context, why string) error {
	m.mu.Lock()
	m.stopping = true
	all := make([]*alloc, 0, len(m.allocs))
	for _, a := range m.allocs {
		all = append(all, a)
	}
	m.mu.Unlock()
	for _, a := range all {
		a.stop(why, false)
	}
	for _, a := range all {
		for _, t := range a.tasks {
			select {
			case <-t.done:
			case <-ctx.Done():
				return problem.New(problem.Timeout, store.TaskKey{Alloc: a.id, Task: t.def}.Alloc, "not every workload has stopped: %w", ctx.Err())
			}
		}
	}
	return nil
}
