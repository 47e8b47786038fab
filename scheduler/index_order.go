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
	// eights have all orders at the end, and before them every 8th of them, and so on up to
	// the first eight. They are filled up with beyond.
	eights []eight
	n      int
	// nodes lie apart: they are hardly ever looked at.
	nodes []*berthv1.Node
}

// eight fills two lines of memory.
type eight [8]order

// beyond is at the end of the order.
var beyond = order{math.MaxUint64, math.MaxUint64}

func (l *lows) at(i int) bound { return bound{*l.order(i), l.nodes[i]} }

func (l *lows) order(i int) *order { return &l.eights[l.leaves()+i/8][i%8] }

// leaves is where those eights begin that have all orders: of 1 + 8 + ... + 8^n eights the
// last 8^n.
func (l *lows) leaves() int { return len(l.eights) / 8 }

func (l *lows) insert(i int, b bound) {
	l.nodes = slices.Insert(l.nodes, i, b.node)
	if l.n == 8*(len(l.eights)-l.leaves()) {
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

// grow makes room for eight times as many.
func (l *lows) grow() {
	old, leaves := l.eights, l.leaves()
	l.eights = make([]eight, 8*len(old)+1)
	for i := range l.eights {
		for k := range l.eights[i] {
			l.eights[i][k] = beyond
		}
	}
	copy(l.eights[l.leaves():], old[leaves:])
	l.raise(0)
}

// raise makes what lies before all orders anew, after those from the i-th on have changed.
func (l *lows) raise(i int) {
	for from := l.leaves(); from > 0; from /= 8 {
		i /= 8
		for k := i; k < 7*from+1; k++ {
			l.eights[from/8+k/8][k%8] = l.eights[from+k][0]
		}
	}
}

// upTo is the last that is not beyond a bound; the first, where all are. Nobody can
// foretell which way a search goes: so it has no branch that a processor would have to,
// and compares with eight at a time.
func (l *lows) upTo(o order, node *berthv1.Node) int {
	i := 0
	for from := 0; from < len(l.eights); from = 8*from + 1 {
		i = 8*i + l.eights[from+i].upTo(o)
	}
	i = min(i, l.n-1)
	for i > 0 && *l.order(i) == o && l.nodes[i] != node && l.nodes[i].GetId() > node.GetId() {
		i--
	}
	return i
}

// upTo is the last that is not beyond an order; the first, where all are.
func (e *eight) upTo(o order) int {
	return 7 - (o.before(&e[1]) + o.before(&e[2]) + o.before(&e[3]) + o.before(&e[4]) +
		o.before(&e[5]) + o.before(&e[6]) + o.before(&e[7]))
}

// before is 1 where a comes before b, else 0.
func (a order) before(b *order) int {
	_, less := bits.Sub64(a.tie, b.tie, 0)
	_, less = bits.Sub64(a.key, b.key, less)
	return int(less)
}
