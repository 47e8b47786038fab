package scheduler

import (
	"cmp"
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// policy says how a group's resources must lie in the node's cells.
type policy uint8

const (
	anywhere   policy = iota // none: one cell where one fits, else any
	bestEffort               // as few cells as fit
	restricted               // as few cells as on an empty node
	single                   // one cell
)

var policies = map[string]policy{
	"": anywhere, "none": anywhere, "best-effort": bestEffort, "prefer": bestEffort,
	"restricted": restricted, "require": single, "single": single, "single-numa-node": single,
}

// align is the set of resources that the policy is about.
type align uint8

const (
	alignCPU align = 1 << iota
	alignMemory
	alignHugepages
	alignGPU
	alignNIC
)

var aligns = map[string]align{
	"cpu": alignCPU, "memory": alignMemory, "hugepages": alignHugepages, "gpu": alignGPU, "nic": alignNIC,
}

func compileTopology(t *berthv1.TopologyPolicy) (policy, align, error) {
	p, known := policies[t.GetPolicy()]
	if !known {
		return 0, 0, invalid("topology.policy", "there is no policy %q", t.GetPolicy())
	}
	if len(t.GetAlign()) == 0 {
		return p, alignCPU | alignMemory, nil
	}
	var a align
	for _, name := range t.GetAlign() {
		bit, known := aligns[name]
		if !known {
			return 0, 0, invalid("topology.align", "there is no resource %q to align", name)
		}
		a |= bit
	}
	return p, a, nil
}

// alignOf is the bit that a kind of device goes by; 0: never aligned.
func alignOf(kind string) align {
	switch kind {
	case "gpu", "mig":
		return alignGPU
	case "vf", "nic":
		return alignNIC
	}
	return 0
}

// maxSubsets bounds how many sets of cells are looked at for one size; nodes of up to 16
// cells are searched through whole, larger ones for the sets around each cell.
const maxSubsets = 13_000

// subsets gives sets of k of the machine's cells, the closest together first, then by
// the cells' numbers.
func subsets(m *topology.Machine, k int) [][]int {
	n := len(m.Cells)
	var sets [][]int
	if choose(n, k) <= maxSubsets {
		sets = combinations(n, k)
	} else {
		for seed := range n {
			sets = append(sets, neighbours(m, seed, k))
		}
	}
	if k > 1 {
		slices.SortStableFunc(sets, func(a, b []int) int {
			return cmp.Or(cmp.Compare(spanOf(m, a), spanOf(m, b)), slices.Compare(a, b))
		})
	}
	return sets
}

// choose is n over k, or more than maxSubsets when it is.
func choose(n, k int) int {
	c := 1
	for i := range k {
		if c = c * (n - i) / (i + 1); c > maxSubsets {
			return c
		}
	}
	return c
}

func combinations(n, k int) [][]int {
	set := make([]int, k)
	for i := range set {
		set[i] = i
	}
	var sets [][]int
	for {
		sets = append(sets, slices.Clone(set))
		i := k - 1
		for i >= 0 && set[i] == n-k+i {
			i--
		}
		if i < 0 {
			return sets
		}
		for set[i]++; i+1 < k; i++ {
			set[i+1] = set[i] + 1
		}
	}
}

// neighbours are the k cells closest to one, itself among them, ascending.
func neighbours(m *topology.Machine, seed, k int) []int {
	all := make([]int, len(m.Cells))
	for i := range all {
		all[i] = i
	}
	slices.SortStableFunc(all, func(a, b int) int {
		return cmp.Compare(m.Distance(seed, a), m.Distance(seed, b))
	})
	return slices.Sorted(slices.Values(all[:k]))
}

// spanOf is the sum of the distances in a set of cells.
func spanOf(m *topology.Machine, set []int) (sum uint32) {
	for i, a := range set {
		for _, b := range set[i+1:] {
			sum += m.Distance(a, b)
		}
	}
	return sum
}
