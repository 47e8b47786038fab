package scheduler

// Nodes that have the same values of every attribute that instances are counted by
// (spread, distinct_property) are a domain. Within a domain the best node is the best by
// score alone, so each domain has a heap; between domains what is left to compare is the
// heaps' tops with the domains' terms. Without such attributes there is one domain.

// domains holds the candidates of one run.
type domains struct {
	columns []*column
	counts  [][]int32 // per column: instances by value number
	spreads []spread  // of the first columns
	limits  []distinctProperty
	desired [][]float64 // per spread: instances wanted by value number
	list    []domain
	index   map[uint64]int32
	spare   []candidate
}

type domain struct {
	heap   []candidate
	heaped bool    // only the top is known to be in its place otherwise
	values []int32 // per column
}

func newDomains(f *Fleet, g *Group, wanted int) domains {
	d := domains{spreads: g.spreads, limits: g.limits}
	if len(g.spreads)+len(g.limits) == 0 {
		return d
	}
	for i, name := range g.attributes() {
		col := f.column(name)
		counts := make([]int32, len(col.values))
		among := sameGroup
		if i >= len(g.spreads) {
			among = g.limits[i-len(g.spreads)].scope
		}
		f.eachInstance(g, among, func(slot, n int32) { counts[col.ofSlot[slot]] += n })
		d.columns, d.counts = append(d.columns, col), append(d.counts, counts)
	}
	d.index = map[uint64]int32{}
	d.desire(f, g, wanted)
	return d
}

// desire works out how many instances each value should get of all those there will be.
func (d *domains) desire(f *Fleet, g *Group, wanted int) {
	view := f.static(&g.checks)
	for i := range d.spreads {
		total := wanted
		for _, n := range d.counts[i] {
			total += int(n)
		}
		d.desired = append(d.desired, d.spreads[i].desired(d.columns[i], view.ok, max(total, g.Count)))
	}
}

// desired gives the instances wanted by value number. Values without a target share
// what the targets leave; without targets all values share alike. Nodes without the
// attribute should get none.
func (s *spread) desired(col *column, feasible bitmap, total int) []float64 {
	out := make([]float64, len(col.values))
	present := make([]bool, len(col.values))
	for slot, value := range col.ofSlot {
		present[value] = present[value] || feasible.has(int32(slot))
	}
	rest, others := 1.0, 0
	for value := 1; value < len(out); value++ {
		if share, targeted := s.targets[col.values[value]]; targeted {
			out[value] = float64(share * float64(total))
			rest -= share
		} else if present[value] {
			others++
		}
	}
	for value := 1; value < len(out); value++ {
		if _, targeted := s.targets[col.values[value]]; !targeted && present[value] {
			out[value] = float64(max(rest, 0) * float64(total) / float64(others))
		}
	}
	out[0] = -1
	return out
}

// reset starts with memory to be used again.
func (d *domains) reset(spare []candidate) {
	d.spare = spare[:0]
	if len(d.columns) == 0 {
		d.list = append(d.list[:0], domain{heap: d.spare})
	}
}

// recycle gives the memory back.
func (d *domains) recycle() []candidate {
	if len(d.columns) == 0 {
		return d.list[0].heap[:0]
	}
	return d.spare
}

func (d *domains) add(c candidate) {
	if len(d.columns) == 0 {
		d.list[0].heap = append(d.list[0].heap, c)
		return
	}
	key := uint64(0)
	for _, col := range d.columns {
		key = key*uint64(len(col.values)) + uint64(col.ofSlot[c.slot])
	}
	i, known := d.index[key]
	if !known {
		i = int32(len(d.list))
		d.index[key] = i
		values := make([]int32, len(d.columns))
		for k, col := range d.columns {
			values[k] = col.ofSlot[c.slot]
		}
		d.list = append(d.list, domain{values: values})
	}
	d.list[i].heap = append(d.list[i].heap, c)
}
