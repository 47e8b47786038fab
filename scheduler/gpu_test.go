package scheduler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// demandWords adds to what is wanted in all, and tells the fleet.
func (w *world) demandWords(name string, o options) {
	w.flush()
	ask := askOf(w.t, jobOf(w.t, name, o), o)
	w.wanted = append(w.wanted, Wanted{Group: ask.Group, Count: ask.Count})
	w.f.SetDemand(w.wanted)
}

// TestRatedAgreesWithScan holds the kept keys to a full scan, which works each of them
// out anew, under churn, with demands that change.
func TestRatedAgreesWithScan(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			c := newChurn(t, 1000+seed)
			for i := range 8 { // more of them with GPUs
				o := c.shape()
				o["device"] = []string{"gpu," + c.pick("1", "1", "2")}
				if c.chance(2) {
					o["device"], o["share"] = []string{"gpu,1"}, []string{c.pick("150", "300", "500", "700")}
				}
				c.asks = append(c.asks, askOf(t, jobOf(t, fmt.Sprintf("gpu%d", i), o), o))
			}
			for range 4 {
				var wanted []Wanted
				for _, a := range c.asks {
					wanted = append(wanted, Wanted{a.Group, c.rng.IntN(20)})
				}
				c.w.f.SetDemand(wanted)
				c.left = c.made + 250
				c.run()
			}
			c.w.f.SetDemand(nil)
			c.left = c.made + 100
			c.run()
		})
	}
}

// TestDemandOrder: neither the order of what is wanted nor that of the nodes counts.
func TestDemandOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 1))
	var wanted []Wanted
	for i := range 12 {
		o := options{"cpu": {fmt.Sprint(500 * (1 + i%5))}, "mem": {"500"}, "device": {"gpu,1"}, "type": {"batch"}, "share": {fmt.Sprint(100 * (1 + i%9))}}
		wanted = append(wanted, Wanted{askOf(t, jobOf(t, fmt.Sprintf("job%d", i), o), o).Group, 1 + i%4})
	}
	var want []string
	for range 6 {
		w := &world{t: t, f: NewFleet(), nodes: nil}
		for _, i := range rng.Perm(9) {
			w.nodes = map[string]*berthv1.Node{}
			w.node(fmt.Sprintf("n%d", i), options{})
			w.cell(fmt.Sprintf("%dx1", 4+4*(i%3)), "16000", options{})
			for k := range 1 + i%4 {
				w.device(fmt.Sprintf("g%d", k), "gpu", options{"model": {string(rune('a' + i%2))}, "shareable": {""}})
			}
			w.flush()
		}
		rng.Shuffle(len(wanted), func(i, j int) { wanted[i], wanted[j] = wanted[j], wanted[i] })
		w.f.SetDemand(wanted)
		var asks []*Ask
		for _, x := range wanted {
			asks = append(asks, &Ask{Group: x.Group, Count: x.Count, Silent: true})
		}
		var got []string
		placed, _ := Place(w.f, asks)
		for _, p := range placed {
			got = append(got, asks[p.Ask].Group.Key.Job+" "+p.NodeName+" "+assignmentWords(p.Assignment))
		}
		if slices.Sort(got); want == nil {
			want = got
		}
		if !slices.Equal(got, want) {
			t.Fatalf("in another order:\n%v\nand\n%v", want, got)
		}
	}
}

// TestFilled holds what is expected of a GPU's rest to what it has.
func TestFilled(t *testing.T) {
	d := &gpuDemand{}
	for _, share := range []uint32{1000, 470, 320} {
		d.needs = append(d.needs, gpuNeed{device: &deviceNeed{share: share}, times: 5})
	}
	d.fill()
	for left, want := range map[int]float64{0: 0, 319: 0, 320: 320, 469: 320, 639: (320 + 470) / 2.0, 640: (640 + 470) / 2.0} {
		if got := d.filled[left]; got < want-1 || got > want+1 {
			t.Errorf("of %d left %.1f are expected to be used, want %.1f", left, got, want)
		}
	}
	for left := range d.filled {
		if d.filled[left] < 0 || d.filled[left] > float64(left) {
			t.Errorf("of %d left %.1f are expected to be used", left, d.filled[left])
		}
	}
}

// TestManyGPUs: more GPUs than are judged by do no harm.
func TestManyGPUs(t *testing.T) {
	m := topology.Machine{Cells: []topology.Cell{{MemoryMiB: 1000, Cores: []topology.Core{{Threads: topology.NewCPUSet(0)}}}}}
	for i := range 200 {
		m.Devices = append(m.Devices, topology.Device{ID: fmt.Sprint(i), Kind: "gpu", Healthy: true, Shareable: true})
	}
	machine, err := topology.NewMachine(m)
	if err != nil {
		t.Fatal(err)
	}
	o := options{"cpu": {"100"}, "device": {"gpu,150"}}
	big := askOf(t, jobOf(t, "big", o), o).Group
	o["device"] = []string{"gpu,3"}
	small := askOf(t, jobOf(t, "small", o), o).Group
	d := newGPUDemand(NewFleet(), []Wanted{{big, 1}, {small, 5}})
	u := topology.NewUsage(machine)
	if d.rate(u, small) == unrated {
		t.Error("3 of 200 GPUs are said not to fit")
	}
	if d.rate(u, big) == unrated {
		t.Error("150 of 200 GPUs are said not to fit")
	}
}
