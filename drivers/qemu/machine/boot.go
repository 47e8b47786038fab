package machine

import (
	"cmp"
	"slices"
)

// bootOrder gives the devices that are tried to boot from their places, from 1: those with
// an order of their own, then the kinds in the config's order.
func bootOrder(in *Input) map[string]int {
	type entry struct {
		id    string
		order uint32
	}
	var first []entry
	kinds := make(map[string][]string)
	add := func(kind, id string, order uint32) {
		if order != 0 {
			first = append(first, entry{id, order})
			return
		}
		kinds[kind] = append(kinds[kind], id)
	}
	for _, d := range in.Disks {
		add("disk", DiskID(d.Config.GetName()), d.Config.GetBootOrder())
	}
	for _, d := range in.Cdroms {
		add("cdrom", CdromID(d.Config.GetName()), d.Config.GetBootOrder())
	}
	for _, n := range in.Nics {
		add("network", NicID(n.Config.GetName()), n.Config.GetBootOrder())
	}
	slices.SortStableFunc(first, func(a, b entry) int { return cmp.Compare(a.order, b.order) })
	var ids []string
	for _, e := range first {
		ids = append(ids, e.id)
	}
	order := in.Config.GetBoot()
	if len(order) == 0 {
		order = []string{"disk", "cdrom", "network"}
	}
	for _, kind := range order {
		ids = append(ids, kinds[kind]...)
		delete(kinds, kind)
	}
	places := make(map[string]int, len(ids))
	for i, id := range ids {
		places[id] = i + 1
	}
	return places
}
