package plan

import (
	"cmp"
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
)

// identical are asks that the scheduler need not tell apart.
type identical struct {
	group   *scheduler.Group
	asks    []Ask // placed in this order
	left    int   // instances that they ask for
	problem error // why the group cannot be placed at all
	// penalised nodes are rather not taken.
	penalised []string
	// replaces says that some stand in for running ones; moves: off drained nodes.
	replaces, moves bool
	// resizes: those may go on with other limits, and need not be replaced.
	resizes bool
	// stopsFirst: those have to end before anything is placed.
	stopsFirst bool
	// preferred is a node that is taken where it has room.
	preferred string
	// overQuota: what is left is kept from being placed by the namespace's quota alone.
	overQuota bool
}

func (i *identical) name() string { return i.asks[0].Group.GetName() }

// identicals groups asks: instances of one group that may go anywhere, those that had
// better not go to some node, those that stand in for running ones, and one for every
// node of a system job. What of a gang is to be placed stays together.
func identicals(asks []Ask, compile func(*Ask) (*scheduler.Group, error)) []*identical {
	type kind struct {
		group     string
		penalised string
		perNode   bool
		replaces  bool
		moves     bool
		stops     bool
		resizes   bool
		preferred string
		canary    bool
		job       *berthv1.Job
	}
	var out []*identical
	index := map[kind]*identical{}
	for _, a := range asks {
		k := kind{a.Group.GetName(), a.Penalised, a.Node != "", a.Replaces, a.Moves, a.StopsFirst, a.Resizes, a.Preferred, a.Canary, a.Job}
		if a.Group.GetGang() {
			k = kind{group: a.Group.GetName(), job: a.Job}
		}
		same := index[k]
		if same == nil {
			same = &identical{stopsFirst: a.StopsFirst, resizes: a.Resizes, preferred: a.Preferred}
			same.group, same.problem = compile(&a)
			index[k] = same
			out = append(out, same)
		}
		same.asks = append(same.asks, a)
		same.left += a.Count
		same.replaces, same.moves = same.replaces || a.Replaces, same.moves || a.Moves
		if a.Penalised != "" && !slices.Contains(same.penalised, a.Penalised) {
			same.penalised = append(same.penalised, a.Penalised)
		}
	}
	// Those that replace nothing first: they are missed already.
	slices.SortStableFunc(out, func(a, b *identical) int { return cmp.Compare(a.rank(), b.rank()) })
	return out
}

// rank orders what is placed: what is missed, what is placed beside, what replaces.
func (i *identical) rank() int {
	switch {
	case i.replaces:
		return 2
	case i.asks[0].Canary:
		return 1
	}
	return 0
}

// ask is what the scheduler gets for the first n of them.
func (i *identical) ask(n int, silent bool) *scheduler.Ask {
	ask := &scheduler.Ask{Group: i.group, Count: n, Silent: silent, Penalised: i.penalised}
	for k := 0; i.replaces && !i.stopsFirst && k < min(n, len(i.asks)); k++ {
		if i.asks[k].Replaces {
			ask.Leaving = append(ask.Leaving, i.asks[k].Previous.GetNodeId())
		}
	}
	if i.asks[0].Node != "" {
		ask.Nodes = make([]string, n)
		for k := range n {
			ask.Nodes[k] = i.asks[k].Node
		}
	}
	return ask
}

// take removes the ask that a placement answers: the first, or the one of its node.
func (i *identical) take(p scheduler.Placement) Ask {
	at := 0
	if i.asks[0].Node != "" {
		at = slices.IndexFunc(i.asks, func(a Ask) bool { return a.Node == p.NodeID })
	}
	a := i.asks[at]
	i.left--
	switch {
	case a.Count > 1:
		i.asks[at].Index++
		i.asks[at].Count--
		a.Count = 1
	case at == 0:
		i.asks = i.asks[1:]
	default:
		i.asks = slices.Delete(i.asks, at, at+1)
	}
	return a
}
