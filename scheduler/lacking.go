package scheduler

import (
	"fmt"
	"slices"
	"strings"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// fits is the name of the check of a node on which nothing is in the way.
const fits = "gang"

// staticPortFree ends the text of a shortfall of a static port.
const staticPortFree = " to be free"

// lacking gives the first check on what is placed that a node fails, in words, and what
// it lacks; fits when there is none.
func (r *run) lacking(slot int32) (name, detail string, short []*berthv1.Shortfall) {
	node := &r.f.nodes[slot]
	switch {
	case r.isExcluded(slot) && r.g.hosts != nobody:
		return "distinct_hosts", "an instance is on it already", nil
	case r.isExcluded(slot):
		return "excluded", "node is excluded", nil
	}
	if l := r.terms.full(slot); l != nil {
		name, detail = l.words()
		return name, detail, nil
	}
	if u := node.usage; u.Stray() {
		return "kept", "kept for a higher priority, or with grants on a cell that is gone", nil
	}
	if u := node.usage; u.Whole() {
		return "whole_node", "held as a whole node", nil
	} else if r.g.wholeNode && u.Used() {
		return "whole_node", "something is on it, and all of it is wanted", nil
	}
	if short = r.lackingOutside(node.usage); len(short) == 0 {
		short = r.lackingInside(node.usage)
	}
	if len(short) > 0 && onlyApart(short) {
		return "alignment", r.g.devicesInWords() + " free, but not on one cell", short
	}
	if len(short) > 0 {
		return short[0].GetResource(), failureWords(short[0], capacityOf(node.usage), &r.g.total), short
	}
	if r.f.fitsOn(node.usage, r.g) {
		return fits, "", nil
	}
	return "topology", "enough is free, but not in as few cells as the policy asks for", nil
}

// fitsOn says whether a group fits on what is left of a node.
func (f *Fleet) fitsOn(u *topology.Usage, g *Group) bool {
	choice, ok := f.scratch.fit.fit(u, g)
	if ok {
		u.Remove(&choice.grant)
	}
	return ok
}

// onlyApart says that nothing is lacking but devices of the cell that comes nearest, though
// the node has enough of them.
func onlyApart(short []*berthv1.Shortfall) bool {
	for _, s := range short {
		if s.GetCell() == topology.NodeWide || alignOf(s.GetResource()) == 0 {
			return false
		}
	}
	return true
}

// devicesInWords are the kinds of devices that are aligned: "gpu and vf".
func (g *Group) devicesInWords() string {
	var kinds []string
	for i := range g.total.devices {
		if kind := g.total.devices[i].kind; g.align&alignOf(kind) != 0 && !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	if len(kinds) == 1 {
		kinds = append([]string{"cores"}, kinds...)
	}
	return strings.Join(kinds, " and ")
}

// lackingOutside is what lies in no cell: ports, disk, devices.
func (r *run) lackingOutside(u *topology.Usage) (short []*berthv1.Shortfall) {
	for _, p := range r.g.ports {
		if p.static != 0 && !u.PortFree(uint16(p.static)) {
			short = append(short, &berthv1.Shortfall{Resource: topology.Port, Cell: topology.NodeWide, Wanted: 1,
				Text: fmt.Sprintf("port %d%s", p.static, staticPortFree)})
		}
	}
	if r.g.dynamic > 0 {
		if free := freePorts(u, r.g.dynamic); free < r.g.dynamic {
			short = append(short, shortfall(topology.Port, topology.NodeWide, uint64(r.g.dynamic), uint64(free), "free dynamic port"))
		}
	}
	if free := u.FreeDisk(); free < r.g.diskMiB {
		short = append(short, &berthv1.Shortfall{Resource: topology.Disk, Cell: topology.NodeWide, Wanted: r.g.diskMiB, Free: free,
			Text: memoryWords(r.g.diskMiB-free) + " more free disk"})
	}
	for i := range r.g.total.devices {
		d, free := &r.g.total.devices[i], 0
		for k := range u.Machine().Devices {
			if dev := &u.Machine().Devices[k]; d.is(dev) && d.free(dev, u.FreeDevice(k)) {
				free++
			}
		}
		if free < d.count {
			short = append(short, shortfall(d.kind, topology.NodeWide, uint64(d.count), uint64(free), "free "+d.kind))
		}
	}
	return short
}

// freePorts counts the free dynamic ports, up to n.
func freePorts(u *topology.Usage, n int) int {
	count := 0
	for p := u.NextPort(0); p != 0 && count < n; p = u.NextPort(p + 1) {
		count++
		if p == 65535 {
			break
		}
	}
	return count
}

// lackingInside is what lies in cells: of the node as a whole, or, where one cell must
// have it all, of the cell that comes nearest.
func (r *run) lackingInside(u *topology.Usage) []*berthv1.Shortfall {
	cells := len(u.Machine().Cells)
	if r.g.policy != single || cells < 2 {
		all := make([]int, cells)
		for i := range all {
			all[i] = i
		}
		return r.lackingIn(u, all, topology.NodeWide)
	}
	var best []*berthv1.Shortfall
	for i := range cells {
		short := r.lackingIn(u, []int{i}, int32(u.Machine().Cells[i].ID))
		if len(short) == 0 {
			return nil
		}
		if best == nil || distanceOf(short) < distanceOf(best) {
			best = short
		}
	}
	return best
}

// lackingIn sums up some cells and compares.
func (r *run) lackingIn(u *topology.Usage, cells []int, cell int32) (short []*berthv1.Shortfall) {
	var milli, memory uint64
	cores, threads := 0, 0
	n := &r.g.total
	exclusive := uint64(n.threads) * 1000
	for _, c := range cells {
		milli, memory = milli+u.FreeMilli(c), memory+u.FreeMemory(c)
		left := u.Summary(c)
		got := min(left.Cores, n.cores)
		if taken, ok := u.CoreCost(c, got); ok {
			exclusive += 1000 * uint64(taken)
		}
		cores, threads = cores+got, threads+min(left.Threads, n.threads)
	}
	if cores < n.cores {
		short = append(short, shortfall(topology.Cores, cell, uint64(n.cores), uint64(cores), "free core"))
	}
	if threads < n.threads {
		short = append(short, shortfall(topology.Cores, cell, uint64(n.threads), uint64(threads), "free thread"))
	}
	if wanted := n.milli + exclusive; milli < wanted && len(short) == 0 {
		short = append(short, &berthv1.Shortfall{Resource: topology.CPU, Cell: cell, Wanted: wanted, Free: milli,
			Text: inCell(cell) + milliWords(wanted-milli) + " more of free CPU"})
	}
	if memory < n.memory {
		short = append(short, &berthv1.Shortfall{Resource: topology.Memory, Cell: cell, Wanted: n.memory, Free: memory,
			Text: inCell(cell) + memoryWords(n.memory-memory) + " more free memory"})
	}
	for _, h := range n.hugepages {
		var free uint64
		for _, c := range cells {
			if size := u.Machine().Cells[c].HugepageIndex(h.SizeKiB); size >= 0 {
				free += u.FreeHugepages(c, size)
			}
		}
		if free < h.Count {
			short = append(short, shortfall(topology.HugePages, cell, h.Count, free, "free hugepage"))
		}
	}
	if cell != topology.NodeWide {
		short = append(short, r.lackingDevicesIn(u, cells[0], cell)...)
	}
	return short
}

// lackingDevicesIn is what one cell lacks of the devices that must be on it.
func (r *run) lackingDevicesIn(u *topology.Usage, index int, cell int32) (short []*berthv1.Shortfall) {
	m := u.Machine()
	for i := range r.g.total.devices {
		d, free := &r.g.total.devices[i], map[int]int{}
		if r.g.align&alignOf(d.kind) == 0 {
			continue
		}
		best := -1
		for k := range m.Devices {
			if dev := &m.Devices[k]; d.is(dev) && d.free(dev, u.FreeDevice(k)) {
				if free[dev.Cell]++; dev.Cell >= 0 && dev.Cell != index && (best < 0 || free[dev.Cell] > free[best]) {
					best = dev.Cell
				}
			}
		}
		if free[index] >= d.count {
			continue
		}
		s := shortfall(d.kind, cell, uint64(d.count), uint64(free[index]), "free "+d.kind)
		if best >= 0 {
			s.Text += fmt.Sprintf(" (%d free on cell %d)", free[best], m.Cells[best].ID)
		}
		short = append(short, s)
	}
	return short
}

func inCell(cell int32) string {
	if cell == topology.NodeWide {
		return ""
	}
	return fmt.Sprintf("cell %d: ", cell)
}

// shortfall words a lack of things that are counted: "cell 1: 4 more free cores".
func shortfall(resource string, cell int32, wanted, free uint64, what string) *berthv1.Shortfall {
	return &berthv1.Shortfall{Resource: resource, Cell: cell, Wanted: wanted, Free: free,
		Text: inCell(cell) + plural(wanted-free, "more "+what)}
}

// failureWords says in words that nodes can share why one fails.
func failureWords(s *berthv1.Shortfall, c capacity, n *need) string {
	switch s.GetResource() {
	case topology.CPU:
		if c.invMilli > 0 && float64(n.milli)*c.invMilli > 1 {
			return "too little CPU, even when empty"
		}
		return "too little free CPU"
	case topology.Memory:
		if c.invMemory > 0 && float64(n.memory)*c.invMemory > 1 {
			return "too little memory, even when empty"
		}
		return "too little free memory"
	case topology.Cores:
		return "too few free cores"
	case topology.HugePages:
		return "too few free hugepages"
	case topology.Disk:
		return "too little free disk"
	case topology.Port:
		if port, static := strings.CutSuffix(s.GetText(), staticPortFree); static {
			return port + " is taken"
		}
		return "too few free ports"
	}
	return "too few free " + s.GetResource() + " devices of the kind asked for"
}

// capacity is what a whole node has, at a glance: 1 over it.
type capacity struct{ invMilli, invMemory float64 }

func capacityOf(u *topology.Usage) (c capacity) {
	var milli, memory uint64
	for i := range u.Machine().Cells {
		milli += uint64(u.Machine().Cells[i].Threads) * 1000
		memory += u.Machine().Cells[i].MemoryMiB
	}
	if milli > 0 && memory > 0 {
		c.invMilli, c.invMemory = 1/float64(milli), 1/float64(memory)
	}
	return c
}
