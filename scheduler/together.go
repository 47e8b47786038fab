package scheduler

import (
	"cmp"
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// The first instance of a same_property decides where all others go. So it goes to a value
// of the attribute with room for all of them, or for the largest part. Among those with
// room for all it goes to the one that is filled best, where the least is left; but where
// load is evened out, or where some of the others are not asked for with it, and who comes
// before them may take their place, to where the most is left. Room is a bound from what is left of each node at a glance, like
// that of the index: which nodes an instance really fits on is found out when it is placed.

// member is a group whose instances are to lie together with those of others.
type member struct {
	key   GroupKey
	count int64
	need  vector
}

// compileMembers finds who has to lie together by the group's limits: for limits of the
// job, all its groups. A sibling that makes no sense is left out: its own Compile says so.
func (g *Group) compileMembers() {
	for i := range g.limits {
		l := &g.limits[i]
		if l.kind != together {
			continue
		}
		l.members = append(l.members, member{g.Key, int64(g.Count), g.floor})
		for _, spec := range g.job.GetGroups() {
			if l.scope != sameJob || spec.GetName() == g.Key.Group {
				continue
			}
			if s, err := shapeOf(g.job, spec); err == nil {
				l.members = append(l.members, member{s.Key, int64(s.Count), s.floor})
			}
		}
	}
}

// shapeOf compiles as much of a group as says what an instance needs.
func shapeOf(job *berthv1.Job, spec *berthv1.Group) (*Group, error) {
	s := &Group{Key: GroupKey{job.GetNamespace(), job.GetName(), spec.GetName()}, Count: GroupCount(spec), diskMiB: spec.GetDiskMib()}
	if err := s.compileNeeds(spec); err != nil {
		return nil, err
	}
	return s, s.compileShape(spec)
}

// noRoom is what a value's term has less where not all fit in it: more than affinities
// and spreads are worth, less than a penalty.
const noRoom = 1000 * unit

// valueRoom is what is left in a value of an attribute.
type valueRoom struct {
	value  int32
	left   [dims]uint64 // on nodes that a member fits on
	fit    []int64      // instances that there is room for, by member
	lacks  int64        // millionths of what is needed
	weight uint64       // of what is left
}

// seed gives what speaks for each value of the limits by which instances lie together, by
// value number, while the first of any of them is still to come; else nil. It looks at
// every node.
func (t *terms) seed(f *Fleet, g *Group, v *staticView, wanted int) [][]int64 {
	n, first := 0, false
	for k := range t.limits {
		if c := &t.limits[k]; c.kind == together {
			n++
			first = first || c.number() == 0
		}
	}
	if !first {
		return nil
	}
	t.room = resize(t.room, n)
	n = 0
	for k := range t.limits {
		c := &t.limits[k]
		if c.kind != together {
			continue
		}
		if t.room[n] = resize(t.room[n], len(c.column.values)); c.number() == 0 {
			f.roomByValue(t.room[n], c.limit, c.column, v, wanted, f.rankingOf(g) == evened)
		} else {
			for value := range t.room[n] {
				if t.room[n][value] = 0; !c.byNode && c.closes(int32(value)) {
					t.room[n][value] = closed
				}
			}
		}
		n++
	}
	return t.room
}

// roomByValue is what the room in each value is worth to a limit.
func (f *Fleet) roomByValue(out []int64, l *limit, col *column, v *staticView, wanted int, even bool) {
	members := slices.Clone(l.members)
	members[0].count = max(members[0].count, int64(wanted))
	later := int64(wanted) < members[0].count || len(members) > 1
	rooms := make([]valueRoom, len(col.values))
	fits := make([]int64, len(members)*len(rooms))
	for i := range rooms {
		rooms[i].value, rooms[i].fit = int32(i), fits[i*len(members):][:len(members)]
	}
	x := f.nodeIndex()
	x.sync()
	for slot := range int32(len(f.nodes)) {
		if value := col.ofSlot[slot]; value > 0 && v.ok.has(slot) {
			rooms[value].add(&x.entries[slot].left, members)
		}
	}
	for i := range rooms {
		rooms[i].judge(members)
	}
	slices.SortFunc(rooms, func(a, b valueRoom) int {
		if a.lacks > 0 || even || later {
			return cmp.Or(cmp.Compare(a.lacks, b.lacks), cmp.Compare(b.weight, a.weight))
		}
		return cmp.Or(cmp.Compare(a.lacks, b.lacks), cmp.Compare(a.weight, b.weight))
	})
	place := int64(0)
	for i := range rooms {
		if i > 0 && (rooms[i].lacks != rooms[i-1].lacks || rooms[i].weight != rooms[i-1].weight) {
			place = min(place+1, unit/1000)
		}
		out[rooms[i].value] = -place
		if rooms[i].lacks > 0 {
			out[rooms[i].value] -= noRoom + rooms[i].lacks*(noRoom/unit)
		}
	}
}

// nodeIndex is any index that has all nodes, and so what is left of each.
func (f *Fleet) nodeIndex() *index {
	for how := range f.indexes {
		if x := f.indexes[how][0]; x != nil {
			return x
		}
	}
	how := rankingOf(f.strategy)
	f.indexes[how][0] = newIndex(f, false, how)
	return f.indexes[how][0]
}

// add counts what is left of a node.
func (r *valueRoom) add(left *vector, members []member) {
	any := false
	for i := range members {
		n := members[i].count
		if !left.covers(&members[i].need) {
			n = 0
		}
		for d, need := range members[i].need {
			if need > 0 && n > 0 && uint64(left[d]) < uint64(n)*uint64(need) {
				n = int64(left[d] / need)
			}
		}
		r.fit[i] += n
		any = any || n > 0
	}
	for d := range left {
		if any {
			r.left[d] += uint64(left[d])
		}
	}
}

// judge works out how much of what is needed there is no room for, and what is left.
func (r *valueRoom) judge(members []member) {
	var need [dims]uint64
	for i := range members {
		m := &members[i]
		if m.count > 0 {
			r.lacks = max(r.lacks, (m.count-min(r.fit[i], m.count))*unit/m.count)
		}
		for d := range need {
			need[d] += uint64(m.count) * uint64(m.need[d])
		}
	}
	for d, n := range need {
		if sums := d != dimShare && d != dimVacant; sums && r.left[d] < n {
			r.lacks = max(r.lacks, int64((n-r.left[d])*unit/n))
		}
	}
	r.weight = r.left[dimMilli] + r.left[dimMemory]*1000/milliPerCoreMemory + r.left[dimGPUs]*gpuWeight
}
