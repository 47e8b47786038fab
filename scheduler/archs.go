package scheduler

import (
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// archSpreadWeight makes an instance too many on an architecture cost more than any
// packing and all affinities together: shares are kept while both architectures have room.
const archSpreadWeight = 4

// compileArchs makes the weights of architectures a spread over node.arch, each with
// its share; architectures without a weight are avoided.
func (g *Group) compileArchs(weights []*berthv1.ArchWeight) {
	if len(weights) == 0 {
		return
	}
	sum := uint64(0)
	for _, w := range weights {
		sum += uint64(w.GetWeight())
	}
	s := spread{attribute: "node.arch", weight: archSpreadWeight}
	for _, w := range weights {
		s.aim(w.GetArch(), float64(w.GetWeight())/float64(max(sum, 1)))
		g.checks.weighted = append(g.checks.weighted, w.GetArch())
	}
	slices.Sort(g.checks.weighted)
	g.spreads = append(g.spreads, s)
}
