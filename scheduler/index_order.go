package scheduler

import (
	"cmp"
	"math"
	"math/bits"
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// order is a place in the order of entries: key, then the stable hash. Where both are
// equal, the node's id decides.
type order struct{ key, tie uint64 }

// bound is an order with the node: no two entries have the same.
type bound struct {
	order
	node *berthv1.Node
}

func (a *bound) compare(b *bound) int {
	switch {
	case a.key != b.key:
		return cmp.Compare(a.key, b.key)
	case a.tie != b.tie:
		return cmp.Compare(a.tie, b.tie)
	case a.node == b.node:
		return 0
	}
	return cmp.Compare(a.node.GetId(), b.node.GetId())
}

// lows are ascending bounds, to be searched.
type lows struct {
	// levels have, from the last to the first, all orders; every 8th of them; every 8th of
	// those; and so on down to 8 at most. Each is filled up with beyond to eights.
	levels [][]eight
	n      int
	// nodes lie apart: they are hardly ever looked at.
	nodes []*berthv1.Node
}

// eight fills two lines of memory.
type eight [8]order

// beyond is at the end of the order.
var beyond = order{math.MaxUint64, math.MaxUint64}

func (l *lows) at(i int) bound { return bound{*l.order(i), l.nodes[i]} }

func (l *lows) order(i int) *order { return &l.levels[len(l.levels)-1][i/8][i%8] }

func (l *lows) insert(i int, b bound) {
	l.nodes = slices.Insert(l.nodes, i, b.node)
	if l.n == l.size() {
		l.grow()
	}
	for k := l.n; k > i; k-- {
		*l.order(k) = *l.order(k - 1)
	}
	*l.order(i) = b.order
	l.n++
	l.raise(i)
}

// remove takes those from the first index to before the second out.
func (l *lows) remove(from, to int) {
	l.nodes = slices.Delete(l.nodes, from, to)
	for k := from; k < l.n; k++ {
		if next := k + to - from; next < l.n {
			*l.order(k) = *l.order(next)
		} else {
			*l.order(k) = beyond
		}
	}
	l.n -= to - from
	l.raise(from)
}

func (l *lows) clear() { l.remove(0, l.n) }

func (l *lows) size() int {
	if len(l.levels) == 0 {
		return 0
	}
	return 8 * len(l.levels[len(l.levels)-1])
}

// grow makes room for eight times as many.
func (l *lows) grow() {
	old, size := l.levels, max(8, 8*l.size())
	l.levels = nil
	for n := size / 8; n > 0; n /= 8 {
		level := make([]eight, n)
		for i := range level {
			for k := range level[i] {
				level[i][k] = beyond
			}
		}
		l.levels = append(l.levels, level)
	}
	slices.Reverse(l.levels)
	if len(old) > 0 {
		copy(l.levels[len(l.levels)-1], old[len(old)-1])
	}
	l.raise(0)
}

// raise makes the other levels anew, after the orders from the i-th on have changed.
func (l *lows) raise(i int) {
	for n := len(l.levels) - 1; n > 0; n-- {
		i /= 8
		for k := i; k < len(l.levels[n]); k++ {
			l.levels[n-1][k/8][k%8] = l.levels[n][k][0]
		}
	}
}

// upTo is the last that is not beyond a bound; the first, where all are. Nobody can
// foretell which way a search goes: so it has no branch that a processor would have to,
// and compares with eight at a time.
func (l *lows) upTo(o order, node *berthv1.Node) int {
	i := 0
	for _, level := range l.levels {
		i = 8*i + level[i].upTo(o)
	}
	i = min(i, l.n-1)
	for i > 0 && *l.order(i) == o && l.nodes[i] != node && l.nodes[i].GetId() > node.GetId() {
		i--
	}
	return i
}

// upTo is the last that is not beyond an order; the first, where all are.
func (e *eight) upTo(o order) int {
	n := 0
	for i := 1; i < len(e); i++ {
		_, less := bits.Sub64(o.tie, e[i].tie, 0)
		_, less = bits.Sub64(o.key, e[i].key, less)
		n -= int(less)
	}
	return n + len(e) - 1
}
