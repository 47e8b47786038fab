package scheduler

// knownGroup is what a fleet has found out about a group that it places again and again:
// where its view, its instances, its shape and its lane are. All of it is checked before
// it is believed.
type knownGroup struct {
	g           *Group
	view        *staticView
	own         *instances
	standing    *standing
	shape, lane int
}

// knownGroups is a table of them by Group.hash: the one asked about last has the place.
// It grows while they drive each other out, up to maxKnown.
type knownGroups struct {
	table []knownGroup
	lost  int
}

const maxKnown = 4096

// know gives what is known of a group. It is good until the next call.
func (f *Fleet) know(g *Group) *knownGroup {
	t := &f.known
	if t.lost >= len(t.table) && len(t.table) < maxKnown {
		t.table, t.lost = make([]knownGroup, max(16, 2*len(t.table))), 0
	}
	k := &t.table[g.hash%uint64(len(t.table))]
	if k.g != g {
		if k.g != nil {
			t.lost++
		}
		*k = knownGroup{g: g}
	}
	return k
}

// viewIn is the view of the group's static checks, caught up.
func (k *knownGroup) viewIn(f *Fleet) *staticView {
	if k.view == nil {
		g := k.g
		*k = knownGroup{g: g, view: f.static(&g.checks)} // that may have forgotten all groups
	}
	f.refresh(k.view)
	return k.view
}

// instancesIn are the group's instances; nil: it has none.
func (k *knownGroup) instancesIn(f *Fleet) *instances {
	if k.own == nil || k.own.key != k.g.Key {
		k.own = f.groups[k.g.Key]
	}
	return k.own
}

// shapeIn is the number of the group's shape in an index.
func (k *knownGroup) shapeIn(x *index) int {
	if s := &x.shapes; s.known>>k.shape&1 == 0 || s.names[k.shape] != k.g.shape {
		k.shape = x.shapeOf(k.g)
	}
	x.shapes.used[k.shape] = x.clock
	return k.shape
}

// laneIn is the number of the lane of the group's nodes in an index.
func (k *knownGroup) laneIn(x *index, v *staticView, own *instances, level int32) int {
	if k.lane >= len(x.lanes) || !x.lanes[k.lane].is(v, own, level) {
		k.lane = x.laneOf(v, own, level)
	}
	x.lanes[k.lane].used = x.clock
	return k.lane
}
