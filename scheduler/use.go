package scheduler

import (
	"cmp"
	"maps"
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// Use is what allocations hold together, counted as quotas count it: CPU in thousandths
// of a thread (an exclusive core counts with all its threads), memory with hugepages,
// devices by kind in thousandths.
type Use struct {
	CPUMilli, MemoryMiB, DiskMiB, Allocs uint64
	DevicesMilli                         map[string]uint64
}

// UseOf is what an assignment holds.
func UseOf(a *berthv1.Assignment) Use {
	u := Use{Allocs: 1, DiskMiB: a.GetDiskMib()}
	for _, task := range a.GetTasks() {
		for _, c := range task.GetCells() {
			u.CPUMilli += uint64(c.GetCpuMilli())
			u.MemoryMiB += c.GetMemoryMib()
			if c.GetCpus() != "" {
				if cpus, err := topology.ParseCPUSet(c.GetCpus()); err == nil {
					u.CPUMilli += uint64(cpus.Count()) * 1000
				}
			}
			for _, h := range c.GetHugepages() {
				u.MemoryMiB += h.GetSizeKib() * h.GetCount() / 1024
			}
		}
		for _, d := range task.GetDevices() {
			u.device(d.GetKind(), uint64(d.GetShareMilli()))
		}
	}
	return u
}

// useOfGrant is what a grant on a machine holds.
func useOfGrant(m *topology.Machine, g *topology.Grant) Use {
	u := Use{Allocs: 1, DiskMiB: g.DiskMiB}
	for i := range g.Cells {
		c := &g.Cells[i]
		u.CPUMilli += uint64(c.CPUMilli) + uint64(c.CPUs.Count())*1000
		u.MemoryMiB += c.MemoryMiB
		for _, h := range c.Hugepages {
			u.MemoryMiB += h.SizeKiB * h.Count / 1024
		}
	}
	for i := range g.Devices {
		if k := m.DeviceIndex(g.Devices[i].ID); k >= 0 {
			u.device(m.Devices[k].Kind, uint64(g.Devices[i].ShareMilli))
		}
	}
	return u
}

func (u *Use) device(kind string, n uint64) {
	if u.DevicesMilli == nil {
		u.DevicesMilli = map[string]uint64{}
	}
	u.DevicesMilli[kind] += n
}

// Add counts what another use counts.
func (u *Use) Add(o Use) {
	u.CPUMilli, u.MemoryMiB, u.DiskMiB, u.Allocs = u.CPUMilli+o.CPUMilli, u.MemoryMiB+o.MemoryMiB, u.DiskMiB+o.DiskMiB, u.Allocs+o.Allocs
	for kind, n := range o.DevicesMilli {
		u.device(kind, n)
	}
}

// sub takes out what was added.
func (u *Use) sub(o *Use) {
	u.CPUMilli, u.MemoryMiB, u.DiskMiB, u.Allocs = u.CPUMilli-o.CPUMilli, u.MemoryMiB-o.MemoryMiB, u.DiskMiB-o.DiskMiB, u.Allocs-o.Allocs
	for kind, n := range o.DevicesMilli {
		if u.DevicesMilli[kind] -= n; u.DevicesMilli[kind] == 0 {
			delete(u.DevicesMilli, kind)
		}
	}
}

// times is n times as much.
func (u *Use) times(n uint64) Use {
	out := Use{CPUMilli: u.CPUMilli * n, MemoryMiB: u.MemoryMiB * n, DiskMiB: u.DiskMiB * n, Allocs: u.Allocs * n}
	for kind, share := range u.DevicesMilli {
		out.device(kind, share*n)
	}
	return out
}

// Quota gives a use in the terms of a quota.
func (u *Use) Quota() *berthv1.Quota {
	return &berthv1.Quota{CpuMilli: u.CPUMilli, MemoryMib: u.MemoryMiB, DiskMib: u.DiskMiB, Allocs: u.Allocs, DevicesMilli: maps.Clone(u.DevicesMilli)}
}

// Emptiest gives the ids of the nodes that are ready and eligible, in the pool ("" is the
// default one) and meet the constraints: those with the fewest allocations first, then
// with the least CPU and memory granted, then by name.
func Emptiest(nodes []*berthv1.Node, pool string, constraints []*berthv1.Constraint, granted func(nodeID string) Use) ([]string, error) {
	s := staticChecks{pool: cmp.Or(pool, defaultPool)}
	for _, c := range constraints {
		compiled, err := compileCheck(c.GetAttribute(), c.GetOperator(), c.GetValue())
		if err != nil {
			return nil, err
		}
		s.constraints = append(s.constraints, compiled)
	}
	s.tolerations = []toleration{{exists: true}} // who may use it says what it tolerates
	type candidate struct {
		node *berthv1.Node
		use  Use
	}
	var found []candidate
	for _, n := range nodes {
		if s.ok(n, nil) {
			found = append(found, candidate{n, granted(n.GetId())})
		}
	}
	slices.SortFunc(found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.use.Allocs, b.use.Allocs), cmp.Compare(a.use.CPUMilli, b.use.CPUMilli), cmp.Compare(a.use.MemoryMiB, b.use.MemoryMiB),
			cmp.Compare(a.node.GetName(), b.node.GetName()), cmp.Compare(a.node.GetId(), b.node.GetId()))
	})
	ids := make([]string, len(found))
	for i := range found {
		ids[i] = found[i].node.GetId()
	}
	return ids, nil
}
