package scheduler

import (
	"cmp"
	"fmt"
	"iter"
	"math/bits"
	"slices"
	"strings"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// Wanted says that so many instances of a group are wanted, running or waiting.
type Wanted struct {
	Group *Group
	Count int
}

// gpuDemand is what is asked of GPUs: by it a placement is judged for what it leaves
// behind. It is made from the groups that are known, and stays until it is made anew, so
// that the same demand and the same grants give the same order of nodes.
type gpuDemand struct {
	needs  []gpuNeed // the most frequent first
	judged int       // how many of them nodes are judged by; all make prices
	// shares are the distinct shares of the needs; filled says how much of a GPU with so
	// many thousandths left is expected to be used in the end.
	shares   []uint32
	filled   [topology.WholeDevice + 1]float64
	profiles map[*topology.Machine]*gpuProfile

	// What is looked at just now: what each GPU has left; by share, how many pieces of it
	// there are, and what the GPUs have that are not even one.
	left         []uint32
	slots, below [maxGPUNeeds]uint32
}

// gpuNeed is one thing that is asked for.
type gpuNeed struct {
	key           string
	times         float64 // how often
	milli, memory float64
	count         uint32
	device        *deviceNeed
	size          float64 // thousandths in all
	weight        float64 // the part of all that are judged by
	level         int     // of its share in gpuDemand.shares
	// volume is the part of all GPUs asked for, by the part of all GPUs that will do.
	volume float64
}

// maxGPUNeeds bounds the needs that nodes are judged by.
const maxGPUNeeds = 64

// SetDemand tells the fleet what is wanted in all, placed or not, for asks for GPUs to be
// placed such that what is left stays of use. Without a demand, nothing that asks for a
// GPU included, they are placed like all others. It is to be told again when the demand
// has changed much, not at every change: each time all nodes are judged anew.
func (f *Fleet) SetDemand(wanted []Wanted) {
	f.demand = newGPUDemand(f, wanted)
	f.scratch.fit.picker.demand = f.demand
	clear(f.rated)
}

// DemandOf is what jobs want that are not over, of groups that ask for devices; it is for
// SetDemand. A group that makes no sense wants nothing.
func DemandOf(jobs iter.Seq[*berthv1.Job]) []Wanted {
	var wanted []Wanted
	for job := range jobs {
		if job.GetStopped() || job.GetStatus() == berthv1.Job_dead {
			continue
		}
		for _, group := range job.GetGroups() {
			if !AsksDevices(group) {
				continue
			}
			if g, err := Compile(job, group); err == nil {
				wanted = append(wanted, Wanted{Group: g, Count: g.Count})
			}
		}
	}
	return wanted
}

// AsksDevices says whether a group asks for any: only those make a demand.
func AsksDevices(g *berthv1.Group) bool {
	return slices.ContainsFunc(g.GetTasks(), func(t *berthv1.Task) bool { return len(t.GetResources().GetDevices()) > 0 })
}

// gpuWish is what a group asks of GPUs in all, when it does: as many as its wishes have,
// each as its first.
func (g *Group) gpuWish() (*deviceNeed, int) {
	var first *deviceNeed
	count := 0
	for i := range g.wishes {
		if d := g.wishes[i].need; alignOf(d.kind) == alignGPU {
			if first == nil {
				first = d
			}
			count += d.count
		}
	}
	return first, count
}

func newGPUDemand(f *Fleet, wanted []Wanted) *gpuDemand {
	needs := countNeeds(wanted)
	if len(needs) == 0 {
		return nil
	}
	d := &gpuDemand{needs: needs, judged: min(len(needs), maxGPUNeeds), profiles: map[*topology.Machine]*gpuProfile{}}
	var times, volume float64
	for i := range d.needs {
		n := &d.needs[i]
		n.size = float64(n.count * n.device.share)
		n.volume = float64(n.times * n.size)
		volume += n.volume
		if i >= d.judged {
			continue
		}
		times += n.times
		n.level = slices.Index(d.shares, n.device.share)
		if n.level < 0 {
			n.level = len(d.shares)
			d.shares = append(d.shares, n.device.share)
		}
	}
	for i := range d.needs {
		d.needs[i].volume /= volume
		d.needs[i].weight = d.needs[i].times / times
	}
	d.supply(f)
	d.fill()
	return d
}

// countNeeds gives what is asked for, the most frequent first.
func countNeeds(wanted []Wanted) []gpuNeed {
	byKey := map[string]*gpuNeed{}
	for _, w := range wanted {
		device, count := w.Group.gpuWish()
		if device == nil || w.Count <= 0 {
			continue
		}
		n := &gpuNeed{milli: float64(w.Group.total.leastMilli()), memory: float64(w.Group.total.memory), count: uint32(count), device: device}
		n.key = n.content()
		if known := byKey[n.key]; known != nil {
			n = known
		} else {
			byKey[n.key] = n
		}
		n.times += float64(w.Count)
	}
	needs := make([]gpuNeed, 0, len(byKey))
	for _, n := range byKey {
		needs = append(needs, *n)
	}
	slices.SortFunc(needs, func(a, b gpuNeed) int {
		return cmp.Or(cmp.Compare(b.times, a.times), strings.Compare(a.key, b.key))
	})
	return needs
}

// content covers what a need is judged by.
func (n *gpuNeed) content() string {
	var checks strings.Builder
	for _, c := range n.device.checks {
		fmt.Fprintf(&checks, "%q", c.text)
	}
	return fmt.Sprintf("%q %d %d %q %d %s %v %v", n.device.kind, n.count, n.device.share, n.device.model, n.device.memory, checks.String(), n.milli, n.memory)
}

// supply relates each need's volume to the GPUs of the fleet that will do for it: those
// of machines on which it fits when they are empty.
func (d *gpuDemand) supply(f *Fleet) {
	count := map[*topology.Machine]int{}
	for i := range f.nodes {
		if f.nodes[i].node != nil {
			count[f.nodes[i].usage.Machine()]++
		}
	}
	total := 0
	will := make([]int, len(d.needs))
	for m, n := range count {
		p := d.profile(m)
		total += n * len(p.gpus)
		for i := range d.needs {
			if p.fits[i] {
				will[i] += n * bits.OnesCount64(p.accepted[i])
			}
		}
	}
	for i := range d.needs {
		if will[i] > 0 {
			d.needs[i].volume *= float64(total) / float64(will[i])
		} else {
			d.needs[i].volume = 0
		}
	}
	clear(d.profiles) // their prices were not known
}

// fillTries is how many asks are expected to come by before a GPU's last room counts as
// lost.
const fillTries = 100

// fill works out what becomes of a GPU when asks come in at random and take it whenever
// they fit.
func (d *gpuDemand) fill() {
	var often [topology.WholeDevice + 1]float64
	times := 0.0
	for i := range d.needs {
		times += d.needs[i].times
	}
	for i := range d.needs {
		often[d.needs[i].device.share] += d.needs[i].times / times
	}
	for left := 1; left <= topology.WholeDevice; left++ {
		fit, used := 0.0, 0.0
		for share := 1; share <= left; share++ {
			if often[share] > 0 {
				fit += often[share]
				used += float64(often[share] * (float64(share) + d.filled[left-share]))
			}
		}
		if fit > 0 {
			missed := 1.0
			for range fillTries {
				missed *= max(1-fit, 0)
			}
			d.filled[left] = float64(used / fit * (1 - missed))
		}
	}
}

// gpuProfile is what the demand means for one machine.
type gpuProfile struct {
	gpus []int32 // its devices that compute; at most maxRatedGPUs
	// price is, by GPU, how much is asked of it and its like by those who can take no
	// other: 1 when the fleet's GPUs are all equally in demand.
	price []float64
	// accepted has, by need, a bit for each of gpus that will do.
	accepted []uint64
	all      uint64
	fits     []bool // by need: the empty machine has room for it
	alike    bool   // each need accepts all of gpus or none
}

// maxRatedGPUs is how many GPUs of a machine are judged by.
const maxRatedGPUs = 64

func (d *gpuDemand) profile(m *topology.Machine) *gpuProfile {
	if p := d.profiles[m]; p != nil {
		return p
	}
	p := &gpuProfile{accepted: make([]uint64, len(d.needs)), fits: make([]bool, len(d.needs))}
	for i := range m.Devices {
		if alignOf(m.Devices[i].Kind) == alignGPU && len(p.gpus) < maxRatedGPUs {
			p.gpus = append(p.gpus, int32(i))
		}
	}
	p.all, p.alike = ^uint64(0)>>(64-len(p.gpus)), true
	p.price = make([]float64, len(p.gpus))
	var milli, memory float64
	for i := range m.Cells {
		milli += float64(m.Cells[i].Threads) * 1000
		memory += float64(m.Cells[i].MemoryMiB)
	}
	for i := range d.needs {
		n := &d.needs[i]
		for k, at := range p.gpus {
			dev := &m.Devices[at]
			if n.device.is(dev) && (n.device.share == topology.WholeDevice || dev.Shareable) {
				p.accepted[i] |= 1 << k
			}
		}
		p.alike = p.alike && (p.accepted[i] == 0 || p.accepted[i] == p.all)
		p.fits[i] = milli >= n.milli && memory >= n.memory && bits.OnesCount64(p.accepted[i]) >= int(n.count)
		for k := range p.gpus {
			if p.fits[i] && p.accepted[i]>>k&1 == 1 {
				p.price[k] += n.volume
			}
		}
	}
	d.profiles[m] = p
	return p
}
