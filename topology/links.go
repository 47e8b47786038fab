package topology

import "math/bits"

// NVLink is the type of link, and the attribute that names the domain in which devices
// are linked through a switch.
const NVLink = "nvlink"

// Link is a direct link from one device to another. One direction is enough.
type Link struct {
	// Peer is the id of the other device; one that is not there is no link.
	Peer string
	Type string
	// Lanes side by side; 0 counts as 1.
	Lanes uint32
}

// DeviceSet is a set of devices by their index, as a bitmap.
type DeviceSet []uint64

// NewDeviceSet gives an empty set with room for the machine's devices.
func (m *Machine) NewDeviceSet() DeviceSet { return make(DeviceSet, (len(m.Devices)+63)/64) }

// Add puts a device into the set.
func (s DeviceSet) Add(i int) { s[i>>6] |= 1 << (i & 63) }

// Remove takes a device out of the set.
func (s DeviceSet) Remove(i int) { s[i>>6] &^= 1 << (i & 63) }

// Contains says whether a device is in the set.
func (s DeviceSet) Contains(i int) bool { return s[i>>6]&(1<<(i&63)) != 0 }

// CountCommon is the number of devices in both sets.
func (s DeviceSet) CountCommon(o DeviceSet) (n int) {
	for w := range s {
		n += bits.OnesCount64(s[w] & o[w])
	}
	return n
}

// Levels of the sets that are worth keeping whole.
const (
	LevelLink = iota // linked to each other, all of them
	LevelRoot        // under one PCI root
	LevelCell        // in one cell
	Levels
)

// Together is a set of at least two devices of one kind that are worth more together.
type Together struct {
	Level   int
	Kind    int // index in Machine.Kinds
	Devices DeviceSet
}

// What a link's byte says: the lanes of all types, and whether there is an NVLink.
const (
	laneBits  = 0x7f
	nvlinkBit = 0x80
)

// link derives the devices' links and sets; the devices' ids and kinds are checked.
func (m *Machine) link() {
	for i := range m.Devices {
		m.Devices[i].lanes = nil
	}
	for i := range m.Devices {
		for _, l := range m.Devices[i].Links {
			if k := m.DeviceIndex(l.Peer); k >= 0 && k != i {
				m.join(i, k, max(l.Lanes, 1), l.Type == NVLink)
				m.join(k, i, max(l.Lanes, 1), l.Type == NVLink)
			}
		}
	}
	m.joinDomains()
	m.Sets = nil
	m.addSets(LevelLink)
	m.addSets(LevelRoot)
	m.addSets(LevelCell)
	m.findTwins()
}

// join notes the link from one device to another.
func (m *Machine) join(from, to int, lanes uint32, nvlink bool) {
	d := &m.Devices[from]
	for len(d.lanes) <= to {
		d.lanes = append(d.lanes, 0)
	}
	b := max(d.lanes[to]&laneBits, uint8(min(lanes, laneBits))) | d.lanes[to]&nvlinkBit
	if nvlink {
		b |= nvlinkBit
	}
	d.lanes[to] = b
}

// joinDomains links the devices of one kind that are in the same NVLink domain.
func (m *Machine) joinDomains() {
	domains := map[[2]string][]int{}
	for i := range m.Devices {
		if d := &m.Devices[i]; d.Attributes[NVLink] != "" {
			key := [2]string{d.Kind, d.Attributes[NVLink]}
			for _, k := range domains[key] {
				m.join(i, k, 1, true)
				m.join(k, i, 1, true)
			}
			domains[key] = append(domains[key], i)
		}
	}
}

// Lanes is how many links lie side by side between two devices; 0: they are not linked.
func (m *Machine) Lanes(a, b int) int {
	if l := m.Devices[a].lanes; b < len(l) {
		return int(l[b] & laneBits)
	}
	return 0
}

// Linked says whether two devices are linked by NVLink or share their PCI root ("pcie").
func (m *Machine) Linked(a, b int, by string) bool {
	if by == NVLink {
		l := m.Devices[a].lanes
		return b < len(l) && l[b]&nvlinkBit != 0
	}
	return m.Devices[a].PCIRoot != "" && m.Devices[a].PCIRoot == m.Devices[b].PCIRoot
}

// Twin is the first device of its kind that cannot be told from device i by where it lies
// and what it is linked to: one may stand for the other. Unless strict is asked for, a
// PCI root that no other device of the kind is under makes no difference.
func (m *Machine) Twin(i int, strict bool) int {
	if strict {
		return int(m.Devices[i].strictTwin)
	}
	return int(m.Devices[i].twin)
}

// place is where a device lies.
type place struct {
	kind, cell int
	root       string
	linked     bool
}

// findTwins finds them. Being twins is transitive.
func (m *Machine) findTwins() {
	under := map[place]int{}
	for i := range m.Devices {
		under[place{kind: m.Devices[i].kind, root: m.Devices[i].PCIRoot}]++
	}
	twins, strict := map[place][]int{}, map[place][]int{}
	for i := range m.Devices {
		d := &m.Devices[i]
		at := place{d.kind, d.Cell, d.PCIRoot, len(d.lanes) > 0}
		d.strictTwin = m.twinAmong(strict, at, i)
		if under[place{kind: d.kind, root: d.PCIRoot}] == 1 {
			at.root = ""
		}
		d.twin = m.twinAmong(twins, at, i)
	}
}

// twinAmong gives the first of those at the same place with the same links; device i
// itself when it is the first.
func (m *Machine) twinAmong(first map[place][]int, at place, i int) int32 {
	for _, k := range first[at] {
		if m.sameLinks(i, k) {
			return int32(k)
		}
	}
	first[at] = append(first[at], i)
	return int32(i)
}

// sameLinks says whether two devices have the same links to all others.
func (m *Machine) sameLinks(a, b int) bool {
	x, y := m.Devices[a].lanes, m.Devices[b].lanes
	for i := range max(len(x), len(y)) {
		if i != a && i != b && laneByte(x, i) != laneByte(y, i) {
			return false
		}
	}
	return true
}

func laneByte(lanes []uint8, i int) uint8 {
	if i < len(lanes) {
		return lanes[i]
	}
	return 0
}
