package scheduler

import (
	"cmp"
	"fmt"
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// maxHeldBy bounds the allocations that a shortfall names.
const maxHeldBy = 3

// NameHolders says in an explanation which allocations hold what the nearest nodes lack.
func NameHolders(f *Fleet, e *berthv1.Explanation, on func(nodeID string) []Holder) {
	for _, miss := range e.GetNearest() {
		slot, known := f.slots[miss.GetNodeId()]
		if !known {
			continue
		}
		holders := on(miss.GetNodeId())
		for _, s := range miss.GetShortfalls() {
			s.HeldBy = heldBy(f.nodes[slot].usage.Machine(), s, holders)
		}
	}
}

// piece is what one allocation holds of something.
type piece struct {
	holder *Holder
	amount uint64
}

// heldBy names those that hold the most of what is short, the lowest priority first.
func heldBy(m *topology.Machine, s *berthv1.Shortfall, holders []Holder) (out []string) {
	var parts []piece
	for i := range holders {
		if n := holds(m, s, &holders[i]); n > 0 {
			parts = append(parts, piece{&holders[i], n})
		}
	}
	slices.SortFunc(parts, func(a, b piece) int {
		return cmp.Or(cmp.Compare(a.holder.Priority, b.holder.Priority), cmp.Compare(b.amount, a.amount),
			cmp.Compare(a.holder.Alloc.Name(), b.holder.Alloc.Name()), cmp.Compare(a.holder.Alloc.GetId(), b.holder.Alloc.GetId()))
	})
	for _, p := range parts[:min(len(parts), maxHeldBy)] {
		until := ""
		if p.holder.Ending {
			until = " until it has ended"
		}
		out = append(out, fmt.Sprintf("%s holds %s%s (priority %d)", p.holder.Alloc.Name(), amountWords(s, p.amount), until, p.holder.Priority))
	}
	if more := len(parts) - len(out); more > 0 {
		out = append(out, fmt.Sprintf("%d more", more))
	}
	return out
}

// holds is how much of what is short an allocation holds, in the resource's unit.
func holds(m *topology.Machine, s *berthv1.Shortfall, h *Holder) (n uint64) {
	a := h.Alloc.GetAssignment()
	switch s.GetResource() {
	case topology.Disk:
		return a.GetDiskMib()
	case topology.Port:
		var port uint32
		if _, err := fmt.Sscanf(s.GetText(), "port %d", &port); err != nil {
			return 0 // dynamic ones: anybody's
		}
		for _, p := range a.GetPorts() {
			if p.GetPort() == port {
				return 1
			}
		}
		return 0
	}
	for _, t := range a.GetTasks() {
		for _, c := range t.GetCells() {
			if s.GetCell() == topology.NodeWide || s.GetCell() == int32(c.GetCell()) {
				n += holdsInCell(m, s.GetResource(), c)
			}
		}
		for _, d := range t.GetDevices() {
			i := m.DeviceIndex(d.GetId())
			if d.GetKind() != s.GetResource() || i < 0 {
				continue
			}
			if cell := m.Devices[i].Cell; s.GetCell() == topology.NodeWide || cell >= 0 && int32(m.Cells[cell].ID) == s.GetCell() {
				n++
			}
		}
	}
	return n
}

func holdsInCell(m *topology.Machine, resource string, c *berthv1.CellGrant) (n uint64) {
	cpus, err := topology.ParseCPUSet(c.GetCpus())
	if err != nil {
		return 0
	}
	switch i := m.CellIndex(c.GetCell()); resource {
	case topology.CPU:
		return uint64(c.GetCpuMilli()) + 1000*uint64(cpus.Count())
	case topology.Memory:
		return c.GetMemoryMib()
	case topology.Cores:
		if i >= 0 {
			for k := range m.Cells[i].Cores {
				if m.Cells[i].Cores[k].Threads.Overlaps(cpus) {
					n++
				}
			}
		}
		// Shared CPU keeps cores from being exclusive, too.
		return n + uint64(c.GetCpuMilli())/1000
	case topology.HugePages:
		for _, h := range c.GetHugepages() {
			n += h.GetCount()
		}
	}
	return n
}

// amountWords says an amount of a resource: "2 cores", "4 GiB", "1 gpu".
func amountWords(s *berthv1.Shortfall, n uint64) string {
	switch s.GetResource() {
	case topology.CPU:
		return milliWords(n)
	case topology.Memory, topology.Disk:
		return memoryWords(n)
	case topology.Cores:
		return plural(n, "core")
	case topology.HugePages:
		return plural(n, "hugepage")
	case topology.Port:
		return "it"
	}
	return fmt.Sprintf("%d %s", n, s.GetResource())
}
