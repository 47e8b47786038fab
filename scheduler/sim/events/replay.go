package events

import (
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
	"github.com/berthd/berth/topology"
)

// sampleEvery is how far samples lie apart, in the events' time.
const sampleEvery = time.Minute

// replay is the state of one.
type replay struct {
	fleet         *scheduler.Fleet
	machines      scheduler.Machines
	books         map[string]*topology.Usage // by node: what the policy says that it granted
	jobs          map[string]*berthv1.Job    // the newest that was told, by key
	placed        map[string]placed          // by allocation
	seen          map[string]bool            // allocations that came, placed or not
	result        Result
	last, sampled time.Time
}

// placed is an allocation where the policy put it.
type placed struct {
	group *scheduler.Group
	at    scheduler.Placement
}

func newReplay(policy string) *replay {
	return &replay{fleet: scheduler.NewFleet(), books: map[string]*topology.Usage{}, jobs: map[string]*berthv1.Job{},
		placed: map[string]placed{}, seen: map[string]bool{}, result: Result{Policy: policy, Samples: []Sample{}}}
}

// node takes in a node. One with new hardware has nothing on it any more.
func (p *replay) node(n *berthv1.Node) {
	anew, err := p.fleet.UpsertNode(n)
	if !anew {
		return
	}
	p.drop(n.GetId())
	machine, _ := topology.NewMachine(topology.Machine{})
	if err == nil {
		if m, err := p.machines.Of(n); err == nil {
			machine = m
		}
	}
	p.books[n.GetId()] = topology.NewUsage(machine)
}

// nodeGone forgets a node and what is on it.
func (p *replay) nodeGone(id string) {
	p.fleet.RemoveNode(id)
	p.drop(id)
	delete(p.books, id)
}

// drop forgets what is on a node; the fleet has.
func (p *replay) drop(node string) {
	for id, x := range p.placed {
		if x.at.NodeID == node {
			delete(p.placed, id)
		}
	}
}

// come places an allocation that holds its grant in the record, once.
func (p *replay) come(a *berthv1.Alloc) {
	if p.seen[a.GetId()] {
		return
	}
	g := p.groupOf(a)
	if g == nil {
		p.result.Skipped++
		return
	}
	p.seen[a.GetId()] = true
	p.result.Arrived++
	ask := scheduler.Ask{Group: g, Count: 1, Silent: true}
	if job := p.jobs[key(a.GetNamespace(), a.GetJob())]; job.GetType() == berthv1.Job_system || job.GetType() == berthv1.Job_sysbatch {
		ask.Nodes = []string{a.GetNodeId()}
	}
	got, _ := scheduler.Place(p.fleet, []*scheduler.Ask{&ask})
	if len(got) == 0 {
		p.result.Unplaced++
		return
	}
	p.placed[a.GetId()] = placed{g, got[0]}
	if got[0].NodeID != a.GetNodeId() {
		p.result.Moved++
	}
	grant, err := scheduler.GrantOf(got[0].Assignment)
	if err == nil {
		err = p.books[got[0].NodeID].Add(&grant)
	}
	if err != nil {
		p.result.Violations++
	}
}

// groupOf compiles an allocation's group; nil: its job was not told of.
func (p *replay) groupOf(a *berthv1.Alloc) *scheduler.Group {
	job := p.jobs[key(a.GetNamespace(), a.GetJob())]
	for _, g := range job.GetGroups() {
		if g.GetName() == a.GetGroup() {
			if compiled, err := scheduler.Compile(job, g); err == nil {
				return compiled
			}
		}
	}
	return nil
}

// leave takes an allocation out that has ended.
func (p *replay) leave(id string) {
	x, there := p.placed[id]
	if !there {
		return
	}
	delete(p.placed, id)
	p.fleet.Undo(x.group, x.at)
	if grant, err := scheduler.GrantOf(x.at.Assignment); err == nil {
		p.books[x.at.NodeID].Remove(&grant)
	}
}

// sample notes the load.
func (p *replay) sample() {
	s := Sample{Time: p.last, Allocs: len(p.placed), Nodes: len(p.books)}
	var free, all uint64
	for _, u := range p.books {
		if !u.Used() {
			s.EmptyNodes++
		}
		for i := range u.Machine().Cells {
			free, all = free+u.FreeMilli(i), all+uint64(u.Machine().Cells[i].Threads)*1000
		}
	}
	if all > 0 {
		s.CPUPercent = 100 * float64(all-min(free, all)) / float64(all)
	}
	p.result.Samples = append(p.result.Samples, s)
}
