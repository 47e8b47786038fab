package scheduler

import (
	"fmt"
	"path"
	"slices"
	"strings"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// deviceNeed is a number of devices of one kind.
type deviceNeed struct {
	kind   string
	count  int
	model  string // with * as wildcard; empty: any
	wild   bool   // model has wildcards
	memory uint64
	share  uint32 // thousandths of each
	link   string // "": as close together as they are free
	near   string // kind of another device of the task; "": none
	within nearness
	checks []check
}

// nearness is how close one device must be to another.
type nearness uint8

const (
	samePCIRoot nearness = iota
	sameCell
	sameSocket
)

var nearnesses = map[string]nearness{"": samePCIRoot, "pcie": samePCIRoot, "cell": sameCell, "socket": sameSocket}

func compileDevice(ask *berthv1.DeviceAsk) (deviceNeed, error) {
	d := deviceNeed{
		kind: ask.GetKind(), count: max(int(ask.GetCount()), 1), model: ask.GetModel(),
		memory: ask.GetMemoryMib(), share: ask.GetShareMilli(), link: ask.GetLink(), near: ask.GetNear(),
	}
	d.wild = strings.ContainsAny(d.model, `*?[\`)
	if d.share == 0 {
		d.share = topology.WholeDevice
	}
	if _, err := path.Match(d.model, ""); err != nil || d.share > topology.WholeDevice || d.count > topology.MaxDevices {
		return d, invalid("device "+d.kind, "the model %q, the share of %d or the count of %d makes no sense", d.model, d.share, d.count)
	}
	if d.link != "" && d.link != topology.NVLink && d.link != "pcie" {
		return d, invalid("device "+d.kind, "there is no link %q", d.link)
	}
	if d.near == d.kind && d.kind != "" {
		return d, invalid("device "+d.kind, "it is to be near devices of its own kind: that is what link is for")
	}
	var known bool
	if d.within, known = nearnesses[ask.GetWithin()]; !known {
		return d, invalid("device "+d.kind, "there is no nearness %q", ask.GetWithin())
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
	if d.near != "" {
		text += " near " + d.near
	}
	return text
}

// is says whether a device is what is asked for, free or not.
func (d *deviceNeed) is(dev *topology.Device) bool {
	if dev.Kind != d.kind || dev.MemoryMiB < d.memory {
		return false
	}
	if d.model != "" && d.model != dev.Model {
		if !d.wild {
			return false
		}
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

// wish is one device ask of one of the group's tasks.
type wish struct {
	task int
	need *deviceNeed
	// targets are the wishes of the same task that this one must be near to.
	targets []int
	// judged are the wishes whose nearness is known when this one is granted.
	judged []int
}

// maxWishes bounds the device asks of a group.
const maxWishes = 64

// compileWishes puts the tasks' device asks into the order in which they are granted:
// those that are near others come after the rest.
func (g *Group) compileWishes() error {
	for _, near := range []bool{false, true} {
		for i := range g.tasks {
			for k := range g.tasks[i].devices {
				if d := &g.tasks[i].devices[k]; (d.near != "") == near {
					g.wishes = append(g.wishes, wish{task: i, need: d})
				}
			}
		}
	}
	if len(g.wishes) > maxWishes {
		return invalid("devices", "%d device asks are more than %d", len(g.wishes), maxWishes)
	}
	for i := range g.wishes {
		w := &g.wishes[i]
		if w.need.near == "" {
			continue
		}
		last := i
		for k := range g.wishes {
			if o := &g.wishes[k]; o.task == w.task && o.need.kind == w.need.near {
				w.targets, last = append(w.targets, k), max(last, k)
			}
		}
		if len(w.targets) == 0 {
			return invalid("device "+w.need.kind, "it is to be near a device %q, and the task asks for none", w.need.near)
		}
		g.wishes[last].judged = append(g.wishes[last].judged, i)
		g.strictTwins = true
	}
	return nil
}
