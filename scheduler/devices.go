package scheduler

import (
	"cmp"
	"fmt"
	"path"
	"slices"

	"github.com/berthd/berth/topology"
)

// deviceNeed is a number of devices of one kind.
type deviceNeed struct {
	kind   string
	count  int
	model  string // with * as wildcard; empty: any
	memory uint64
	share  uint32 // thousandths of each
	link   string
	checks []check
}

type grantedDevice struct {
	kind, id string
	share    uint32
}

func (d *deviceNeed) words() string {
	text := fmt.Sprintf("%d %s", d.count, d.kind)
	if d.share < topology.WholeDevice {
		text = fmt.Sprintf("%d/1000 of %d %s", d.share, d.count, d.kind)
	}
	if d.model != "" {
		text += " (" + d.model + ")"
	}
	if d.link != "" {
		text += " linked by " + d.link
	}
	return text
}

// is says whether a device is what is asked for, free or not.
func (d *deviceNeed) is(dev *topology.Device) bool {
	if dev.Kind != d.kind || dev.MemoryMiB < d.memory {
		return false
	}
	if d.model != "" {
		if ok, err := path.Match(d.model, dev.Model); err != nil || !ok {
			return false
		}
	}
	for i := range d.checks {
		if v, has := deviceAttribute(dev, d.checks[i].attribute); !d.checks[i].ok(v, has) {
			return false
		}
	}
	return true
}

func deviceAttribute(dev *topology.Device, name string) (string, bool) {
	switch name {
	case "model":
		return dev.Model, true
	case "vendor":
		return dev.Vendor, true
	}
	v, ok := dev.Attributes[name]
	return v, ok
}

// free says whether what is left of a device is enough.
func (d *deviceNeed) free(dev *topology.Device, left uint32) bool {
	if d.share < topology.WholeDevice {
		return dev.Shareable && left >= d.share
	}
	return left == topology.WholeDevice
}

// linkOf is the domain in which devices are linked; devices without one are linked to
// nobody. NVLink domains are the attribute "nvlink" that the agent reports.
func linkOf(dev *topology.Device, link string) string {
	if link == "nvlink" {
		return dev.Attributes["nvlink"]
	}
	return dev.PCIRoot
}

// addDevices grants a task's devices, those with the fewest to choose from first.
func (r *room) addDevices(i int, t *taskNeed) bool {
	if len(t.devices) == 0 {
		return true
	}
	type wish struct {
		need *deviceNeed
		from []int
	}
	wishes := make([]wish, len(t.devices))
	for k := range t.devices {
		wishes[k] = wish{&t.devices[k], r.fitting(&t.devices[k])}
	}
	slices.SortStableFunc(wishes, func(a, b wish) int { return cmp.Compare(len(a.from)-a.need.count, len(b.from)-b.need.count) })
	for _, w := range wishes {
		chosen := r.pick(w.need, r.fitting(w.need))
		if chosen == nil {
			return false
		}
		for _, d := range chosen {
			dev := &r.u.Machine().Devices[d]
			r.devices[d] -= w.need.share
			r.tasks[i].devices = append(r.tasks[i].devices, grantedDevice{dev.Kind, dev.ID, w.need.share})
			if dev.Cell >= 0 && slices.Contains(r.inside, dev.Cell) {
				r.near(i, dev.Cell)
			}
		}
	}
	return true
}

// near makes the task want its CPU and memory in the cell of its device. What stays
// empty is left out of the assignment.
func (r *room) near(task, cell int) { r.grantIn(task, cell) }

// fitting are the devices that are asked for, are free and lie where they may; those in
// the cells given first, then by their order on the node.
func (r *room) fitting(d *deviceNeed) []int {
	m := r.u.Machine()
	aligned := r.g.align&alignOf(d.kind) != 0
	var in, out []int
	for i := range m.Devices {
		dev := &m.Devices[i]
		if !d.is(dev) || !d.free(dev, r.devices[i]) {
			continue
		}
		if slices.Contains(r.inside, dev.Cell) {
			in = append(in, i)
		} else if !aligned {
			out = append(out, i)
		}
	}
	byLeft := func(a, b int) int { return cmp.Compare(r.devices[a], r.devices[b]) }
	slices.SortStableFunc(in, byLeft) // shares go where the least is left
	slices.SortStableFunc(out, byLeft)
	return append(in, out...)
}

// pick takes as many as are needed; linked ones from the smallest domain that has
// enough, so that large ones stay whole.
func (r *room) pick(d *deviceNeed, from []int) []int {
	if d.link == "" || d.count == 1 {
		if len(from) < d.count {
			return nil
		}
		return from[:d.count]
	}
	byLink := map[string][]int{}
	var names []string
	for _, i := range from {
		name := linkOf(&r.u.Machine().Devices[i], d.link)
		if name == "" {
			continue
		}
		if byLink[name] == nil {
			names = append(names, name)
		}
		byLink[name] = append(byLink[name], i)
	}
	var best []int
	for _, name := range names {
		if set := byLink[name]; len(set) >= d.count && (best == nil || len(set) < len(best)) {
			best = set
		}
	}
	if best == nil {
		return nil
	}
	return best[:d.count]
}
