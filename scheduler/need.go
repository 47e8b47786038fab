package scheduler

import (
	"fmt"
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// taskNeed is what one task needs.
type taskNeed struct {
	name string
	need
}

// need is an amount of everything that lies in cells.
type need struct {
	milli     uint64 // shared CPU
	cores     int    // whole physical cores
	threads   int    // single exclusive threads
	memory    uint64
	hugepages []topology.Hugepages
	devices   []deviceNeed
}

// simple says that shared CPU and memory are all there is.
func (n *need) simple() bool {
	return n.cores == 0 && n.threads == 0 && len(n.hugepages) == 0 && len(n.devices) == 0
}

// leastMilli is the CPU that it takes at least: an exclusive core may have more threads
// than one.
func (n *need) leastMilli() uint64 { return n.milli + 1000*uint64(n.cores+n.threads) }

func (n *need) add(o *need) {
	n.milli += o.milli
	n.cores += o.cores
	n.threads += o.threads
	n.memory += o.memory
	n.devices = append(n.devices, o.devices...)
	for _, h := range o.hugepages {
		n.addPages(h)
	}
}

// pageIndex is the place of a size in the hugepages; -1: none of that size are needed.
func (n *need) pageIndex(sizeKiB uint64) int {
	return slices.IndexFunc(n.hugepages, func(x topology.Hugepages) bool { return x.SizeKiB == sizeKiB })
}

func (n *need) addPages(h topology.Hugepages) {
	if i := n.pageIndex(h.SizeKiB); i < 0 {
		n.hugepages = append(n.hugepages, h)
	} else {
		n.hugepages[i].Count += h.Count
	}
}

// defaultMilli is for a task that asks for neither shared cores nor its own.
const defaultMilli = 100

// compileNeeds takes in what an instance of the group needs on its node.
func (g *Group) compileNeeds(group *berthv1.Group) error {
	g.wholeNode = group.GetWholeNode()
	forwards := slices.ContainsFunc(group.GetTasks(), (*berthv1.Task).ForwardsPorts)
	for _, p := range group.GetNetwork().GetPorts() {
		g.ports = append(g.ports, portNeed{name: p.GetName(), static: p.GetStatic()})
		if forwards {
			g.ports[len(g.ports)-1].to = p.GetTo()
		}
		if p.GetStatic() == 0 {
			g.dynamic++
		}
	}
	for _, t := range group.GetTasks() {
		task, err := compileTask(t)
		if err != nil {
			return fmt.Errorf("task %q: %w", t.GetName(), err)
		}
		g.tasks = append(g.tasks, task)
		g.total.add(&task.need)
	}
	g.least = g.total.leastMilli()
	if err := g.compileWishes(); err != nil {
		return err
	}
	var err error
	if g.policy, g.align, err = compileTopology(group.GetTopology()); err != nil {
		return err
	}
	return g.compileParts(int(group.GetTopology().GetCells()))
}

func compileTask(t *berthv1.Task) (taskNeed, error) {
	r := t.GetResources()
	task := taskNeed{name: t.GetName(), need: need{milli: uint64(r.GetCpuMilli()), memory: t.ReservedMemoryMiB()}}
	if task.milli == 0 && r.GetCores() == 0 {
		task.milli = defaultMilli
	}
	if task.milli > maxMilli || task.memory > maxMemory || r.GetCores() > topology.MaxCPU {
		return task, invalid("resources", "%d milli, %d cores and %d MiB are too much", task.milli, r.GetCores(), task.memory)
	}
	switch r.GetCoreUnit() {
	case "", "core":
		task.cores = int(r.GetCores())
	case "thread":
		task.threads = int(r.GetCores())
	default:
		return task, invalid("core_unit", "%q is neither \"core\" nor \"thread\"", r.GetCoreUnit())
	}
	for _, h := range r.GetHugepages() {
		if h.GetCount() > maxPages {
			return task, invalid("hugepages", "%d pages are too many", h.GetCount())
		}
		task.addPages(topology.Hugepages{SizeKiB: h.GetSizeKib(), Count: h.GetCount()})
	}
	for _, ask := range r.GetDevices() {
		d, err := compileDevice(ask)
		if err != nil {
			return task, err
		}
		task.devices = append(task.devices, d)
	}
	return task, nil
}

// compileParts works out the part of everything that is aligned that each of so many
// cells must hold; 0 and 1 cells are left to the policy.
func (g *Group) compileParts(cells int) error {
	if cells <= 1 {
		if cells == 1 {
			g.policy = single
		}
		return nil
	}
	if cells > topology.MaxCells {
		return invalid("topology.cells", "%d cells are more than %d", cells, topology.MaxCells)
	}
	if g.policy == single {
		return invalid("topology.cells", "the policy single puts all into one cell, not into %d", cells)
	}
	g.cells = cells
	n := uint64(cells)
	uneven := func(what string, count uint64) error {
		return invalid("topology.cells", "%d %s cannot be divided evenly over %d cells", count, what, cells)
	}
	if g.align&alignCPU != 0 {
		if (g.total.cores+g.total.threads)%cells != 0 || g.total.cores%cells != 0 {
			return uneven("cores", uint64(g.total.cores+g.total.threads))
		}
		g.part.milli = (g.total.milli + n - 1) / n
		g.part.cores, g.part.threads = g.total.cores/cells, g.total.threads/cells
	}
	if g.align&alignMemory != 0 {
		g.part.memory = (g.total.memory + n - 1) / n
	}
	for _, h := range g.total.hugepages {
		if g.align&alignHugepages == 0 {
			break
		}
		if h.Count%n != 0 {
			return uneven(fmt.Sprintf("hugepages of %d KiB", h.SizeKiB), h.Count)
		}
		g.part.hugepages = append(g.part.hugepages, topology.Hugepages{SizeKiB: h.SizeKiB, Count: h.Count / n})
	}
	for i := range g.wishes {
		w := &g.wishes[i]
		if count := devicesOf(&g.total, w.need.kind); g.align&alignOf(w.need.kind) != 0 && count%cells != 0 {
			return uneven(fmt.Sprintf("devices %q", w.need.kind), uint64(count))
		}
	}
	return nil
}

// devicesOf is how many devices of a kind are needed.
func devicesOf(n *need, kind string) (count int) {
	for i := range n.devices {
		if d := &n.devices[i]; d.kind == kind {
			count += d.count
		}
	}
	return count
}
