package plan

import (
	"cmp"
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// order makes what follows independent of the order of the input: by index, then by
// creation.
func (g *group) order() {
	for _, list := range [][]*berthv1.Alloc{g.live, g.away, g.ended} {
		if byIndex(list) {
			continue
		}
		slices.SortFunc(list, byPlace)
	}
}

// byPlace orders allocations by index, then by creation.
func byPlace(a, b *berthv1.Alloc) int {
	return cmp.Or(cmp.Compare(a.GetIndex(), b.GetIndex()), cmp.Compare(a.GetCreateRevision(), b.GetCreateRevision()), cmp.Compare(a.GetId(), b.GetId()))
}

// byIndex orders a list without two of the same index in linear time: large jobs are
// looked at often. false: there are two, or the indexes are far apart.
func byIndex(list []*berthv1.Alloc) bool {
	top := uint32(0)
	for _, a := range list {
		top = max(top, a.GetIndex())
	}
	if int64(top) > 4*int64(len(list))+64 {
		return false
	}
	slots := make([]*berthv1.Alloc, top+1)
	for _, a := range list {
		if slots[a.GetIndex()] != nil {
			return false
		}
		slots[a.GetIndex()] = a
	}
	n := 0
	for _, a := range slots {
		if a != nil {
			list[n] = a
			n++
		}
	}
	return true
}
