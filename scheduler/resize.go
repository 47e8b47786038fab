package scheduler

import (
	"math/bits"
	"slices"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// Resize grants an allocation, on its node and in place of what it is granted, what its
// group asks for now: other amounts of CPU, memory and exclusive cores. Each task stays
// in the cells in which it lies, and keeps of its cores as many as it goes on having;
// devices, ports and disk stay as they are. What it gives back counts as free. Whether
// the node would take anything new is not asked. After an error, which is a *Misfit, the
// fleet is as it was; else it has the new grant, and ChangeAlloc takes that back.
func (f *Fleet) Resize(g *Group, a *berthv1.Alloc) (*berthv1.Assignment, error) {
	slot, known := f.slots[a.GetNodeId()]
	if !known {
		return nil, misfit(NodeGone, "node_id", "there is no node %q", a.GetNodeId())
	}
	n, old := &f.nodes[slot], a.GetAssignment()
	f.release(slot, old)
	to, err := f.resized(g, n, old)
	if err == nil {
		more := Growth(old, to)
		if over := f.quotas.OverUse(a.GetNamespace(), &more); over != "" {
			err = misfit(OverQuota, "quota", "%s", over)
		}
	}
	f.hold(slot, old)
	if err != nil {
		return nil, err
	}
	after := a.ShallowCopy()
	after.Assignment = to
	f.ChangeAlloc(a, after)
	return to, nil
}

// Growth is what one assignment holds more than another of each thing that quotas are of.
func Growth(from, to *berthv1.Assignment) Use {
	more, less := UseOf(to), UseOf(from)
	grown := func(to, from uint64) uint64 { return to - min(to, from) }
	more.CPUMilli, more.MemoryMiB = grown(more.CPUMilli, less.CPUMilli), grown(more.MemoryMiB, less.MemoryMiB)
	more.DiskMiB, more.Allocs = grown(more.DiskMiB, less.DiskMiB), 0
	for kind, n := range more.DevicesMilli {
		more.DevicesMilli[kind] = grown(n, less.DevicesMilli[kind])
	}
	return more
}

// resized is the new grant, of what is free without the old one.
func (f *Fleet) resized(g *Group, n *fleetNode, old *berthv1.Assignment) (*berthv1.Assignment, error) {
	r := resizing{g: g, u: n.usage, node: n.node.GetName()}
	to, err := r.assignment(old)
	if err != nil {
		return nil, err
	}
	if to, err = g.asAsked(n.usage.Machine(), n.node, to); err != nil {
		return nil, err
	}
	grant, err := GrantOf(to)
	if err != nil {
		return nil, misfit(WrongGrant, "assignment", "%w", err)
	}
	if err := n.usage.Add(&grant); err != nil {
		return nil, r.lacks(&grant, err)
	}
	n.usage.Remove(&grant) // it was the question only
	return to, nil
}

// resizing makes another grant of one that lies in a node.
type resizing struct {
	g    *Group
	u    *topology.Usage // without the old grant
	node string
	skip topology.CPUSet // exclusive CPUs that somebody of the group has
}

// partOfTask is a task's part of one cell.
type partOfTask struct {
	grant *berthv1.CellGrant
	cell  int // by its index
	// units are the whole cores or single threads that it has, kept those that it keeps,
	// of most that it is to have.
	units []topology.CPUSet
	kept  topology.CPUSet
	have  int
	most  int
}

// assignment gives each task its new amounts. What tasks keep of their cores comes first,
// so that none takes what another one keeps.
func (r *resizing) assignment(old *berthv1.Assignment) (*berthv1.Assignment, error) {
	to := proto.CloneOf(old)
	parts := make([][]partOfTask, len(r.g.tasks))
	for i := range r.g.tasks {
		t := &r.g.tasks[i]
		at := slices.IndexFunc(to.GetTasks(), func(grant *berthv1.TaskGrant) bool { return grant.GetTask() == t.name })
		if at < 0 || len(to.GetTasks()[at].GetCells()) == 0 {
			return nil, misfit(WrongGrant, "assignment.tasks", "task %q is granted nothing on %s", t.name, r.node)
		}
		var err error
		if parts[i], err = r.parts(t, to.GetTasks()[at].GetCells()); err != nil {
			return nil, err
		}
		r.amounts(t, parts[i])
	}
	for i := range parts {
		for k := range parts[i] {
			if err := r.pick(&r.g.tasks[i], &parts[i][k]); err != nil {
				return nil, err
			}
		}
	}
	return to, nil
}

// parts are a task's parts, and the exclusive CPUs that it has in them.
func (r *resizing) parts(t *taskNeed, cells []*berthv1.CellGrant) ([]partOfTask, error) {
	parts := make([]partOfTask, len(cells))
	for k, c := range cells {
		i := r.u.Machine().CellIndex(c.GetCell())
		if i < 0 {
			return nil, misfit(WrongGrant, "assignment.cells", "%s has no cell %d any more", r.node, c.GetCell())
		}
		cpus, err := topology.ParseCPUSet(c.GetCpus())
		if err != nil {
			return nil, misfit(WrongGrant, "assignment.cpus", "%w", err)
		}
		parts[k] = partOfTask{grant: c, cell: i, units: unitsOf(&r.u.Machine().Cells[i], cpus, t.threads > 0)}
	}
	return parts, nil
}

// unitsOf are the threads, or the whole cores, among exclusive CPUs of a cell.
func unitsOf(cell *topology.Cell, cpus topology.CPUSet, threads bool) (units []topology.CPUSet) {
	if threads {
		for cpu := range cpus.All() {
			units = append(units, topology.NewCPUSet(cpu))
		}
		return units
	}
	for k := range cell.Cores {
		if core := &cell.Cores[k]; core.Whole && cpus.ContainsAll(core.Threads) {
			units = append(units, core.Threads)
		}
	}
	return units
}

// amounts divides what a task asks for over its parts as it is divided now, and has each
// keep the lowest of its CPUs.
func (r *resizing) amounts(t *taskNeed, parts []partOfTask) {
	milli, memory, units := make([]uint64, len(parts)), make([]uint64, len(parts)), make([]uint64, len(parts))
	for k, p := range parts {
		milli[k], memory[k], units[k] = uint64(p.grant.GetCpuMilli()), p.grant.GetMemoryMib(), uint64(len(p.units))
	}
	milli, memory, units = inProportion(t.milli, milli), inProportion(t.memory, memory), inProportion(uint64(t.cores+t.threads), units)
	for k := range parts {
		p := &parts[k]
		p.grant.CpuMilli, p.grant.MemoryMib, p.most = uint32(milli[k]), memory[k], int(units[k])
		for _, unit := range p.units[:min(len(p.units), p.most)] {
			p.kept.AddAll(unit)
			p.have++
		}
		r.skip.AddAll(p.kept)
	}
}

// pick adds the exclusive CPUs that a part lacks.
func (r *resizing) pick(t *taskNeed, p *partOfTask) error {
	if lack := p.most - p.have; lack > 0 && t.threads > 0 {
		p.have += r.u.PickThreads(p.cell, lack, &p.kept, &r.skip)
	} else if lack > 0 {
		cores, _ := pickCores(r.u, p.cell, lack, !r.u.Machine().Cells[p.cell].Mixed, &p.kept, &r.skip)
		p.have += cores
	}
	if lack := p.most - p.have; lack > 0 {
		return misfit(Held, "assignment", "%s has no %s free on cell %d", r.node, plural(uint64(lack), "more exclusive core"), p.grant.GetCell())
	}
	p.grant.Cpus = p.kept.String()
	return nil
}

// lacks says what a cell has too little of for all that lies in it.
func (r *resizing) lacks(grant *topology.Grant, err error) *Misfit {
	for i := range r.u.Machine().Cells {
		cell, milli, memory := r.u.Machine().Cells[i].ID, uint64(0), uint64(0)
		for k := range grant.Cells {
			if part := &grant.Cells[k]; part.Cell == cell {
				milli, memory = milli+uint64(part.CPUMilli)+1000*uint64(part.CPUs.Count()), memory+part.MemoryMiB
			}
		}
		if free := r.u.FreeMemory(i); memory > free {
			return misfit(Held, "assignment", "%s lacks %s on cell %d", r.node, memoryWords(memory-free), cell)
		}
		if free := r.u.FreeMilli(i); milli > free {
			return misfit(Held, "assignment", "%s lacks %s of CPU on cell %d", r.node, milliWords(milli-free), cell)
		}
	}
	return misfit(Held, "assignment", "%s: %w", r.node, err)
}

// inProportion gives parts of a total in the proportion of others, evenly where those are all 0:
// rounded down, and what is left goes to the parts that were cut most, the first of equals.
func inProportion(total uint64, by []uint64) []uint64 {
	sum := uint64(0)
	for _, n := range by {
		sum += n
	}
	out, cut, left := make([]uint64, len(by)), make([]uint64, len(by)), total
	for k, n := range by {
		if sum == 0 {
			out[k], cut[k] = total/uint64(len(by)), 1
		} else {
			high, low := bits.Mul64(total, n)
			out[k], cut[k] = bits.Div64(high, low, sum)
		}
		left -= out[k]
	}
	for ; left > 0; left-- {
		most := 0
		for k := range cut {
			if cut[k] > cut[most] {
				most = k
			}
		}
		out[most]++
		cut[most] = 0
	}
	return out
}
