package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// costOf is what the fitter says that its choice costs, as brute has it.
func costOf(c *setCost) []int {
	out := []int{int(c.span), c.pick.outside, int(c.pick.distance), int(c.pick.share)}
	out = append(out, c.pick.broken[:]...)
	return append(out, c.empty, int(c.weight))
}

// A group fits exactly when there is a way to fit it, and then lies where it costs least.
func fitIsExact(t *rapid.T) {
	node := drawNode(t)
	m, err := MachineOf(node)
	if err != nil {
		t.Fatal(err)
	}
	u := topology.NewUsage(m)
	var x fitter
	for range rapid.IntRange(1, 4).Draw(t, "groups") {
		spec := drawGroup(t)
		g, err := Compile(&berthv1.Job{Name: "j", Groups: []*berthv1.Group{spec}}, spec)
		if err != nil {
			if !strings.Contains(err.Error(), "evenly") && !strings.Contains(err.Error(), "near") {
				t.Fatal(err)
			}
			continue
		}
		b := brute{node, u, m, g, spec}
		cost, set, fits := b.best()
		whole := b.bestWhole()
		before := fmt.Sprintf("%+v", *u)
		x.search.found = false
		choice, ok := x.fit(u, g)
		if ok != fits {
			t.Fatalf("fits: %v, brute force: %v %v\n%v\n%v\n%s", ok, fits, set, node, spec, before)
		}
		if !ok {
			if after := fmt.Sprintf("%+v", *u); after != before {
				t.Fatalf("a vain fit changed the usage\n%s\n%s", before, after)
			}
			continue
		}
		if x.search.found && (!slices.Equal(costOf(&x.search.lowest), cost) || !slices.Equal(x.search.set, set)) {
			t.Fatalf("cells %v at %v, brute force %v at %v\n%v\n%v\n%s", x.search.set, costOf(&x.search.lowest), set, cost, node, spec, before)
		}
		if !x.search.found {
			set = []int{whole}
		}
		a := (&assignments{g: g}).of(choice, &fleetNode{node: node, usage: u})
		requireAsked(t, &b, a, set)
		grant, err := GrantOf(a)
		if err != nil {
			t.Fatal(err)
		}
		u.Remove(&grant)
		if after := fmt.Sprintf("%+v", *u); after != before {
			t.Fatalf("taken back, but not the same\n%s\n%s", before, after)
		}
		if err := u.Add(&grant); err != nil {
			t.Fatalf("%v: %v", a, err)
		}
	}
}

// bestWhole is the best of the cells that hold all of a group without devices, whatever
// of it is aligned; -1: none does.
func (b *brute) bestWhole() int {
	best, lowest := -1, []int(nil)
	for c := range b.m.Cells {
		if one := []int{c}; b.cpu(one, 1) && b.memory(one, 1) && b.pages(one, 1) {
			cost, ok := b.in(one)
			if ok && (best < 0 || slices.Compare(cost, lowest) < 0) {
				best, lowest = c, cost
			}
		}
	}
	return best
}

// requireAsked adds up what is granted.
func requireAsked(t *rapid.T, b *brute, a *berthv1.Assignment, set []int) {
	if _, err := b.g.asAsked(b.m, b.node, a); err != nil {
		t.Fatalf("%v\n%v\n%v\n%v", err, b.node, b.spec, a)
	}
	n := int(b.spec.GetTopology().GetCells())
	milli, memory := map[int]int{}, map[int]int{}
	for _, task := range a.GetTasks() {
		for _, c := range task.GetCells() {
			i := b.m.CellIndex(c.GetCell())
			cpus, _ := topology.ParseCPUSet(c.GetCpus())
			milli[i] += int(c.GetCpuMilli())
			memory[i] += int(c.GetMemoryMib())
			if !slices.Contains(set, i) && (b.spec.GetTopology().GetPolicy() != "none" || n > 1) &&
				(b.aligned("cpu") && (c.GetCpuMilli() > 0 || !cpus.Empty()) || b.aligned("memory") && c.GetMemoryMib() > 0 || b.aligned("hugepages") && len(c.GetHugepages()) > 0) {
				t.Fatalf("outside of %v: %v\n%v", set, a, b.spec)
			}
		}
	}
	for _, i := range set {
		if n > 1 && b.aligned("memory") && memory[i] != int(b.g.total.memory)/n && memory[i] != (int(b.g.total.memory)+n-1)/n {
			t.Fatalf("not even: %v\n%v", a, b.spec)
		}
		if n > 1 && b.aligned("cpu") && milli[i] != int(b.g.total.milli)/n && milli[i] != (int(b.g.total.milli)+n-1)/n {
			t.Fatalf("not even: %v\n%v", a, b.spec)
		}
	}
}

func TestFitAgainstBruteForce(t *testing.T) {
	for range 10 {
		rapid.Check(t, fitIsExact)
	}
}

func FuzzFit(f *testing.F) { f.Fuzz(rapid.MakeFuzz(fitIsExact)) }
