package scheduler

import (
	"cmp"
	"slices"
	"strings"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// largest finds out what of an ask is more than any node has, even when nothing is on it:
// to free something would not help. Nodes of the same hardware are looked at once.
type largest struct {
	run      *run
	machines map[*topology.Machine]bool
	// lacking has, by resource, on how many of the machines too little is, and the most
	// that one of those has.
	lacking map[string]*lackingEver
}

type lackingEver struct {
	machines int
	most     *berthv1.Shortfall
}

func newLargest(r *run) *largest {
	return &largest{run: r, machines: map[*topology.Machine]bool{}, lacking: map[string]*lackingEver{}}
}

// look takes in a node's hardware.
func (l *largest) look(m *topology.Machine) {
	if l.machines[m] {
		return
	}
	l.machines[m] = true
	empty := topology.NewUsage(m)
	l.note(1, l.run.lackingOutside(empty))
	if l.run.g.policy != single || len(m.Cells) < 2 {
		l.note(1, l.run.lackingInside(empty))
		return
	}
	var all []*berthv1.Shortfall
	for i := range m.Cells {
		all = append(all, l.run.lackingIn(empty, []int{i}, int32(m.Cells[i].ID))...)
	}
	l.note(len(m.Cells), all)
}

// note takes in what a machine lacks in that many places: a resource of which there is
// too little in each of them.
func (l *largest) note(places int, short []*berthv1.Shortfall) {
	slices.SortStableFunc(short, func(a, b *berthv1.Shortfall) int {
		return cmp.Or(strings.Compare(a.GetResource(), b.GetResource()), cmp.Compare(b.GetFree(), a.GetFree()))
	})
	for from := 0; from < len(short); {
		most, to := short[from], from
		for to < len(short) && short[to].GetResource() == most.GetResource() {
			to++
		}
		if to-from >= places && most.GetResource() != topology.Port {
			e := l.lacking[most.GetResource()]
			if e == nil {
				e = &lackingEver{most: most}
				l.lacking[most.GetResource()] = e
			}
			if e.machines++; most.GetFree() > e.most.GetFree() {
				e.most = most
			}
		}
		from = to
	}
}

// words say what no node has enough of, by resource.
func (l *largest) words() (out []string) {
	for _, e := range l.lacking {
		if e.machines >= len(l.machines) {
			out = append(out, l.run.g.largestWords(e.most))
		}
	}
	slices.Sort(out)
	return out
}

// largestWords says how much of something there is at most: "no cell has more than 16 cores".
func (g *Group) largestWords(s *berthv1.Shortfall) string {
	place := "no node has "
	inCells := []string{topology.Cores, topology.CPU, topology.Memory, topology.HugePages}
	if s.GetCell() != topology.NodeWide || g.policy == single && slices.Contains(inCells, s.GetResource()) {
		place = "no cell has "
	}
	free := s.GetFree()
	what := ""
	switch s.GetResource() {
	case topology.Cores:
		what = plural(free, "core")
		if g.total.threads > 0 {
			what = plural(free, "thread")
		}
	case topology.CPU:
		what = milliWords(free) + " of CPU"
	case topology.Memory:
		what = memoryWords(free) + " of memory"
	case topology.Disk:
		what = memoryWords(free) + " of disk"
	case topology.HugePages:
		what = plural(free, "hugepage") + " of the size asked for"
	default:
		what = plural(free, s.GetResource()) + " of the kind asked for"
	}
	if free == 0 {
		_, what, _ = strings.Cut(what, " ")
		return place + "any " + what
	}
	return place + "more than " + what
}
