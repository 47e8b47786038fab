package machine

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// mostQueues is how many pairs of queues an interface has unless the config says so.
const mostQueues = 8

// Queues is how many pairs of queues an interface in mode "bridge" has: its tap must have
// several exactly if this is more than one.
func Queues(n *berthv1.QemuNic, vcpus int) int {
	if asked := int(n.GetQueues()); asked != 0 {
		return asked
	}
	return min(vcpus, mostQueues)
}

// nics writes the interfaces but those that are functions of the host.
func (b *builder) nics(c *cpus) error {
	forwarded := false
	for i := range b.in.Nics {
		n := &b.in.Nics[i]
		id := NicID(n.Config.GetName())
		queues := 1
		switch n.Config.GetMode() {
		case "vf":
			continue
		case "bridge":
			queues = Queues(n.Config, c.count)
			if err := b.tap(n, id, i, queues); err != nil {
				return err
			}
		default:
			if err := b.user(id, i, !forwarded); err != nil {
				return err
			}
			forwarded = true
		}
		if err := b.nic(n, id, i, queues); err != nil {
			return err
		}
	}
	return nil
}

// nic writes the guest's side of an interface.
func (b *builder) nic(n *Nic, id string, i, queues int) error {
	model := n.Config.GetModel()
	if model == "" || model == "virtio" {
		model = b.board.virtio("net")
	} else if b.board.microvm() {
		return invalid(fmt.Sprintf("nic[%d].model", i), "a machine %s has virtio interfaces only", b.board.kind)
	}
	p := props{{"driver", model}, {"id", id}, {"netdev", id}, {"mac", n.MAC}}
	if strings.HasPrefix(model, "virtio-") && queues > 1 {
		p = p.with("mq", true)
		// Two for each pair, one for changes of the config and one for the control queue.
		p = p.when(!b.board.microvm(), "vectors", 2*queues+2)
	}
	at, boots := b.boot[id]
	p = p.when(boots, "bootindex", at)
	p = p.when(!b.board.microvm() && !(boots && b.in.Host.NetworkROMs), "romfile", "")
	if model == "e1000" {
		// A conventional PCI device; it cannot sit on a PCIe port.
		return b.integrated(p)
	}
	return b.plugged(p, -1)
}

// user writes an interface behind the host's address.
func (b *builder) user(id string, i int, forward bool) error {
	p := props{{"type", "user"}, {"id", id}}
	if !forward || len(b.in.Ports) == 0 {
		b.netdev(p)
		return nil
	}
	var rules []props
	for _, port := range b.in.Ports {
		address := port.GetAddress()
		if ip, err := netip.ParseAddr(address); address != "" && (err != nil || !ip.Unmap().Is4()) {
			return invalid(fmt.Sprintf("nic[%d].mode", i), "port %q is at %s: mode \"user\" forwards ports of IPv4 addresses only", port.GetName(), address)
		} else if address != "" {
			address = ip.Unmap().String()
		}
		to := port.GetTo()
		if to == 0 {
			to = port.GetPort()
		}
		for _, protocol := range []string{"tcp", "udp"} {
			rules = append(rules, props{{"str", fmt.Sprintf("%s:%s:%d-:%d", protocol, address, port.GetPort(), to)}})
		}
	}
	b.netdev(p.with("hostfwd", rules))
	return nil
}

// tap writes an interface on a bridge of the host.
func (b *builder) tap(n *Nic, id string, i, queues int) error {
	p := props{{"type", "tap"}, {"id", id}}
	switch {
	case len(n.TapFDs) > 0 && len(n.TapFDs) != queues:
		return invalid(fmt.Sprintf("nic[%d].queues", i), "interface %q has %d queues, its tap %d", n.Config.GetName(), queues, len(n.TapFDs))
	case len(n.TapFDs) > 0:
		p = p.with("fds", joinNumbers(n.TapFDs))
		p = p.when(len(n.VhostFDs) > 0, "vhost", true).when(len(n.VhostFDs) > 0, "vhostfds", joinNumbers(n.VhostFDs))
	case n.Tap != "":
		p = p.with("ifname", n.Tap).with("script", "no").with("downscript", "no")
		p = p.when(queues > 1, "queues", queues).when(n.Vhost, "vhost", true)
	default:
		return invalid(fmt.Sprintf("nic[%d].bridge", i), "interface %q has no tap on the host", n.Config.GetName())
	}
	b.netdev(p)
	return nil
}

func joinNumbers(numbers []int) string {
	words := make([]string, len(numbers))
	for i, n := range numbers {
		words[i] = strconv.Itoa(n)
	}
	return strings.Join(words, ":")
}
