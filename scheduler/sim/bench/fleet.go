package bench

import (
	"fmt"
	"strings"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// hardware is a type of node; every cell has its part of everything.
type hardware struct {
	weight  int // share of the fleet, against the others'
	arch    string
	cells   int
	cores   int // per cell
	threads int // per core
	memory  int // MiB per cell
	pages   int // hugepages of 1 GiB per cell, out of the memory
	gpus    int // per node, spread evenly over the cells; whole or in thousandths
}

const gib = 1024 // MiB

// mixedHardware is what a fleet of -cells mixed is made of.
var mixedHardware = []hardware{
	{weight: 35, arch: "amd64", cells: 2, cores: 16, threads: 2, memory: 128 * gib},
	{weight: 25, arch: "amd64", cells: 2, cores: 32, threads: 2, memory: 256 * gib, pages: 64},
	{weight: 15, arch: "amd64", cells: 4, cores: 16, threads: 2, memory: 128 * gib},
	{weight: 10, arch: "amd64", cells: 8, cores: 8, threads: 2, memory: 64 * gib, pages: 8},
	{weight: 10, arch: "arm64", cells: 2, cores: 40, threads: 1, memory: 160 * gib},
	{weight: 5, arch: "amd64", cells: 2, cores: 28, threads: 2, memory: 512 * gib, gpus: 8},
}

// hardwareOf gives the types for -cells: mixed, or nodes of 64 cores and 512 GiB in so
// many cells.
func hardwareOf(cells string) ([]hardware, error) {
	n := map[string]int{"1": 1, "2": 2, "4": 4, "8": 8}[cells]
	switch {
	case cells == "mixed":
		return mixedHardware, nil
	case n == 0:
		return nil, fmt.Errorf("cells are mixed, 1, 2, 4 or 8, not %q", cells)
	}
	return []hardware{{weight: 1, arch: "amd64", cells: n, cores: 64 / n, threads: 2, memory: 512 / n * gib}}, nil
}

// message gives the hardware as an agent reports it. Nodes of a type share it: it is
// never changed.
func (h *hardware) message() *berthv1.Hardware {
	out := &berthv1.Hardware{DiskMib: 4 << 20, Sockets: uint32(min(h.cells, 2))}
	all := h.cells * h.cores
	for c := range h.cells {
		cell := &berthv1.Cell{Id: uint32(c), Socket: uint32(c * int(out.GetSockets()) / h.cells), MemoryMib: uint64(h.memory)}
		for k := range h.cores {
			core := c*h.cores + k
			threads := fmt.Sprint(core)
			for t := 1; t < h.threads; t++ {
				threads += fmt.Sprintf(",%d", core+t*all)
			}
			cell.Cores = append(cell.Cores, threads)
		}
		if h.pages > 0 {
			cell.Hugepages = []*berthv1.Hugepages{{SizeKib: 1 << 20, Count: uint64(h.pages)}}
			cell.ReservedMemoryMib = uint64(h.pages) * gib
		}
		for other := range h.cells {
			cell.Distances = append(cell.Distances, distance(c, other, h.cells))
		}
		out.Cells = append(out.Cells, cell)
	}
	for g := range h.gpus {
		cell := g * h.cells / h.gpus
		out.Devices = append(out.Devices, &berthv1.Device{
			Id: fmt.Sprintf("gpu%d", g), Kind: "gpu", Model: "G80", Cell: int32(cell), Healthy: true,
			MemoryMib: 80 * gib, ShareableMilli: 999, PciRoot: fmt.Sprintf("pci0000:%02x", g),
		})
	}
	return out
}

// distance is 10 to itself, 12 within a socket, 32 to the other.
func distance(a, b, cells int) uint32 {
	switch {
	case a == b:
		return 10
	case a*2/cells == b*2/cells:
		return 12
	}
	return 32
}

// features is how many sets of features nodes have, out of which a constraint class asks
// for one.
const features = 64

// drawNodes draws the fleet's nodes. Each is in a rack of 40 and has about half of the
// classes' features.
func drawNodes(n, classes int, types []hardware, d *draws) []*berthv1.Node {
	var pick []int
	messages := make([]*berthv1.Hardware, len(types))
	for i := range types {
		messages[i] = types[i].message()
		for range types[i].weight {
			pick = append(pick, i)
		}
	}
	var sets [features]string
	for i := range sets {
		var has []string
		for c := range classes {
			if d.below(2) == 0 {
				has = append(has, feature(c))
			}
		}
		sets[i] = strings.Join(has, ",")
	}
	drivers := []*berthv1.DriverInfo{{Name: "exec", Healthy: true}}
	nodes := make([]*berthv1.Node, n)
	for i := range nodes {
		t := pick[d.below(len(pick))]
		nodes[i] = &berthv1.Node{
			Id: fmt.Sprintf("node-%06d", i), Name: fmt.Sprintf("n%d", i), Status: berthv1.Node_ready,
			Arch: types[t].arch, Drivers: drivers, MinPort: 20000, MaxPort: 32000, Hardware: messages[t],
			Attributes: map[string]string{"node.rack": fmt.Sprintf("r%d", i/40)},
		}
		if classes > 0 {
			nodes[i].Attributes["node.features"] = sets[d.below(features)]
		}
	}
	return nodes
}

func feature(class int) string { return fmt.Sprintf("f%d", class) }
