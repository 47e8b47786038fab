package topology

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// drawLinked draws up to six devices with links between them.
func drawLinked(t *rapid.T) *Machine {
	m := Machine{Cells: []Cell{{ID: 0}, {ID: 1}}}
	for i := range rapid.IntRange(1, 6).Draw(t, "devices") {
		d := Device{ID: fmt.Sprint(i), Kind: rapid.SampledFrom([]string{"gpu", "gpu", "gpu", "vf"}).Draw(t, "kind"), Healthy: true,
			Cell: rapid.IntRange(0, 1).Draw(t, "cell"), PCIRoot: rapid.SampledFrom([]string{"a", "b", ""}).Draw(t, "root"), Attributes: map[string]string{}}
		if rapid.IntRange(0, 3).Draw(t, "domain") == 0 {
			d.Attributes[NVLink] = "x"
		}
		for k := range i {
			if rapid.Bool().Draw(t, "linked") {
				d.Links = append(d.Links, Link{Peer: fmt.Sprint(k), Type: NVLink, Lanes: uint32(rapid.IntRange(0, 2).Draw(t, "lanes"))})
			}
		}
		m.Devices = append(m.Devices, d)
	}
	out, err := NewMachine(m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Linked sets are those of one kind that are all linked and that no other could join.
func TestLinkedSetsAreTheLargest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawLinked(t)
		n := len(m.Devices)
		clique := func(set int) bool {
			for a := range n {
				for b := range a {
					if set>>a&1 != 0 && set>>b&1 != 0 && (m.Devices[a].Kind != m.Devices[b].Kind || m.Lanes(a, b) == 0) {
						return false
					}
				}
			}
			return true
		}
		var want, got []int
		for set := range 1 << n {
			largest := set&(set-1) != 0 && clique(set)
			for i := range n {
				largest = largest && (set>>i&1 != 0 || !clique(set|1<<i))
			}
			if largest {
				want = append(want, set)
			}
		}
		for _, s := range m.Sets {
			if s.Level == LevelLink {
				got = append(got, int(s.Devices[0]))
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Fatalf("sets %b, want %b", got, want)
		}
	})
}

// Exchanging two twins leaves the links and places of all devices of their kind as they are.
func TestTwinsMayStandForEachOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawLinked(t)
		for i := range m.Devices {
			a := m.Twin(i, true)
			swap := func(k int) int {
				switch k {
				case i:
					return a
				case a:
					return i
				}
				return k
			}
			for x := range m.Devices {
				for y := range m.Devices {
					if x != y && (m.Lanes(x, y) != m.Lanes(swap(x), swap(y)) || m.Linked(x, y, "pcie") != m.Linked(swap(x), swap(y), "pcie") ||
						m.Linked(x, y, NVLink) != m.Linked(swap(x), swap(y), NVLink)) {
						t.Fatalf("%d and %d are twins, but not for %d and %d", i, a, x, y)
					}
				}
			}
			if b := m.Twin(i, false); m.Devices[b].Cell != m.Devices[i].Cell || m.Devices[b].Kind != m.Devices[i].Kind || b > a {
				t.Fatalf("%d and %d are twins", i, b)
			}
		}
	})
}

func TestSetsOfAnNVLinkBox(t *testing.T) {
	m := Machine{Cells: []Cell{{ID: 0}, {ID: 1}}}
	for i := range 8 {
		m.Devices = append(m.Devices, Device{ID: fmt.Sprint(i), Kind: "gpu", Cell: i / 4, PCIRoot: fmt.Sprint(i / 2), Healthy: true,
			Attributes: map[string]string{NVLink: fmt.Sprint(i / 4)}})
	}
	box, err := NewMachine(m)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, s := range box.Sets {
		words = append(words, fmt.Sprintf("%d:%08b", s.Level, s.Devices[0]))
	}
	want := "0:00001111 0:11110000 1:00000011 1:00001100 1:00110000 1:11000000 2:00001111 2:11110000"
	if got := strings.Join(words, " "); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if box.Twin(1, false) != 0 || box.Twin(2, false) != 2 {
		t.Error("the GPUs under one root are twins, and no others")
	}
}
