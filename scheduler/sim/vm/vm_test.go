package vm

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func drawHosts(t *rapid.T) []Host {
	hosts := make([]Host, rapid.IntRange(1, 8).Draw(t, "hosts"))
	for i := range hosts {
		hosts[i] = Host{Name: hostName(i), Rack: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "rack")}
		for range 2 {
			hosts[i].Cells = append(hosts[i].Cells, Room{rapid.Int64Range(0, 8).Draw(t, "CPUs"), rapid.Int64Range(0, 8).Draw(t, "memory") * 1024})
		}
	}
	return hosts
}

func drawMachines(t *rapid.T) []Machine {
	machines := make([]Machine, rapid.IntRange(1, 30).Draw(t, "machines"))
	for i := range machines {
		m := &machines[i]
		m.Cells = rapid.IntRange(1, 2).Draw(t, "cells")
		m.Room = Room{int64(m.Cells) * rapid.Int64Range(1, 3).Draw(t, "CPUs"), 1024 * int64(m.Cells)}
		m.Strategy = Strategy(rapid.IntRange(0, 3).Draw(t, "strategy"))
		m.Group, m.Domain = rapid.IntRange(0, 1).Draw(t, "group"), 0
		if m.Strategy == FaultDomain {
			m.Domain = rapid.IntRange(0, 2).Draw(t, "domain")
		}
	}
	return machines
}

// No policy breaks a rule, whatever comes, and what one refuses does not fit: every other
// would refuse the first refused machine as well, given the same before.
func TestNobodyBreaksRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hosts, machines := drawHosts(t), drawMachines(t)
		rules := Rules{SameHost: rapid.Bool().Draw(t, "same host")}
		for _, name := range Policies() {
			got, err := Place(hosts, machines, name, rules)
			if err != nil {
				t.Fatal(err)
			}
			if got.Violations != 0 || got.Placed+got.Unplaced != len(machines) {
				t.Fatalf("%s: %+v", name, got)
			}
			again, _ := Place(hosts, machines, name, rules)
			if !reflect.DeepEqual(got, again) {
				t.Fatalf("%s: another result the second time", name)
			}
		}
		// Berth refuses a machine only where no host takes it.
		b, err := newBerth(hosts, machines, rules)
		if err != nil {
			t.Fatal(err)
		}
		shadow := newGreedy(hosts, machines, rules, nil)
		for i := range machines {
			at, ok := b.offer(i)
			if ok {
				shadow.change(&machines[i], at, 1)
			} else if other, fits := shadow.offer(i); fits {
				t.Fatalf("machine %d, %+v, was refused, and fits on host %d", i, machines[i], other.host)
			}
		}
	})
}

// The books find a policy that breaks what it should keep.
func TestBooksSeeWrongs(t *testing.T) {
	hosts := []Host{{Name: "x", Rack: "a", Cells: []Room{{4, 4096}, {4, 4096}}}, {Name: "y", Rack: "b", Cells: []Room{{4, 4096}, {4, 4096}}}}
	one := Room{2, 1024}
	for name, test := range map[string]struct {
		machines []Machine
		at       []place
		want     int
	}{
		"right":              {[]Machine{{Room: one, Cells: 1}, {Room: one, Cells: 2}}, []place{{0, []int{0}}, {0, []int{0, 1}}}, 0},
		"too much in a cell": {[]Machine{{Room: Room{3, 1}, Cells: 1}, {Room: one, Cells: 1}}, []place{{0, []int{0}}, {0, []int{0}}}, 1},
		"one cell for two":   {[]Machine{{Room: one, Cells: 2}}, []place{{0, []int{1}}}, 1},
		"one cell twice":     {[]Machine{{Room: one, Cells: 2}}, []place{{0, []int{1, 1}}}, 1},
		"not together":       {[]Machine{{Room: one, Cells: 1, Strategy: Affinity}, {Room: one, Cells: 1, Strategy: Affinity}}, []place{{0, []int{0}}, {1, []int{0}}}, 1},
		"not apart":          {[]Machine{{Room: one, Cells: 1, Strategy: AntiAffinity}, {Room: one, Cells: 1, Strategy: AntiAffinity}}, []place{{0, []int{0}}, {0, []int{1}}}, 1},
		"two domains in a rack": {[]Machine{{Room: one, Cells: 1, Strategy: FaultDomain}, {Room: one, Cells: 1, Strategy: FaultDomain, Domain: 1}},
			[]place{{0, []int{0}}, {0, []int{1}}}, 1},
	} {
		b := newBooks(hosts)
		for i := range test.machines {
			b.enter(i, &test.machines[i], test.at[i])
		}
		if got := b.wrong + groupViolations(hosts, test.machines, b.at, Rules{}); got != test.want {
			t.Errorf("%s: %d violations, want %d", name, got, test.want)
		}
	}
}

func TestChurn(t *testing.T) {
	flavors, err := ReadFlavors(strings.NewReader("1,1.75 b\n2,3.5 g\n"))
	if err != nil {
		t.Fatal(err)
	}
	bins, err := ReadIntervals(strings.NewReader("0 0\n300 1\n600 2\n900 2\n"))
	if err != nil || !reflect.DeepEqual(bins, map[int]int64{0: 150, 1: 450, 2: 900}) {
		t.Fatalf("%v %v", bins, err)
	}
	machines, err := ReadArrivals(strings.NewReader("300 g,|,b,b,|\n4500 g,|\n9000 b,|"), strings.NewReader("300 U1,|,U0,C46,|\n4500 U2,|\n9000 U0,|"), flavors, bins)
	if err != nil || len(machines) != 5 || machines[0].Until != 750 || machines[2].Until != 0 {
		t.Fatalf("%+v %v", machines, err)
	}
	hosts, err := UniformHosts(2, 2, Room{4, 8192})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range Policies() {
		got, err := Churn(hosts, machines, name)
		if err != nil {
			t.Fatal(err)
		}
		counts := []int{}
		for _, s := range got.Samples {
			counts = append(counts, s.Machines)
		}
		// At 300 s all three; at 3900, 7500 and 11100 the one that stays.
		if got.Placed != 5 || got.Violations != 0 || !reflect.DeepEqual(counts, []int{3, 1, 1, 1}) {
			t.Errorf("%s: %d placed, samples %v, %d violations", name, got.Placed, counts, got.Violations)
		}
	}
}

func TestReadersRefuse(t *testing.T) {
	hosts := func(s string) error { _, err := ReadHosts(strings.NewReader(s)); return err }
	machines := func(s string) error { _, err := ReadMachines(strings.NewReader(s)); return err }
	racks := func(s string) error { return ReadRacks(strings.NewReader(s), make([]Host, 2)) }
	flavors := func(s string) error { _, err := ReadFlavors(strings.NewReader(s)); return err }
	bins := func(s string) error { _, err := ReadIntervals(strings.NewReader(s)); return err }
	arrivals := func(a string) func(string) error {
		return func(d string) error {
			_, err := ReadArrivals(strings.NewReader(a), strings.NewReader(d), map[string]Room{"g": {1, 1}}, map[int]int64{1: 450})
			return err
		}
	}
	const header = "flavor_vcpus,flavor_ram,numa,strategy,group,domain\n"
	for _, test := range []struct {
		read func(string) error
		text string
		want string
	}{
		{hosts, "", "empty"},
		{hosts, "CPU1,RAM1,CPU2\n", "RAM2"},
		{hosts, "CPU1,RAM1,CPU2,RAM2\n", "no servers"},
		{hosts, "CPU1,RAM1,CPU2,RAM2\n1,2,x,4\n", "line 2: CPU2"},
		{hosts, "CPU1,RAM1,CPU2,RAM2\n1,2,-3,4\n", "line 2: CPU2"},
		{machines, header + "4,8,3,,,\n", "numa"},
		{machines, header + "3,8,2,,,\n", "divided"},
		{machines, header + "4,8,1,friends,,\n", "friends"},
		{machines, header + "4,8,1,affinity,,\n", "group"},
		{machines, header, "no machines"},
		{racks, "host_id,rack_id\nh,1\n", "racks of 1 hosts"},
		{racks, "host_id,rack_id\nh,1\nh,\n", "rack is missing"},
		{flavors, "x,1 a\n", "line 1"},
		{flavors, "1,1\n", "flavour"},
		{flavors, "1,nan a\n", "flavour"},
		{bins, "a b\n", "line 1"},
		{arrivals("300 g,|\n"), "600 U1,|\n", "do not match"},
		{arrivals("300 g,|\n"), "300 U1\n", "do not match"},
		{arrivals("300 x,|\n"), "300 U1,|\n", `flavour "x"`},
		{arrivals("300 g,|\n"), "300 V1,|\n", "lifetime"},
		{arrivals("300 g,|\n"), "300 U9,|\n", "no bin 9"},
		{arrivals("300 g,|\n"), "300 U1,U1\n", "beside"},
		{arrivals("300 g,|\n"), "300 U1,|\n600 U1,|\n", "no arrivals"},
		{arrivals("soon g,|\n"), "soon U1,|\n", "not a time"},
	} {
		if err := test.read(test.text); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v, want %q", test.text, err, test.want)
		}
	}
}

func FuzzReadMachines(f *testing.F) {
	f.Add("flavor_vcpus,flavor_ram,numa,strategy,group,domain\n8,16,1,fault_domain,0,1\n")
	f.Fuzz(func(t *testing.T, text string) {
		machines, err := ReadMachines(strings.NewReader(text))
		for _, m := range machines {
			if err == nil && (m.CPU < 1 || m.CPU > maxCPU || m.Cells < 1 || m.Cells > 2 || m.CPU%int64(m.Cells) != 0) {
				t.Errorf("%+v", m)
			}
		}
	})
}

func FuzzReadHosts(f *testing.F) {
	f.Add("CPU1,RAM1,CPU2,RAM2\n16,32,32,64\n", "host_id,rack_id\nhost-0,0\n")
	f.Fuzz(func(t *testing.T, text, racks string) {
		hosts, err := ReadHosts(strings.NewReader(text))
		if err == nil && ReadRacks(strings.NewReader(racks), hosts) == nil && hosts[0].Rack == "" {
			t.Error("a host has no rack")
		}
	})
}

func FuzzReadArrivals(f *testing.F) {
	f.Add("300 g,|\n", "300 U1,|\n", "1,1.75 g\n", "300 1\n")
	f.Fuzz(func(t *testing.T, arrivals, durations, flavors, bins string) {
		known, err := ReadFlavors(strings.NewReader(flavors))
		lives, err2 := ReadIntervals(strings.NewReader(bins))
		machines, err3 := ReadArrivals(strings.NewReader(arrivals), strings.NewReader(durations), known, lives)
		if err != nil || err2 != nil || err3 != nil {
			return
		}
		for i, m := range machines {
			if m.Until != 0 && m.Until < m.From || i > 0 && m.From < machines[i-1].From {
				t.Errorf("%+v", m)
			}
		}
	})
}

// The recorded servers take what was recorded, and no rule is broken.
func TestRecorded(t *testing.T) {
	dir := ""
	for _, d := range []string{os.Getenv("BERTH_TESTDATA"), "../../../../shared/data"} {
		if _, err := os.Stat(filepath.Join(d, "huawei-numa-vm")); d != "" && err == nil {
			dir = filepath.Join(d, "huawei-numa-vm")
		}
	}
	if dir == "" || testing.Short() {
		t.Skip("no huawei-numa-vm data: neither BERTH_TESTDATA nor shared/data is there, or -short")
	}
	open := func(name string) *os.File {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	hosts, err := ReadHosts(open("PM_res.csv"))
	if err == nil {
		err = ReadRacks(open("topology_provider.csv"), hosts)
	}
	if err != nil || len(hosts) != 1710 {
		t.Fatal(len(hosts), err)
	}
	machines, err := ReadMachines(open("VM_data_C1.csv"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Place(hosts, machines, "berth", Rules{})
	if err != nil || got.Violations != 0 || got.Machines != 4998 {
		t.Fatalf("%+v %v", got, err)
	}
	t.Logf("%+v", got)
}
