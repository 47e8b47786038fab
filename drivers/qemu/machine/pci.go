package machine

import (
	"fmt"

	"github.com/berthd/berth/problem"
)

const (
	// sparePorts are for what is plugged in while the machine runs, beside one for each
	// cell that has a host bridge of its own.
	sparePorts = 8
	// manyNodes is how many nodes may have host bridges without a device behind them.
	manyNodes = 8
	// firstBridgeBus and lastBus are the numbers of PCI buses that are divided among the
	// nodes' host bridges.
	firstBridgeBus, lastBus = 128, 255
	// portsOfSlot is the number of functions of a slot, each of which can be a port.
	portsOfSlot = 8
)

// bus hands out the places that devices are plugged into.
type bus struct {
	next int
	// chassis counts the ports of the machine.
	chassis int
	// bridges are the nodes' host bridges, by node; nil: the node has none.
	bridges []*bridge
	// main has the ports that are near no node in particular.
	main bridge
}

// bridge is a bus that has ports.
type bridge struct {
	id   string
	cell int
	// slot is the one whose functions become ports; ports is how many there are.
	slot, ports int
	// next is the next free slot of a bridge other than the machine's root.
	next int
}

// slot takes the next slot of the machine's root.
func (b *builder) slot() (int, error) {
	if b.bus.next == 0 {
		b.bus.next = b.board.firstSlot
	}
	if b.bus.next > b.board.lastSlot {
		return 0, problem.New(problem.Invalid, "config", "the machine has more devices than a machine %s can have", b.board.kind).
			WithRemedy("leave some out, or put disks on the bus scsi: they share one place")
	}
	b.bus.next++
	return b.bus.next - 1, nil
}

// integrated gives a device a place that it keeps while the machine runs.
func (b *builder) integrated(p props) error {
	slot, err := b.slot()
	if err != nil {
		return err
	}
	if b.board.microvm() {
		b.device(p)
		return nil
	}
	b.device(p.with("bus", b.board.root).with("addr", fmt.Sprintf("%#x", slot)))
	return nil
}

// plugged gives a device a place that it can be unplugged from, in the node or (-1) in
// none; the place stays its own.
func (b *builder) plugged(p props, node int) error {
	if !b.board.ports {
		return b.integrated(p)
	}
	port, err := b.port(node)
	if err != nil {
		return err
	}
	b.device(p.with("bus", port))
	return nil
}

// bridgesFor makes a host bridge in each node, so that the guest sees which devices are
// near; with very many nodes, in those that have devices only.
func (b *builder) bridgesFor(c *cpus, used func(node int) bool) error {
	b.bus.main = bridge{id: b.board.root, cell: -1}
	b.bus.bridges = make([]*bridge, len(c.nodes))
	if !b.board.ports || len(c.nodes) < 2 {
		return nil
	}
	first, step := firstBridgeBus, (lastBus-firstBridgeBus)/len(c.nodes)
	for i, n := range c.nodes {
		if len(c.nodes) > manyNodes && !used(i) {
			continue
		}
		at := &bridge{id: fmt.Sprintf("pxb%d", i), cell: int(n.cells[0])}
		err := b.integrated(props{
			{"driver", "pxb-pcie"}, {"id", at.id}, {"bus_nr", first + i*step}, {"numa_node", i},
		})
		if err != nil {
			return err
		}
		b.bus.bridges[i] = at
	}
	return nil
}

// port makes a PCIe port and gives its id.
func (b *builder) port(node int) (string, error) {
	at := &b.bus.main
	if node >= 0 && b.bus.bridges[node] != nil {
		at = b.bus.bridges[node]
	}
	function := at.ports % portsOfSlot
	if function == 0 {
		at.slot = at.next
		at.next++
		if at == &b.bus.main {
			slot, err := b.slot()
			if err != nil {
				return "", err
			}
			at.slot = slot
		}
	}
	at.ports++
	id := fmt.Sprintf("port%d", b.bus.chassis)
	b.bus.chassis++
	b.device(props{
		{"driver", "pcie-root-port"}, {"id", id}, {"bus", at.id},
		{"addr", fmt.Sprintf("%#x.%d", at.slot, function)}, {"chassis", b.bus.chassis},
	}.when(function == 0, "multifunction", true))
	return id, nil
}

// spares makes the ports for what is plugged in later.
func (b *builder) spares() error {
	if !b.board.ports {
		return nil
	}
	for i, at := range b.bus.bridges {
		if at == nil {
			continue
		}
		if err := b.spare(i, at.cell); err != nil {
			return err
		}
	}
	for range sparePorts {
		if err := b.spare(-1, -1); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) spare(node, cell int) error {
	id, err := b.port(node)
	b.out.SparePorts = append(b.out.SparePorts, SparePort{ID: id, Cell: cell})
	return err
}
