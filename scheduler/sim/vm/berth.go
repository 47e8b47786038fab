package vm

import (
	"fmt"
	"strings"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
)

// berth places with the scheduler that the servers place with. A group of machines is a
// job; machines of it that are alike are one of the job's groups.
type berth struct {
	fleet  *scheduler.Fleet
	index  map[string]int // hosts by node id
	hosts  []Host
	groups []*scheduler.Group // by machine
	asks   [1]*scheduler.Ask
	placed map[int]scheduler.Placement
}

// kind is what machines have in common that are alike.
type kind struct {
	group  groupID
	room   Room
	cells  int
	domain int
}

func newBerth(hosts []Host, machines []Machine, rules Rules) (*berth, error) {
	b := &berth{fleet: scheduler.NewFleet(), index: map[string]int{}, hosts: hosts, placed: map[int]scheduler.Placement{}}
	for i := range hosts {
		n := nodeOf(&hosts[i], i)
		if _, err := b.fleet.UpsertNode(n); err != nil {
			return nil, err
		}
		b.index[n.GetId()] = i
	}
	return b, b.compile(machines, rules)
}

func nodeOf(h *Host, i int) *berthv1.Node {
	n := &berthv1.Node{Id: fmt.Sprintf("host-%06d", i), Name: h.Name, Status: berthv1.Node_ready, Hardware: &berthv1.Hardware{},
		Attributes: map[string]string{}, Drivers: []*berthv1.DriverInfo{{Name: "exec", Healthy: true}}}
	if h.Rack != "" {
		n.Attributes["node.rack"] = h.Rack
	}
	cpu := 0
	for c, room := range h.Cells {
		cell := &berthv1.Cell{Id: uint32(c), MemoryMib: uint64(room.Memory)}
		for range room.CPU {
			cell.Cores = append(cell.Cores, fmt.Sprint(cpu))
			cpu++
		}
		n.Hardware.Cells = append(n.Hardware.Cells, cell)
	}
	return n
}

// compile makes the jobs. All kinds of a group must be known before any is compiled:
// fault domains are kept apart by name.
func (b *berth) compile(machines []Machine, rules Rules) error {
	jobs, order := map[groupID]*berthv1.Job{}, []groupID(nil)
	names, specs := map[kind]string{}, map[kind]*berthv1.Group{}
	kindOf := func(m *Machine) kind {
		k := kind{room: m.Room, cells: m.Cells}
		if m.Strategy != Alone {
			k.group, k.domain = groupID{m.Strategy, m.Group}, m.Domain
		}
		return k
	}
	for i := range machines {
		k := kindOf(&machines[i])
		job := jobs[k.group]
		if job == nil {
			job = jobOf(k.group, rules)
			jobs[k.group] = job
			order = append(order, k.group)
		}
		if _, known := names[k]; !known {
			names[k] = fmt.Sprintf("d%d-%d", k.domain, len(job.Groups))
			specs[k] = groupFor(&machines[i], names[k])
			job.Groups = append(job.Groups, specs[k])
		}
		*specs[k].Count++
	}
	compiled := map[groupID]map[string]*scheduler.Group{}
	for _, id := range order {
		keepApart(id, jobs[id])
		compiled[id] = map[string]*scheduler.Group{}
		for _, g := range jobs[id].GetGroups() {
			c, err := scheduler.Compile(jobs[id], g)
			if err != nil {
				return err
			}
			compiled[id][g.GetName()] = c
		}
	}
	for i := range machines {
		k := kindOf(&machines[i])
		b.groups = append(b.groups, compiled[k.group][names[k]])
	}
	return nil
}

// jobOf is a group of machines as a job.
func jobOf(id groupID, rules Rules) *berthv1.Job {
	job := &berthv1.Job{Name: fmt.Sprintf("%s-%d", id.strategy, id.group), Namespace: "default", Type: berthv1.Job_batch}
	switch id.strategy {
	case Affinity:
		attribute := "node.rack"
		if rules.SameHost {
			attribute = "node.id"
		}
		job.Constraints = []*berthv1.Constraint{{Attribute: attribute, Operator: "same_property"}}
	case AntiAffinity:
		job.Constraints = []*berthv1.Constraint{{Operator: "distinct_hosts"}}
	}
	return job
}

func groupFor(m *Machine, name string) *berthv1.Group {
	return &berthv1.Group{
		Name: name, Count: new(uint32), Topology: &berthv1.TopologyPolicy{Cells: uint32(m.Cells)},
		Tasks: []*berthv1.Task{{Name: "vm", Driver: "exec", Resources: &berthv1.Resources{Cores: uint32(m.CPU), CoreUnit: "thread", MemoryMib: uint64(m.Memory)}}},
	}
}

// keepApart has the groups of each fault domain share no rack with those of the others.
func keepApart(id groupID, job *berthv1.Job) {
	if id.strategy != FaultDomain {
		return
	}
	domain := func(g *berthv1.Group) string { before, _, _ := strings.Cut(g.GetName(), "-"); return before }
	for _, g := range job.GetGroups() {
		var others []string
		for _, o := range job.GetGroups() {
			if domain(o) != domain(g) {
				others = append(others, o.GetName())
			}
		}
		if len(others) > 0 {
			g.Constraints = []*berthv1.Constraint{{Attribute: "node.rack", Operator: "apart_from", Value: strings.Join(others, ",")}}
		}
	}
}

func (b *berth) offer(i int) (place, bool) {
	b.asks[0] = &scheduler.Ask{Group: b.groups[i], Count: 1, Silent: true}
	placed, _ := scheduler.Place(b.fleet, b.asks[:])
	if len(placed) == 0 {
		return place{}, false
	}
	p := place{host: b.index[placed[0].NodeID]}
	for _, t := range placed[0].Assignment.GetTasks() {
		for _, c := range t.GetCells() {
			p.cells = append(p.cells, int(c.GetCell()))
		}
	}
	b.placed[i] = placed[0]
	return p, true
}

func (b *berth) leave(i int, _ place) {
	b.fleet.Undo(b.groups[i], b.placed[i])
	delete(b.placed, i)
}
