package vm

import "cmp"

// greedy looks at every host in order, and takes the first that fits or, with an order,
// the first of the best. It keeps the same rules as Berth.
type greedy struct {
	hosts    []Host
	free     [][]Room
	machines []Machine
	rules    Rules
	groups   map[groupID]*members
	// order compares what is left of the cells afterwards; nil: first fit.
	order func(a, b Room) int
}

type groupID struct {
	strategy Strategy
	group    int
}

// members are where a group's machines are.
type members struct {
	hosts map[int]int            // machines by host
	racks map[string]map[int]int // machines by rack and domain
	n     int
}

// tightest is best fit: the least CPU left in the machine's cells, then memory.
func tightest(a, b Room) int {
	return cmp.Or(cmp.Compare(a.CPU, b.CPU), cmp.Compare(a.Memory, b.Memory))
}

// roomiest is worst fit.
func roomiest(a, b Room) int { return tightest(b, a) }

func newGreedy(hosts []Host, machines []Machine, rules Rules, order func(a, b Room) int) *greedy {
	return &greedy{hosts: hosts, free: roomsOf(hosts), machines: machines, rules: rules, groups: map[groupID]*members{}, order: order}
}

func roomsOf(hosts []Host) [][]Room {
	free := make([][]Room, len(hosts))
	for i := range hosts {
		free[i] = append([]Room(nil), hosts[i].Cells...)
	}
	return free
}

func (g *greedy) offer(i int) (place, bool) {
	m := &g.machines[i]
	group := g.group(m)
	part := m.part()
	var best place
	var bestLeft Room
	found := false
	for h := range g.hosts {
		if group != nil && !group.may(m, &g.hosts[h], h, g.rules) {
			continue
		}
		cells, left, ok := g.cells(h, m.Cells, part)
		if ok && (!found || g.order(left, bestLeft) < 0) {
			best, bestLeft, found = place{h, cells}, left, true
			if g.order == nil {
				break
			}
		}
	}
	if found {
		g.change(m, best, 1)
	}
	return best, found
}

// cells picks cells of a host: the first that fit, or the best one by one.
func (g *greedy) cells(h, count int, part Room) (picked []int, left Room, ok bool) {
	for range count {
		best := -1
		for c, free := range g.free[h] {
			if !free.holds(part) || contains(picked, c) {
				continue
			}
			if best < 0 || g.order != nil && g.order(free, g.free[h][best]) < 0 {
				best = c
			}
		}
		if best < 0 {
			return nil, left, false
		}
		picked = append(picked, best)
		left = Room{left.CPU + g.free[h][best].CPU - part.CPU, left.Memory + g.free[h][best].Memory - part.Memory}
	}
	return picked, left, true
}

func contains(list []int, x int) bool {
	for _, v := range list {
		if v == x {
			return true
		}
	}
	return false
}

func (g *greedy) leave(i int, p place) { g.change(&g.machines[i], p, -1) }

// change puts a machine into its place, or takes it out.
func (g *greedy) change(m *Machine, p place, by int) {
	part := m.part()
	for _, c := range p.cells {
		g.free[p.host][c].CPU -= int64(by) * part.CPU
		g.free[p.host][c].Memory -= int64(by) * part.Memory
	}
	if group := g.group(m); group != nil {
		rack := g.hosts[p.host].Rack
		group.n += by
		group.hosts[p.host] += by
		if group.racks[rack] == nil {
			group.racks[rack] = map[int]int{}
		}
		group.racks[rack][m.Domain] += by
	}
}

// group is where the others of the machine's group are; nil: it has none.
func (g *greedy) group(m *Machine) *members {
	if m.Strategy == Alone {
		return nil
	}
	id := groupID{m.Strategy, m.Group}
	if g.groups[id] == nil {
		g.groups[id] = &members{hosts: map[int]int{}, racks: map[string]map[int]int{}}
	}
	return g.groups[id]
}

// may says whether a machine may lie on a host, by where the others are.
func (x *members) may(m *Machine, host *Host, h int, rules Rules) bool {
	switch m.Strategy {
	case AntiAffinity:
		return x.hosts[h] == 0
	case Affinity:
		if rules.SameHost {
			return x.n == 0 || x.hosts[h] > 0
		}
		here := 0
		for _, n := range x.racks[host.Rack] {
			here += n
		}
		return x.n == 0 || here > 0
	case FaultDomain:
		for domain, n := range x.racks[host.Rack] {
			if domain != m.Domain && n > 0 {
				return false
			}
		}
	}
	return true
}
