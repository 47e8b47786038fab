package scheduler

import (
	"cmp"
	"slices"

	"github.com/berthd/berth/topology"
)

// pickCost is what a way to grant devices costs, what weighs most first.
type pickCost struct {
	// outside is how many lie outside of the cells where the rest of the group lies; a
	// GPU weighs gpuOutside.
	outside int
	// distance is the sum of the distances between the devices of each wish, or, for
	// devices that must be near others, to the nearest of those and back.
	distance uint64
	// share is the sum of shareRank.
	share uint64
	// broken has, by level, the squares of the sizes of the sets that are broken: some
	// of what was free in them is taken, and some is left.
	broken [topology.Levels]int
}

func (c *pickCost) compare(o *pickCost) int {
	return cmp.Or(c.compareSums(o), slices.Compare(c.broken[:], o.broken[:]))
}

// compareSums leaves out what is known at the end only. What it looks at never falls
// while devices are added.
func (c *pickCost) compareSums(o *pickCost) int {
	return cmp.Or(cmp.Compare(c.outside, o.outside), cmp.Compare(c.distance, o.distance), cmp.Compare(c.share, o.share))
}

// gpuOutside is how many other devices a GPU outweighs when it comes to where the CPUs
// lie: beside the GPU rather than beside the network.
const gpuOutside = 16

// shareRank says how good it is to take a share of a device: the lowest is best. It is
// the only place that decides which device is shared: of GPUs, where a demand is known,
// the one that leaves the most of use, else the one with the least left.
func (p *picker) shareRank(d int, share uint32) uint64 {
	if p.ranked && alignOf(p.m.Devices[d].Kind) == alignGPU {
		return p.ranks[d]
	}
	return uint64(p.left[d] - share)
}

// charge adds what one more device costs.
func (p *picker) charge(w *wish, picked []int32, d int) {
	if !p.inside.has(p.m.Devices[d].Cell) {
		p.cost.outside++
		if alignOf(w.need.kind) == alignGPU {
			p.cost.outside += gpuOutside - 1
		}
	}
	if w.need.near == "" {
		for _, o := range picked {
			p.cost.distance += deviceDistance(p.m, int(o), d)
		}
	}
	if w.need.share < topology.WholeDevice {
		p.cost.share += p.shareRank(d, w.need.share)
	}
}

// judge checks that each device of a wish is near one of its targets, and adds up how
// far each is from the nearest, and each target from the nearest of them.
func (p *picker) judge(w *wish, picks []int32) bool {
	for _, d := range picks {
		least, near := ^uint64(0), false
		for _, t := range w.targets {
			for _, o := range p.picks[t] {
				near = near || areNear(p.m, int(d), int(o), w.need.within)
				least = min(least, deviceDistance(p.m, int(d), int(o)))
			}
		}
		if !near {
			return false
		}
		p.cost.distance += least
	}
	for _, t := range w.targets {
		for _, o := range p.picks[t] {
			least := ^uint64(0)
			for _, d := range picks {
				least = min(least, deviceDistance(p.m, int(d), int(o)))
			}
			p.cost.distance += least
		}
	}
	return true
}

// broken adds up which sets would be broken.
func (p *picker) broken() {
	clear(p.touched)
	for i := range p.g.wishes {
		for _, d := range p.picks[i] {
			if p.idle.Contains(int(d)) {
				p.touched.Add(int(d))
			}
		}
	}
	for i := range p.m.Sets {
		set := &p.m.Sets[i]
		if taken := set.Devices.CountCommon(p.touched); taken > 0 {
			if free := set.Devices.CountCommon(p.idle); taken < free {
				p.cost.broken[set.Level] += free * free
			}
		}
	}
}
