package scheduler

// build puts the best of what was added on top: by a heap, or, where only one is looked
// for, by a look at each; the heap is made when the top does not do.
func (d *domains) build(f *Fleet, onlyOne bool) {
	for i := range d.list {
		dom := &d.list[i]
		if dom.heaped = !onlyOne; dom.heaped {
			heapify(f, dom.heap)
			continue
		}
		best := 0
		for k := 1; k < len(dom.heap); k++ {
			if f.better(&dom.heap[k], &dom.heap[best], 0, 0) {
				best = k
			}
		}
		if best > 0 {
			dom.heap[0], dom.heap[best] = dom.heap[best], dom.heap[0]
		}
	}
}

func heapify(f *Fleet, h []candidate) {
	for k := len(h)/2 - 1; k >= 0; k-- {
		down(f, h, k)
	}
}

func (d *domain) pop(f *Fleet) {
	last := len(d.heap) - 1
	d.heap[0] = d.heap[last]
	d.heap = d.heap[:last]
	d.fix(f)
}

// fix restores the order after the top has changed.
func (d *domain) fix(f *Fleet) {
	if !d.heaped {
		d.heaped = true
		heapify(f, d.heap)
		return
	}
	down(f, d.heap, 0)
}

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
