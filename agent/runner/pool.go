package runner

import (
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// pool is the node's CPUs that nobody has for himself, per cell. It is computed anew
// from the allocs whenever exclusive grants come or go, and never kept.
type pool struct {
	cells map[uint32]topology.CPUSet
	all   topology.CPUSet
}

// newPool takes the exclusive CPUs of the grants out of the node's; reserved ones were
// never in.
func newPool(hw *berthv1.Hardware, grants []*berthv1.Assignment) pool {
	p := pool{cells: map[uint32]topology.CPUSet{}}
	var taken topology.CPUSet
	for _, a := range grants {
		for _, t := range a.GetTasks() {
			for _, c := range t.GetCells() {
				if set, err := topology.ParseCPUSet(c.GetCpus()); err == nil {
					taken.AddAll(set)
				}
			}
		}
	}
	for _, cell := range hw.GetCells() {
		var cpus topology.CPUSet
		for _, core := range cell.GetCores() {
			if set, err := topology.ParseCPUSet(core); err == nil {
				cpus.AddAll(set)
			}
		}
		if reserved, err := topology.ParseCPUSet(cell.GetReservedCpus()); err == nil {
			cpus.RemoveAll(reserved)
		}
		cpus.RemoveAll(taken)
		p.cells[cell.GetId()] = cpus
		p.all.AddAll(cpus)
	}
	return p
}

// hasOwnCPUs says that a grant has exclusive CPUs.
func hasOwnCPUs(a *berthv1.Assignment) bool {
	for _, t := range a.GetTasks() {
		for _, c := range t.GetCells() {
			if c.GetCpus() != "" {
				return true
			}
		}
	}
	return false
}

// sharedFor is where a task with this grant runs beside others: the shared CPUs of its
// cells, or of the whole node where its cells have none left.
func (p pool) sharedFor(g *berthv1.TaskGrant) string {
	var cpus topology.CPUSet
	for _, c := range g.GetCells() {
		if c.GetCpus() != "" {
			return "" // it has CPUs of its own
		}
		cpus.AddAll(p.cells[c.GetCell()])
	}
	if cpus.Empty() {
		return p.all.String()
	}
	return cpus.String()
}
