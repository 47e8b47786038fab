package replay

import (
	"math"
	"slices"
)

// rule scores a node that fits: the highest is taken, the first among equals. gpu is
// where a share goes; -1: where the least is left.
type rule interface {
	score(n *node, s *shape) (score, gpu int)
}

// The most that a node of the evaluated cluster has.
const (
	mostCPU  = 128_000.0
	mostGPUs = 8_000.0
)

// bestFit leaves the least. (The paper's simulator stretches the scores of the nodes that
// fit to 0..100 then: the best stay the best.)
type bestFit struct{}

func (bestFit) score(n *node, s *shape) (int, int) {
	cpu, gpu := float64(n.cpu-s.cpu)/mostCPU, float64(n.total-s.demand())/mostGPUs
	return int(100 * (1 - (float64(0.5*cpu) + float64(0.5*gpu)))), -1
}

// dotProduct takes nodes whose free resources point away from what is asked.
type dotProduct struct{}

func (dotProduct) score(n *node, s *shape) (int, int) {
	cpu := float64(n.cpu) / mostCPU * (float64(s.cpu) / mostCPU)
	gpu := float64(n.total) / mostGPUs * (float64(s.demand()) / mostGPUs)
	return int(100 * (1 - (cpu+gpu)/2)), -1
}

// gpuPacking takes GPUs in use before free ones on used nodes before untouched nodes.
type gpuPacking struct{}

func (gpuPacking) score(n *node, s *shape) (int, int) {
	if s.gpus == 0 {
		return 0, -1
	}
	if n.free == len(n.left) {
		return max(33-n.free, n.free), -1
	}
	left := slices.Sorted(slices.Values(n.left))
	broken, used := 0, 0
	wanted := s.gpus
	for _, l := range left {
		if wanted == 0 || int(l) < s.milli {
			continue
		}
		if wanted--; l == wholeGPU {
			broken++
		} else {
			used += int(l) * 100 / wholeGPU
		}
	}
	if broken > 0 {
		return max(33, 50-broken), -1
	}
	return max(50, 100-used/10), -1
}

// gpuClustering keeps pods of one class together: shares, and each number of GPUs.
type gpuClustering struct{}

func (gpuClustering) score(n *node, s *shape) (int, int) {
	if s.gpus == 0 {
		return 0, -1
	}
	class := s.gpus
	if s.shared() {
		class = 0
	}
	base := 25 * (mostGPUs - n.total) / mostGPUs
	switch own := n.classes[class] > 0; {
	case own && len(n.classes) == 1:
		return 75 + base, -1
	case own:
		return 50 + base, -1
	case len(n.classes) == 0:
		return 25 + base, -1
	}
	return base, -1
}

// fgd takes the node on which the fewest fragments come up.
type fgd struct {
	typical *typical
	left    []int16
	scratch fragmentScratch
}

func (f *fgd) score(n *node, s *shape) (int, int) {
	if n.version != n.fragmentVersion {
		n.fragments, n.fragmentVersion = f.typical.fragment(n, n.cpu, n.left, &f.scratch), n.version
	}
	before := n.fragments
	after := func() int {
		x := (before - f.typical.fragment(n, n.cpu-s.cpu, f.left, &f.scratch)) / 1000
		return int(100 * (1 / (1 + math.Exp(-x))))
	}
	f.left = append(f.left[:0], n.left...)
	if !s.shared() {
		wanted := s.gpus
		for i := range f.left {
			if f.left[i] == wholeGPU && wanted > 0 {
				f.left[i], wanted = 0, wanted-1
			}
		}
		return after(), -1
	}
	best, gpu := -1, -1
	for i, left := range n.left {
		// A GPU with as much left as one before it scores the same, and that comes first.
		if int(left) < s.milli || slices.Contains(n.left[:i], left) {
			continue
		}
		f.left[i] -= int16(s.milli)
		if score := after(); score > best {
			best, gpu = score, i
		}
		f.left[i] = left
	}
	return best, gpu
}
