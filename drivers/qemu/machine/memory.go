package machine

import (
	"fmt"
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// memorySlots is how many times memory can be added while a machine runs.
const memorySlots = 16

// planMemory divides the guest's memory over the nodes and says with which size of pages,
// in KiB; 0: ordinary ones.
func planMemory(in *Input, nodes []node) (pageKiB uint64, err error) {
	for _, h := range in.Resources.GetHugepages() {
		if h.GetCount() == 0 {
			continue
		}
		if pageKiB != 0 && pageKiB != h.GetSizeKib() {
			return 0, invalid("memory", "the task asks for hugepages of several sizes; a machine's memory has one")
		}
		pageKiB = h.GetSizeKib()
	}
	if pageKiB != 0 {
		return pageKiB, planHugepages(in, nodes, pageKiB)
	}
	planOrdinary(in, nodes)
	return 0, nil
}

func planHugepages(in *Input, nodes []node, pageKiB uint64) error {
	for _, g := range in.Grant.GetCells() {
		for _, h := range g.GetHugepages() {
			if h.GetSizeKib() != pageKiB {
				continue
			}
			kib := h.GetCount() * pageKiB
			if kib%1024 != 0 {
				return invalid("memory", "%d hugepages of %d KiB are not whole MiB", h.GetCount(), pageKiB)
			}
			i := slices.IndexFunc(nodes, func(n node) bool { return slices.Contains(n.cells, g.GetCell()) })
			nodes[i].memoryMiB += kib / 1024
		}
	}
	return nil
}

// planOrdinary divides the memory as the grant is divided, whose cells have QEMU's own
// memory in them too.
func planOrdinary(in *Input, nodes []node) {
	whole := in.Resources.GetMemoryMib()
	var granted, left uint64 = 0, whole
	parts := make([]uint64, len(nodes))
	for _, g := range in.Grant.GetCells() {
		i := slices.IndexFunc(nodes, func(n node) bool { return slices.Contains(n.cells, g.GetCell()) })
		if i >= 0 {
			parts[i] += g.GetMemoryMib()
			granted += g.GetMemoryMib()
		}
	}
	if granted == 0 {
		nodes[0].memoryMiB = whole
		return
	}
	for i := range nodes {
		nodes[i].memoryMiB = whole * parts[i] / granted
		left -= nodes[i].memoryMiB
	}
	// What rounding has left goes where most is.
	most := slices.Index(parts, slices.Max(parts))
	nodes[most].memoryMiB += left
}

// memory writes the memory and the nodes.
func (b *builder) memory(c *cpus, pageKiB uint64) error {
	for _, n := range c.nodes {
		b.out.MemoryMiB += n.memoryMiB
	}
	if b.out.MemoryMiB == 0 {
		return invalid("memory", "the machine has no memory").WithRemedy("set the task's memory, or hugepages")
	}
	size := []string{fmt.Sprintf("%dM", b.out.MemoryMiB)}
	if most := b.in.Config.GetMemory().GetMaxMib(); most != 0 {
		switch {
		case most < b.out.MemoryMiB:
			return invalid("memory.max", "is %d MiB, but the machine starts with %d MiB", most, b.out.MemoryMiB)
		case most > b.out.MemoryMiB && !b.board.moreMemory:
			return invalid("memory.max", "a machine %s cannot get more memory while it runs", b.board.kind)
		case most > b.out.MemoryMiB:
			size = append(size, fmt.Sprintf("slots=%d", memorySlots), fmt.Sprintf("maxmem=%dM", most))
		}
	}
	b.flag("m", size...)
	for i, n := range c.nodes {
		if n.memoryMiB > 0 {
			b.object(b.backend(fmt.Sprintf("mem%d", i), n, pageKiB))
		}
	}
	if len(c.nodes) > 1 {
		b.numa(c)
	}
	return nil
}

// backend is a piece of the guest's memory in its cells of the host.
func (b *builder) backend(id string, n node, pageKiB uint64) props {
	shared := b.in.Config.GetMemory().GetShared()
	kind := "memory-backend-ram"
	if pageKiB != 0 || shared {
		kind = "memory-backend-memfd"
	}
	p := props{{"qom-type", kind}, {"id", id}, {"size", n.memoryMiB << 20}}
	if pageKiB != 0 {
		// All at once: a machine that runs out of pages later would be killed.
		p = p.with("hugetlb", true).with("hugetlbsize", pageKiB<<10).with("prealloc", true)
	}
	if kind == "memory-backend-memfd" {
		p = p.with("share", true)
	}
	if cells := withMemory(b.in, n.cells); len(b.in.Cells) > 1 && len(cells) > 0 {
		p = p.with("host-nodes", cells).with("policy", "bind")
	}
	return p
}

// withMemory are those of the cells that memory was granted in.
func withMemory(in *Input, cells []uint32) (some []uint32) {
	for _, g := range in.Grant.GetCells() {
		if slices.Contains(cells, g.GetCell()) && (g.GetMemoryMib() > 0 || len(g.GetHugepages()) > 0) {
			some = append(some, g.GetCell())
		}
	}
	return some
}

// numa writes the guest's nodes, which vCPUs are in them, and how far they are apart.
func (b *builder) numa(c *cpus) {
	for i, n := range c.nodes {
		words := []string{"node", fmt.Sprintf("nodeid=%d", i)}
		if n.memoryMiB > 0 {
			words = append(words, fmt.Sprintf("memdev=mem%d", i))
		}
		b.flag("numa", words...)
	}
	for socket, cores := range c.coreNodes() {
		b.numaSocket(socket, cores)
	}
	for _, d := range distances(b.in.Cells, c.nodes) {
		b.flag("numa", "dist", fmt.Sprintf("src=%d", d.from), fmt.Sprintf("dst=%d", d.to), fmt.Sprintf("val=%d", d.value))
	}
}

// numaSocket puts a socket into its node; or its cores, where the config's topology has
// sockets over several.
func (b *builder) numaSocket(socket int, cores []int) {
	if slices.Max(cores) == slices.Min(cores) {
		b.flag("numa", "cpu", fmt.Sprintf("node-id=%d", cores[0]), fmt.Sprintf("socket-id=%d", socket))
		return
	}
	for core, i := range cores {
		b.flag("numa", "cpu", fmt.Sprintf("node-id=%d", i), fmt.Sprintf("socket-id=%d", socket), fmt.Sprintf("core-id=%d", core))
	}
}

// coreNodes says, for each core of each socket, in which node it lies: first those that
// the machine starts with, then the spare ones, in turns.
func (c *cpus) coreNodes() [][]int {
	var flat []int
	for i, n := range c.nodes {
		for range len(n.pins) / c.threads {
			flat = append(flat, i)
		}
	}
	for spare := 0; len(flat) < c.sockets*c.cores; spare++ {
		turn := spare / c.cores % len(c.nodes)
		flat = append(flat, turn)
	}
	return slices.Collect(slices.Chunk(flat, c.cores))
}

type distance struct {
	from, to int
	value    uint32
}

// distances are those of the nodes' cells; none where the host does not know them well.
func distances(cells []*berthv1.Cell, nodes []node) (out []distance) {
	at := func(n node) int {
		return slices.IndexFunc(cells, func(c *berthv1.Cell) bool { return c.GetId() == n.cells[0] })
	}
	for i, from := range nodes {
		for j, to := range nodes {
			if i == j {
				continue
			}
			a, b := at(from), at(to)
			if a < 0 || b < 0 || b >= len(cells[a].GetDistances()) {
				return nil
			}
			value := cells[a].GetDistances()[b]
			if value <= 10 || value > 254 {
				return nil
			}
			out = append(out, distance{i, j, value})
		}
	}
	return out
}
