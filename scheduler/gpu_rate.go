package scheduler

import (
	"math"
	"slices"

	"github.com/berthd/berth/topology"
)

// The parts of what a node's state costs, found by replaying traces: see docs/adr/0007.
const (
	nextWeight  = 4   // of what the next ask cannot use
	fillWeight  = 2   // of what stays free of each GPU when asks come at random
	priceWeight = 0.6 // of what others need who can take no other
)

// cost is what is expected to go to waste of a node with so much left, in thousandths of
// GPUs, plus the price of what is used of it. Only differences mean something.
//
// What goes to waste is judged three ways and added up: for each need, the GPUs that
// stay free when the node is filled with nothing but that (want of CPU and memory count);
// the GPUs of no use to one more of it; and what of each GPU stays free when asks come at
// random.
func (d *gpuDemand) cost(p *gpuProfile, milli, memory float64) float64 {
	left := d.left
	var total uint32
	sum := 0.0
	for k, l := range left {
		total += l
		sum += float64(fillWeight * (float64(l) - d.filled[l]))
		sum -= float64(priceWeight * float64(p.price[k]*float64(l)))
	}
	for i, share := range d.shares {
		d.slots[i], d.below[i] = 0, 0
		for _, l := range left {
			if n := l / share; n > 0 {
				d.slots[i] += n
			} else {
				d.below[i] += l
			}
		}
	}
	for i := range d.judged {
		n, accepted := &d.needs[i], p.accepted[i]
		if accepted == 0 {
			continue
		}
		all, slots, below := total, d.slots[n.level], d.below[n.level]
		if accepted != p.all {
			all, slots, below = some(left, accepted, n.device.share)
		}
		times := float64(slots / n.count)
		if n.milli > 0 {
			times = min(times, milli/n.milli)
		}
		if n.memory > 0 {
			times = min(times, memory/n.memory)
		}
		lost := all
		if times >= 1 {
			lost = below
		}
		waste := float64(all) - float64(times*n.size) + float64(nextWeight*float64(lost))
		sum += float64(n.weight * waste)
	}
	return sum
}

// some is what a part of the GPUs has left: in all, in pieces of a share, and in GPUs
// that have less than it.
func some(left []uint32, accepted uint64, share uint32) (all, slots, below uint32) {
	for k, l := range left {
		if accepted>>k&1 == 0 {
			continue
		}
		all += l
		if n := l / share; n > 0 {
			slots += n
		} else {
			below += l
		}
	}
	return all, slots, below
}

// unrated is the key of a node that has no room, or that the demand says nothing of.
const unrated = math.MaxUint64

// rate gives a node's key for a group that asks for GPUs: how much more goes to waste
// when an instance is placed there. The lowest is best.
func (d *gpuDemand) rate(u *topology.Usage, g *Group) uint64 {
	m := u.Machine()
	p := d.profile(m)
	milli, memory := d.look(u, p)
	needs, wants := float64(g.total.leastMilli()), float64(g.total.memory)
	if milli < needs || memory < wants {
		return unrated
	}
	before := d.cost(p, milli, memory)
	shared := g.sharedGPU()
	for i := range g.wishes {
		if w := g.wishes[i].need; alignOf(w.kind) == alignGPU && w != shared && !d.takeFirst(m, p, w) {
			return unrated
		}
	}
	if shared == nil {
		return ratingOf(d.cost(p, milli-needs, memory-wants) - before)
	}
	best := uint64(unrated)
	for k := range p.gpus {
		if d.mayTake(m, p, k, shared) {
			best = min(best, ratingOf(d.costWith(p, milli-needs, memory-wants, k, shared.share)-before))
		}
	}
	return best
}

// sharedGPU is the wish for a part of one GPU, where the group has just one such: which
// GPU it takes is judged by what is left, too.
func (g *Group) sharedGPU() *deviceNeed {
	var shared *deviceNeed
	for i := range g.wishes {
		if w := g.wishes[i].need; alignOf(w.kind) == alignGPU && w.share < topology.WholeDevice {
			if shared != nil || w.count > 1 {
				return nil
			}
			shared = w
		}
	}
	return shared
}

// rankShares says of each GPU how good it is to take the group's share of it: the lowest
// is best. false: the group has no such share.
func (d *gpuDemand) rankShares(u *topology.Usage, g *Group, into []uint64) bool {
	shared := g.sharedGPU()
	if shared == nil {
		return false
	}
	p := d.profile(u.Machine())
	milli, memory := d.look(u, p)
	milli, memory = max(milli-float64(g.total.leastMilli()), 0), max(memory-float64(g.total.memory), 0)
	before := d.cost(p, milli, memory)
	for k, at := range p.gpus {
		if d.left[k] >= shared.share {
			into[at] = ratingOf(d.costWith(p, milli, memory, k, shared.share) - before)
		}
	}
	return true
}

// ratingOf makes a difference of costs a key: in 1/1024 of a thousandth, so that the
// last bits of floating sums decide nothing.
func ratingOf(more float64) uint64 {
	const middle = 1 << 52
	return uint64(middle + int64(math.Round(float64(more*1024))))
}

// look notes what is left of a node.
func (d *gpuDemand) look(u *topology.Usage, p *gpuProfile) (milli, memory float64) {
	for i := range u.Machine().Cells {
		milli += float64(u.FreeMilli(i))
		memory += float64(u.FreeMemory(i))
	}
	d.left = d.left[:0]
	for _, at := range p.gpus {
		d.left = append(d.left, u.FreeDevice(int(at)))
	}
	return milli, memory
}

// mayTake says whether the k-th GPU will do and has enough left. Of those that are alike
// the first stands for the others.
func (d *gpuDemand) mayTake(m *topology.Machine, p *gpuProfile, k int, w *deviceNeed) bool {
	dev, left := &m.Devices[p.gpus[k]], d.left[k]
	return w.free(dev, left) && w.is(dev) && !(p.alike && slices.Contains(d.left[:k], left))
}

// takeFirst takes what a wish asks for from the first GPUs that have it; false: they have
// too few, and there are no others.
func (d *gpuDemand) takeFirst(m *topology.Machine, p *gpuProfile, w *deviceNeed) bool {
	wanted := w.count
	for k, at := range p.gpus {
		if dev := &m.Devices[at]; wanted > 0 && w.free(dev, d.left[k]) && w.is(dev) {
			d.left[k] -= w.share
			wanted--
		}
	}
	return wanted == 0 || len(p.gpus) == maxRatedGPUs
}

// costWith is the cost when a share of the k-th GPU is taken.
func (d *gpuDemand) costWith(p *gpuProfile, milli, memory float64, k int, share uint32) float64 {
	d.left[k] -= share
	cost := d.cost(p, milli, memory)
	d.left[k] += share
	return cost
}
