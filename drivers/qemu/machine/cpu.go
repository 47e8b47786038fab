package machine

import (
	"fmt"
	"slices"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// node is a NUMA node of the guest, and the cells of the host that it lies in.
type node struct {
	cells []uint32
	// pins has an entry for each vCPU that it starts with.
	pins []string
	// memoryMiB is the guest's memory in it.
	memoryMiB uint64
}

// cpus are the vCPUs and their topology.
type cpus struct {
	nodes []node
	// count is what the machine starts with, max what it can have.
	count, max              int
	sockets, cores, threads int
}

// planCPUs mirrors the grant: a vCPU for each granted CPU and a node for each cell.
func planCPUs(in *Input, b *board) (*cpus, error) {
	c := &cpus{nodes: nodesOf(in, b), threads: 1}
	exclusive, err := c.pinExclusive(in)
	if err != nil {
		return nil, err
	}
	asked := int(in.Config.GetCpu().GetCount())
	switch {
	case exclusive && asked != 0 && asked != c.count:
		return nil, invalid("cpu.count", "is %d, but the task was granted %d exclusive CPUs", asked, c.count).
			WithRemedy("leave it out: with exclusive cores there is a vCPU for each CPU of the grant")
	case !exclusive:
		if c.count = asked; asked == 0 {
			c.count = max(1, (int(in.Resources.GetCpuMilli())+999)/1000)
		}
		if err := c.spread(in); err != nil {
			return nil, err
		}
	}
	if err := c.bound(in.Config.GetCpu(), b); err != nil {
		return nil, err
	}
	return c, c.divide(in.Config.GetCpu())
}

// nodesOf gives a node for each cell that anything was granted in, or one over all.
func nodesOf(in *Input, b *board) []node {
	var each []node
	var all node
	for _, g := range in.Grant.GetCells() {
		if g.GetCpus() == "" && g.GetMemoryMib() == 0 && len(g.GetHugepages()) == 0 {
			continue
		}
		all.cells = append(all.cells, g.GetCell())
		each = append(each, node{cells: []uint32{g.GetCell()}})
	}
	memory := in.Config.GetMemory()
	if len(each) > 1 && b.numa && (memory == nil || yes(memory.Numa)) {
		return each
	}
	return []node{all}
}

// nodeOf finds the node of a cell; -1: none.
func (c *cpus) nodeOf(cell uint32) int {
	return slices.IndexFunc(c.nodes, func(n node) bool { return slices.Contains(n.cells, cell) })
}

// pinExclusive gives each granted CPU a vCPU, core by core.
func (c *cpus) pinExclusive(in *Input) (bool, error) {
	same := -1 // granted threads of each core; 0: they differ
	for _, g := range in.Grant.GetCells() {
		set, err := topology.ParseCPUSet(g.GetCpus())
		if err != nil {
			return false, problem.New(problem.Internal, "", "the grant of cell %d: %v", g.GetCell(), err)
		}
		if set.Empty() {
			continue
		}
		at := &c.nodes[c.nodeOf(g.GetCell())]
		for _, core := range coresOf(in.Cells, g.GetCell(), set) {
			if same < 0 {
				same = len(core)
			} else if same != len(core) {
				same = 0
			}
			for _, cpu := range core {
				at.pins = append(at.pins, fmt.Sprint(cpu))
				c.count++
			}
		}
	}
	c.threads = max(1, same)
	return c.count > 0, nil
}

// coresOf are the granted CPUs of a cell by their physical cores. What is in no core that
// is known is a core of its own.
func coresOf(cells []*berthv1.Cell, id uint32, granted topology.CPUSet) (cores [][]int) {
	rest := granted.Clone()
	for _, cell := range cells {
		if cell.GetId() != id {
			continue
		}
		for _, list := range cell.GetCores() {
			set, err := topology.ParseCPUSet(list)
			if err != nil {
				continue
			}
			if core := slices.Collect(rest.Intersect(set).All()); len(core) > 0 {
				cores = append(cores, core)
			}
			rest.RemoveAll(set)
		}
	}
	for cpu := range rest.All() {
		cores = append(cores, []int{cpu})
	}
	return cores
}

// spread deals vCPUs without cores of their own over the nodes; each runs on the shared
// CPUs of its cell, near the memory.
func (c *cpus) spread(in *Input) error {
	shared, err := topology.ParseCPUSet(in.SharedCPUs)
	if err != nil {
		return problem.New(problem.Internal, "", "the node's shared CPUs: %v", err)
	}
	for i := range c.count {
		at := &c.nodes[i*len(c.nodes)/c.count]
		at.pins = append(at.pins, sharedOf(in.Cells, at, shared, len(c.nodes) > 1))
	}
	return nil
}

func sharedOf(cells []*berthv1.Cell, at *node, shared topology.CPUSet, several bool) string {
	var own topology.CPUSet
	for _, cell := range cells {
		if !several || !slices.Contains(at.cells, cell.GetId()) {
			continue
		}
		for _, list := range cell.GetCores() {
			if set, err := topology.ParseCPUSet(list); err == nil {
				own.AddAll(set)
			}
		}
		if reserved, err := topology.ParseCPUSet(cell.GetReservedCpus()); err == nil {
			own.RemoveAll(reserved)
		}
	}
	if !shared.Empty() {
		own = own.Intersect(shared)
	}
	return own.String()
}

func (c *cpus) bound(config *berthv1.QemuCpu, b *board) error {
	c.max = c.count
	if asked := int(config.GetMax()); asked != 0 {
		if asked < c.count {
			return invalid("cpu.max", "is %d, but the machine starts with %d vCPUs", asked, c.count)
		}
		c.max = asked
	}
	if c.max > c.count && !b.moreCPUs {
		return invalid("cpu.max", "a machine %s cannot get more vCPUs while it runs", b.kind)
	}
	if c.max > b.maxVCPUs {
		return invalid("cpu.max", "%d vCPUs are more than the %d that a machine %s can have", c.max, b.maxVCPUs, b.kind)
	}
	return nil
}

// divide finds sockets and cores: a socket lies in one node, and where the config does not
// say it, a socket is as large as it can be.
func (c *cpus) divide(config *berthv1.QemuCpu) error {
	if t := int(config.GetThreads()); t != 0 {
		c.threads = t
	}
	if c.max%c.threads != 0 || c.count%c.threads != 0 {
		return invalid("cpu.threads", "%d vCPUs (at most %d) cannot be divided into cores of %d threads", c.count, c.max, c.threads)
	}
	for _, n := range c.nodes {
		if len(n.pins)%c.threads != 0 {
			return invalid("cpu.threads", "the %d vCPUs of one NUMA node cannot be divided into cores of %d threads", len(n.pins), c.threads)
		}
	}
	total := c.max / c.threads
	c.sockets = int(config.GetSockets())
	if c.sockets == 0 {
		size, used := (c.max-c.count)/c.threads, 0
		for _, n := range c.nodes {
			if len(n.pins) > 0 {
				size, used = gcd(size, len(n.pins)/c.threads), used+1
			}
		}
		if c.sockets = total / size; used == 1 {
			c.sockets = 1
		}
	}
	if total%c.sockets != 0 {
		return invalid("cpu.sockets", "%d cores cannot be divided into %d sockets", total, c.sockets)
	}
	c.cores = total / c.sockets
	return nil
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
