package scheduler

import "slices"

// split makes two blocks of a full one, each with half of the entries.
func (x *index) split(r, k int) {
	if x.rows[r].n == fan {
		x.splitRow(r)
		if k >= fan/2 {
			r, k = r+1, k-fan/2
		}
	}
	row := x.rows[r]
	block := row.blocks[k]
	var order [fan]bound
	var entries [fan]int32
	for i := range fan {
		entries[i] = x.ids[int(block)<<6+i]
		order[i] = x.boundOf(entries[i], x.keys[int(block)<<6+i])
	}
	sorted := order
	slices.SortFunc(sorted[:], func(a, b bound) int { return a.compare(&b) })
	middle := sorted[fan/2]
	upper := x.newBlock()
	x.valid[upper] = x.valid[block]
	x.used[block] = 0
	for i := range fan {
		from := int(block)<<6 + i
		key, word, in := x.keys[from], x.fits[from], x.in[from]
		to := block
		if order[i].compare(&middle) >= 0 {
			to = upper
		}
		x.put(to, entries[i], key, word, in)
	}
	row.insert(k+1, upper, middle)
	for l := range row.fits {
		row.fits[l][k+1] = row.fits[l][k]
	}
}

// insert puts a block in the k-th place. Its unions are the caller's to set.
func (w *row) insert(k int, block int32, low bound) {
	copy(w.blocks[k+1:], w.blocks[k:w.n])
	copy(w.low[k+1:], w.low[k:w.n])
	for l := range w.fits {
		copy(w.fits[l][k+1:], w.fits[l][k:w.n])
	}
	w.blocks[k], w.low[k] = block, low
	w.n++
}

func (w *row) remove(k int) {
	copy(w.blocks[k:], w.blocks[k+1:w.n])
	copy(w.low[k:], w.low[k+1:w.n])
	for l := range w.fits {
		copy(w.fits[l][k:], w.fits[l][k+1:w.n])
	}
	w.n--
	w.low[w.n] = bound{}
}

// splitRow makes two rows of a full one.
func (x *index) splitRow(r int) {
	old, upper := x.rows[r], x.newRow()
	for k := fan / 2; k < fan; k++ {
		upper.insert(k-fan/2, old.blocks[k], old.low[k])
		for l := range old.fits {
			upper.fits[l][k-fan/2] = old.fits[l][k]
		}
		old.low[k] = bound{}
	}
	old.n = fan / 2
	x.insertRow(r+1, upper)
	for l := range x.rowFits {
		x.rowFits[l][r+1] = x.rowFits[l][r]
	}
}

// insertRow puts a row with blocks in the r-th place. Its unions are the caller's to set.
func (x *index) insertRow(r int, w *row) {
	x.rows, x.rowLow = slices.Insert(x.rows, r, w), slices.Insert(x.rowLow, r, w.low[0])
	for l := range x.rowFits {
		x.rowFits[l] = slices.Insert(x.rowFits[l], r, 0)
	}
}

// merge puts what is left of a block into the one before or after it in its row, where
// that leaves enough room; an empty block goes away in any case, unless it is the last.
func (x *index) merge(r, k int) {
	row := x.rows[r]
	block := row.blocks[k]
	for _, other := range [2]int{k - 1, k + 1} {
		if other < 0 || other >= row.n || int(x.used[row.blocks[other]])+int(x.used[block]) > fan/2 {
			continue
		}
		low, high := min(k, other), max(k, other)
		into, from := row.blocks[low], row.blocks[high]
		for i := range int32(x.used[from]) {
			pos := from<<6 + i
			x.put(into, x.ids[pos], x.keys[pos], x.fits[pos], x.in[pos])
		}
		x.valid[into] &= x.valid[from]
		for l := range row.fits {
			row.fits[l][low] |= row.fits[l][high]
		}
		x.retire(r, high)
		return
	}
	if x.used[block] == 0 && row.n > 1 {
		x.retire(r, k)
	} else if x.used[block] == 0 && len(x.rows) > 1 {
		x.retire(r, k)
	}
}

// retire takes a block out of its row, and a row without blocks out of the list.
func (x *index) retire(r, k int) {
	row := x.rows[r]
	block := row.blocks[k]
	x.used[block] = 0
	x.idle = append(x.idle, block)
	if row.remove(k); row.n > 0 {
		return
	}
	x.rows, x.rowLow = slices.Delete(x.rows, r, r+1), slices.Delete(x.rowLow, r, r+1)
	for l := range x.rowFits {
		x.rowFits[l] = slices.Delete(x.rowFits[l], r, r+1)
	}
}

// placed is an entry on its way into the index.
type placed struct {
	key, tie uint64
	entry    int32
}

// fill puts sorted entries into an empty index.
func (x *index) fill(entries []placed) {
	const full = fan * 3 / 4
	r, k := 0, 0
	for from := 0; from < len(entries); from += full {
		part := entries[from:min(from+full, len(entries))]
		if from > 0 {
			low := x.boundOf(part[0].entry, part[0].key)
			if k++; k < full {
				x.rows[r].insert(k, x.newBlock(), low)
			} else {
				w := x.newRow()
				w.insert(0, x.newBlock(), low)
				r, k = r+1, 0
				x.insertRow(r, w)
			}
		}
		for i := range part {
			word := x.shapes.fitting(&x.left[part[i].entry])
			in := x.lanesOf(part[i].entry)
			x.put(x.rows[r].blocks[k], part[i].entry, part[i].key, word, in)
			x.unite(r, k, word, in)
		}
	}
}
