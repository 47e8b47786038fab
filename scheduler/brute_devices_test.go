package scheduler

import (
	"fmt"
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

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
