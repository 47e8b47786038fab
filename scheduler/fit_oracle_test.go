package scheduler

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// drawNode draws a machine that is small enough to try everything on it.
func drawNode(t *rapid.T) *berthv1.Node {
	n := &berthv1.Node{Id: "n", Name: "n", Hardware: &berthv1.Hardware{DiskMib: 100}, MinPort: 1000, MaxPort: 1003}
	cells, cpu := rapid.IntRange(1, 3).Draw(t, "cells"), 0
	mixed := rapid.IntRange(0, 3).Draw(t, "mixed") == 0
	threads := rapid.IntRange(1, 2).Draw(t, "threads")
	for i := range cells {
		c := &berthv1.Cell{Id: uint32(2 * i), Socket: uint32(i / 2), MemoryMib: rapid.SampledFrom([]uint64{400, 600, 200, 0}).Draw(t, "memory")}
		for range rapid.SampledFrom([]int{3, 4, 2, 0}).Draw(t, "cores") {
			if mixed {
				threads = rapid.IntRange(1, 2).Draw(t, "threads of a core")
			}
			c.Cores = append(c.Cores, fmt.Sprintf("%d-%d", cpu, cpu+threads-1))
			cpu += threads
		}
		if cpu > 0 && rapid.IntRange(0, 3).Draw(t, "reserve") == 0 {
			c.ReservedCpus = fmt.Sprint(cpu - 1)
		}
		for _, size := range []uint64{2048, 1 << 20} {
			if pages := rapid.IntRange(0, 3).Draw(t, "pages"); pages > 0 {
				c.Hugepages = append(c.Hugepages, &berthv1.Hugepages{SizeKib: size, Count: uint64(pages)})
			}
		}
		n.Hardware.Cells = append(n.Hardware.Cells, c)
	}
	if rapid.Bool().Draw(t, "distances") {
		for i, c := range n.Hardware.Cells {
			for k := range cells {
				c.Distances = append(c.Distances, uint32(10+11*max(i-k, k-i)))
			}
		}
	}
	for i := range rapid.SampledFrom([]int{0, 4, 5, 6}).Draw(t, "devices") {
		drawDevice(t, n, i, cells)
	}
	return n
}

func drawDevice(t *rapid.T, n *berthv1.Node, i, cells int) {
	d := &berthv1.Device{Id: fmt.Sprintf("d%d", i), Kind: rapid.SampledFrom([]string{"gpu", "gpu", "vf"}).Draw(t, "kind"),
		Cell: int32(2*rapid.IntRange(0, cells).Draw(t, "cell")) - 2, PciRoot: rapid.SampledFrom([]string{"r0", "r1", ""}).Draw(t, "root"),
		Model: rapid.SampledFrom([]string{"A", "B"}).Draw(t, "model"), Healthy: rapid.IntRange(0, 7).Draw(t, "broken") < 7, Attributes: map[string]string{}}
	if rapid.IntRange(0, 2).Draw(t, "shareable") == 0 {
		d.ShareableMilli = 100
	}
	if rapid.IntRange(0, 4).Draw(t, "domain") == 0 {
		d.Attributes["nvlink"] = "x"
	}
	for k := range i {
		if rapid.IntRange(0, 2).Draw(t, "linked") == 0 {
			d.Links = append(d.Links, &berthv1.DeviceLink{Peer: fmt.Sprintf("d%d", k), Type: rapid.SampledFrom([]string{"nvlink", "xgmi"}).Draw(t, "type"),
				Lanes: uint32(rapid.IntRange(0, 2).Draw(t, "lanes"))})
		}
	}
	n.Hardware.Devices = append(n.Hardware.Devices, d)
}

// drawGroup draws what may be asked of one node.
func drawGroup(t *rapid.T) *berthv1.Group {
	g := &berthv1.Group{Name: "g", DiskMib: rapid.SampledFrom([]uint64{0, 0, 0, 60}).Draw(t, "disk"), WholeNode: rapid.IntRange(0, 9).Draw(t, "whole") == 9,
		Topology: &berthv1.TopologyPolicy{Policy: rapid.SampledFrom([]string{"none", "best-effort", "restricted", "single"}).Draw(t, "policy")}}
	for _, resource := range []string{"cpu", "memory", "hugepages", "gpu", "nic"} {
		if rapid.Bool().Draw(t, "align") {
			g.Topology.Align = append(g.Topology.Align, resource)
		}
	}
	even := uint32(1)
	if rapid.IntRange(0, 2).Draw(t, "span") == 2 && g.Topology.Policy != "single" {
		even = uint32(rapid.IntRange(1, 3).Draw(t, "over"))
		g.Topology.Cells = even
	}
	for i := range rapid.SampledFrom([]int{1, 1, 2}).Draw(t, "tasks") {
		r := &berthv1.Resources{MemoryMib: uint64(rapid.IntRange(1, 5).Draw(t, "mem") * 50), CoreUnit: rapid.SampledFrom([]string{"core", "thread"}).Draw(t, "unit"),
			Cores: even * rapid.SampledFrom([]uint32{0, 1, 2, 3}).Draw(t, "cores"), CpuMilli: uint32(rapid.IntRange(0, 8).Draw(t, "milli") * 250)}
		if rapid.IntRange(0, 3).Draw(t, "huge") == 3 {
			r.Hugepages = append(r.Hugepages, &berthv1.Hugepages{SizeKib: 2048, Count: uint64(even) * uint64(rapid.IntRange(1, 4).Draw(t, "pages"))})
		}
		for range rapid.SampledFrom([]int{1, 0, 2}).Draw(t, "asks") {
			r.Devices = append(r.Devices, drawDeviceAsk(t, even, r.GetDevices()))
		}
		g.Tasks = append(g.Tasks, &berthv1.Task{Name: fmt.Sprintf("t%d", i), Resources: r})
	}
	return g
}

func drawDeviceAsk(t *rapid.T, even uint32, before []*berthv1.DeviceAsk) *berthv1.DeviceAsk {
	d := &berthv1.DeviceAsk{Kind: rapid.SampledFrom([]string{"gpu", "gpu", "vf"}).Draw(t, "kind"),
		Count: rapid.SampledFrom([]uint32{1, 2, even, 3}).Draw(t, "count"), Model: rapid.SampledFrom([]string{"", "*", "A"}).Draw(t, "model"),
		ShareMilli: rapid.SampledFrom([]uint32{0, 0, 0, 400, 600}).Draw(t, "share"), Link: rapid.SampledFrom([]string{"", "", "nvlink", "pcie"}).Draw(t, "link")}
	if len(before) > 0 && before[0].GetKind() != d.Kind && rapid.Bool().Draw(t, "near") {
		d.Near, d.Within = before[0].GetKind(), rapid.SampledFrom([]string{"pcie", "cell", "socket"}).Draw(t, "within")
		if rapid.Bool().Draw(t, "back") && before[0].GetNear() == "" {
			before[0].Near, before[0].Within = d.Kind, "socket"
		}
	}
	return d
}

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
		if !b.u.Summary(c).Used {
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

// bruteAsk is a device ask and the devices that it gets.
type bruteAsk struct {
	*berthv1.DeviceAsk
	task int
	got  []int
}

// devices tries every choice of devices: the lowest of outside, distance, share, broken.
func (b *brute) devices(set []int) (best []int) {
	var asks []*bruteAsk
	for i, t := range b.spec.GetTasks() {
		for _, d := range t.GetResources().GetDevices() {
			asks = append(asks, &bruteAsk{DeviceAsk: d, task: i})
		}
	}
	// What is near others is granted last; what shares leave depends on that.
	last := slices.DeleteFunc(slices.Clone(asks), func(a *bruteAsk) bool { return a.GetNear() == "" })
	asks = append(slices.DeleteFunc(asks, func(a *bruteAsk) bool { return a.GetNear() != "" }), last...)
	left := make([]int, len(b.m.Devices))
	for i := range left {
		left[i] = int(b.u.FreeDevice(i))
	}
	rank := 0 // what the shares leave
	var try func(k int)
	try = func(k int) {
		if k == len(asks) {
			if cost := b.deviceCost(asks, set); cost != nil {
				cost[2] = rank
				if best == nil || slices.Compare(cost, best) < 0 {
					best = cost
				}
			}
			return
		}
		a := asks[k]
		if len(a.got) == int(a.GetCount()) {
			try(k + 1)
			return
		}
		for i := range b.m.Devices {
			share := int(a.GetShareMilli())
			if len(a.got) > 0 && i <= a.got[len(a.got)-1] || !b.takes(a, i, left[i], set) {
				continue
			}
			before := rank
			if share > 0 {
				rank += left[i] - share
			} else {
				share = 1000
			}
			left[i] -= share
			a.got = append(a.got, i)
			try(k)
			a.got = a.got[:len(a.got)-1]
			left[i] += share
			rank = before
		}
	}
	try(0)
	return best
}

func (b *brute) takes(a *bruteAsk, i, left int, set []int) bool {
	d := &b.m.Devices[i]
	if d.Kind != a.GetKind() || !d.Healthy || a.GetModel() == "A" && d.Model != "A" {
		return false
	}
	if a.GetShareMilli() > 0 && (!d.Shareable || left < int(a.GetShareMilli())) || a.GetShareMilli() == 0 && left < 1000 {
		return false
	}
	anywhere := b.spec.GetTopology().GetPolicy() == "none" && b.spec.GetTopology().GetCells() == 0 && len(set) == len(b.m.Cells) && len(set) > 1
	if resource := map[string]string{"gpu": "gpu", "vf": "nic"}[d.Kind]; b.aligned(resource) && !anywhere {
		return slices.Contains(set, d.Cell)
	}
	return true
}

func (b *brute) deviceCost(asks []*bruteAsk, set []int) []int {
	outside, distance := 0, 0
	perCell := map[string]int{}
	idle, taken := map[int]bool{}, map[int]bool{}
	for i := range b.m.Devices {
		idle[i] = b.u.FreeDevice(i) == 1000
	}
	for _, a := range asks {
		for n, i := range a.got {
			taken[i] = true
			if !slices.Contains(set, b.m.Devices[i].Cell) {
				outside += map[string]int{"gpu": 16, "vf": 1}[a.GetKind()]
			}
			perCell[fmt.Sprint(a.GetKind(), b.m.Devices[i].Cell)]++
			for _, o := range a.got[:n] {
				if a.GetLink() == "nvlink" && b.lanes(i, o, true) == 0 || a.GetLink() == "pcie" && !b.sameRoot(i, o) {
					return nil
				}
				if a.GetNear() == "" {
					distance += b.distance(i, o)
				}
			}
		}
		if a.GetNear() != "" {
			far, ok := b.nearCost(a, asks)
			if !ok {
				return nil
			}
			distance += far
		}
	}
	if n := int(b.spec.GetTopology().GetCells()); n > 1 {
		for _, kind := range []string{"gpu", "vf"} {
			for _, c := range set {
				if b.aligned(map[string]string{"gpu": "gpu", "vf": "nic"}[kind]) && perCell[fmt.Sprint(kind, c)]*n != devicesOf(&b.g.total, kind) {
					return nil
				}
			}
		}
	}
	return slices.Concat([]int{outside, distance, 0}, b.broken(idle, taken))
}

func (b *brute) nearCost(a *bruteAsk, asks []*bruteAsk) (sum int, ok bool) {
	var targets []int
	for _, o := range asks {
		if o != a && o.task == a.task && o.GetKind() == a.GetNear() {
			targets = append(targets, o.got...)
		}
	}
	nearest := func(i int, among []int) int {
		least := 1 << 40
		for _, o := range among {
			least = min(least, b.distance(i, o))
		}
		return least
	}
	for _, i := range a.got {
		near := false
		for _, o := range targets {
			x, y := b.m.Devices[i].Cell, b.m.Devices[o].Cell
			switch a.GetWithin() {
			case "pcie":
				near = near || b.sameRoot(i, o)
			case "cell":
				near = near || x >= 0 && x == y
			case "socket":
				near = near || x >= 0 && y >= 0 && b.m.Cells[x].Socket == b.m.Cells[y].Socket
			}
		}
		if !near {
			return 0, false
		}
		sum += nearest(i, targets)
	}
	for _, o := range targets {
		sum += nearest(o, a.got)
	}
	return sum, true
}

// lanes are read from the specs: a link counts from both ends.
func (b *brute) lanes(i, k int, nvlink bool) int {
	lanes, devices := 0, b.node.GetHardware().GetDevices()
	for _, end := range [][2]int{{i, k}, {k, i}} {
		for _, l := range devices[end[0]].GetLinks() {
			if l.GetPeer() == devices[end[1]].GetId() && (!nvlink || l.GetType() == "nvlink") {
				lanes = max(lanes, int(l.GetLanes()), 1)
			}
		}
	}
	x, y := devices[i], devices[k]
	if x.GetAttributes()["nvlink"] != "" && x.GetAttributes()["nvlink"] == y.GetAttributes()["nvlink"] && x.GetKind() == y.GetKind() {
		lanes = max(lanes, 1)
	}
	return lanes
}

func (b *brute) sameRoot(i, k int) bool {
	root := b.m.Devices[i].PCIRoot
	return root != "" && root == b.m.Devices[k].PCIRoot
}

func (b *brute) distance(i, k int) int {
	d := 1000 * 1000
	if lanes := b.lanes(i, k, false); lanes > 0 {
		d = 1000 * (128 - lanes)
	}
	x, y := b.m.Devices[i].Cell, b.m.Devices[k].Cell
	switch {
	case b.sameRoot(i, k):
	case x < 0 || y < 0:
		d += 500
	case x == y:
		d += 50
	default:
		d += 100 + int(b.m.Distance(x, y))
	}
	return d
}

// broken looks at every set of devices of one kind: those that are all linked and to
// which none can be added, those under one root, those in one cell.
func (b *brute) broken(idle, taken map[int]bool) []int {
	cost := make([]int, 3)
	sets := map[string][]int{}
	n := len(b.m.Devices)
	for i, d := range b.m.Devices {
		if d.PCIRoot != "" {
			key := "1 " + d.Kind + d.PCIRoot
			sets[key] = append(sets[key], i)
		}
		if d.Cell >= 0 {
			key := fmt.Sprint("2 ", d.Kind, d.Cell)
			sets[key] = append(sets[key], i)
		}
	}
	clique := func(pick int) (list []int, ok bool) {
		for i := range n {
			if pick>>i&1 == 0 {
				continue
			}
			for _, k := range list {
				if b.m.Devices[i].Kind != b.m.Devices[k].Kind || b.lanes(i, k, false) == 0 {
					return nil, false
				}
			}
			list = append(list, i)
		}
		return list, true
	}
	for pick := range 1 << n {
		list, ok := clique(pick)
		for i := range n {
			if _, larger := clique(pick | 1<<i); pick>>i&1 == 0 && larger {
				ok = false
			}
		}
		if ok {
			sets[fmt.Sprint("0 ", pick)] = list
		}
	}
	for key, list := range sets {
		free, got := 0, 0
		for _, i := range list {
			if idle[i] {
				free++
				if taken[i] {
					got++
				}
			}
		}
		if len(list) > 1 && got > 0 && got < free {
			cost[key[0]-'0'] += free * free
		}
	}
	return cost
}

// costOf is what the fitter says that its choice costs, as brute has it.
func costOf(c *setCost) []int {
	out := []int{int(c.span), c.pick.outside, int(c.pick.distance), int(c.pick.share)}
	out = append(out, c.pick.broken[:]...)
	return append(out, c.empty, int(c.weight))
}

// A group fits exactly when there is a way to fit it, and then lies where it costs least.
func fitIsExact(t *rapid.T) {
	node := drawNode(t)
	m, err := MachineOf(node)
	if err != nil {
		t.Fatal(err)
	}
	u := topology.NewUsage(m)
	var x fitter
	for range rapid.IntRange(1, 4).Draw(t, "groups") {
		spec := drawGroup(t)
		g, err := Compile(&berthv1.Job{Name: "j", Groups: []*berthv1.Group{spec}}, spec)
		if err != nil {
			if !strings.Contains(err.Error(), "evenly") && !strings.Contains(err.Error(), "near") {
				t.Fatal(err)
			}
			continue
		}
		b := brute{node, u, m, g, spec}
		cost, set, fits := b.best()
		whole := b.bestWhole()
		before := fmt.Sprintf("%+v", *u)
		x.search.found = false
		choice, ok := x.fit(u, g)
		if ok != fits {
			t.Fatalf("fits: %v, brute force: %v %v\n%v\n%v\n%s", ok, fits, set, node, spec, before)
		}
		if !ok {
			if after := fmt.Sprintf("%+v", *u); after != before {
				t.Fatalf("a vain fit changed the usage\n%s\n%s", before, after)
			}
			continue
		}
		if x.search.found && (!slices.Equal(costOf(&x.search.lowest), cost) || !slices.Equal(x.search.set, set)) {
			t.Fatalf("cells %v at %v, brute force %v at %v\n%v\n%v\n%s", x.search.set, costOf(&x.search.lowest), set, cost, node, spec, before)
		}
		if !x.search.found {
			set = []int{whole}
		}
		a := (&assignments{g: g}).of(choice, &fleetNode{node: node, usage: u})
		requireAsked(t, &b, a, set)
		grant, err := GrantOf(a)
		if err != nil {
			t.Fatal(err)
		}
		u.Remove(&grant)
		if after := fmt.Sprintf("%+v", *u); after != before {
			t.Fatalf("taken back, but not the same\n%s\n%s", before, after)
		}
		if err := u.Add(&grant); err != nil {
			t.Fatalf("%v: %v", a, err)
		}
	}
}

// bestWhole is the best of the cells that hold all of a group without devices, whatever
// of it is aligned; -1: none does.
func (b *brute) bestWhole() int {
	best, lowest := -1, []int(nil)
	for c := range b.m.Cells {
		if one := []int{c}; b.cpu(one, 1) && b.memory(one, 1) && b.pages(one, 1) {
			cost, ok := b.in(one)
			if ok && (best < 0 || slices.Compare(cost, lowest) < 0) {
				best, lowest = c, cost
			}
		}
	}
	return best
}

// requireAsked adds up what is granted.
func requireAsked(t *rapid.T, b *brute, a *berthv1.Assignment, set []int) {
	if _, err := b.g.asAsked(b.m, b.node, a); err != nil {
		t.Fatalf("%v\n%v\n%v\n%v", err, b.node, b.spec, a)
	}
	n := int(b.spec.GetTopology().GetCells())
	milli, memory := map[int]int{}, map[int]int{}
	for _, task := range a.GetTasks() {
		for _, c := range task.GetCells() {
			i := b.m.CellIndex(c.GetCell())
			cpus, _ := topology.ParseCPUSet(c.GetCpus())
			milli[i] += int(c.GetCpuMilli())
			memory[i] += int(c.GetMemoryMib())
			if !slices.Contains(set, i) && (b.spec.GetTopology().GetPolicy() != "none" || n > 1) &&
				(b.aligned("cpu") && (c.GetCpuMilli() > 0 || !cpus.Empty()) || b.aligned("memory") && c.GetMemoryMib() > 0 || b.aligned("hugepages") && len(c.GetHugepages()) > 0) {
				t.Fatalf("outside of %v: %v\n%v", set, a, b.spec)
			}
		}
	}
	for _, i := range set {
		if n > 1 && b.aligned("memory") && memory[i] != int(b.g.total.memory)/n && memory[i] != (int(b.g.total.memory)+n-1)/n {
			t.Fatalf("not even: %v\n%v", a, b.spec)
		}
		if n > 1 && b.aligned("cpu") && milli[i] != int(b.g.total.milli)/n && milli[i] != (int(b.g.total.milli)+n-1)/n {
			t.Fatalf("not even: %v\n%v", a, b.spec)
		}
	}
}

func TestFitAgainstBruteForce(t *testing.T) {
	for range 10 {
		rapid.Check(t, fitIsExact)
	}
}

func FuzzFit(f *testing.F) { f.Fuzz(rapid.MakeFuzz(fitIsExact)) }
