package scheduler

import "github.com/berthd/berth/topology"

// Distances between devices. What links they have weighs most, then where they lie.
const (
	unlinked    = 1000 // more than the 127 lanes that are told apart
	linkStep    = 1000 // more than any distance of place
	otherCell   = 100  // and the distance of the cells, up to 255
	ownCell     = 50
	unknownCell = 500
)

// deviceDistance is how far two devices are from each other: the fewer lanes link them
// the farther, those without a link farthest; then 0 under the same PCI root, 50 in the
// same cell, else by the distance of their cells.
func deviceDistance(m *topology.Machine, a, b int) uint64 {
	link := uint64(unlinked)
	if lanes := m.Lanes(a, b); lanes > 0 {
		link = uint64(128 - lanes)
	}
	x, y := &m.Devices[a], &m.Devices[b]
	place := uint64(unknownCell)
	switch {
	case x.PCIRoot != "" && x.PCIRoot == y.PCIRoot:
		place = 0
	case x.Cell < 0 || y.Cell < 0:
	case x.Cell == y.Cell:
		place = ownCell
	default:
		place = otherCell + uint64(min(m.Distance(x.Cell, y.Cell), 255))
	}
	return link*linkStep + place
}

// areNear says whether two devices are as close as that.
func areNear(m *topology.Machine, a, b int, within nearness) bool {
	x, y := &m.Devices[a], &m.Devices[b]
	switch within {
	case sameCell:
		return x.Cell >= 0 && x.Cell == y.Cell
	case sameSocket:
		return x.Cell >= 0 && y.Cell >= 0 && m.Cells[x.Cell].Socket == m.Cells[y.Cell].Socket
	}
	return m.Linked(a, b, "pcie")
}
