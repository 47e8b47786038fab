package state

import (
	"iter"
	"slices"
	"sort"
)

// indexed is an entry of runs: what it is found by, and whether it says that what was
// there is gone. Two of which neither is before the other are about the same thing.
type indexed[E any] interface {
	before(E) bool
	gone() bool
}

// runs is an ordered set that is written in batches and copied after nearly every one:
// sorted runs of entries, that are never changed, of which the newer ones go before. A
// run is merged with the one before it when that is not twice as long, so there are few,
// and an entry is moved some twelve times on the way to a million; in a tree, a copy
// makes every write copy a whole node. A copy shares the runs.
type runs[E indexed[E]] struct {
	sealed [][]E // oldest first
	fresh  []E   // not sorted yet, in the order of their writing; a copy has none
	live   int   // how many things there are
}

// mostFresh bounds the entries that are not sorted, and so how long a copy takes.
const mostFresh = 2048

// add writes an entry of something that is not there.
func (r *runs[E]) add(e E) { r.write(e, 1) }

// remove writes an entry that says that what is there is gone.
func (r *runs[E]) remove(e E) { r.write(e, -1) }

func (r *runs[E]) write(e E, more int) {
	r.live += more
	if r.fresh = append(r.fresh, e); len(r.fresh) >= mostFresh {
		r.seal()
	}
}

// load writes entries of things that are not there, all at once. They belong to it.
func (r *runs[E]) load(entries []E) {
	r.live += len(entries)
	r.seal()
	r.push(entries)
}

// seal sorts what is fresh into the runs.
func (r *runs[E]) seal() {
	if len(r.fresh) > 0 {
		r.push(slices.Clone(r.fresh))
		r.fresh = r.fresh[:0]
	}
}

// push makes a run of entries in the order of their writing.
func (r *runs[E]) push(run []E) {
	if slices.ContainsFunc(run, E.gone) {
		slices.SortStableFunc(run, compare)
		run = newestOf(run)
	} else {
		slices.SortFunc(run, compare) // nothing is there twice
	}
	sealed := append(slices.Clip(r.sealed), run) // copies have the list
	for n := len(sealed); n > 1 && (len(sealed[n-2]) < 2*len(run) || n == 2 && len(sealed[0])+len(run) > 2*r.live+mostFresh); n-- {
		run = merge(sealed[n-2], run, n == 2)
		sealed = append(sealed[:n-2:n-2], run)
	}
	r.sealed = sealed
}

func compare[E indexed[E]](a, b E) int {
	switch {
	case a.before(b):
		return -1
	case b.before(a):
		return 1
	}
	return 0
}

// newestOf leaves the last of the entries about the same thing.
func newestOf[E indexed[E]](run []E) []E {
	n := 0
	for i, e := range run {
		if i+1 == len(run) || e.before(run[i+1]) {
			run[n], n = e, n+1
		}
	}
	return run[:n]
}

// merge makes one run of two. last: there is no older one, and what is gone can be
// forgotten.
func merge[E indexed[E]](old, young []E, last bool) []E {
	out := make([]E, 0, len(old)+len(young))
	for len(old) > 0 && len(young) > 0 {
		e := young[0]
		switch {
		case old[0].before(e):
			out, old = append(out, old[0]), old[1:]
			continue
		case !e.before(old[0]):
			old = old[1:]
		}
		if young = young[1:]; !last || !e.gone() {
			out = append(out, e)
		}
	}
	out = append(out, old...)
	for _, e := range young {
		if !last || !e.gone() {
			out = append(out, e)
		}
	}
	return out
}

func (r *runs[E]) len() int { return r.live }

// copy shares everything with the set.
func (r *runs[E]) copy() runs[E] {
	r.seal()
	return runs[E]{sealed: r.sealed, live: r.live}
}

// find gives the entry of what key is about.
func (r *runs[E]) find(key E) (e E, ok bool) {
	r.seal() // of the live one; a copy has nothing fresh
	for _, run := range slices.Backward(r.sealed) {
		if i := search(run, key); i < len(run) && !key.before(run[i]) {
			return run[i], !run[i].gone()
		}
	}
	return e, false
}

// search gives the index of the first entry that is not before key.
func search[E indexed[E]](run []E, key E) int {
	return sort.Search(len(run), func(i int) bool { return !run[i].before(key) })
}

// from iterates in order, starting at the first that is not before key.
func (r *runs[E]) from(key E) iter.Seq[E] {
	return func(yield func(E) bool) {
		r.seal()
		heads := make([][]E, 0, len(r.sealed)) // what is left of each run, oldest first
		for _, run := range r.sealed {
			if i := search(run, key); i < len(run) {
				heads = append(heads, run[i:])
			}
		}
		for len(heads) > 0 {
			next := heads[0][0]
			for _, h := range heads[1:] {
				if !next.before(h[0]) {
					next = h[0] // it is younger
				}
			}
			left := heads[:0]
			for _, h := range heads {
				if !next.before(h[0]) {
					h = h[1:]
				}
				if len(h) > 0 {
					left = append(left, h)
				}
			}
			if heads = left; !next.gone() && !yield(next) {
				return
			}
		}
	}
}
