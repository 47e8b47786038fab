package fsm

import (
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// taintsAfter are the operator's taints of a node after some were removed ("key", or
// "key=value") and others added, sorted; one with the same key and value is replaced.
func taintsAfter(taints, add []*berthv1.Taint, remove []string) []*berthv1.Taint {
	var out []*berthv1.Taint
	for _, t := range taints {
		same := func(x *berthv1.Taint) bool { return x.GetKey() == t.GetKey() && x.GetValue() == t.GetValue() }
		if !slices.Contains(remove, t.GetKey()) && !slices.Contains(remove, t.GetKey()+"="+t.GetValue()) && !slices.ContainsFunc(add, same) {
			out = append(out, t)
		}
	}
	for i, t := range add {
		last := func(x *berthv1.Taint) bool { return x.GetKey() == t.GetKey() && x.GetValue() == t.GetValue() }
		if !slices.ContainsFunc(add[i+1:], last) {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b *berthv1.Taint) int {
		return slices.Compare([]string{a.GetKey(), a.GetValue()}, []string{b.GetKey(), b.GetValue()})
	})
	return out
}
