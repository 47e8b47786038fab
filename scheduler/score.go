package scheduler

import (
	"cmp"
	"math/bits"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Scores are in millionths and compared as integers, so that the order is total and the
// same on every machine. How full a node is counts from 0 to 1; the rest is measured
// against that:
const (
	unit = 1_000_000
	// affinityWeight: all affinities met weigh as much as packing a node full.
	affinityWeight = 1.0
	// selfWeight: a service's second instance on a node costs half of that, the n-th
	// n/(n+1).
	selfWeight = 1.0
	// penaltyWeight is above all the others together: taken only where nothing else fits.
	penaltyWeight = 1000.0
)

// candidate is a node that may fit.
type candidate struct {
	score int64
	tie   uint64
	slot  int32
}

// candidate scores a node for one more instance, as it is now, with own instances of
// the same group on it. What depends on the other nodes (spread) is the domain's.
func (r *run) candidate(slot, own int32) candidate {
	free := &r.f.free[slot]
	milli := float64(free.milli-min(r.g.total.milli, free.milli)) * free.invMilli
	memory := float64(free.memory-min(r.g.total.memory, free.memory)) * free.invMemory
	score := float64((milli + memory) / 2)
	if r.g.strategy.of(r.f.strategy) == berthv1.SchedulerConfig_binpack {
		score = 1 - score
	}
	if own > 0 && r.g.avoidSelf {
		score -= float64(selfWeight * float64(own) / float64(own+1))
	}
	if r.view.affinity != nil {
		score += float64(affinityWeight * float64(r.view.affinity[slot]))
	}
	if r.penalised != nil && r.penalised[slot] || r.view.avoid.has(slot) {
		score -= penaltyWeight
	}
	return candidate{score: fixed(score), tie: mix(free.hash ^ r.g.seed), slot: slot}
}

// fixed gives millionths. The conversions around products keep a compiler from fusing
// them into one rounding on some machines and not on others.
func fixed(x float64) int64 { return int64(float64(x * unit)) }

func trailingZeros(x uint64) int { return bits.TrailingZeros64(x) }

// better is the total order: score, stable hash, node id.
func (f *Fleet) better(a, b *candidate, aExtra, bExtra int64) bool {
	if c := cmp.Compare(a.score+aExtra, b.score+bExtra); c != 0 {
		return c > 0
	}
	if a.tie != b.tie {
		return a.tie > b.tie
	}
	return f.nodes[a.slot].node.GetId() < f.nodes[b.slot].node.GetId()
}
