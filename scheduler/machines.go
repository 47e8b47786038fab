package scheduler

import (
	"encoding/binary"
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// Machines gives what nodes report of themselves as machines; nodes that report the same
// share one. The zero value is ready. It is not safe for concurrent use.
type Machines struct {
	byContent map[string]*topology.Machine
	content   []byte
}

// maxMachines bounds what is remembered; when there are more, all of it is forgotten.
// Machines with devices that have ids of their own are seldom alike.
const maxMachines = 4096

// Of is MachineOf, or the machine of an earlier node that reported the same.
func (s *Machines) Of(n *berthv1.Node) (*topology.Machine, error) {
	s.content = appendMachine(s.content[:0], n)
	if m := s.byContent[string(s.content)]; m != nil {
		return m, nil
	}
	m, err := MachineOf(n)
	if err != nil {
		return nil, err
	}
	if s.byContent == nil || len(s.byContent) >= maxMachines {
		s.byContent = map[string]*topology.Machine{}
	}
	s.byContent[string(s.content)] = m
	return m, nil
}

// appendMachine writes everything that MachineOf reads, so that different machines never
// give the same bytes: each text and each list has its length before it.
func appendMachine(b []byte, n *berthv1.Node) []byte {
	hw := n.GetHardware()
	b = appendNumbers(b, hw.GetDiskMib(), uint64(n.GetMinPort()), uint64(n.GetMaxPort()), uint64(len(n.GetReservedPorts())))
	for _, p := range n.GetReservedPorts() {
		b = appendNumbers(b, uint64(p))
	}
	b = appendNumbers(b, uint64(len(hw.GetCells())))
	for _, c := range hw.GetCells() {
		b = appendNumbers(b, uint64(c.GetId()), uint64(c.GetSocket()), c.GetMemoryMib(), c.GetReservedMemoryMib(),
			uint64(len(c.GetCores())), uint64(len(c.GetHugepages())), uint64(len(c.GetDistances())))
		b = appendText(b, c.GetReservedCpus())
		for _, core := range c.GetCores() {
			b = appendText(b, core)
		}
		for _, h := range c.GetHugepages() {
			b = appendNumbers(b, h.GetSizeKib(), h.GetCount())
		}
		for _, d := range c.GetDistances() {
			b = appendNumbers(b, uint64(d))
		}
	}
	for _, d := range hw.GetDevices() {
		b = appendDevice(b, d)
	}
	return b
}

func appendDevice(b []byte, d *berthv1.Device) []byte {
	healthy := uint64(0)
	if d.GetHealthy() {
		healthy = 1
	}
	b = appendNumbers(b, uint64(uint32(d.GetCell())), d.GetMemoryMib(), healthy, uint64(d.GetShareableMilli()),
		uint64(len(d.GetAttributes())), uint64(len(d.GetLinks())))
	for _, text := range []string{d.GetId(), d.GetKind(), d.GetModel(), d.GetVendor(), d.GetPciRoot()} {
		b = appendText(b, text)
	}
	names := make([]string, 0, len(d.GetAttributes()))
	for name := range d.GetAttributes() {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		b = appendText(appendText(b, name), d.GetAttributes()[name])
	}
	for _, l := range d.GetLinks() {
		b = appendNumbers(appendText(appendText(b, l.GetPeer()), l.GetType()), uint64(l.GetLanes()))
	}
	return b
}

func appendNumbers(b []byte, numbers ...uint64) []byte {
	for _, x := range numbers {
		b = binary.AppendUvarint(b, x)
	}
	return b
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}
