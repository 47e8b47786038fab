package scheduler

import (
	"math"
	"slices"
)

// standing is how a group stands with the domains of its view: the term of each, kept up
// to date as instances come and go. So an ask for one instance more of a job that has many
// looks at none of the others.
//
// A node's term is that of its domain, less what the group's own instances on the node
// take off it. Those nodes of a domain that have as many of them are alike.
type standing struct {
	g   *Group
	d   *domains
	own *instances // nil: there are none
	// What it is good for: Fleet.changes, and how many instances shares are shares of.
	changes uint64
	total   int
	// seeded: the first of who lie together is still to come, and base has what speaks for
	// each value.
	seeded bool

	counted bool    // own instances on a node change its term
	each    int64   // what each of them takes off by spreads
	weights []int64 // by column: what an instance takes off; 0: it is counted by node
	base    []int64 // by domain: its term; closed: it takes none

	// held is how many nodes have so many instances of the group, by domain and number;
	// levels is how many numbers there are. Not counted: all count as having none.
	held   []int32
	levels int
	// stairs are the terms that nodes have, the highest first.
	stairs []stair
	latest int // the stair that was looked for last: often the next one, too

	shares []share // for fill
}

// closed is the base of a domain that takes no instance.
const closed = math.MinInt64

// stair is one term that nodes have.
type stair struct {
	term  int64
	level int32 // how many own instances all these nodes have; mixed: not all the same
	parts int32 // how many pairs of domain and number of instances have it
}

const mixed = -1

// maxStandings bounds how many groups' are kept; who has had one longest gives way.
const maxStandings = 256

// standingOf gives a group's standing for an ask; nil: all nodes are alike.
func (f *Fleet) standingOf(k *knownGroup, v *staticView, own *instances, wanted int, seed [][]int64) *standing {
	g := k.g
	if !g.avoidSelf && len(g.spreads) == 0 && seed == nil && !v.graded() {
		return nil
	}
	s := k.standing
	if own != nil {
		s = own.standing
	}
	total := 0
	if len(g.spreads) > 0 {
		total = max(own.sum()+wanted, g.Count)
	}
	if s == nil || own == nil && s.g != g {
		s = f.newStanding()
	} else if s.g == g && s.changes == f.changes && s.own == own && s.total == total && !s.seeded && seed == nil {
		k.standing = s
		return s
	}
	k.standing = s
	s.g, s.changes, s.total, s.seeded = g, f.changes, total, seed != nil
	by := &g.domains[0]
	if s.seeded {
		by = &g.domains[1]
	}
	s.d = f.domainsOf(by, v)
	s.belong(own)
	s.fill(f, seed)
	return s
}

func (f *Fleet) newStanding() *standing {
	if len(f.standings) < maxStandings {
		f.standings = append(f.standings, &standing{})
		return f.standings[len(f.standings)-1]
	}
	s := f.standings[f.oldest]
	f.oldest = (f.oldest + 1) % maxStandings
	s.belong(nil)
	s.g = nil
	return s
}

// belong has it follow the group's instances from now on.
func (s *standing) belong(own *instances) {
	if s.own != nil {
		s.own.standing = nil
	}
	if s.own = own; own != nil {
		own.standing = s
	}
}

// share is how many instances a value of a column should have, in millionths times weight.
type share struct {
	value   int32
	desired int64
}

// fill works everything out anew.
func (s *standing) fill(f *Fleet, seed [][]int64) {
	g, d := s.g, s.d
	s.base, s.weights = resize(s.base, len(d.static)), resize(s.weights, len(d.columns))
	copy(s.base, d.static)
	s.counted, s.each = g.avoidSelf, 0
	for i := range d.columns {
		if s.weights[i] = 0; i >= len(g.spreads) {
			s.seedColumn(i, seed[i-len(g.spreads)])
			continue
		}
		weight := fixed(g.spreads[i].weight)
		if d.byNode[i] {
			s.counted, s.each = true, s.each+weight
			continue
		}
		s.weights[i] = weight
		s.spreadColumn(f, i)
	}
	s.fillHeld()
	s.stairs = s.stairs[:0]
	for n := range s.base {
		s.step(int32(n), 1)
	}
}

// spreadColumn adds what a spread says of the values of its attribute: how many instances
// each still lacks, or, below 0, has too many. Values without a target share what the
// targets leave. Nodes without the attribute should get none.
func (s *standing) spreadColumn(f *Fleet, i int) {
	d, spread := s.d, &s.g.spreads[i]
	weight, total := spread.weight, float64(s.total)
	s.shares = s.shares[:0]
	rest, others := 1.0, d.present[i]
	if d.has(i, 0) {
		others--
	}
	for _, t := range spread.targets {
		rest -= t.share
		if value, known := d.columns[i].number[t.value]; known {
			s.shares = append(s.shares, share{value, fixed(float64(weight * float64(t.share*total)))})
			if d.has(i, value) {
				others--
			}
		}
	}
	even := fixed(float64(weight * float64(float64(max(rest, 0)*total)/float64(max(others, 1)))))
	var counts []int32
	if !s.own.none() {
		counts = s.own.tallyOf(f, d.names[i], d.columns[i]).counts
	}
	for n := range s.base {
		value := d.values[n][i]
		lacks := even
		if at := slices.IndexFunc(s.shares, func(t share) bool { return t.value == value }); at >= 0 {
			lacks = s.shares[at].desired
		} else if value == 0 {
			lacks = -s.weights[i]
		}
		if counts != nil {
			lacks -= s.weights[i] * int64(counts[value])
		}
		s.base[n] += lacks
	}
}

// seedColumn adds what speaks for each value of a limit that is not decided.
func (s *standing) seedColumn(i int, terms []int64) {
	for n := range s.base {
		if value := s.d.values[n][i]; s.base[n] == closed || terms[value] == closed {
			s.base[n] = closed
		} else {
			s.base[n] += terms[value]
		}
	}
}

// fillHeld counts the nodes by own instances.
func (s *standing) fillHeld() {
	s.levels = 1
	s.held = append(s.held[:0], s.d.size...)
	if !s.counted || s.own.none() {
		return
	}
	for slot, n := range s.own.on.all() {
		if domain := s.d.ofSlot[slot]; domain != noDomain {
			s.reach(n)
			s.held[int(domain)*s.levels]--
			s.held[int(domain)*s.levels+int(n)]++
		}
	}
}

// reach makes room for nodes with n own instances.
func (s *standing) reach(n int32) {
	if int(n) < s.levels {
		return
	}
	old, more := s.levels, max(int(n)+1, 2*s.levels)
	domains := len(s.base)
	s.held = resize(s.held, domains*more)
	for domain := domains - 1; domain >= 0; domain-- {
		for level := more - 1; level >= 0; level-- {
			count := int32(0)
			if level < old {
				count = s.held[domain*old+level]
			}
			s.held[domain*more+level] = count
		}
	}
	s.levels = more
}

// off is what n own instances on a node take off its term.
func (s *standing) off(n int32) int64 {
	if n == 0 || !s.counted {
		return 0
	}
	return s.each*int64(n) - s.g.selfTerm(n)
}

// of is the term of a node.
func (s *standing) of(slot int32) int64 {
	base := s.base[s.d.ofSlot[slot]]
	if !s.counted || base == closed {
		return base
	}
	return base - s.off(s.own.at(slot))
}

// count takes in that a node has now instances of the group where it had was.
func (s *standing) count(slot, was, now int32) {
	for i, weight := range s.weights {
		if weight != 0 {
			for _, n := range s.d.with(i, s.d.columns[i].ofSlot[slot]) {
				if s.base[n] == closed {
					continue
				}
				s.step(n, -1)
				s.base[n] -= weight * int64(now-was)
				s.step(n, 1)
			}
		}
	}
	domain := s.d.ofSlot[slot]
	if !s.counted || domain == noDomain {
		return
	}
	s.reach(now)
	at := int(domain) * s.levels
	if s.held[at+int(was)]--; s.held[at+int(was)] == 0 {
		s.stepAt(domain, was, -1)
	}
	if s.held[at+int(now)]++; s.held[at+int(now)] == 1 {
		s.stepAt(domain, now, 1)
	}
}

// step adds the parts of a domain to the stairs, or takes them out.
func (s *standing) step(domain, by int32) {
	for level, n := range s.held[int(domain)*s.levels:][:s.levels] {
		if n > 0 {
			s.stepAt(domain, int32(level), by)
		}
	}
}

func (s *standing) stepAt(domain, level, by int32) {
	if s.base[domain] == closed {
		return
	}
	term := s.base[domain] - s.off(level)
	i := s.latest
	if i >= len(s.stairs) || s.stairs[i].term != term {
		if i = s.below(term) - 1; i < 0 || s.stairs[i].term != term {
			i++
			s.stairs = slices.Insert(s.stairs, i, stair{term: term, level: level})
		}
		s.latest = i
	}
	at := &s.stairs[i]
	if at.parts += by; at.parts == 0 {
		s.stairs = slices.Delete(s.stairs, i, i+1)
	} else if at.level != level {
		at.level = mixed
	}
}

// below is the first stair that is lower than a term.
func (s *standing) below(term int64) int {
	i, n := 0, len(s.stairs)
	for i < n {
		if middle := (i + n) / 2; s.stairs[middle].term >= term {
			i = middle + 1
		} else {
			n = middle
		}
	}
	return i
}
