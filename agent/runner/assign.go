package runner

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/agent/store"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Apply takes assignments as the session brings them: it stores them, then acts. It is
// called by one goroutine at a time. An error means that nothing was done and that the
// session should begin anew.
func (m *Manager) Apply(as *berthv1.Assignments) error {
	change, err := m.plan(as)
	if err != nil {
		return err
	}
	storeErr := m.cfg.Store.Assign(change.stored)
	if storeErr != nil {
		m.log.Error("new assignments cannot be stored, so they are not run; what runs goes on", "error", storeErr)
	}
	m.mu.Lock()
	for _, j := range as.GetJobs() {
		m.jobs[store.KeyOf(j)] = j
	}
	m.revision = as.GetResultsIn()
	var added []*alloc
	for _, p := range change.fresh {
		switch {
		case m.stopping:
		case storeErr != nil:
			m.refuse(p, storeErr)
		default:
			added = append(added, m.add(p))
		}
	}
	m.mu.Unlock()
	for _, p := range change.known {
		m.update(p, as.GetComplete())
	}
	for _, id := range change.stored.Removed {
		m.remove(id)
	}
	m.start(added)
	if as.GetComplete() {
		m.sweep()
	}
	return nil
}

// start runs allocs that were added, when the shared CPUs are known.
func (m *Manager) start(added []*alloc) {
	m.spreadCPUs()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range added {
		if m.ctx != nil {
			m.launch(a)
		}
	}
}

// change is what assignments mean for this node.
type change struct {
	fresh, known []pending
	stored       store.Assignments
}

// plan works out a change and touches nothing.
func (m *Manager) plan(as *berthv1.Assignments) (*change, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	sent := map[store.JobKey]*berthv1.Job{}
	for _, j := range as.GetJobs() {
		sent[store.KeyOf(j)] = j
	}
	c := &change{stored: store.Assignments{Revision: as.GetResultsIn(), Jobs: as.GetJobs()}}
	named := map[string]bool{}
	for _, def := range as.GetAllocs() {
		if err := checkName("alloc", def.GetId()); err != nil {
			return nil, err
		}
		named[def.GetId()] = true
		key := store.KeyFor(def)
		p := pending{def, sent[key]}
		if p.job == nil {
			p.job = m.jobs[key]
		}
		if p.job == nil && !as.GetComplete() && !def.Ended() {
			return nil, problem.New(problem.Conflict, def.GetId(), "version %d of job %q was not sent with its alloc", key.Version, key.Name)
		}
		if _, ok := m.allocs[def.GetId()]; ok {
			c.known = append(c.known, p)
		} else {
			c.fresh = append(c.fresh, p)
		}
		c.stored.Allocs = append(c.stored.Allocs, def)
	}
	for id, a := range m.allocs {
		if as.GetComplete() && !named[id] && !a.removed {
			c.stored.Removed = append(c.stored.Removed, id)
		}
	}
	for _, id := range as.GetRemoved() {
		if m.allocs[id] != nil && !named[id] {
			c.stored.Removed = append(c.stored.Removed, id)
		}
	}
	if as.GetComplete() {
		for id := range m.refused {
			if !named[id] {
				delete(m.refused, id)
			}
		}
	}
	for _, id := range as.GetRemoved() {
		delete(m.refused, id)
	}
	return c, nil
}

// add takes in a new alloc, to be started; mu is held.
func (m *Manager) add(p pending) *alloc {
	delete(m.refused, p.alloc.GetId())
	a := newAlloc(m, p, &store.Content{})
	m.allocs[a.id] = a
	m.log.Info("alloc assigned", "alloc", a.id, "job", p.alloc.GetJob(), "group", p.alloc.GetGroup())
	return a
}

// refuse keeps an alloc that could not be stored, and says so; mu is held.
func (m *Manager) refuse(p pending, why error) {
	id := p.alloc.GetId()
	_, again := m.refused[id]
	m.refused[id] = p
	if !again {
		m.cfg.Reporter.Report(&berthv1.AllocStatusUpdate{
			AllocId: id, Status: berthv1.Alloc_pending, StatusTime: timestamppb.Now(),
			StatusReason: "the node cannot take it yet: " + why.Error(),
		}, true)
	}
	m.poke()
}

// update gives a known alloc its newer version.
func (m *Manager) update(p pending, complete bool) {
	m.mu.Lock()
	a := m.allocs[p.alloc.GetId()]
	if a != nil && a.removed {
		a.again = &p
		a = nil
	}
	m.mu.Unlock()
	if a == nil {
		return
	}
	a.update(p)
	if complete && !a.past {
		a.reportAgain(p.alloc)
	}
}

func sameStates(a, b []*berthv1.TaskState) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !proto.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// remove stops an alloc that the servers have forgotten, then deletes it.
func (m *Manager) remove(id string) {
	m.mu.Lock()
	a := m.allocs[id]
	if a == nil || a.removed {
		m.mu.Unlock()
		return
	}
	a.removed = true
	m.removing++
	if m.ctx != nil {
		m.wg.Go(a.maybeCleanUp)
	}
	m.mu.Unlock()
	a.stop("the servers have forgotten it", false)
}
