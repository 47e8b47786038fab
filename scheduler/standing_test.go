package scheduler

import (
	"fmt"
	"slices"
	"testing"
)

// Whatever comes and goes, the terms of a group are what its spreads, affinities, limits
// and own instances say, worked out from nothing; and what was kept up to date is what
// would be made anew.
func TestTermsAgainstDefinition(t *testing.T) {
	for seed := range uint64(60) {
		nodes := 2 + int(seed%7)*6
		c := newChurnOf(t, seed, nodes)
		for i := range c.asks { // more of them with a say than usual
			o := c.shape()
			switch i % 4 {
			case 0:
				o["spread"] = []string{c.pick("node.rack", "node.id", "node.zone,x:60,y:10", "node.rack,a:50,q:10"), c.pick("node.zone", "node.id")}
			case 1:
				o["type"] = []string{"service"}
			}
			o["count"] = []string{c.pick("1", "5", "40")}
			c.asks[i] = askOf(t, jobOf(t, fmt.Sprintf("job%d", i), o), o)
		}
		for range 150 {
			switch n := c.rng.IntN(20); {
			case n == 0:
				c.node(c.rng.IntN(c.nodes))
			case n == 1:
				c.remove()
			case n < 8:
				c.release()
			default:
				c.place()
			}
			requireStandings(t, c.w.f)
			requireTerms(t, c.w.f, c.asks[c.rng.IntN(len(c.asks))], 1+c.rng.IntN(3))
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// requireStandings holds every standing that is good against one that is made anew.
func requireStandings(t *testing.T, f *Fleet) {
	t.Helper()
	for _, s := range f.standings {
		if s.g == nil || s.changes != f.changes || s.seeded {
			continue
		}
		if s.own != nil {
			for _, kept := range s.own.tallies {
				fresh := tally{attribute: kept.attribute}
				if fresh.refresh(f, s.own, f.column(kept.attribute)); kept.changes == f.changes && !slices.Equal(kept.counts, fresh.counts) {
					t.Fatalf("%s: counts of %s are %v, made anew %v", s.g.Key.Job, kept.attribute, kept.counts, fresh.counts)
				}
			}
		}
		fresh := standing{g: s.g, d: s.d, own: s.own, total: s.total}
		fresh.fill(f, nil)
		if !slices.Equal(s.base, fresh.base) || len(s.stairs) != len(fresh.stairs) {
			t.Fatalf("%s: %v %v, made anew %v %v", s.g.Key.Job, s.base, s.stairs, fresh.base, fresh.stairs)
		}
		for i, a := range s.stairs {
			if b := fresh.stairs[i]; a.term != b.term || a.parts != b.parts || a.level != b.level && a.level != mixed {
				t.Fatalf("%s: %v, made anew %v", s.g.Key.Job, s.stairs, fresh.stairs)
			}
		}
	}
}

// requireTerms holds the terms of an ask against their definition.
func requireTerms(t *testing.T, f *Fleet, ask *Ask, count int) {
	t.Helper()
	one := *ask
	one.Count = count
	r := f.run(&one, 0)
	shift, known, peak := int64(0), false, int64(closed)
	for slot := range int32(len(f.nodes)) {
		if !r.view.ok.has(slot) {
			continue
		}
		got, open := r.terms.of(slot)
		if want := f.checkOthers(&Group{Key: one.Group.Key, limits: one.Group.limits, siblings: one.Group.siblings}, slot) == nil; want != open {
			t.Fatalf("%s on %s: open %v, want %v", one.Group.Key.Job, f.nodes[slot].node.GetName(), open, want)
		}
		if r.terms.s == nil || r.terms.seeded() {
			continue
		}
		term := r.terms.s.of(slot)
		peak = max(peak, term)
		want := termByDefinition(f, one.Group, r.view, slot, count)
		if !known {
			shift, known = term-want, true // of what is the same for all nodes
		}
		if term-want != shift || open && term != got {
			t.Fatalf("%s on %s: term %d (%d), want %d and %d", one.Group.Key.Job, f.nodes[slot].node.GetName(), term, got, want, shift)
		}
	}
	if known && r.terms.peak != peak {
		t.Fatalf("%s: the peak is %d, want %d", one.Group.Key.Job, r.terms.peak, peak)
	}
}

func termByDefinition(f *Fleet, g *Group, v *staticView, slot int32, wanted int) int64 {
	own := f.groups[g.Key]
	term := v.term(slot) + g.selfTerm(own.at(slot))
	total := wanted
	if own != nil {
		for _, n := range own.on.all() {
			total += int(n)
		}
	}
	total = max(total, g.Count)
	for _, s := range g.spreads {
		value, has := attributeOf(f.nodes[slot].node, s.attribute)
		rest := 1.0
		targeted := map[string]float64{}
		for _, x := range s.targets {
			targeted[x.value] = x.share
			rest -= x.share
		}
		others := map[string]bool{}
		for k := range f.nodes {
			if v.ok.has(int32(k)) {
				if other, has := attributeOf(f.nodes[k].node, s.attribute); has {
					if _, is := targeted[other]; !is {
						others[other] = true
					}
				}
			}
		}
		share, is := targeted[value]
		switch {
		case !has:
			term -= fixed(s.weight)
		case is:
			term += fixed(float64(s.weight * float64(share*float64(total))))
		default:
			term += fixed(float64(s.weight * float64(float64(max(rest, 0)*float64(total))/float64(len(others)))))
		}
		if own == nil {
			continue
		}
		for k, n := range own.on.all() {
			if other, also := attributeOf(f.nodes[k].node, s.attribute); also == has && other == value {
				term -= fixed(s.weight) * int64(n)
			}
		}
	}
	return term
}
