package virtual

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/state"
)

// promises are what roll-outs and drains of one group keep to, seen step by step. Its count
// does not change while it is watched.
type promises struct {
	k          *checker
	job, reads string // reads is a job whose template lists the instances of the service
	count      int
	budget     int // how many may be missing by our own doing
	// grace is for how long an instance that a fault took away still counts as there; 0:
	// there are no faults of hosts, so whoever is missing is missing by our own doing.
	grace time.Duration

	served map[state.AllocID]time.Time // when each served last
	wanted map[state.AllocID]bool      // of the newest state so far
	canary map[state.AllocID]bool      // those that ever were one, and were not promoted yet
	top    uint64
	listed int // lines that were read of the template
}

func (k *checker) watch(job, reads string, count, budget int, grace time.Duration) *promises {
	return &promises{k: k, job: job, reads: reads, count: count, budget: budget, grace: grace,
		served: map[state.AllocID]time.Time{}, wanted: map[state.AllocID]bool{}, canary: map[state.AllocID]bool{}}
}

// check looks at the newest state that any server has.
func (p *promises) check() {
	p.k.c.t.Helper()
	p.k.check()
	var newest *state.View
	for _, s := range p.k.c.servers {
		if s.proc == nil {
			continue
		}
		if view := s.proc.Store().View(); newest == nil || view.Revision() > newest.Revision() {
			newest = view
		}
	}
	if newest.Revision() < p.top {
		return // who knew more is down
	}
	p.top = newest.Revision()
	p.canaries(newest)
	p.traffic(newest)
	p.lists(newest)
	p.enough(newest)
}

// canaries notes who is on trial: a canary until its deployment is promoted.
func (p *promises) canaries(view *state.View) {
	for a := range view.AllocRowsByJob("default", p.job) {
		switch d := view.DeploymentOf("default", p.job, a.JobVersion()); {
		case d.GroupNamed(a.Group()).GetPromoted():
			delete(p.canary, a.ID())
		case a.Canary():
			p.canary[a.ID()] = true
		}
	}
}

// traffic says that nobody on trial is ready to be called, whatever became of the trial.
func (p *promises) traffic(view *state.View) {
	p.k.c.t.Helper()
	for i := range view.ServiceInstances("default", p.job) {
		if id, _ := state.ParseAllocID(i.GetAllocId()); i.GetReady() && p.canary[id] {
			p.k.c.t.Fatalf("revision %d: %s is called, and is a canary that was not promoted:\n%s", view.Revision(), i.GetAllocId(), p.k.c.describe())
		}
	}
}

// lists says the same of what agents give to tasks.
func (p *promises) lists(view *state.View) {
	p.k.c.t.Helper()
	for a := range view.AllocsByJob("default", p.reads) {
		for _, h := range p.k.c.agents {
			text, err := os.ReadFile(filepath.Join(h.dir, "data", "allocs", a.GetId(), "tasks", "t", "instances"))
			if err != nil {
				continue
			}
			for line := range strings.Lines(string(text)) {
				p.listed++
				if id, ok := state.ParseAllocID(strings.TrimSpace(line)); !ok || p.canary[id] {
					p.k.c.t.Fatalf("%s lists %q, a canary that was not promoted:\n%s", h.name, line, p.k.c.describe())
				}
			}
		}
	}
}

// enough says that never more are missing than the budget has, by our own doing: in a
// look at which one that served was told to stop, the others must be there.
func (p *promises) enough(view *state.View) {
	p.k.c.t.Helper()
	now, took := time.Now(), p.grace == 0
	there, wanted := map[uint32]bool{}, map[state.AllocID]bool{}
	for a := range view.AllocRowsByJob("default", p.job) {
		id := a.ID()
		if !a.Wanted() {
			took = took || p.wanted[id] && a.Status() != berthv1.Alloc_lost && now.Sub(p.served[id]) < 2*time.Second
			continue
		}
		if a.Status() == berthv1.Alloc_running && a.Health() == berthv1.Alloc_healthy {
			p.served[id] = now
		}
		wanted[id] = true
		if at, ever := p.served[id]; ever && now.Sub(at) <= p.grace && !a.Canary() {
			there[a.Index()] = true
		}
	}
	p.wanted = wanted
	if len(there) < p.count-p.budget && took {
		p.k.c.t.Fatalf("revision %d: %d of %d of %s serve, and %d may be missing:\n%s", view.Revision(), len(there), p.count, p.job, p.budget, p.k.c.describe())
	}
}
