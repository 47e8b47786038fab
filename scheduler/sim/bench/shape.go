package bench

import (
	"fmt"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
)

// amount is what a shape takes of the fleet, or what a fleet has: the bench fills by it.
type amount struct {
	milli  int64 // thousandths of a thread
	memory int64 // MiB
	gpus   int64 // thousandths of a GPU
	pages  int64 // hugepages of 1 GiB
}

func (a *amount) add(b amount, times int64) {
	a.milli += times * b.milli
	a.memory += times * b.memory
	a.gpus += times * b.gpus
	a.pages += times * b.pages
}

// used is the largest part of anything in a that b takes.
func (a amount) used(b amount) float64 {
	part := func(has, takes int64) float64 {
		if has == 0 {
			return 0
		}
		return float64(takes) / float64(has)
	}
	return max(part(a.milli, b.milli), part(a.memory, b.memory), part(a.gpus, b.gpus), part(a.pages, b.pages))
}

func capacityOf(nodes []*berthv1.Node) amount {
	var all amount
	for _, n := range nodes {
		for _, c := range n.GetHardware().GetCells() {
			threads := 1
			if n.GetArch() == "amd64" {
				threads = 2
			}
			all.milli += int64(len(c.GetCores())*threads) * 1000
			all.memory += int64(c.GetMemoryMib() - c.GetReservedMemoryMib())
			for _, h := range c.GetHugepages() {
				all.pages += int64(h.GetCount())
			}
		}
		all.gpus += int64(len(n.GetHardware().GetDevices())) * 1000
	}
	return all
}

// shape is one kind of ask, in every constraint class.
type shape struct {
	name   string
	takes  amount // by one instance
	groups []*scheduler.Group
}

// kinds of shapes, in the order in which they come: every tenth shape is of the same kind.
// How much exactly each takes is drawn.
var kinds = []struct {
	name string
	draw func(t *berthv1.Task, p *berthv1.TopologyPolicy, fleet *offer, d *draws)
}{
	{"shared", drawShared},
	{"cores", drawCores},
	{"service", drawService},
	{"memory", drawMemory},
	{"span", drawSpan},
	{"gpu", drawGPU},
	{"shared", drawShared},
	{"share", drawShare},
	{"pages", drawPages},
	{"cores", drawCores},
}

// offer is what nodes of the fleet have, as far as shapes look at it.
type offer struct {
	cores int // of the smallest cell
	cells int // most of a node
	gpus  bool
	pages bool
}

func offerOf(types []hardware) offer {
	o := offer{cores: types[0].cores}
	for _, h := range types {
		o.cores, o.cells = min(o.cores, h.cores), max(o.cells, h.cells)
		o.gpus, o.pages = o.gpus || h.gpus > 0, o.pages || h.pages > 0
	}
	return o
}

// drawShared: a part of a core or a few, anywhere.
func drawShared(t *berthv1.Task, _ *berthv1.TopologyPolicy, _ *offer, d *draws) {
	t.Resources.CpuMilli = uint32(d.between(1, 8) * 250)
	t.Resources.MemoryMib = uint64(d.between(1, 16) * 256)
}

// drawService: several shared cores in one cell.
func drawService(t *berthv1.Task, p *berthv1.TopologyPolicy, _ *offer, d *draws) {
	t.Resources.CpuMilli = uint32(d.between(4, 12) * 1000)
	t.Resources.MemoryMib = uint64(d.between(4, 24) * gib)
	p.Policy = "single"
}

// drawCores: exclusive cores in one cell, 3 to 6 GiB each.
func drawCores(t *berthv1.Task, p *berthv1.TopologyPolicy, o *offer, d *draws) {
	t.Resources.Cores = uint32(d.between(1, max(o.cores/2, 1)))
	t.Resources.MemoryMib = uint64(t.Resources.GetCores()) * uint64(d.between(3, 6)*gib)
	p.Policy = "single"
}

// drawMemory: little CPU and 12 to 40 GiB.
func drawMemory(t *berthv1.Task, p *berthv1.TopologyPolicy, _ *offer, d *draws) {
	t.Resources.CpuMilli = uint32(d.between(2, 8) * 500)
	t.Resources.MemoryMib = uint64(d.between(12, 40) * gib)
	p.Policy = "single"
}

// drawSpan: more exclusive cores than the smallest cell has, in as few cells as they need.
func drawSpan(t *berthv1.Task, p *berthv1.TopologyPolicy, o *offer, d *draws) {
	t.Resources.Cores = uint32(o.cores + d.between(1, max(o.cores/2, 1)))
	if o.cells == 1 {
		t.Resources.Cores = uint32(d.between(max(o.cores/4, 1), max(o.cores/2, 1)))
	}
	t.Resources.MemoryMib = uint64(t.Resources.GetCores()) * 4 * gib
	p.Policy = "restricted"
}

// drawGPU: 1, 2 or 4 whole GPUs with 4 cores and 16 GiB each; cores without GPUs.
func drawGPU(t *berthv1.Task, p *berthv1.TopologyPolicy, o *offer, d *draws) {
	if !o.gpus {
		drawCores(t, p, o, d)
		return
	}
	gpus := uint32(1) << d.below(3)
	t.Resources.Devices = []*berthv1.DeviceAsk{{Kind: "gpu", Count: gpus}}
	t.Resources.Cores, t.Resources.MemoryMib = 4*gpus, uint64(gpus)*16*gib
	p.Policy, p.Align = "restricted", []string{"cpu", "memory", "gpu"}
}

// drawShare: a quarter, a third or a half of a GPU; shared CPU without GPUs.
func drawShare(t *berthv1.Task, p *berthv1.TopologyPolicy, o *offer, d *draws) {
	drawShared(t, p, o, d)
	if o.gpus {
		t.Resources.Devices = []*berthv1.DeviceAsk{{Kind: "gpu", Count: 1, ShareMilli: []uint32{250, 333, 500}[d.below(3)]}}
	}
}

// drawPages: 1 to 8 hugepages of 1 GiB with exclusive cores in one cell; without
// hugepages, memory.
func drawPages(t *berthv1.Task, p *berthv1.TopologyPolicy, o *offer, d *draws) {
	t.Resources.Cores, t.Resources.MemoryMib = uint32(d.between(1, 3)), uint64(d.between(1, 4)*gib)
	p.Policy, p.Align = "single", []string{"cpu", "memory", "hugepages"}
	if pages := uint64(d.between(1, 8)); o.pages {
		t.Resources.Hugepages = []*berthv1.Hugepages{{SizeKib: 1 << 20, Count: pages}}
	} else {
		t.Resources.MemoryMib += pages * gib
	}
}

// drawShapes draws n shapes, each compiled for every class.
func drawShapes(cfg *Config, types []hardware, d *draws) ([]shape, error) {
	o := offerOf(types)
	shapes := make([]shape, cfg.Shapes)
	for i := range shapes {
		kind := &kinds[i%len(kinds)]
		task := &berthv1.Task{Name: "main", Driver: "exec", Resources: &berthv1.Resources{}}
		policy := &berthv1.TopologyPolicy{}
		kind.draw(task, policy, &o, d)
		s := shape{name: fmt.Sprintf("%s-%d", kind.name, i), takes: takesOf(task.GetResources())}
		for class := range max(cfg.Classes, 1) {
			g, err := compile(fmt.Sprintf("%s-%d", s.name, class), task, policy, class, cfg)
			if err != nil {
				return nil, err
			}
			s.groups = append(s.groups, g)
		}
		shapes[i] = s
	}
	return shapes, nil
}

func takesOf(r *berthv1.Resources) amount {
	a := amount{milli: int64(r.GetCpuMilli()) + int64(r.GetCores())*2000, memory: int64(r.GetMemoryMib())}
	for _, d := range r.GetDevices() {
		share := int64(d.GetShareMilli())
		if share == 0 {
			share = 1000
		}
		a.gpus += int64(d.GetCount()) * share
	}
	for _, h := range r.GetHugepages() {
		a.pages += int64(h.GetCount())
	}
	return a
}

// compile makes a batch group of it: services would rather not have two instances on a
// node, and all asks of a shape are one group here.
func compile(name string, task *berthv1.Task, policy *berthv1.TopologyPolicy, class int, cfg *Config) (*scheduler.Group, error) {
	count := uint32(cfg.JobSize)
	group := &berthv1.Group{Name: "all", Count: &count, Tasks: []*berthv1.Task{task}, Topology: policy}
	job := &berthv1.Job{Name: name, Namespace: "bench", Type: berthv1.Job_batch, Priority: 50, Groups: []*berthv1.Group{group}}
	if cfg.Classes > 0 {
		job.Constraints = []*berthv1.Constraint{{Attribute: "node.features", Operator: "contains", Value: feature(class)}}
	}
	if cfg.Spread {
		group.Spreads = []*berthv1.Spread{{Attribute: "node.rack"}}
	}
	return scheduler.Compile(job, group)
}
