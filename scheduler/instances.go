package scheduler

import "iter"

// instances are how many allocations of a group are wanted on each node, and by the
// values of attributes.
type instances struct {
	key     GroupKey // noGroup: there are none left, and the group's are counted elsewhere
	on      slotCounts
	tallies []*tally
	// standing follows them; nil: nobody has asked of late.
	standing *standing
	// crowded: a search came by so many of their nodes that indexes keep the others apart.
	crowded bool
}

// noGroup is no group's key.
var noGroup = GroupKey{Namespace: "\x00"}

// crowd is how many nodes of its own a search comes by before its group is crowded.
const crowd = 128

// tally counts instances by the number of their node's value of an attribute. It is good
// as long as no node's static side has changed.
type tally struct {
	attribute string
	column    *column
	changes   uint64
	counts    []int32
}

// at is how many there are on a node.
func (i *instances) at(slot int32) int32 {
	if i == nil {
		return 0
	}
	return i.on.at(slot)
}

func (i *instances) none() bool { return i == nil || i.on.len() == 0 }

// sum is how many there are.
func (i *instances) sum() int {
	if i == nil {
		return 0
	}
	return i.on.sum
}

func (i *instances) add(f *Fleet, slot, by int32) {
	was := i.on.add(slot, by)
	now := max(was+by, 0)
	if now == was {
		return
	}
	if i.crowded {
		f.log(move{slot: slot})
	}
	for _, t := range i.tallies {
		if t.changes == f.changes {
			t.counts[t.column.ofSlot[slot]] += now - was
		}
	}
	if s := i.standing; s != nil && s.changes == f.changes {
		s.count(slot, was, now)
	}
}

// tallyOf gives the tally of an attribute, caught up.
func (i *instances) tallyOf(f *Fleet, attribute string, c *column) *tally {
	for _, t := range i.tallies {
		if t.attribute == attribute {
			t.refresh(f, i, c)
			return t
		}
	}
	if n := len(i.tallies); n < cap(i.tallies) && i.tallies[:n+1][n] != nil { // of a group that is gone
		i.tallies = i.tallies[:n+1]
	} else {
		i.tallies = append(i.tallies, &tally{})
	}
	t := i.tallies[len(i.tallies)-1]
	t.attribute, t.changes = attribute, 0
	t.refresh(f, i, c)
	return t
}

func (t *tally) refresh(f *Fleet, i *instances, c *column) {
	if t.changes == f.changes && t.column == c {
		return
	}
	t.column, t.changes = c, f.changes
	t.counts = resize(t.counts, len(c.values))
	clear(t.counts)
	for slot, n := range i.on.all() {
		t.counts[c.ofSlot[slot]] += n
	}
}

// count counts instances of a group on a node.
func (f *Fleet) count(key GroupKey, slot int32, by int32) {
	f.countIn(f.instancesOf(key), slot, by)
}

func (f *Fleet) countIn(i *instances, slot, by int32) {
	if i.add(f, slot, by); i.none() {
		delete(f.groups, i.key)
		i.key = noGroup
		if i.standing != nil {
			i.standing.belong(nil)
		}
		if !i.crowded { // else indexes may know of it
			i.tallies = i.tallies[:0]
			f.spare = append(f.spare, i)
		}
	}
}

// instancesOf gives the instances of a group, to be counted in.
func (f *Fleet) instancesOf(key GroupKey) *instances {
	i := f.groups[key]
	if i == nil {
		if n := len(f.spare); n > 0 {
			i, f.spare = f.spare[n-1], f.spare[:n-1]
		} else {
			i = &instances{}
		}
		i.key, f.groups[key] = key, i
	}
	return i
}

// eachInstance calls fn for every node with instances of the group, or of its whole job.
func (f *Fleet) eachInstance(g *Group, among scope, fn func(slot, n int32)) {
	for key := range g.keys(among) {
		if i := f.groups[key]; i != nil {
			for slot, n := range i.on.all() {
				fn(slot, n)
			}
		}
	}
}

// keys are the groups among whom something must be distinct.
func (g *Group) keys(among scope) iter.Seq[GroupKey] {
	return func(yield func(GroupKey) bool) {
		if among == sameGroup {
			yield(g.Key)
		}
		for i := 0; among == sameJob && i < len(g.siblings) && yield(g.siblings[i]); i++ {
		}
	}
}
