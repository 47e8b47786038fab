package machine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/berthd/berth/problem"
)

// passed is a granted device and the functions beside it that the guest gets too.
type passed struct {
	device *Device
	// with are functions of the same slot and IOMMU group (a GPU's sound, its USB port):
	// nobody else can have them.
	with []string
	node int
}

// planPassthrough checks that the guest gets whole IOMMU groups: what is in a group can
// reach the memory of all that is in it.
func planPassthrough(in *Input, c *cpus, b *board) ([]passed, error) {
	granted := make(map[string]bool)
	for _, d := range in.Devices {
		granted[d.Address] = true
	}
	taken := make(map[string]bool)
	var out []passed
	for i := range in.Devices {
		d := &in.Devices[i]
		if err := passable(in, d, b); err != nil {
			return nil, err
		}
		p := passed{device: d, node: -1}
		if d.Cell >= 0 {
			p.node = c.nodeOf(uint32(d.Cell))
		}
		for _, f := range d.Group {
			switch {
			case granted[f.Address], taken[f.Address], isBridge(f.Class):
			case slotOf(f.Address) == slotOf(d.Address):
				taken[f.Address] = true
				p.with = append(p.with, f.Address)
			case beside(f, in.Devices):
				// It goes with another device that is granted.
			default:
				return nil, otherInGroup(d, f)
			}
		}
		slices.Sort(p.with)
		out = append(out, p)
	}
	return out, nil
}

func passable(in *Input, d *Device, b *board) error {
	if b.microvm() {
		return invalid("machine", "a machine microvm takes no devices of the host, and the task was granted %s", d.ID)
	}
	if d.Address == "" {
		return problem.New(problem.Invalid, "resources.devices", "%s %s is no PCI function, and a machine takes nothing else", d.Kind, d.ID).
			WithRemedy("ask for whole devices")
	}
	for _, g := range in.Grant.GetDevices() {
		if g.GetId() == d.ID && g.GetShareMilli() != 0 && g.GetShareMilli() < 1000 {
			return problem.New(problem.Invalid, "resources.devices", "the task has a share of %s, and a machine takes whole devices only", d.ID).
				WithRemedy("leave out share")
		}
	}
	return nil
}

func otherInGroup(d *Device, f Function) error {
	return problem.New(problem.Invalid, "resources.devices", "%s %s shares its IOMMU group with %s (%s), which is not the task's",
		d.Kind, d.ID, f.Address, f.Words).
		WithRemedy("ask for both, move one of them to another PCI slot, or turn on access control (ACS) in the host's firmware")
}

// isBridge: those of PCI classes 06xx are the host's and stay so.
func isBridge(class string) bool { return strings.HasPrefix(strings.TrimPrefix(class, "0x"), "06") }

// slotOf cuts the function off an address.
func slotOf(address string) string {
	slot, _, _ := strings.Cut(address, ".")
	return slot
}

func beside(f Function, devices []Device) bool {
	return slices.ContainsFunc(devices, func(d Device) bool {
		return slotOf(d.Address) == slotOf(f.Address) && inGroup(d.Group, f.Address)
	})
}

func inGroup(group []Function, address string) bool {
	return slices.ContainsFunc(group, func(f Function) bool { return f.Address == address })
}

// passthrough writes the devices, each near its node.
func (b *builder) passthrough(devices []passed) error {
	for i, d := range devices {
		id := fmt.Sprintf("host%d", i)
		for _, n := range b.in.Nics {
			if n.Config.GetMode() == "vf" && n.VF == d.device.ID {
				id = NicID(n.Config.GetName())
			}
		}
		p := b.boots(props{{"driver", "vfio-pci"}, {"id", id}, {"host", d.device.Address}}, id)
		b.out.Passthrough = append(append(b.out.Passthrough, d.device.Address), d.with...)
		if len(d.with) == 0 {
			if err := b.plugged(p, d.node); err != nil {
				return err
			}
			continue
		}
		if err := b.together(p, id, &devices[i]); err != nil {
			return err
		}
	}
	return nil
}

// together puts a device and what is beside it into one slot of the guest. A port's slot
// is 0; on a board without ports it is a slot of the root.
func (b *builder) together(p props, id string, d *passed) error {
	bus, slot := b.board.root, 0
	var err error
	if b.board.ports {
		bus, err = b.port(d.node)
	} else {
		slot, err = b.slot()
	}
	if err != nil {
		return err
	}
	// Function 0 comes last: with it the slot is complete.
	for i, address := range d.with {
		b.device(props{
			{"driver", "vfio-pci"}, {"id", fmt.Sprintf("%s-%d", id, i+1)}, {"host", address},
			{"bus", bus}, {"addr", fmt.Sprintf("%#x.%d", slot, i+1)},
		})
	}
	b.device(p.with("bus", bus).with("addr", fmt.Sprintf("%#x.0", slot)).with("multifunction", true))
	return nil
}
