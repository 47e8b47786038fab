package scheduler

import (
	"cmp"
	"fmt"
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Bounds of an explanation, so that thousands of them can be kept.
const (
	maxFailed   = 12
	maxNearest  = 5
	maxRemedies = 4
)

// explainer counts why the nodes do not do.
type explainer struct {
	run    *run
	failed map[[2]string]uint32 // by check and detail
	misses []miss
	// relaxed counts, by check and detail, the nodes that would fit without that one.
	relaxed map[[2]string]*relaxed
	// slack are other wordings of the group that ask for less; nil: not compiled yet.
	slack []*slack
	nodes uint32
	// largest is about what no node has.
	largest *largest
}

type miss struct {
	node       *berthv1.Node
	shortfalls []*berthv1.Shortfall
	distance   float64
}

type relaxed struct {
	nodes int
	name  string // of the first by name
}

// explain says why nothing more of the ask can be placed on the fleet as it is now.
func (r *run) explain() *berthv1.Explanation {
	e := explainer{run: r, failed: map[[2]string]uint32{}, relaxed: map[[2]string]*relaxed{}, largest: newLargest(r)}
	for slot := range r.f.nodes {
		if n := r.f.nodes[slot].node; n != nil && (r.only == nil || r.only[int32(slot)]) {
			e.look(int32(slot), n)
		}
	}
	out := &berthv1.Explanation{Needs: r.g.needs(), Nodes: e.nodes, Failed: e.counted(), Nearest: e.nearest()}
	out.Remedies = e.remedies(out.Nearest)
	return out
}

// look finds the first check that a node fails, and what would do.
func (e *explainer) look(slot int32, n *berthv1.Node) {
	e.nodes++
	e.largest.look(e.run.f.nodes[slot].usage.Machine())
	var static [][2]string
	e.run.g.checks.failures(n, e.run.f.reserved[n.GetId()], func(name, detail string) bool {
		static = append(static, [2]string{name, detail})
		return len(static) < 2
	})
	if len(static) == 2 {
		e.failed[static[0]]++
		return
	}
	name, detail, shortfalls := e.run.lacking(slot)
	switch {
	case len(static) == 1:
		e.failed[static[0]]++
		if name == fits {
			e.relax(static[0], n.GetName())
		}
		return
	case name == fits:
		detail = fmt.Sprintf("fits, but only %d of a gang of %d can be placed", e.run.got, e.run.ask.wanted())
	case name == "topology" || name == "alignment":
		name, detail, shortfalls = e.loosen(slot, name, detail, shortfalls)
	}
	e.failed[[2]string{name, detail}]++
	if len(shortfalls) > 0 {
		e.misses = append(e.misses, miss{n, shortfalls, distanceOf(shortfalls)})
	}
}

func (e *explainer) relax(check [2]string, node string) {
	x := e.relaxed[check]
	if x == nil {
		x = &relaxed{name: node}
		e.relaxed[check] = x
	}
	x.nodes++
	x.name = min(x.name, node)
}

// distanceOf is how far a node is from fitting: what it lacks of what is wanted.
func distanceOf(shortfalls []*berthv1.Shortfall) (sum float64) {
	for _, s := range shortfalls {
		sum += float64(s.GetWanted()-min(s.GetFree(), s.GetWanted())) / float64(max(s.GetWanted(), 1))
	}
	return sum
}

func (e *explainer) counted() []*berthv1.FailedCheck {
	var out []*berthv1.FailedCheck
	for check, n := range e.failed {
		out = append(out, &berthv1.FailedCheck{Check: check[0], Detail: check[1], Nodes: n})
	}
	slices.SortFunc(out, func(a, b *berthv1.FailedCheck) int {
		return cmp.Or(cmp.Compare(b.GetNodes(), a.GetNodes()), cmp.Compare(a.GetCheck(), b.GetCheck()), cmp.Compare(a.GetDetail(), b.GetDetail()))
	})
	return out[:min(len(out), maxFailed)]
}

func (e *explainer) nearest() []*berthv1.NearMiss {
	slices.SortFunc(e.misses, func(a, b miss) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.node.GetName(), b.node.GetName()), cmp.Compare(a.node.GetId(), b.node.GetId()))
	})
	var out []*berthv1.NearMiss
	for _, m := range e.misses[:min(len(e.misses), maxNearest)] {
		out = append(out, &berthv1.NearMiss{NodeId: m.node.GetId(), Node: m.node.GetName(), Shortfalls: m.shortfalls})
	}
	return out
}

func (e *explainer) remedies(nearest []*berthv1.NearMiss) []string {
	if e.nodes == 0 {
		return []string{"start an agent: there is no node to place on"}
	}
	var out []string
	checks := make([][2]string, 0, len(e.relaxed))
	for check := range e.relaxed {
		checks = append(checks, check)
	}
	slices.SortFunc(checks, func(a, b [2]string) int {
		return cmp.Or(cmp.Compare(e.relaxed[b].nodes, e.relaxed[a].nodes), cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]))
	})
	for _, check := range checks {
		out = append(out, relaxWords(check, e.relaxed[check]))
	}
	out = append(e.slackened(), out...)
	if never := e.largest.words(); len(never) > 0 {
		out = append(never, out...)
	} else if len(nearest) > 0 {
		out = append(out, fmt.Sprintf("%s lacks least: %s", nearest[0].GetNode(), nearest[0].GetShortfalls()[0].GetText()))
	}
	return out[:min(len(out), maxRemedies)]
}

func relaxWords(check [2]string, x *relaxed) string {
	nodes := plural(uint64(x.nodes), "node")
	switch check[0] {
	case "eligibility":
		return fmt.Sprintf("berth node eligibility -enable %s (%s that would fit)", x.name, nodes)
	case "status":
		return fmt.Sprintf("bring %s back (%s that would fit: %s)", x.name, nodes, check[1])
	case "driver":
		return fmt.Sprintf("make the driver work on %s (%s that would fit: %s)", x.name, nodes, check[1])
	case "taint":
		return fmt.Sprintf("%s would fit with %s", nodes, tolerationFor(check[1]))
	case "reservation":
		return fmt.Sprintf("%s would fit if it were not for a reservation: %s", nodes, check[1])
	case "pool", "arch":
		return fmt.Sprintf("%s would fit otherwise: %s", nodes, check[1])
	}
	return fmt.Sprintf("without %s %s would fit", check[1], nodes)
}
