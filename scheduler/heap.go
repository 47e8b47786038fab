package scheduler

// build makes heaps of what was added: the best on top.
func (d *domains) build(f *Fleet) {
	for i := range d.list {
		h := d.list[i].heap
		for k := len(h)/2 - 1; k >= 0; k-- {
			down(f, h, k)
		}
	}
}

func (d *domain) pop(f *Fleet) {
	last := len(d.heap) - 1
	d.heap[0] = d.heap[last]
	d.heap = d.heap[:last]
	down(f, d.heap, 0)
}

// fix restores the order after the top has changed.
func (d *domain) fix(f *Fleet) { down(f, d.heap, 0) }

func down(f *Fleet, h []candidate, i int) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if right := child + 1; right < len(h) && f.better(&h[right], &h[child], 0, 0) {
			child = right
		}
		if !f.better(&h[child], &h[i], 0, 0) {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}

// best is the domain whose top is the best of all; nil: nothing is left.
func (d *domains) best(f *Fleet) *domain {
	var best *domain
	var bestTerm int64
	for i := range d.list {
		dom := &d.list[i]
		if len(dom.heap) == 0 || d.full(dom) {
			continue
		}
		term := d.term(dom)
		if best == nil || f.better(&dom.heap[0], &best.heap[0], term, bestTerm) {
			best, bestTerm = dom, term
		}
	}
	return best
}

// full says that a limit on a value of the domain is reached. Nodes without the
// attribute are never distinct.
func (d *domains) full(dom *domain) bool {
	for k := range d.limits {
		i := len(d.spreads) + k
		if value := dom.values[i]; value == 0 || int(d.counts[i][value]) >= d.limits[k].limit {
			return true
		}
	}
	return false
}

// term is what the spreads add to the score of every node of the domain: how many
// instances its values still lack (or, below 0, have too many).
func (d *domains) term(dom *domain) int64 {
	sum := 0.0
	for i := range d.spreads {
		lack := d.desired[i][dom.values[i]] - float64(d.counts[i][dom.values[i]])
		sum += float64(d.spreads[i].weight * lack)
	}
	return fixed(sum)
}

// placed counts an instance in the domain.
func (d *domains) placed(dom *domain) {
	for i, value := range dom.values {
		d.counts[i][value]++
	}
}
