package scheduler

import (
	"math/bits"
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// brute tries everything, by the specs rather than by what was compiled of them.
type brute struct {
	node *berthv1.Node
	u    *topology.Usage
	m    *topology.Machine
	g    *Group
	spec *berthv1.Group
}

// best is the lowest cost of any way to fit the group, and the cells of it.
func (b *brute) best() (cost []int, set []int, fits bool) {
	n := len(b.m.Cells)
	if b.u.FreeDisk() < b.spec.GetDiskMib() || b.spec.GetWholeNode() && b.u.Used() || b.u.Whole() {
		return nil, nil, false
	}
	for _, size := range b.sizes() {
		for pick := range 1 << n {
			if bits.OnesCount(uint(pick)) != size {
				continue
			}
			var cells []int
			for c := range n {
				if pick>>c&1 != 0 {
					cells = append(cells, c)
				}
			}
			c, ok := b.in(cells)
			if ok && (!fits || slices.Compare(c, cost) < 0 || slices.Equal(c, cost) && slices.Compare(cells, set) < 0) {
				cost, set, fits = c, cells, true
			}
		}
		if fits {
			return cost, set, true
		}
	}
	return nil, nil, false
}

// sizes are the numbers of cells to be tried, the best first.
func (b *brute) sizes() (sizes []int) {
	n := len(b.m.Cells)
	if k := int(b.spec.GetTopology().GetCells()); k > 0 {
		return []int{k}
	}
	most := n
	switch b.spec.GetTopology().GetPolicy() {
	case "none":
		return []int{1, n}
	case "single":
		most = 1
	case "restricted":
		whole := brute{b.node, topology.NewUsage(b.m), b.m, b.g, clonePolicy(b.spec, "best-effort")}
		_, set, _ := whole.best()
		most = max(len(set), 1)
	}
	for k := range most {
		sizes = append(sizes, k+1)
	}
	return sizes
}

func clonePolicy(g *berthv1.Group, policy string) *berthv1.Group {
	return &berthv1.Group{Tasks: g.GetTasks(), Topology: &berthv1.TopologyPolicy{Policy: policy, Align: g.GetTopology().GetAlign()}}
}

func (b *brute) aligned(resource string) bool {
	align := b.spec.GetTopology().GetAlign()
	return len(align) == 0 && (resource == "cpu" || resource == "memory") || slices.Contains(align, resource)
}

// in is what it costs to lie in just these cells.
func (b *brute) in(set []int) (cost []int, fits bool) {
	all := make([]int, len(b.m.Cells))
	for i := range all {
		all[i] = i
	}
	from := func(resource string) []int {
		if b.aligned(resource) {
			return set
		}
		return all
	}
	if !b.cpu(from("cpu"), 1) || !b.memory(from("memory"), 1) || !b.pages(from("hugepages"), 1) {
		return nil, false
	}
	if n := int(b.spec.GetTopology().GetCells()); n > 1 {
		for _, c := range set {
			if b.aligned("cpu") && !b.cpu([]int{c}, n) || b.aligned("memory") && !b.memory([]int{c}, n) || b.aligned("hugepages") && !b.pages([]int{c}, n) {
				return nil, false
			}
		}
	}
	span, empty, weight := 0, 0, 0
	for i, c := range set {
		for _, o := range set[:i] {
			span += int(b.m.Distance(o, c))
		}
		if !b.u.CellUsed(c) {
			empty++
		}
		weight += int(b.u.FreeMilli(c) + b.u.FreeMemory(c)*1000/4096)
		for i, d := range b.m.Devices {
			if d.Cell == c && d.Kind == "gpu" && b.u.FreeDevice(i) == 1000 {
				weight += 64000
			}
		}
	}
	devices := b.devices(set)
	if devices == nil {
		return nil, false
	}
	return slices.Concat([]int{span}, devices, []int{empty, weight}), true
}

// cpu tries every choice of cores and threads for an n-th of what is asked for.
func (b *brute) cpu(cells []int, n int) bool {
	cores, threads, milli := 0, 0, 0
	for _, t := range b.g.tasks {
		cores, threads, milli = cores+t.cores, threads+t.threads, milli+int(t.milli)
	}
	cores, threads, milli = cores/n, threads/n, (milli+n-1)/n
	var whole []topology.CPUSet
	free := map[int]int{} // cell by thread
	for _, c := range cells {
		for cpu := range b.u.FreeThreads(c).All() {
			free[cpu] = c
		}
		for _, core := range b.m.Cells[c].Cores {
			if b.u.FreeThreads(c).ContainsAll(core.Threads) {
				whole = append(whole, core.Threads)
			}
		}
	}
	for pick := range 1 << len(whole) {
		if bits.OnesCount(uint(pick)) != cores {
			continue
		}
		left, sum, spare, ok := map[int]int{}, 0, 0, true
		threadsLeft := map[int]int{}
		for _, c := range cells {
			left[c] = int(b.u.FreeMilli(c))
		}
		for _, c := range free {
			threadsLeft[c]++
		}
		for k, core := range whole {
			if pick>>k&1 != 0 {
				left[free[core.First()]] -= 1000 * core.Count()
				threadsLeft[free[core.First()]] -= core.Count()
			}
		}
		for c, l := range left {
			ok = ok && l >= 0
			spare += min(threadsLeft[c], max(l, 0)/1000)
			sum += l
		}
		if ok && spare >= threads && sum-1000*threads >= milli {
			return true
		}
	}
	return false
}

func (b *brute) memory(cells []int, n int) bool {
	have := 0
	for _, c := range cells {
		have += int(b.u.FreeMemory(c))
	}
	return have >= (int(b.g.total.memory)+n-1)/n
}

func (b *brute) pages(cells []int, n int) bool {
	wanted := map[uint64]int{}
	for _, t := range b.spec.GetTasks() {
		for _, h := range t.GetResources().GetHugepages() {
			wanted[h.GetSizeKib()] += int(h.GetCount())
		}
	}
	for size, count := range wanted {
		have := 0
		for _, c := range cells {
			if i := b.m.Cells[c].HugepageIndex(size); i >= 0 {
				have += int(b.u.FreeHugepages(c, i))
			}
		}
		if have < count/n {
			return false
		}
	}
	return true
}
