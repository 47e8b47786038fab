package scheduler

import (
	"math/bits"
	"slices"
)

// split makes two blocks of a full one, each with half of the entries.
func (x *index) split(r, k int) {
	if len(x.rows[r].blocks) == fan {
		x.splitRow(r)
		if k >= fan/2 {
			r, k = r+1, k-fan/2
		}
	}
	row := x.rows[r]
	var all [depth]bound
	lower := row.blocks[k]
	for i := range all {
		b := &x.blocks[lower]
		all[i] = x.boundOf(b.ids[i], b.keys[i])
	}
	sorted := all
	slices.SortFunc(sorted[:], func(a, b bound) int { return a.compare(&b) })
	middle := sorted[depth/2]
	upper := x.newBlock()
	b := &x.blocks[lower]
	x.blocks[upper].valid = b.valid
	for i := range all {
		if all[i].compare(&middle) >= 0 {
			x.put(upper, b.ids[i], b.keys[i], b.fits[i])
			b.fits[i] = 0
			b.taken &^= 1 << i
		}
	}
	row.insert(k+1, upper, middle)
	for l := range row.fits {
		row.fits[l][k+1] = row.fits[l][k]
	}
}

// insert puts a block in the k-th place. Its unions are the caller's to set.
func (w *row) insert(k int, block int32, low bound) {
	w.blocks = slices.Insert(w.blocks, k, block)
	w.low.insert(k, low)
	for l := range w.fits {
		copy(w.fits[l][k+1:], w.fits[l][k:])
	}
}

func (w *row) remove(k int) {
	w.blocks = slices.Delete(w.blocks, k, k+1)
	w.low.remove(k, k+1)
	for l := range w.fits {
		copy(w.fits[l][k:], w.fits[l][k+1:])
	}
}

// splitRow makes two rows of a full one.
func (x *index) splitRow(r int) {
	old, upper := x.rows[r], x.newRow()
	for k := fan / 2; k < fan; k++ {
		upper.insert(k-fan/2, old.blocks[k], old.low.at(k))
		for l := range old.fits {
			upper.fits[l][k-fan/2] = old.fits[l][k]
		}
	}
	old.blocks = old.blocks[:fan/2]
	old.low.remove(fan/2, fan)
	x.insertRow(r+1, upper)
	for l := range x.rowFits {
		x.rowFits[l][r+1] = x.rowFits[l][r]
	}
}

// insertRow puts a row with blocks in the r-th place. Its unions are the caller's to set.
func (x *index) insertRow(r int, w *row) {
	x.rows = slices.Insert(x.rows, r, w)
	x.rowLow.insert(r, w.low.at(0))
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
		if other < 0 || other >= len(row.blocks) || x.blocks[row.blocks[other]].len()+x.blocks[block].len() > depth/2 {
			continue
		}
		low, high := min(k, other), max(k, other)
		into, from := row.blocks[low], &x.blocks[row.blocks[high]]
		for left := from.taken; left != 0; left &= left - 1 {
			i := bits.TrailingZeros32(left)
			x.put(into, from.ids[i], from.keys[i], from.fits[i])
		}
		x.blocks[into].valid &= from.valid
		for l := range row.fits {
			row.fits[l][low] |= row.fits[l][high]
		}
		x.retire(r, high)
		return
	}
	if x.blocks[block].taken == 0 && (len(row.blocks) > 1 || len(x.rows) > 1) {
		x.retire(r, k)
	}
}

// retire takes a block out of its row, and a row without blocks out of the list.
func (x *index) retire(r, k int) {
	row := x.rows[r]
	block := row.blocks[k]
	x.blocks[block].taken, x.blocks[block].fits = 0, [depth]uint64{}
	x.idle = append(x.idle, block)
	if row.remove(k); len(row.blocks) > 0 {
		return
	}
	x.rows = slices.Delete(x.rows, r, r+1)
	x.rowLow.remove(r, r+1)
	for l := range x.rowFits {
		x.rowFits[l] = slices.Delete(x.rowFits[l], r, r+1)
	}
}
