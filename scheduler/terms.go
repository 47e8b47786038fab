package scheduler

import (
	"math"
	"slices"
)

// terms are a group's terms while an ask is placed.
type terms struct {
	s      *standing // nil: all nodes are alike, as far as the limits let them
	limits []counted
	room   [][]int64 // see seed
	peak   int64     // no term is above it
	// top is the term that is looked at; level is how many own instances the nodes have
	// that have it, where that is the same for all (else mixed). under: whatever has a term
	// from there on has nothing left.
	top   int64
	level int32
	under int64
}

// counted is a limit with the counters that it is about. Where each node has a value of
// its own, counting by value is counting by node.
type counted struct {
	*limit
	column *column
	byNode bool
	by     []*tally
	all    []*instances
}

// start works the terms out for the instances that there are.
func (t *terms) start(f *Fleet, k *knownGroup, v *staticView, own *instances, wanted int) {
	t.count(f, k.g)
	t.s = f.standingOf(k, v, own, wanted, t.seed(f, k.g, v, wanted))
	t.peak, t.top, t.level, t.under = 0, math.MinInt64, mixed, math.MaxInt64
	if t.s != nil {
		t.peak, _ = t.best()
	}
}

// count finds the counters of the limits.
func (t *terms) count(f *Fleet, g *Group) {
	t.limits = resize(t.limits, len(g.limits))
	for k := range g.limits {
		c := &t.limits[k]
		c.limit, c.column = &g.limits[k], f.column(g.limits[k].attribute)
		c.by, c.all, c.byNode = c.by[:0], c.all[:0], c.column.distinct(f)
		for n := 0; ; n++ {
			key, more := c.key(g, n)
			if !more {
				break
			}
			i := f.groups[key]
			if i == nil {
				continue
			}
			if c.all = append(c.all, i); !c.byNode {
				c.by = append(c.by, i.tallyOf(f, c.attribute, c.column))
			}
		}
	}
}

// resize gives a slice of n with the memory and the content of s, as far as they go.
func resize[T any](s []T, n int) []T {
	if n <= cap(s) {
		return s[:n]
	}
	return slices.Grow(s[:cap(s)], n-cap(s))[:n]
}

// closes says that the limit lets no more instances onto a value.
func (c *counted) closes(value int32) bool {
	count := int32(0)
	for _, t := range c.by {
		count += t.counts[value]
	}
	return value == 0 || c.full(count, c.number())
}

// keepsOff says that the limit lets no more instances onto a node.
func (c *counted) keepsOff(slot int32) bool {
	if !c.byNode {
		return c.closes(c.column.ofSlot[slot])
	}
	count := int32(0)
	for _, i := range c.all {
		count += i.on.at(slot)
	}
	return c.full(count, c.number())
}

// number is how many instances the limit counts, wherever they are.
func (c *counted) number() (all int32) {
	for _, i := range c.all {
		all += int32(i.sum())
	}
	return all
}

// full is the reached limit that keeps a node out; nil: none.
func (t *terms) full(slot int32) *limit {
	for k := range t.limits {
		if c := &t.limits[k]; c.keepsOff(slot) {
			return c.limit
		}
	}
	return nil
}

// owned has the counters of the group's own instances found, which are there from now on.
func (t *terms) owned(f *Fleet, g *Group, own *instances) {
	t.count(f, g)
	if t.s != nil {
		t.s.belong(own)
	}
}

// seeded says that the first of who lie together was still to come.
func (t *terms) seeded() bool { return t.s != nil && t.s.seeded }

// moving says that terms change with every instance.
func (t *terms) moving() bool {
	return len(t.limits) > 0 || t.s != nil && (t.s.counted || len(t.s.d.columns) > 0)
}

// of is the term of a node; false: it takes no more.
func (t *terms) of(slot int32) (int64, bool) {
	if len(t.limits) > 0 && t.full(slot) != nil {
		return 0, false
	}
	if t.s == nil {
		return 0, true
	}
	term := t.s.of(slot)
	return term, term != closed
}

// admits says whether a node has the term that is looked at.
func (t *terms) admits(slot int32) bool {
	if s := t.s; s != nil && s.counted && t.level != mixed && s.own.at(slot) != t.level {
		return false
	}
	return (t.s == nil || t.s.of(slot) == t.top) && (len(t.limits) == 0 || t.full(slot) == nil)
}

// best finds the highest term that anything is left at; false: there is none.
func (t *terms) best() (int64, bool) {
	i := t.s.below(t.under)
	if i == len(t.s.stairs) {
		return 0, false
	}
	t.top, t.level = t.s.stairs[i].term, t.s.stairs[i].level
	return t.top, true
}

// exhaust notes that nothing is left at the top.
func (t *terms) exhaust() { t.under = t.top }
