package topology

// maxSets bounds the sets of one level: links can be such that there are very many. Those
// beyond are not known, and not kept whole.
const maxSets = 256

// addSets adds the sets of one level.
func (m *Machine) addSets(level int) {
	if level == LevelLink {
		for kind := range m.Kinds {
			c := cliques{m: m, kind: kind}
			for i := range m.Devices {
				if m.Devices[i].kind == kind && len(m.Devices[i].lanes) > 0 {
					c.grow([]int{i}, c.peersAfter(i))
				}
			}
			m.Sets = append(m.Sets, c.found...)
		}
		return
	}
	index := map[place]int{}
	var sets []Together
	var sizes []int
	for i := range m.Devices {
		d := &m.Devices[i]
		at := place{kind: d.kind, cell: d.Cell}
		if level == LevelRoot {
			at = place{kind: d.kind, root: d.PCIRoot}
		}
		if level == LevelRoot && d.PCIRoot == "" || level == LevelCell && d.Cell < 0 {
			continue
		}
		k, known := index[at]
		if !known {
			k = len(sets)
			index[at] = k
			sets, sizes = append(sets, Together{level, d.kind, m.NewDeviceSet()}), append(sizes, 0)
		}
		sets[k].Devices.Add(i)
		sizes[k]++
	}
	for k := range sets {
		if sizes[k] > 1 {
			m.Sets = append(m.Sets, sets[k])
		}
	}
}

// cliques finds the largest sets of devices of one kind that are all linked.
type cliques struct {
	m     *Machine
	kind  int
	found []Together
	steps int
}

// peersAfter are the devices of the kind that a device is linked to, and that follow it.
func (c *cliques) peersAfter(i int) (peers []int) {
	for k := i + 1; k < len(c.m.Devices); k++ {
		if c.m.Devices[k].kind == c.kind && c.m.Lanes(i, k) > 0 {
			peers = append(peers, k)
		}
	}
	return peers
}

// grow adds to a clique each of the devices that are linked to all of it.
func (c *cliques) grow(clique, more []int) {
	if c.steps++; len(c.found) >= maxSets || c.steps > 64*maxSets {
		return
	}
	if len(more) == 0 {
		c.keep(clique)
		return
	}
	for n, i := range more {
		var rest []int
		for _, k := range more[n+1:] {
			if c.m.Lanes(i, k) > 0 {
				rest = append(rest, k)
			}
		}
		c.grow(append(clique[:len(clique):len(clique)], i), rest)
		if len(rest) == len(more)-1-n && n == 0 {
			return // all of them together: what is without this one is a part of that
		}
	}
}

// keep notes a clique that no device could be added to.
func (c *cliques) keep(clique []int) {
	if len(clique) < 2 || c.extensible(clique) {
		return
	}
	set := c.m.NewDeviceSet()
	for _, i := range clique {
		set.Add(i)
	}
	c.found = append(c.found, Together{LevelLink, c.kind, set})
}

func (c *cliques) extensible(clique []int) bool {
	for k := range c.m.Devices {
		if c.m.Devices[k].kind != c.kind {
			continue
		}
		all := true
		for _, i := range clique {
			all = all && i != k && c.m.Lanes(i, k) > 0
		}
		if all {
			return true
		}
	}
	return false
}
