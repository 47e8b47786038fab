package scheduler

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// toleration is a compiled toleration: which taints a group does not mind.
type toleration struct {
	key, value string
	exists     bool // whatever the value; with an empty key: every taint
}

func (t toleration) tolerates(taint *berthv1.Taint) bool {
	if t.exists {
		return t.key == "" || t.key == taint.GetKey()
	}
	return t.key == taint.GetKey() && t.value == taint.GetValue()
}

// compileTolerations sorts them and leaves out what is there twice, so that groups that
// tolerate the same share a view of the fleet.
func compileTolerations(list []*berthv1.Toleration) []toleration {
	var out []toleration
	for _, t := range list {
		out = append(out, toleration{key: t.GetKey(), value: t.GetValue(), exists: t.GetOperator() == "exists"})
	}
	slices.SortFunc(out, func(a, b toleration) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.value, b.value), strings.Compare(strconv.FormatBool(a.exists), strconv.FormatBool(b.exists)))
	})
	return slices.Compact(out)
}

func (s *staticChecks) tolerationKey() []string {
	var key []string
	for _, t := range s.tolerations {
		key = append(key, t.key, t.value, strconv.FormatBool(t.exists))
	}
	return key
}

// taintsOf yields a node's taints: its agent's, then the operator's.
func taintsOf(n *berthv1.Node) iter.Seq[*berthv1.Taint] {
	return func(yield func(*berthv1.Taint) bool) {
		for _, list := range [][]*berthv1.Taint{n.GetTaints(), n.GetOperatorTaints()} {
			for _, t := range list {
				if !yield(t) {
					return
				}
			}
		}
	}
}

// intolerable yields the taints of a node of one effect that are not tolerated.
func (s *staticChecks) intolerable(n *berthv1.Node, effect berthv1.Taint_Effect) iter.Seq[*berthv1.Taint] {
	return func(yield func(*berthv1.Taint) bool) {
		for t := range taintsOf(n) {
			if t.GetEffect() != effect || slices.ContainsFunc(s.tolerations, func(x toleration) bool { return x.tolerates(t) }) {
				continue
			}
			if !yield(t) {
				return
			}
		}
	}
}

// avoids says that a node is taken only where no other fits: it has a taint for that
// which is not tolerated, or an architecture that got no weight.
func (s *staticChecks) avoids(n *berthv1.Node) bool {
	if len(s.weighted) > 0 && !slices.Contains(s.weighted, n.GetArch()) {
		return true
	}
	for range s.intolerable(n, berthv1.Taint_avoid) {
		return true
	}
	return false
}

// taintWords is a taint as people write it: "dedicated=web".
func taintWords(t *berthv1.Taint) string {
	return strings.TrimSuffix(t.GetKey()+"="+t.GetValue(), "=")
}

// tolerationFor is what a job would say to tolerate the taint of a failed check.
func tolerationFor(detail string) string {
	key, value, valued := strings.Cut(strings.TrimPrefix(detail, taintDetail), "=")
	if !valued {
		return fmt.Sprintf("toleration { key = %q }", key)
	}
	return fmt.Sprintf("toleration { key = %q, value = %q }", key, value)
}

// taintDetail begins the words of a taint that is not tolerated.
const taintDetail = "taint "
