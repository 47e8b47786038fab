package topology

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// twoCells is a machine of two cells of four cores of two threads: cell 0 has CPUs 0-3
// and 8-11, of which 0 and 8 are reserved; cell 1 has 4-7 and 12-15. One GPU can be
// shared, one is broken.
func twoCells(t testing.TB) *Machine {
	cell := func(id, first int) Cell {
		c := Cell{ID: uint32(id), MemoryMiB: 1000, Hugepages: []Hugepages{{SizeKiB: 2048, Count: 10}}}
		for i := range 4 {
			c.Cores = append(c.Cores, Core{Threads: NewCPUSet(first+i, first+i+8)})
		}
		return c
	}
	a, b := cell(0, 0), cell(1, 4)
	a.ReservedCPUs = NewCPUSet(0, 8)
	m, err := NewMachine(Machine{
		Cells: []Cell{a, b}, DiskMiB: 500, MinPort: 20000, MaxPort: 20010, Reserved: portSet(22),
		Devices: []Device{
			{ID: "gpu0", Kind: "gpu", Cell: 0, Healthy: true, Shareable: true},
			{ID: "gpu1", Kind: "gpu", Cell: 1, Healthy: true},
			{ID: "gpu2", Kind: "gpu", Cell: -1},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func cpus(t testing.TB, list string) CPUSet {
	s, err := ParseCPUSet(list)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestUsageRefuses(t *testing.T) {
	held := Grant{
		Cells: []CellGrant{
			{Cell: 0, CPUs: cpus(t, "1,9"), CPUMilli: 500, MemoryMiB: 600, Hugepages: []Hugepages{{2048, 8}}},
		},
		Devices: []DeviceGrant{{ID: "gpu0", ShareMilli: 400}},
		Ports:   []uint16{8080}, DiskMiB: 300,
	}
	cell := func(g CellGrant) Grant { return Grant{Cells: []CellGrant{g}} }
	tests := []struct {
		name  string
		grant Grant
		want  string // "" fits
	}{
		{"shared fills the rest", cell(CellGrant{Cell: 0, CPUMilli: 3500, MemoryMiB: 400}), ""},
		{"shared cpu", cell(CellGrant{Cell: 0, CPUMilli: 3501}), "cell 0: cpu: 3501 wanted, 3500 free"},
		{"exclusive under shared", cell(CellGrant{Cell: 0, CPUs: cpus(t, "2-3,10-11")}), "cell 0: cpu: 4000 wanted, 3500 free"},
		{"cpu held", cell(CellGrant{Cell: 0, CPUs: cpus(t, "9-10")}), "cell 0: cores (CPU 9): 1 wanted, 0 free"},
		{"cpu reserved", cell(CellGrant{Cell: 0, CPUs: cpus(t, "8")}), "cell 0: cores (CPU 8) is not there to be granted"},
		{"cpu of another cell", cell(CellGrant{Cell: 0, CPUs: cpus(t, "4")}), "cell 0: cores (CPU 4) is not there to be granted"},
		{"memory", cell(CellGrant{Cell: 0, MemoryMiB: 401}), "cell 0: memory: 401 wanted, 400 free"},
		{"hugepages", cell(CellGrant{Cell: 0, Hugepages: []Hugepages{{2048, 3}}}), "cell 0: hugepages of 2048 KiB: 3 wanted, 2 free"},
		{"hugepages in two parts", cell(CellGrant{Cell: 0, Hugepages: []Hugepages{{2048, 1}, {2048, 2}}}), "cell 0: hugepages of 2048 KiB: 2 wanted, 1 free"},
		{"hugepage size", cell(CellGrant{Cell: 0, Hugepages: []Hugepages{{4, 1}}}), "cell 0: hugepages of 4 KiB: 1 wanted, 0 free"},
		{"no such cell", cell(CellGrant{Cell: 2, MemoryMiB: 1}), "cell 2: cell is not there to be granted"},
		{"two tasks in one cell", Grant{Cells: []CellGrant{{Cell: 1, MemoryMiB: 600}, {Cell: 1, MemoryMiB: 600}}}, "cell 1: memory: 600 wanted, 400 free"},
		{"share left", Grant{Devices: []DeviceGrant{{ID: "gpu0", ShareMilli: 600}}}, ""},
		{"share gone", Grant{Devices: []DeviceGrant{{ID: "gpu0", ShareMilli: 601}}}, "node: gpu gpu0: 601 wanted, 600 free"},
		{"not shareable", Grant{Devices: []DeviceGrant{{ID: "gpu1", ShareMilli: 500}}}, "node: gpu gpu1: 500 wanted, 1000 free"},
		{"same device twice", Grant{Devices: []DeviceGrant{{ID: "gpu1", ShareMilli: 1000}, {ID: "gpu1", ShareMilli: 1000}}}, "node: gpu gpu1: 1000 wanted, 0 free"},
		{"unhealthy", Grant{Devices: []DeviceGrant{{ID: "gpu2", ShareMilli: 1000}}}, "node: gpu gpu2: 1000 wanted, 0 free"},
		{"no such device", Grant{Devices: []DeviceGrant{{ID: "gpu9", ShareMilli: 1000}}}, "node: device gpu9 is not there to be granted"},
		{"port held", Grant{Ports: []uint16{8081, 8080}}, "node: port 8080: 1 wanted, 0 free"},
		{"port reserved", Grant{Ports: []uint16{22}}, "node: port 22: 1 wanted, 0 free"},
		{"port twice", Grant{Ports: []uint16{8081, 8081}}, "node: port 8081: 1 wanted, 0 free"},
		{"disk", Grant{DiskMiB: 201}, "node: disk: 201 wanted, 200 free"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u, before := NewUsage(twoCells(t)), NewUsage(twoCells(t))
			for _, x := range []*Usage{u, before} {
				if err := x.Add(&held); err != nil {
					t.Fatal(err)
				}
			}
			err := u.Add(&tt.grant)
			var short *Shortfall
			switch {
			case tt.want == "" && err != nil:
				t.Fatalf("refused: %v", err)
			case tt.want != "" && (!errors.As(err, &short) || err.Error() != tt.want):
				t.Fatalf("got %v, want %s", err, tt.want)
			}
			if err == nil {
				u.Remove(&tt.grant)
			}
			requireSame(t, u, before)
		})
	}
}

// requireSame compares two usages, byte for byte.
func requireSame(t interface {
	Helper()
	Fatalf(string, ...any)
}, a, b *Usage) {
	t.Helper()
	if !slices.Equal(a.cells, b.cells) || !slices.Equal(a.words, b.words) || !slices.Equal(a.devices, b.devices) ||
		!slices.Equal(a.ports.words, b.ports.words) || a.diskMiB != b.diskMiB ||
		a.grants != b.grants || a.whole != b.whole || a.stray != b.stray {
		t.Fatalf("got %+v\nwant %+v", a, b)
	}
	var again [2]twice
	for i, u := range []*Usage{a, b} {
		if u.twice != nil {
			again[i] = twice{slices.Sorted(slices.Values(u.twice.cpus)), slices.Sorted(slices.Values(u.twice.ports))}
		}
	}
	if !slices.Equal(again[0].cpus, again[1].cpus) || !slices.Equal(again[0].ports, again[1].ports) {
		t.Fatalf("held twice: %v, want %v", again[0], again[1])
	}
}

// An inventory that shrank keeps what is on it accounted for; nothing fits until it drains.
func TestUsageOfAShrunkenMachine(t *testing.T) {
	big := twoCells(t)
	on0 := Grant{Cells: []CellGrant{{Cell: 0, CPUs: cpus(t, "1,9"), CPUMilli: 3000, MemoryMiB: 900}}}
	on1 := Grant{Cells: []CellGrant{{Cell: 1, MemoryMiB: 10}}, Devices: []DeviceGrant{{ID: "gpu1", ShareMilli: 1000}}}
	small, err := NewMachine(Machine{Cells: []Cell{{ID: 0, MemoryMiB: 500, Cores: []Core{big.Cells[0].Cores[1], big.Cells[0].Cores[2]}}}})
	if err != nil {
		t.Fatal(err)
	}
	u := NewUsage(small)
	u.Force(&on0)
	u.Force(&on1)
	one := Grant{Cells: []CellGrant{{Cell: 0, CPUMilli: 1, MemoryMiB: 1}}}
	if err := u.Add(&one); err == nil || !strings.Contains(err.Error(), "no longer on the node") {
		t.Fatalf("added beside a grant on a cell that is gone: %v", err)
	}
	u.Remove(&on1)
	if err := u.Add(&one); err == nil || u.FreeMilli(0) != 0 || u.FreeMemory(0) != 0 {
		t.Fatalf("added to an over-committed cell: %v, %d milli, %d MiB free", err, u.FreeMilli(0), u.FreeMemory(0))
	}
	u.Remove(&on0)
	if err := u.Add(&one); err != nil || u.FreeMilli(0) != 3999 {
		t.Fatalf("drained: %v, %d milli free", err, u.FreeMilli(0))
	}
}

// Whatever is added never exceeds the machine, and removing all of it leaves nothing.
func TestUsageNeverExceeds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := twoCells(&testing.T{})
		u := NewUsage(m)
		var live []Grant
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			if len(live) > 0 && rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
				i := rapid.IntRange(0, len(live)-1).Draw(t, "which")
				u.Remove(&live[i])
				live = append(live[:i], live[i+1:]...)
				continue
			}
			g := drawGrant(t)
			if u.Add(&g) == nil {
				live = append(live, g)
			}
			requireWithin(t, m, live)
		}
		for i := range live {
			u.Remove(&live[i])
		}
		requireSame(t, u, NewUsage(m))
	})
}

func drawGrant(t *rapid.T) Grant {
	var g Grant
	for range rapid.IntRange(1, 2).Draw(t, "cells") {
		c := g.NextCell(uint32(rapid.IntRange(0, 2).Draw(t, "cell")))
		for range rapid.IntRange(0, 2).Draw(t, "cpus") {
			c.CPUs.Add(rapid.IntRange(0, 16).Draw(t, "cpu"))
		}
		c.CPUMilli = uint32(rapid.IntRange(0, 3000).Draw(t, "milli"))
		c.MemoryMiB = uint64(rapid.IntRange(0, 600).Draw(t, "memory"))
		c.Hugepages = append(c.Hugepages, Hugepages{2048, uint64(rapid.IntRange(0, 6).Draw(t, "pages"))})
	}
	if rapid.Bool().Draw(t, "device") {
		g.Devices = append(g.Devices, DeviceGrant{
			ID: rapid.SampledFrom([]string{"gpu0", "gpu1", "gpu2"}).Draw(t, "id"), ShareMilli: rapid.SampledFrom([]uint32{300, 1000}).Draw(t, "share")})
	}
	if rapid.Bool().Draw(t, "port") {
		g.Ports = append(g.Ports, uint16(rapid.IntRange(20000, 20003).Draw(t, "port")))
	}
	g.DiskMiB = uint64(rapid.IntRange(0, 200).Draw(t, "disk"))
	return g
}

// requireWithin adds the grants up anew, without Usage.
func requireWithin(t *rapid.T, m *Machine, live []Grant) {
	held, disk := map[any]int{}, uint64(0)
	type key struct {
		what string
		id   uint32
	}
	for _, g := range live {
		disk += g.DiskMiB
		for _, p := range g.Ports {
			held[p]++
		}
		for _, d := range g.Devices {
			held[d.ID] += int(d.ShareMilli)
		}
		for _, c := range g.Cells {
			for cpu := range c.CPUs.All() {
				held[cpu]++
			}
			held[key{"milli", c.Cell}] += 1000*c.CPUs.Count() + int(c.CPUMilli)
			held[key{"memory", c.Cell}] += int(c.MemoryMiB)
			held[key{"pages", c.Cell}] += int(c.Hugepages[0].Count)
		}
	}
	for what, n := range held {
		limit := 1
		switch k := what.(type) {
		case string:
			limit = 1000
		case key:
			cell := m.Cells[m.CellIndex(k.id)]
			limit = map[string]int{"milli": 1000 * cell.Threads, "memory": int(cell.MemoryMiB), "pages": int(cell.Hugepages[0].Count)}[k.what]
		}
		if n > limit {
			t.Fatalf("%v: %d granted of %d", what, n, limit)
		}
	}
	if disk > m.DiskMiB {
		t.Fatalf("disk: %d granted of %d", disk, m.DiskMiB)
	}
}

func TestNewMachineRefuses(t *testing.T) {
	core := func(list string) Core { return Core{Threads: cpus(t, list)} }
	tests := []struct {
		name string
		m    Machine
		want string
	}{
		{"cells out of order", Machine{Cells: []Cell{{ID: 1}, {ID: 0}}}, "cell 0 follows cell 1"},
		{"cpu twice", Machine{Cells: []Cell{{ID: 0, Cores: []Core{core("0,1")}}, {ID: 1, Cores: []Core{core("1,2")}}}}, "cell 1: CPU 1 is there twice"},
		{"empty core", Machine{Cells: []Cell{{ID: 0, Cores: []Core{core("")}}}}, "cell 0: core 0 has no thread"},
		{"distances", Machine{Cells: []Cell{{ID: 0, Distances: []uint32{10, 20}}}}, "cell 0: 2 distances for 1 cells"},
		{"device twice", Machine{Devices: []Device{{ID: "a", Kind: "gpu", Cell: -1}, {ID: "a", Kind: "gpu", Cell: -1}}}, `device "a" is there twice`},
		{"device cell", Machine{Devices: []Device{{ID: "a", Kind: "gpu", Cell: 0}}}, `device "a" is on a cell that is not there`},
		{"ports", Machine{MinPort: 2, MaxPort: 1}, "dynamic ports 2-1 run backwards"},
	}
	for _, tt := range tests {
		if _, err := NewMachine(tt.m); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
	}
}

func BenchmarkUsageAddRemove(b *testing.B) {
	u := NewUsage(twoCells(b))
	g := Grant{Cells: []CellGrant{{Cell: 0, CPUMilli: 100, MemoryMiB: 64}}, Ports: []uint16{20001, 20002}, DiskMiB: 300}
	b.ReportAllocs()
	for b.Loop() {
		if err := u.Add(&g); err != nil {
			b.Fatal(err)
		}
		u.Remove(&g)
	}
}
