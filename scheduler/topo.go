package scheduler

import berthv1 "github.com/berthd/berth/proto/berth/v1"

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
