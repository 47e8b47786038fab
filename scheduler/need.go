package scheduler

import (
	"fmt"
	"path"
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// taskNeed is what one task needs.
type taskNeed struct {
	name string
	need
}

// need is an amount of everything that lies in cells.
type need struct {
	milli     uint64 // shared CPU
	cores     int    // whole physical cores
	threads   int    // single exclusive threads
	memory    uint64
	hugepages []topology.Hugepages
	devices   []deviceNeed
}

// simple says that shared CPU and memory are all there is.
func (n *need) simple() bool {
	return n.cores == 0 && n.threads == 0 && len(n.hugepages) == 0 && len(n.devices) == 0
}

// leastMilli is the CPU that it takes at least: an exclusive core may have more threads
// than one.
func (n *need) leastMilli() uint64 { return n.milli + 1000*uint64(n.cores+n.threads) }

func (n *need) add(o *need) {
	n.milli += o.milli
	n.cores += o.cores
	n.threads += o.threads
	n.memory += o.memory
	n.devices = append(n.devices, o.devices...)
	for _, h := range o.hugepages {
		i := slices.IndexFunc(n.hugepages, func(x topology.Hugepages) bool { return x.SizeKiB == h.SizeKiB })
		if i < 0 {
			n.hugepages = append(n.hugepages, h)
		} else {
			n.hugepages[i].Count += h.Count
		}
	}
}

// Defaults of a task whose spec leaves them out.
const (
	defaultMilli  = 100
	defaultMemory = 64
)

func compileTask(t *berthv1.Task) (taskNeed, error) {
	r := t.GetResources()
	task := taskNeed{name: t.GetName(), need: need{milli: uint64(r.GetCpuMilli()), memory: r.GetMemoryMib()}}
	if task.milli == 0 && r.GetCores() == 0 {
		task.milli = defaultMilli
	}
	if task.memory == 0 {
		task.memory = defaultMemory
	}
	if task.milli > maxMilli || task.memory > maxMemory || r.GetCores() > topology.MaxCPU {
		return task, invalid("resources", "%d milli, %d cores and %d MiB are too much", task.milli, r.GetCores(), task.memory)
	}
	switch r.GetCoreUnit() {
	case "", "core":
		task.cores = int(r.GetCores())
	case "thread":
		task.threads = int(r.GetCores())
	default:
		return task, invalid("core_unit", "%q is neither \"core\" nor \"thread\"", r.GetCoreUnit())
	}
	for _, h := range r.GetHugepages() {
		if h.GetCount() > maxPages {
			return task, invalid("hugepages", "%d pages are too many", h.GetCount())
		}
		task.hugepages = append(task.hugepages, topology.Hugepages{SizeKiB: h.GetSizeKib(), Count: h.GetCount()})
	}
	for _, ask := range r.GetDevices() {
		d, err := compileDevice(ask)
		if err != nil {
			return task, err
		}
		task.devices = append(task.devices, d)
	}
	return task, nil
}

func compileDevice(ask *berthv1.DeviceAsk) (deviceNeed, error) {
	d := deviceNeed{
		kind: ask.GetKind(), count: max(int(ask.GetCount()), 1), model: ask.GetModel(),
		memory: ask.GetMemoryMib(), share: ask.GetShareMilli(), link: ask.GetLink(),
	}
	if d.share == 0 {
		d.share = topology.WholeDevice
	}
	if _, err := path.Match(d.model, ""); err != nil || d.share > topology.WholeDevice {
		return d, invalid("device "+d.kind, "the model %q or the share of %d makes no sense", d.model, d.share)
	}
	fixed := []*berthv1.Constraint{}
	if ask.GetProfile() != "" {
		fixed = append(fixed, &berthv1.Constraint{Attribute: "profile", Value: ask.GetProfile()})
	}
	if ask.GetNetwork() != "" {
		fixed = append(fixed, &berthv1.Constraint{Attribute: "network", Value: ask.GetNetwork()})
	}
	if ask.GetRdma() {
		fixed = append(fixed, &berthv1.Constraint{Attribute: "rdma", Value: "true"})
	}
	for _, c := range slices.Concat(fixed, ask.GetConstraints()) {
		check, err := compileCheck(c.GetAttribute(), c.GetOperator(), c.GetValue())
		if err != nil {
			return d, fmt.Errorf("device %q: constraint: %w", d.kind, err)
		}
		d.checks = append(d.checks, check)
	}
	return d, nil
}
