package replay

import (
	"fmt"
	"strconv"
	"strings"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
	"github.com/berthd/berth/scheduler/sim/trace"
)

// berth places with the scheduler that the servers place with. What it knows of the
// demand is what has come so far.
type berth struct {
	fleet  *scheduler.Fleet
	byName map[string]int
	groups []*scheduler.Group
	asks   [][]*scheduler.Ask
	came   []int // by shape
	total  int
	next   int // how many pods make the demand to be told anew
}

// newBerth makes a fleet of the trace's nodes: each is one cell with whole CPUs.
func newBerth(nodes []trace.Node, shapes []shape) (*berth, error) {
	b := &berth{fleet: scheduler.NewFleet(), byName: map[string]int{}, came: make([]int, len(shapes)), next: 1}
	for i := range nodes {
		b.byName[nodes[i].Name] = i
		if _, err := b.fleet.UpsertNode(nodeOf(&nodes[i])); err != nil {
			return nil, err
		}
	}
	for i := range shapes {
		job := shapes[i].job(i)
		g, err := scheduler.Compile(job, job.GetGroups()[0])
		if err != nil {
			return nil, err
		}
		b.groups = append(b.groups, g)
		b.asks = append(b.asks, []*scheduler.Ask{{Group: g, Count: 1, Silent: true}})
	}
	return b, nil
}

func nodeOf(n *trace.Node) *berthv1.Node {
	cell := &berthv1.Cell{MemoryMib: uint64(n.MemoryMiB)}
	for cpu := range n.CPUMilli / 1000 {
		cell.Cores = append(cell.Cores, fmt.Sprint(cpu))
	}
	hardware := &berthv1.Hardware{Cells: []*berthv1.Cell{cell}}
	for i := range n.GPUs {
		hardware.Devices = append(hardware.Devices, &berthv1.Device{
			Id: fmt.Sprintf("gpu%d", i), Kind: "gpu", Model: n.Model, Healthy: true, ShareableMilli: 1,
		})
	}
	return &berthv1.Node{
		Id: n.Name, Name: n.Name, Status: berthv1.Node_ready, Eligibility: berthv1.Node_eligible, Hardware: hardware,
		Drivers: []*berthv1.DriverInfo{{Name: "exec", Healthy: true}},
	}
}

// job asks for what a pod of the shape asks for.
func (s *shape) job(number int) *berthv1.Job {
	resources := &berthv1.Resources{CpuMilli: uint32(s.cpu), MemoryMib: uint64(s.memory)}
	if s.gpus > 0 {
		ask := &berthv1.DeviceAsk{Kind: "gpu", Count: uint32(s.gpus)}
		if s.shared() {
			ask.ShareMilli = uint32(s.milli)
		}
		if len(s.models) > 0 {
			ask.Constraints = []*berthv1.Constraint{{Attribute: "model", Operator: "any_of", Value: strings.Join(s.models, ",")}}
		}
		resources.Devices = []*berthv1.DeviceAsk{ask}
	}
	return &berthv1.Job{
		Name: fmt.Sprintf("shape-%d", number), Type: berthv1.Job_batch,
		Groups: []*berthv1.Group{{Name: "pod", Tasks: []*berthv1.Task{{Name: "pod", Driver: "exec", Resources: resources}}}},
	}
}

func (b *berth) offer(at int) (grant, bool) {
	b.came[at]++
	if b.total++; b.total >= b.next {
		b.next = b.total + (b.total+3)/4
		var wanted []scheduler.Wanted
		for i, n := range b.came {
			wanted = append(wanted, scheduler.Wanted{Group: b.groups[i], Count: n})
		}
		b.fleet.SetDemand(wanted)
	}
	placed, _ := scheduler.Place(b.fleet, b.asks[at])
	if len(placed) == 0 {
		return grant{}, false
	}
	g := grant{node: b.byName[placed[0].NodeID]}
	for _, task := range placed[0].Assignment.GetTasks() {
		for _, d := range task.GetDevices() {
			gpu, _ := strconv.Atoi(strings.TrimPrefix(d.GetId(), "gpu"))
			g.gpus = append(g.gpus, gpu)
		}
	}
	return g, true
}
