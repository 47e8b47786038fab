package qemu

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/qemu/machine"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// tap is a machine's interface on a bridge of the host.
type tap struct {
	name, bridge string
	field        string // of the config, for problems
	queues       bool   // it has several
	rateMbit     uint32
}

// tapName is the same for the same interface of the same task, and has the 15 characters
// that the kernel allows.
func tapName(taskID string, i int) string { return fmt.Sprintf("%s%d", TapPrefix(taskID), i%100) }

// TapPrefix is how the names of a task's taps begin.
func TapPrefix(taskID string) string {
	sum := sha256.Sum256([]byte(taskID))
	return "bt" + hex.EncodeToString(sum[:5])
}

func tapsOf(t *drivers.Task, c *berthv1.QemuConfig, vcpus int) []tap {
	var taps []tap
	for i, n := range c.GetNics() {
		if n.GetMode() == "bridge" {
			taps = append(taps, tap{
				name: tapName(t.ID, i), bridge: n.GetBridge(), field: fmt.Sprintf("config.nic[%d].bridge", i),
				queues: machine.Queues(n, vcpus) > 1, rateMbit: n.GetRateMbit(),
			})
		}
	}
	return taps
}

// make makes the tap on its bridge; QEMU opens it by its name.
func (t *tap) make() error {
	bridge, err := netlink.LinkByName(t.bridge)
	if err != nil || bridge.Type() != "bridge" {
		return problem.New(problem.Unavailable, t.field, "the node has no bridge %q", t.bridge).
			WithRemedy("make it on the node, or constrain the job to nodes that have it")
	}
	link := &netlink.Tuntap{
		LinkAttrs: netlink.LinkAttrs{Name: t.name, MTU: bridge.Attrs().MTU}, Mode: netlink.TUNTAP_MODE_TAP,
		Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR,
	}
	if t.queues {
		link.Flags |= netlink.TUNTAP_MULTI_QUEUE
	} else {
		link.Flags |= netlink.TUNTAP_ONE_QUEUE
	}
	if err := netlink.LinkAdd(link); err != nil {
		return problem.New(problem.Unavailable, t.field, "making interface %s: %w", t.name, err)
	}
	for _, f := range link.Fds {
		_ = f.Close() // it is persistent: QEMU opens it anew
	}
	if err := errors.Join(netlink.LinkSetMaster(link, bridge), netlink.LinkSetUp(link)); err != nil {
		return problem.New(problem.Unavailable, t.field, "putting interface %s on bridge %s: %w", t.name, t.bridge, err)
	}
	if err := t.bound(link); err != nil {
		return problem.New(problem.Unavailable, t.field, "bounding the rate of interface %s: %w", t.name, err)
	}
	return nil
}

// bound bounds each direction by a token bucket: what goes to the guest on the tap, what
// comes from it on an interface beside, to which it is led first.
func (t *tap) bound(link netlink.Link) error {
	if t.rateMbit == 0 {
		return nil
	}
	beside := &netlink.Ifb{LinkAttrs: netlink.LinkAttrs{Name: t.beside(), MTU: link.Attrs().MTU}}
	if err := netlink.LinkAdd(beside); err != nil {
		return fmt.Errorf("making interface %s: %w", beside.Name, err)
	}
	if err := netlink.LinkSetUp(beside); err != nil {
		return err
	}
	for _, l := range []netlink.Link{link, beside} {
		if err := t.bucket(l.Attrs().Index); err != nil {
			return err
		}
	}
	index := link.Attrs().Index
	if err := netlink.QdiscAdd(&netlink.Ingress{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS},
	}); err != nil {
		return err
	}
	return netlink.FilterAdd(&netlink.U32{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: netlink.MakeHandle(0xffff, 0), Priority: 1, Protocol: unix.ETH_P_ALL},
		Sel:         &netlink.TcU32Sel{Flags: netlink.TC_U32_TERMINAL, Nkeys: 1, Keys: []netlink.TcU32Key{{}}},
		Actions:     []netlink.Action{netlink.NewMirredAction(beside.Attrs().Index)},
	})
}

// beside is the name of the interface by which what comes from the guest is bounded.
func (t *tap) beside() string { return t.name + "i" }

// bucket bounds what is sent on an interface, with room for a hundredth of a second.
func (t *tap) bucket(index int) error {
	rate := uint64(t.rateMbit) * 1e6 / 8 // bytes a second
	burst := uint32(min(max(rate/100, 16<<10), math.MaxUint32/8))
	return netlink.QdiscAdd(&netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       rate, Buffer: burst, Limit: burst * 4,
	})
}

// removeTaps removes those that are there.
func removeTaps(names []string) error {
	var errs []error
	for _, name := range names {
		link, err := netlink.LinkByName(name)
		var missing netlink.LinkNotFoundError
		if errors.As(err, &missing) {
			continue
		}
		if err == nil {
			err = netlink.LinkDel(link)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
