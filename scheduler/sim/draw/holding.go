package draw

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// nodeHolding is who holds what of a node.
type nodeHolding struct {
	cells []cellHolding
	loose []deviceHolding // attached to no cell that is known
}

// cellHolding is who holds what of a cell.
type cellHolding struct {
	id             uint32
	cores          [][]thread
	cpus, freeCPUs int
	bars           []bar
	devices        []deviceHolding
	pinned         map[*Alloc]*topology.CPUSet
}

func (c *cellHolding) cpusOf(a *Alloc) string {
	set := c.pinned[a]
	return set.String()
}

// thread is one CPU of a core.
type thread struct {
	holder   *Alloc
	reserved bool
}

// bar is an amount that is divided among holders.
type bar struct {
	all   uint64
	parts []part
	words func(uint64) string
}

type part struct {
	holder *Alloc
	amount uint64
}

// deviceHolding is a device; amounts are thousandths of it.
type deviceHolding struct {
	name    string
	kind    string
	healthy bool
	parts   []part
}

func (d *deviceHolding) words(share uint64) string {
	if share >= topology.WholeDevice {
		return d.name
	}
	return fmt.Sprintf("%d thousandths of %s", share, d.name)
}

// holdings works out who holds what. What makes no sense is not drawn: a picture never
// fails.
func holdings(hw *berthv1.Hardware, allocs []*Alloc) nodeHolding {
	var out nodeHolding
	cells := slices.SortedFunc(slices.Values(hw.GetCells()), func(a, b *berthv1.Cell) int { return cmp.Compare(a.GetId(), b.GetId()) })
	for _, c := range cells {
		out.cells = append(out.cells, holdingOf(c, allocs))
	}
	for _, d := range hw.GetDevices() {
		h := deviceHolding{kind: d.GetKind(), healthy: d.GetHealthy()}
		h.name = strings.TrimSpace(fmt.Sprintf("%s %s %s", d.GetKind(), d.GetId(), d.GetModel()))
		for _, a := range allocs {
			if share := shareOf(a, d.GetId()); share > 0 {
				h.parts = append(h.parts, part{a, share})
			}
		}
		at := slices.IndexFunc(out.cells, func(c cellHolding) bool { return int64(c.id) == int64(d.GetCell()) })
		if at < 0 {
			out.loose = append(out.loose, h)
		} else {
			out.cells[at].devices = append(out.cells[at].devices, h)
		}
	}
	return out
}

func shareOf(a *Alloc, id string) (share uint64) {
	for _, t := range a.GetAssignment().GetTasks() {
		for _, d := range t.GetDevices() {
			if d.GetId() == id {
				share += uint64(d.GetShareMilli())
			}
		}
	}
	return share
}

func holdingOf(c *berthv1.Cell, allocs []*Alloc) cellHolding {
	out := cellHolding{id: c.GetId(), pinned: map[*Alloc]*topology.CPUSet{}}
	cpu := bar{words: func(n uint64) string {
		return fmt.Sprintf("%d.%03d shared cores of cell %d", n/1000, n%1000, c.GetId())
	}}
	memory := bar{all: c.GetMemoryMib() - min(c.GetReservedMemoryMib(), c.GetMemoryMib()),
		words: func(n uint64) string { return fmt.Sprintf("%s of memory of cell %d", mebibytes(n), c.GetId()) }}
	pages := make([]bar, len(c.GetHugepages()))
	for i, h := range c.GetHugepages() {
		pages[i] = bar{all: h.GetCount(), words: func(n uint64) string {
			return fmt.Sprintf("%d hugepages of %s of cell %d", n, kibibytes(h.GetSizeKib()), c.GetId())
		}}
	}
	for _, a := range allocs {
		for _, t := range a.GetAssignment().GetTasks() {
			for _, g := range t.GetCells() {
				if g.GetCell() != c.GetId() {
					continue
				}
				out.pin(a, g.GetCpus())
				cpu.add(a, uint64(g.GetCpuMilli()))
				memory.add(a, g.GetMemoryMib())
				for _, h := range g.GetHugepages() {
					if i := slices.IndexFunc(c.GetHugepages(), func(x *berthv1.Hugepages) bool { return x.GetSizeKib() == h.GetSizeKib() }); i >= 0 {
						pages[i].add(a, h.GetCount())
					}
				}
			}
		}
	}
	out.lookAtCores(c)
	cpu.all = uint64(out.freeCPUs) * 1000
	out.bars = append(append(out.bars, cpu, memory), pages...)
	return out
}

func (c *cellHolding) pin(a *Alloc, list string) {
	set, err := topology.ParseCPUSet(list)
	if list == "" || err != nil {
		return
	}
	if c.pinned[a] == nil {
		c.pinned[a] = &topology.CPUSet{}
	}
	c.pinned[a].AddAll(set)
}

func (c *cellHolding) lookAtCores(cell *berthv1.Cell) {
	holder := map[int]*Alloc{}
	for a, set := range c.pinned { // nobody shares a CPU: the order does not matter
		for cpu := range set.All() {
			if holder[cpu] == nil || a.GetId() < holder[cpu].GetId() {
				holder[cpu] = a
			}
		}
	}
	reserved, _ := topology.ParseCPUSet(cell.GetReservedCpus())
	for _, list := range cell.GetCores() {
		set, err := topology.ParseCPUSet(list)
		if err != nil || set.Empty() {
			continue
		}
		var threads []thread
		for cpu := range set.All() {
			t := thread{holder[cpu], reserved.Contains(cpu)}
			threads = append(threads, t)
			c.cpus++
			if t.holder == nil && !t.reserved {
				c.freeCPUs++
			}
		}
		c.cores = append(c.cores, threads)
	}
}

func (b *bar) add(a *Alloc, amount uint64) {
	if amount == 0 {
		return
	}
	if n := len(b.parts); n > 0 && b.parts[n-1].holder == a {
		b.parts[n-1].amount += amount
		return
	}
	b.parts = append(b.parts, part{a, amount})
}

func mebibytes(n uint64) string {
	if n >= 1024 {
		return fmt.Sprintf("%.4g GiB", float64(n)/1024)
	}
	return fmt.Sprintf("%d MiB", n)
}

func kibibytes(n uint64) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d GiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d MiB", n>>10)
	}
	return fmt.Sprintf("%d KiB", n)
}
