package scheduler

import (
	"cmp"
	"slices"

	"github.com/berthd/berth/topology"
)

// picker finds the devices of a group on one node: of all ways to grant every wish, one
// of the lowest cost. It looks at all of them, but for those that differ only in which
// of several twins they take, and those that cannot become cheaper than the best so far.
type picker struct {
	u        *topology.Usage
	m        *topology.Machine
	g        *Group
	from     [][]int32 // candidates by wish: free, and what is asked for
	picks    [][]int32 // what is picked at the moment, by wish
	accepted []uint64  // by device: the wishes that it is a candidate of
	left     []uint32  // thousandths by device, without what is picked
	idle     topology.DeviceSet
	touched  topology.DeviceSet
	quota    []int      // by kind and cell, where parts are even
	demand   *gpuDemand // nil: there is none
	ranked   bool       // ranks has the rank of a share, by device
	ranks    []uint64

	inside cells // what is aligned lies in these
	any    bool  // nothing has to lie inside
	steps  int   // left of maxPicks
	budget int   // left of allPicks
	found  bool
	cost   pickCost
	lowest pickCost
	best   []int32 // the picks of the lowest cost, wish after wish
}

// cells is a set of cells by their index.
type cells uint64

func (s cells) has(cell int) bool { return cell >= 0 && s&(1<<cell) != 0 }

// maxPicks bounds how many devices are tried with the group in one set of cells, and
// allPicks with all sets of one size together; when there are more, the best so far is
// taken, and where there is none, the group does not fit. Eight of sixteen devices that
// are all different take at most 24,309.
const (
	maxPicks = 1 << 16
	allPicks = 1 << 18
)

// prepare finds the candidates; false: some wish has too few.
func (p *picker) prepare(u *topology.Usage, g *Group) bool {
	p.u, p.m, p.g = u, u.Machine(), g
	n := len(p.m.Devices)
	p.left, p.accepted = slices.Grow(p.left[:0], n)[:n], slices.Grow(p.accepted[:0], n)[:n]
	words := (n + 63) / 64
	p.idle, p.touched = slices.Grow(p.idle[:0], words)[:words], slices.Grow(p.touched[:0], words)[:words]
	clear(p.accepted)
	clear(p.idle)
	for i := range n {
		if p.left[i] = u.FreeDevice(i); p.left[i] == topology.WholeDevice {
			p.idle.Add(i)
		}
	}
	p.ranks = slices.Grow(p.ranks[:0], n)[:n]
	p.ranked = p.demand != nil && p.demand.rankShares(u, g, p.ranks)
	for len(p.from) < len(g.wishes) {
		p.from, p.picks = append(p.from, nil), append(p.picks, nil)
	}
	for k := range g.wishes {
		if p.candidates(k); len(p.from[k]) < g.wishes[k].need.count {
			return false
		}
	}
	return true
}

// candidates finds those of one wish; twins lie side by side.
func (p *picker) candidates(k int) {
	d := p.g.wishes[k].need
	p.from[k], p.picks[k] = p.from[k][:0], p.picks[k][:0]
	kind, last, sorted := p.m.Kind(d.kind), -1, true
	for i := range p.m.Devices {
		dev := &p.m.Devices[i]
		if dev.KindIndex() != kind || !d.free(dev, p.left[i]) || !d.is(dev) {
			continue
		}
		p.from[k] = append(p.from[k], int32(i))
		p.accepted[i] |= 1 << k
		twin := p.m.Twin(i, p.g.strictTwins)
		sorted, last = sorted && twin >= last, twin
	}
	if !sorted {
		slices.SortStableFunc(p.from[k], func(a, b int32) int {
			return cmp.Compare(p.m.Twin(int(a), p.g.strictTwins), p.m.Twin(int(b), p.g.strictTwins))
		})
	}
}

// pick searches with the group in some cells; any says that nothing has to lie there.
func (p *picker) pick(inside cells, any bool) bool {
	p.inside, p.any = inside, any
	steps := min(maxPicks, p.budget)
	p.steps, p.found, p.cost = steps, false, pickCost{}
	if !p.enough() {
		return false
	}
	p.allot()
	p.choose(0, 0)
	p.budget -= steps - max(p.steps, 0)
	return p.found
}

// enough says whether each wish by itself has candidates enough where they may lie.
func (p *picker) enough() bool {
	for k := range p.g.wishes {
		if d := p.g.wishes[k].need; !p.any && p.g.align&alignOf(d.kind) != 0 {
			inside := 0
			for _, i := range p.from[k] {
				if p.inside.has(p.m.Devices[i].Cell) {
					inside++
				}
			}
			if inside < d.count {
				return false
			}
		}
	}
	return true
}

// allot gives each cell its part of each kind, where parts are even.
func (p *picker) allot() {
	p.quota = p.quota[:0]
	if p.g.cells == 0 {
		return
	}
	for _, kind := range p.m.Kinds {
		each := 0
		if p.g.align&alignOf(kind) != 0 {
			each = devicesOf(&p.g.total, kind) / p.g.cells
		}
		for range p.m.Cells {
			p.quota = append(p.quota, each)
		}
	}
}

// choose picks one more device for wish k, from its candidate at start on.
func (p *picker) choose(k, start int) {
	w := &p.g.wishes[k]
	missing := w.need.count - len(p.picks[k])
	if missing == 0 {
		p.next(k)
		return
	}
	before := p.cost
	tried := int32(-1)
	for at := start; at+missing <= len(p.from[k]); at++ {
		d := p.from[k][at]
		if !p.usable(w, p.picks[k], int(d)) || tried >= 0 && p.same(tried, d) {
			continue
		}
		if p.steps--; p.steps < 0 {
			return
		}
		tried = d
		p.charge(w, p.picks[k], int(d))
		if !p.found || p.cost.compareSums(&p.lowest) <= 0 {
			p.grant(k, int(d), w.need.share)
			p.choose(k, at+1)
			p.release(k, int(d), w.need.share)
		}
		p.cost = before
	}
}

// same says that one device may stand for the other, as things are.
func (p *picker) same(a, b int32) bool {
	return p.left[a] == p.left[b] && p.accepted[a] == p.accepted[b] &&
		p.m.Twin(int(a), p.g.strictTwins) == p.m.Twin(int(b), p.g.strictTwins)
}

// usable says whether a device can be picked for a wish beside those that are.
func (p *picker) usable(w *wish, picked []int32, d int) bool {
	dev := &p.m.Devices[d]
	if !w.need.free(dev, p.left[d]) {
		return false
	}
	if !p.any && p.g.align&alignOf(w.need.kind) != 0 {
		if !p.inside.has(dev.Cell) || len(p.quota) > 0 && p.quota[p.slot(dev)] == 0 {
			return false
		}
	}
	if w.need.link != "" {
		for _, o := range picked {
			if !p.m.Linked(int(o), d, w.need.link) {
				return false
			}
		}
	}
	return true
}

func (p *picker) slot(dev *topology.Device) int { return dev.KindIndex()*len(p.m.Cells) + dev.Cell }

func (p *picker) grant(k, d int, share uint32) {
	p.picks[k] = append(p.picks[k], int32(d))
	p.left[d] -= share
	if dev := &p.m.Devices[d]; len(p.quota) > 0 && dev.Cell >= 0 {
		p.quota[p.slot(dev)]--
	}
}

func (p *picker) release(k, d int, share uint32) {
	p.picks[k] = p.picks[k][:len(p.picks[k])-1]
	p.left[d] += share
	if dev := &p.m.Devices[d]; len(p.quota) > 0 && dev.Cell >= 0 {
		p.quota[p.slot(dev)]++
	}
}

// next goes on to the next wish, or notes what was found.
func (p *picker) next(k int) {
	before := p.cost
	for _, j := range p.g.wishes[k].judged {
		if !p.judge(&p.g.wishes[j], p.picks[j]) {
			p.cost = before
			return
		}
	}
	if k+1 < len(p.g.wishes) {
		if !p.found || p.cost.compareSums(&p.lowest) <= 0 {
			p.choose(k+1, 0)
		}
	} else if p.broken(); !p.found || p.cost.compare(&p.lowest) < 0 {
		p.found, p.lowest = true, p.cost
		p.best = p.best[:0]
		for i := range p.g.wishes {
			p.best = append(p.best, p.picks[i]...)
		}
	}
	p.cost = before
}
