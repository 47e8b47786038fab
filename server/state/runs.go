package state

import (
	"iter"
	"maps"
	"math/bits"
	"slices"
	"sort"
	"sync"
)

// indexed is an entry of runs: what it is found by, and whether it says that what was
// there is gone. Two of which neither is before the other are about the same thing. One whose
// head is lower than another's is before it.
type indexed[E any] interface {
	before(E) bool
	gone() bool
	head() uint64
}

// runs is an ordered set that is written in batches, copied after nearly every one, and seldom
// read. What is written is gathered, and put in order when it is asked for, or there is
// much of it: then it is a sorted run, that is never changed, and goes before older ones. A
// run is merged with the one before it when that is not twice as long, so there are few,
// and an entry is moved some six times on the way to a million. A copy shares everything,
// and what was put in order for one is so for the set and others.
type runs[E indexed[E]] struct {
	sealed [][]E // oldest first
	fresh  []E   // not in order yet: by the order of writing. Copies share the array
	live   int   // how many things there are
	order  *order[E]
}

// order has what somebody has asked for: the runs with the first so many of fresh.
type order[E indexed[E]] struct {
	mu     sync.Mutex
	sealed map[int][][]E
}

// mostFresh bounds what is gathered: putting it in order takes half a millisecond.
const mostFresh = 1 << 14

// add writes an entry of something that is not there.
func (r *runs[E]) add(e E) { r.write(e, 1) }

// remove writes an entry that says that what is there is gone.
func (r *runs[E]) remove(e E) { r.write(e, -1) }

func (r *runs[E]) write(e E, more int) {
	r.live += more
	if r.fresh = append(r.fresh, e); len(r.fresh) >= mostFresh {
		r.sealed, r.fresh, r.order = r.sorted(), nil, nil
	}
}

// sorted gives the runs with everything in them.
func (r *runs[E]) sorted() [][]E {
	if len(r.fresh) == 0 {
		return r.sealed
	}
	if r.order == nil {
		return push(r.sealed, r.fresh, r.live)
	}
	r.order.mu.Lock()
	defer r.order.mu.Unlock()
	sealed, known := r.order.sealed[len(r.fresh)]
	if !known {
		sealed = push(r.sealed, r.fresh, r.live)
		r.order.sealed[len(r.fresh)] = sealed
	}
	return sealed
}

// adopt takes over what was put in order for a copy, unless that is being done just now.
func (r *runs[E]) adopt() {
	if r.order == nil || !r.order.mu.TryLock() {
		return
	}
	defer r.order.mu.Unlock()
	if len(r.order.sealed) > 0 {
		n := slices.Max(slices.Collect(maps.Keys(r.order.sealed)))
		r.sealed, r.fresh, r.order = r.order.sealed[n], r.fresh[n:], nil
	}
}

// push puts a run on top of what was written, in its order; the set will have so many things.
func push[E indexed[E]](sealed [][]E, written []E, live int) [][]E {
	run := inOrder(written)
	if slices.ContainsFunc(run, E.gone) {
		run = newestOf(run)
	}
	sealed = append(slices.Clip(sealed), run) // copies have the list
	for n := len(sealed); n > 1 && (len(sealed[n-2]) < 2*len(run) || n == 2 && len(sealed[0])+len(run) > 2*live+mostFresh); n-- {
		run = merge(sealed[n-2], run, n == 2)
		sealed = append(sealed[:n-2:n-2], run)
	}
	return sealed
}

// inOrder gives entries in order, those about the same thing in that of their writing. Heads
// are mostly random: each entry goes where those with such a head go, and has few neighbours.
func inOrder[E indexed[E]](written []E) []E {
	width := bits.Len(uint(len(written)) / 4)
	shift := 64 - width
	begins := make([]int32, 1<<width+1) // of those with a head's first bits; below, where the next of them goes
	for _, e := range written {
		begins[e.head()>>shift+1]++
	}
	for i := range 1 << width {
		begins[i+1] += begins[i]
	}
	out := make([]E, len(written))
	next := slices.Clone(begins)
	for _, e := range written {
		at := &next[e.head()>>shift]
		out[*at] = e
		*at++
	}
	for i := range 1 << width {
		if same := out[begins[i]:begins[i+1]]; len(same) > 1 {
			slices.SortStableFunc(same, compare) // few: insertion
		}
	}
	return out
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
	r.adopt()
	if r.order == nil {
		r.order = &order[E]{sealed: map[int][][]E{}}
	}
	return runs[E]{sealed: r.sealed, fresh: slices.Clip(r.fresh), live: r.live, order: r.order}
}

// find gives the entry of what key is about.
func (r *runs[E]) find(key E) (e E, ok bool) {
	for _, run := range slices.Backward(r.sorted()) {
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
		sealed := r.sorted()
		heads := make([][]E, 0, len(sealed)) // what is left of each run, oldest first
		for _, run := range sealed {
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
