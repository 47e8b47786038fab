package scheduler

import (
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"testing"

	"pgregory.net/rapid"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// drawFleet draws a tiny fleet with something on it.
func drawFleet(t *rapid.T) *world {
	w := &world{t: &testing.T{}, f: NewFleet(), nodes: map[string]*berthv1.Node{}}
	threads := rapid.IntRange(1, 2).Draw(t, "threads")
	for i := range rapid.IntRange(1, 4).Draw(t, "nodes") {
		w.node(fmt.Sprintf("n%d", i), options{"node.rack": {rapid.SampledFrom([]string{"a", "b"}).Draw(t, "rack")}})
		for range rapid.IntRange(1, 3).Draw(t, "cells") {
			o := options{}
			if rapid.IntRange(0, 3).Draw(t, "reserve") == 0 {
				o["reserved"] = []string{fmt.Sprint(w.cpu)}
			}
			w.cell(fmt.Sprintf("%dx%d", rapid.IntRange(0, 2).Draw(t, "cores"), threads), fmt.Sprint(rapid.IntRange(0, 4).Draw(t, "memory")*100), o)
		}
	}
	w.flush()
	for range rapid.IntRange(0, 4).Draw(t, "before") {
		w.ask("before", drawAsk(t))
	}
	return w
}

func drawAsk(t *rapid.T) options {
	o := options{
		"mem":    {fmt.Sprint(rapid.IntRange(1, 6).Draw(t, "mem") * 50)},
		"policy": {rapid.SampledFrom([]string{"none", "best-effort", "restricted", "single"}).Draw(t, "policy")},
		"type":   {rapid.SampledFrom([]string{"service", "batch"}).Draw(t, "type")},
	}
	switch n := []string{fmt.Sprint(rapid.IntRange(1, 3).Draw(t, "n"))}; rapid.IntRange(0, 2).Draw(t, "kind") {
	case 0:
		o["cores"] = n
	case 1:
		o["threads"] = n
	case 2:
		o["cpu"] = []string{fmt.Sprint(rapid.IntRange(1, 9).Draw(t, "cpu") * 250)}
	}
	if rapid.IntRange(0, 3).Draw(t, "ports") == 0 {
		o["port"] = []string{rapid.SampledFrom([]string{"8080", "8081", "0"}).Draw(t, "port")}
	}
	return o
}

// bruteFits looks at every set of cells and every set of free threads in it.
func bruteFits(u *topology.Usage, g *Group) bool {
	for i := range g.ports {
		if p := g.ports[i].static; p != 0 && !u.PortFree(uint16(p)) {
			return false
		}
	}
	limit := len(u.Machine().Cells)
	switch g.policy {
	case single:
		limit = 1
	case restricted:
		empty := topology.NewUsage(u.Machine())
		for k := limit; k >= 1; k-- {
			if bruteFitsIn(empty, g, k) {
				limit = k
			}
		}
	}
	return bruteFitsIn(u, g, limit)
}

func bruteFitsIn(u *topology.Usage, g *Group, limit int) bool {
	for set := uint(1); set < 1<<len(u.Machine().Cells); set++ {
		if bits.OnesCount(set) <= limit && bruteFitsInCells(u, g, set) {
			return true
		}
	}
	return false
}

// bruteFitsInCells says whether a group fits into a set of cells.
func bruteFitsInCells(u *topology.Usage, g *Group, set uint) bool {
	m := u.Machine()
	var free, cores []topology.CPUSet
	var milli, memory uint64
	for i := range m.Cells {
		if set&(1<<i) == 0 {
			continue
		}
		memory += u.FreeMemory(i)
		milli += u.FreeMilli(i)
		for cpu := range u.FreeThreads(i).All() {
			free = append(free, topology.NewCPUSet(cpu))
		}
		for _, c := range m.Cells[i].Cores {
			if u.FreeThreads(i).ContainsAll(c.Threads) {
				cores = append(cores, c.Threads)
			}
		}
	}
	switch {
	case memory < g.total.memory:
		return false
	case g.total.milli > 0:
		return milli >= g.total.milli
	case g.total.threads > 0:
		return bruteUnits(u, free, g.total.threads)
	}
	return bruteUnits(u, cores, g.total.cores)
}

// bruteUnits tries every n of the units against the cells' CPU capacity.
func bruteUnits(u *topology.Usage, units []topology.CPUSet, n int) bool {
	for pick := uint(0); pick < 1<<len(units); pick++ {
		if bits.OnesCount(pick) != n {
			continue
		}
		ok := true
		for i := range u.Machine().Cells {
			taken := 0
			for k := range units {
				if pick&(1<<k) != 0 {
					taken += units[k].CountCommon(u.Machine().Cells[i].Schedulable)
				}
			}
			ok = ok && uint64(taken)*1000 <= u.FreeMilli(i)
		}
		if ok {
			return true
		}
	}
	return false
}

// bruteOrder is the order of score.go, worked out anew: nodes in use, then cells in use
// where one cell must do, then the least left, a core being worth 4 GiB.
func bruteOrder(u *topology.Usage, g *Group, used bool) string {
	left := func(cells ...int) string {
		tier, weight := 0, uint64(0)
		for _, i := range cells {
			weight += u.FreeMilli(i) + u.FreeMemory(i)*1000/4096
		}
		if !used {
			tier = 2
		} else if len(cells) == 1 && g.policy == single && u.FreeMilli(cells[0]) == allMilli(u, cells[0]) && u.FreeMemory(cells[0]) == u.Machine().Cells[cells[0]].MemoryMiB {
			tier = 1
		}
		return fmt.Sprintf("%d %012d", tier, weight)
	}
	var all []int
	best := "none"
	for i := range u.Machine().Cells {
		all = append(all, i)
		if g.policy == single && bruteFitsInCells(u, g, 1<<i) {
			best = min(best, left(i))
		}
	}
	if g.policy == single {
		return best
	}
	return left(all...)
}

func allMilli(u *topology.Usage, cell int) uint64 {
	return uint64(u.Machine().Cells[cell].Threads) * 1000
}

// An ask is placed exactly when some node takes it, and then on the best of those.
func TestPlaceAgainstBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawFleet(t)
		o := drawAsk(t)
		ask := askOf(w.t, jobOf(w.t, "it", o), o)
		best, order := "none", map[string]string{}
		for i := range w.f.nodes {
			n := &w.f.nodes[i]
			if bruteFits(n.usage, ask.Group) {
				s := bruteOrder(n.usage, ask.Group, w.holds(n.node.GetId()))
				order[n.node.GetId()], best = s, min(best, s)
			}
		}
		placed, unplaced := Place(w.f, []*Ask{ask})
		if (len(placed) == 1) != (len(order) > 0) || len(placed)+len(unplaced) != 1 {
			t.Fatalf("%v: placed %v, feasible %v\n%s", o, placed, order, w.out.String())
		}
		if len(placed) == 1 && order[placed[0].NodeID] != best {
			t.Fatalf("%v: placed on %s, of %v", o, placed[0].NodeName, order)
		}
		if len(unplaced) == 1 {
			requireExplained(t, w.f, unplaced[0].Explanation)
		}
	})
}

// holds says whether something is granted on a node.
func (w *world) holds(id string) bool {
	return slices.ContainsFunc(w.placed, func(a *berthv1.Alloc) bool { return a.GetNodeId() == id })
}

func requireExplained(t *rapid.T, f *Fleet, e *berthv1.Explanation) {
	sum := uint32(0)
	for _, c := range e.GetFailed() {
		if c.GetCheck() == fits {
			t.Fatalf("not placed, but the explanation finds a node that fits: %v", e)
		}
		sum += c.GetNodes()
	}
	if sum != e.GetNodes() || int(e.GetNodes()) != f.Len() {
		t.Fatalf("%d nodes, %d looked at, %d failed: %v", f.Len(), e.GetNodes(), sum, e)
	}
}

// snapshot is everything that is left in a fleet.
func (w *world) snapshot() string {
	w.out.Reset()
	w.draw()
	for id, slot := range w.f.slots {
		_ = id
		u := w.f.nodes[slot].usage
		fmt.Fprintf(&w.out, "%s %d disk %d", w.f.nodes[slot].node.GetName(), packed.key(u, -1), u.FreeDisk())
		for p := uint16(8080); p < 8082; p++ {
			fmt.Fprintf(&w.out, " %v", u.PortFree(p))
		}
		fmt.Fprintf(&w.out, " %d\n", u.NextPort(0))
	}
	lines := slices.Sorted(func(yield func(string) bool) {
		for line := range splitLines(w.out.String()) {
			if !yield(line) {
				return
			}
		}
	})
	for key, i := range w.f.groups {
		lines = append(lines, fmt.Sprint(key, maps.Collect(i.on.all())))
	}
	slices.Sort(lines)
	return fmt.Sprint(lines)
}

func splitLines(s string) func(func(string) bool) {
	return func(yield func(string) bool) {
		start := 0
		for i := range s {
			if s[i] == '\n' {
				if !yield(s[start:i]) {
					return
				}
				start = i + 1
			}
		}
	}
}

func drawAsks(t *rapid.T, w *world) (asks []*Ask) {
	for i := range rapid.IntRange(1, 4).Draw(t, "asks") {
		o := drawAsk(t)
		o["count"] = []string{fmt.Sprint(rapid.IntRange(1, 4).Draw(t, "count"))}
		o["prio"] = []string{fmt.Sprint(rapid.IntRange(1, 2).Draw(t, "prio"))}
		if rapid.IntRange(0, 2).Draw(t, "gang") == 0 {
			o["gang"] = []string{""}
		}
		switch rapid.IntRange(0, 3).Draw(t, "spread") {
		case 0:
			o["spread"] = []string{"node.rack"}
		case 1:
			o["distinct"] = []string{rapid.SampledFrom([]string{"", "node.rack"}).Draw(t, "distinct")}
		}
		asks = append(asks, askOf(w.t, jobOf(w.t, fmt.Sprintf("job%d", i), o), o))
	}
	return asks
}

// Nothing is granted twice, gangs are whole, and taking back what was placed leaves the
// fleet as it was.
func TestPlaceIsSoundAndUndone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawFleet(t)
		before := w.snapshot()
		asks := drawAsks(t, w)
		placed, unplaced := Place(w.f, asks)
		count := map[int]int{}
		fresh := map[string]*topology.Usage{}
		for _, p := range placed {
			count[p.Ask]++
			w.placed = append(w.placed, &berthv1.Alloc{NodeId: p.NodeID, Assignment: p.Assignment})
		}
		for _, a := range w.placed {
			u := fresh[a.GetNodeId()]
			if u == nil {
				u = topology.NewUsage(w.f.nodes[w.f.slots[a.GetNodeId()]].usage.Machine())
				fresh[a.GetNodeId()] = u
			}
			g, err := GrantOf(a.GetAssignment())
			if err == nil {
				err = u.Add(&g)
			}
			if err != nil {
				t.Fatalf("%v on %s: %v", a.GetAssignment(), a.GetNodeId(), err)
			}
		}
		for _, u := range unplaced {
			count[u.Ask] += u.Count
			if asks[u.Ask].Group.Gang && u.Count != asks[u.Ask].Count {
				t.Fatalf("%d of a gang of %d not placed", u.Count, asks[u.Ask].Count)
			}
		}
		for i, a := range asks {
			if count[i] != a.Count {
				t.Fatalf("ask %d: %d answered of %d", i, count[i], a.Count)
			}
		}
		slices.Reverse(placed)
		for _, p := range placed {
			w.f.Undo(asks[p.Ask].Group, p)
		}
		if after := w.snapshot(); after != before {
			t.Fatalf("before:\n%s\nafter:\n%s", before, after)
		}
	})
}

// The same nodes and asks in another order give the same placements.
func TestPlaceDoesNotDependOnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawFleet(t)
		asks := drawAsks(t, w)
		other := NewFleet()
		for _, name := range rapid.Permutation(sortedKeys(w.nodes)).Draw(t, "nodes") {
			if _, err := other.UpsertNode(w.nodes[name]); err != nil {
				t.Fatal(err)
			}
		}
		for _, a := range rapid.Permutation(w.placed).Draw(t, "held") {
			other.ChangeAlloc(nil, a)
		}
		shuffled := rapid.Permutation(asks).Draw(t, "asks in order")
		words := func(f *Fleet, asks []*Ask) (out []string) {
			placed, unplaced := Place(f, asks)
			for _, p := range placed {
				out = append(out, asks[p.Ask].Group.Key.Job+" "+p.NodeID+" "+assignmentWords(p.Assignment))
			}
			for _, u := range unplaced {
				out = append(out, fmt.Sprint(asks[u.Ask].Group.Key.Job, u.Count, u.Explanation.GetFailed(), u.Explanation.GetNearest()))
			}
			slices.Sort(out)
			return out
		}
		if a, b := words(w.f, asks), words(other, shuffled); !slices.Equal(a, b) {
			t.Fatalf("in one order:\n%q\nin another:\n%q", a, b)
		}
	})
}

func sortedKeys(m map[string]*berthv1.Node) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
