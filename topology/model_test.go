package topology

import (
	"math/bits"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// usageIsTheSum adds, forces and removes at random. Whatever happened before, a usage is
// what forcing all that is held onto an empty one gives, byte for byte, and its counts
// are those of its bitmaps.
func usageIsTheSum(t *rapid.T) {
	m := twoCells(&testing.T{})
	var slab Slab
	u := slab.NewUsage(m)
	var held []Grant
	for range rapid.IntRange(1, 30).Draw(t, "steps") {
		switch rapid.IntRange(0, 3).Draw(t, "step") {
		case 0, 1:
			g := drawGrant(t)
			g.WholeNode = rapid.IntRange(0, 15).Draw(t, "whole") == 15
			if u.Add(&g) == nil {
				held = append(held, g)
			}
		case 2:
			g := drawGrant(t)
			u.Force(&g)
			held = append(held, g)
		case 3:
			if len(held) > 0 {
				i := rapid.IntRange(0, len(held)-1).Draw(t, "which")
				g := held[i].Clone()
				u.Remove(&g)
				held = slices.Delete(held, i, i+1)
			}
		}
		fresh := NewUsage(m)
		for _, i := range rapid.Permutation(indexes(len(held))).Draw(t, "in order") {
			fresh.Force(&held[i])
		}
		requireSame(t, u, fresh)
		requireCounted(t, u)
	}
}

func indexes(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

// requireCounted counts anew what the usage counts as it goes.
func requireCounted(t *rapid.T, u *Usage) {
	for i := range u.machine.Cells {
		cell, free := &u.machine.Cells[i], u.FreeThreads(i)
		cores := 0
		for k := range cell.Cores {
			if cell.Cores[k].Whole && free.ContainsAll(cell.Cores[k].Threads) {
				cores++
			}
		}
		at := &u.machine.layout.cells[i]
		marked := 0
		for _, w := range u.words[at.cores : at.cores+at.coreWords] {
			marked += bits.OnesCount64(w)
		}
		if c := &u.cells[i]; int(c.threads) != free.Count() || int(c.cores) != cores || marked != cores {
			t.Fatalf("cell %d: %d threads, %d cores, %d marked; counted %d and %d", i, c.threads, c.cores, marked, free.Count(), cores)
		}
	}
	for kind := range u.machine.Kinds {
		for cell := -1; cell < len(u.machine.Cells); cell++ {
			free := 0
			for i := range u.machine.Devices {
				if d := &u.machine.Devices[i]; d.kind == kind && d.Cell == cell && u.FreeDevice(i) == WholeDevice {
					free++
				}
			}
			if got := u.FreeDevices(kind, cell); got != free {
				t.Fatalf("kind %d in cell %d: %d free, counted %d", kind, cell, got, free)
			}
		}
	}
}

func TestUsageIsTheSum(t *testing.T) { rapid.Check(t, usageIsTheSum) }

func FuzzUsage(f *testing.F) { f.Fuzz(rapid.MakeFuzz(usageIsTheSum)) }

// A PortSet behaves as a set of numbers does.
func TestPortSetIsASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s, reserved PortSet
		held := map[uint16]bool{}
		port := rapid.SampledFrom([]uint16{0, 1, 62, 63, 64, 65, 127, 128, 4095, 4096, 65472, 65534, 65535})
		for range rapid.IntRange(0, 20).Draw(t, "steps") {
			p := port.Draw(t, "port")
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				s.Remove(p)
				delete(held, p)
			case 1:
				reserved.Add(p)
			default:
				s.Add(p)
				held[p] = true
			}
		}
		for p := range 1 << 16 {
			if s.Contains(uint16(p)) != held[uint16(p)] {
				t.Fatalf("port %d: %v", p, s.Contains(uint16(p)))
			}
		}
		first, last := port.Draw(t, "first"), port.Draw(t, "last")
		want := uint16(0)
		for p := int(first); p <= int(last) && want == 0; p++ {
			if !s.Contains(uint16(p)) && !reserved.Contains(uint16(p)) {
				want = uint16(p)
			}
		}
		if got := s.NextFree(&reserved, first, last); got != want {
			t.Fatalf("next free of %d-%d: %d, want %d", first, last, got, want)
		}
	})
}

// A whole node is held by nobody else.
func TestWholeNode(t *testing.T) {
	one := Grant{Cells: []CellGrant{{Cell: 0, MemoryMiB: 1}}}
	all := Grant{Cells: []CellGrant{{Cell: 1, MemoryMiB: 1}}, WholeNode: true}
	u := NewUsage(twoCells(t))
	for _, step := range []struct {
		what string
		do   func() error
		want string
	}{
		{"whole on an empty node", func() error { return u.Add(&all) }, ""},
		{"one beside it", func() error { return u.Add(&one) }, "node: node (held as a whole): 1 wanted, 0 free"},
		{"another whole", func() error { return u.Add(&all) }, "node: node (held as a whole): 1 wanted, 0 free"},
		{"one after it", func() error { u.Remove(&all); return u.Add(&one) }, ""},
		{"whole beside one", func() error { return u.Add(&all) }, "node: node (as a whole): 1 wanted, 0 free"},
		{"whole after it", func() error { u.Remove(&one); return u.Add(&all) }, ""},
	} {
		if err := step.do(); (err == nil) != (step.want == "") || err != nil && err.Error() != step.want {
			t.Errorf("%s: %v, want %q", step.what, err, step.want)
		}
	}
}
