package vm

import (
	"cmp"
	"fmt"
	"slices"
)

// Placed is what became of machines that come and stay.
type Placed struct {
	Policy string `json:"policy"`
	Hosts  int    `json:"hosts"`
	// Machines were offered; of each strategy so many, and so many not placed.
	Machines   int              `json:"machines"`
	Placed     int              `json:"placed"`
	Unplaced   int              `json:"unplaced"`
	Strategies map[string]Count `json:"strategies"`
	// Violations are machines beyond what a cell has, and groups that do not lie as they
	// should, by books that no policy sees.
	Violations int `json:"violations"`
	// UntouchedHosts got no machine.
	UntouchedHosts int `json:"untouched_hosts"`
	// CPUPercent and MemoryPercent are used of what was free at the start.
	CPUPercent    float64 `json:"cpu_percent"`
	MemoryPercent float64 `json:"memory_percent"`
	// FragmentationPercent is the part of the CPUs still free that is of no use to the
	// next machine, by what was asked for: it lies on hosts that the machine does not fit
	// on, groups left aside.
	FragmentationPercent float64 `json:"fragmentation_percent"`
}

// Count is of the machines of a strategy.
type Count struct {
	Machines int `json:"machines"`
	Unplaced int `json:"unplaced"`
}

// Place offers the machines in their order; none leaves.
func Place(hosts []Host, machines []Machine, name string, rules Rules) (*Placed, error) {
	p, err := newPolicy(name, hosts, machines, rules)
	if err != nil {
		return nil, err
	}
	out := &Placed{Policy: name, Hosts: len(hosts), Machines: len(machines), Strategies: map[string]Count{}}
	books := newBooks(hosts)
	for i := range machines {
		c := out.Strategies[machines[i].Strategy.String()]
		c.Machines++
		if at, ok := p.offer(i); ok {
			books.enter(i, &machines[i], at)
			out.Placed++
		} else {
			out.Unplaced++
			c.Unplaced++
		}
		out.Strategies[machines[i].Strategy.String()] = c
	}
	out.Violations = books.wrong + groupViolations(hosts, machines, books.at, rules)
	for h := range hosts {
		if books.machines[h] == 0 {
			out.UntouchedHosts++
		}
	}
	out.CPUPercent, out.MemoryPercent = books.used()
	out.FragmentationPercent = books.fragmentation(machines)
	return out, nil
}

// books is what is free by what policies say that they did.
type books struct {
	hosts    []Host
	free     [][]Room
	machines []int // by host
	at       map[int]place
	wrong    int
}

func newBooks(hosts []Host) *books {
	return &books{hosts: hosts, free: roomsOf(hosts), machines: make([]int, len(hosts)), at: map[int]place{}}
}

// enter books a machine, and counts it as wrong where it does not lie in as many cells as
// it should, each with room for its part.
func (b *books) enter(i int, m *Machine, p place) {
	cells := slices.Compact(slices.Sorted(slices.Values(p.cells)))
	wrong := len(cells) != m.Cells || len(cells) != len(p.cells)
	for _, c := range cells {
		if !b.free[p.host][c].holds(m.part()) {
			wrong = true
		}
		b.free[p.host][c].CPU -= m.part().CPU
		b.free[p.host][c].Memory -= m.part().Memory
	}
	if wrong {
		b.wrong++
	}
	b.machines[p.host]++
	b.at[i] = p
}

func (b *books) leave(i int, m *Machine) place {
	p := b.at[i]
	delete(b.at, i)
	for _, c := range p.cells {
		b.free[p.host][c].CPU += m.part().CPU
		b.free[p.host][c].Memory += m.part().Memory
	}
	b.machines[p.host]--
	return p
}

// used gives the percent of CPUs and memory that are taken.
func (b *books) used() (cpu, memory float64) {
	var all, free Room
	for h := range b.hosts {
		for c := range b.hosts[h].Cells {
			all = Room{all.CPU + b.hosts[h].Cells[c].CPU, all.Memory + b.hosts[h].Cells[c].Memory}
			free = Room{free.CPU + b.free[h][c].CPU, free.Memory + b.free[h][c].Memory}
		}
	}
	return percent(all.CPU-free.CPU, all.CPU), percent(all.Memory-free.Memory, all.Memory)
}

func percent(part, all int64) float64 {
	if all == 0 {
		return 0
	}
	return 100 * float64(part) / float64(all)
}

// fragmentation is the percent of the free CPUs on hosts that a machine does not fit on,
// over all machines of the trace.
func (b *books) fragmentation(machines []Machine) float64 {
	type shape struct {
		Room
		cells int
	}
	counts := map[shape]int{}
	for i := range machines {
		counts[shape{machines[i].part(), machines[i].Cells}]++
	}
	shapes := make([]shape, 0, len(counts))
	for s := range counts {
		shapes = append(shapes, s)
	}
	slices.SortFunc(shapes, func(a, b shape) int {
		return cmp.Or(cmp.Compare(a.CPU, b.CPU), cmp.Compare(a.Memory, b.Memory), cmp.Compare(a.cells, b.cells))
	})
	useless, all := 0.0, int64(0)
	for h := range b.hosts {
		free := int64(0)
		for _, room := range b.free[h] {
			free += room.CPU
		}
		all += free
		for _, s := range shapes {
			fitting := 0
			for _, room := range b.free[h] {
				if room.holds(s.Room) {
					fitting++
				}
			}
			if fitting < s.cells {
				useless += float64(free) * float64(counts[s]) / float64(len(machines))
			}
		}
	}
	if all == 0 {
		return 0
	}
	return 100 * useless / float64(all)
}

// groupViolations looks at where the machines of each group lie in the end: pairs that
// are together and should not be, or are not and should be.
func groupViolations(hosts []Host, machines []Machine, at map[int]place, rules Rules) int {
	groups := map[string][]int{}
	for i := range machines {
		if _, placed := at[i]; placed && machines[i].Strategy != Alone {
			key := fmt.Sprintf("%d/%d", machines[i].Strategy, machines[i].Group)
			groups[key] = append(groups[key], i)
		}
	}
	wrong := 0
	for _, members := range groups {
		for k, i := range members {
			for _, j := range members[:k] {
				a, b := at[i].host, at[j].host
				sameRack := hosts[a].Rack == hosts[b].Rack
				switch machines[i].Strategy {
				case Affinity:
					if rules.SameHost && a != b || !rules.SameHost && !sameRack {
						wrong++
					}
				case AntiAffinity:
					if a == b {
						wrong++
					}
				case FaultDomain:
					if sameRack && machines[i].Domain != machines[j].Domain {
						wrong++
					}
				}
			}
		}
	}
	return wrong
}
