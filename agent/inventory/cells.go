package inventory

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

const (
	cpuDir  = "sys/devices/system/cpu"
	nodeDir = "sys/devices/system/node"

	localDistance, remoteDistance = 10, 20
)

// cpus are the node's online CPUs.
type cpus struct {
	online topology.CPUSet
	core   map[int]topology.CPUSet // by CPU: the online threads of its core
	socket map[int]uint32
}

func (c *cpus) sockets() map[uint32]bool {
	all := map[uint32]bool{}
	for cpu := range c.online.All() {
		all[c.socket[cpu]] = true
	}
	return all
}

// cores are the distinct cores among some CPUs, by their lowest thread.
func (c *cpus) cores(of topology.CPUSet) []topology.CPUSet {
	var cores []topology.CPUSet
	var seen topology.CPUSet
	for cpu := range of.All() {
		if seen.Contains(cpu) {
			continue
		}
		// A core belongs to one cell; threads that the kernel puts into two are parted.
		threads := c.core[cpu].Intersect(of).Minus(seen)
		threads.Add(cpu)
		cores = append(cores, threads)
		seen.AddAll(threads)
	}
	return cores
}

func readCPUs(t tree) *cpus {
	c := &cpus{core: map[int]topology.CPUSet{}, socket: map[int]uint32{}}
	c.online = onlineCPUs(t)
	for cpu := range c.online.All() {
		dir := path.Join(cpuDir, fmt.Sprintf("cpu%d", cpu), "topology")
		threads, ok := t.cpus(dir+"/core_cpus_list", dir+"/core_cpus")
		if !ok {
			threads, ok = t.cpus(dir+"/thread_siblings_list", dir+"/thread_siblings")
		}
		if !ok || !threads.Contains(cpu) {
			threads = topology.NewCPUSet(cpu)
		}
		c.core[cpu] = threads.Intersect(c.online)
		if n, ok := t.number(dir + "/physical_package_id"); ok && n >= 0 && n < 1<<31 {
			c.socket[cpu] = uint32(n)
		}
	}
	return c
}

// onlineCPUs finds the CPUs that run: by the kernel's list, else one by one, else by
// /proc/cpuinfo.
func onlineCPUs(t tree) topology.CPUSet {
	var present topology.CPUSet
	for _, n := range t.numbered(cpuDir, "cpu") {
		if v, ok := t.number(path.Join(cpuDir, fmt.Sprintf("cpu%d", n), "online")); !ok || v != 0 {
			present.Add(n)
		}
	}
	if set, err := topology.ParseCPUSet(t.text(cpuDir + "/online")); err == nil && !set.Empty() {
		if present.Empty() {
			return set
		}
		if both := set.Intersect(present); !both.Empty() {
			return both
		}
	}
	if present.Empty() {
		for _, line := range strings.Split(t.text("proc/cpuinfo"), "\n") {
			key, value, _ := strings.Cut(line, ":")
			if n, err := strconv.Atoi(strings.TrimSpace(value)); strings.TrimSpace(key) == "processor" && err == nil && n >= 0 && n < maxCPU {
				present.Add(n)
			}
		}
	}
	return present
}

// cellSigns is a text that changes when CPUs, memory or hugepages do.
func cellSigns(t tree) string {
	online := t.text(cpuDir + "/online")
	if online == "" {
		online = onlineCPUs(t).String()
	}
	signs := fmt.Sprint(online, ";", memTotal(t.text("proc/meminfo")))
	ids := t.numbered(nodeDir, "node")
	for _, id := range ids {
		dir := path.Join(nodeDir, fmt.Sprintf("node%d", id))
		signs += fmt.Sprintf(";%d", id)
		if len(ids) > 1 {
			signs += fmt.Sprintf(":%d", memTotal(t.text(dir+"/meminfo")))
		}
		for _, h := range readHugepages(t, dir+"/hugepages") {
			signs += fmt.Sprintf(",%d:%d", h.GetSizeKib(), h.GetCount())
		}
	}
	for _, h := range readHugepages(t, "sys/kernel/mm/hugepages") {
		signs += fmt.Sprintf(",%d:%d", h.GetSizeKib(), h.GetCount())
	}
	return signs
}

// readCells reads the NUMA nodes; a kernel without them is one cell.
func readCells(t tree, c *cpus) []*berthv1.Cell {
	var cells []*berthv1.Cell
	left, overlap := c.online.Clone(), false
	ids := t.numbered(nodeDir, "node")
	for _, id := range ids {
		dir := path.Join(nodeDir, fmt.Sprintf("node%d", id))
		set, _ := t.cpus(dir+"/cpulist", dir+"/cpumap")
		set = set.Intersect(c.online)
		overlap = overlap || !left.ContainsAll(set)
		set = set.Intersect(left)
		left.RemoveAll(set)
		cells = append(cells, readCell(t, c, uint32(id), dir, set))
	}
	if overlap || len(cells) == 0 {
		ids = nil
		cells = []*berthv1.Cell{oneCell(cells)}
		left = c.online
	}
	if total := memTotal(t.text("proc/meminfo")); len(cells) == 1 && total > 0 {
		cells[0].MemoryMib = total // a node's own count wavers where memory comes and goes
	}
	if !left.Empty() { // CPUs that no NUMA node names
		c.fill(cells[0], left.Union(cpusOf(cells[0])))
	}
	for _, cell := range cells {
		pagesDir := path.Join(nodeDir, fmt.Sprintf("node%d", cell.GetId()), "hugepages")
		if len(ids) == 0 || (len(cells) == 1 && !t.exists(pagesDir)) {
			pagesDir = "sys/kernel/mm/hugepages"
		}
		cell.Hugepages = readHugepages(t, pagesDir)
		for _, h := range cell.GetHugepages() {
			cell.ReservedMemoryMib += h.GetSizeKib() * h.GetCount() / 1024
		}
		cell.ReservedMemoryMib = min(cell.GetReservedMemoryMib(), cell.GetMemoryMib())
	}
	setDistances(t, cells)
	setSockets(c, cells)
	readCaches(t, c, cells)
	return cells
}

// oneCell is the node as a whole: for a kernel without NUMA nodes, and for firmware that
// puts a CPU into several of them, whose word on the rest is worth nothing either.
func oneCell(nodes []*berthv1.Cell) *berthv1.Cell {
	cell := &berthv1.Cell{}
	for _, n := range nodes {
		cell.MemoryMib += n.GetMemoryMib()
	}
	return cell
}

func readCell(t tree, c *cpus, id uint32, dir string, set topology.CPUSet) *berthv1.Cell {
	cell := &berthv1.Cell{Id: id, MemoryMib: memTotal(t.text(dir + "/meminfo"))}
	c.fill(cell, set)
	return cell
}

func (c *cpus) fill(cell *berthv1.Cell, set topology.CPUSet) {
	cell.Cores = nil
	for _, core := range c.cores(set) {
		cell.Cores = append(cell.Cores, core.String())
	}
}

// cpusOf are a cell's CPUs.
func cpusOf(cell *berthv1.Cell) topology.CPUSet {
	var set topology.CPUSet
	for _, core := range cell.GetCores() {
		if s, err := topology.ParseCPUSet(core); err == nil {
			set.AddAll(s)
		}
	}
	return set
}

// memTotal finds MemTotal, in MiB, in /proc/meminfo or a node's meminfo.
func memTotal(meminfo string) uint64 {
	for line := range strings.Lines(meminfo) {
		_, rest, ok := strings.Cut(line, "MemTotal:")
		if !ok {
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) == 0 {
			return 0
		}
		n, err := strconv.ParseUint(fields[0], 10, 64)
		if err != nil {
			return 0
		}
		return n / 1024
	}
	return 0
}

// readHugepages reads the pages that exist, by ascending size.
func readHugepages(t tree, dir string) []*berthv1.Hugepages {
	var pages []*berthv1.Hugepages
	for _, name := range t.names(dir) {
		text, ok := strings.CutPrefix(name, "hugepages-")
		size, err := strconv.ParseUint(strings.TrimSuffix(text, "kB"), 10, 32)
		n := t.count(path.Join(dir, name, "nr_hugepages"))
		if ok && err == nil && size > 0 && n > 0 {
			pages = append(pages, &berthv1.Hugepages{SizeKib: size, Count: n})
		}
	}
	slices.SortFunc(pages, func(a, b *berthv1.Hugepages) int { return int(a.GetSizeKib()) - int(b.GetSizeKib()) })
	return pages
}

// setDistances reads the distances. Where they do not fit the cells they are made up:
// near to itself, far from the others.
func setDistances(t tree, cells []*berthv1.Cell) {
	for i, cell := range cells {
		fields := strings.Fields(t.text(path.Join(nodeDir, fmt.Sprintf("node%d", cell.GetId()), "distance")))
		for k := range cells {
			d := uint64(remoteDistance)
			if k == i {
				d = localDistance
			}
			if len(fields) == len(cells) {
				if v, err := strconv.ParseUint(fields[k], 10, 16); err == nil {
					d = v
				}
			}
			cell.Distances = append(cell.Distances, uint32(d))
		}
	}
}

// setSockets gives each cell its CPUs' socket, and one without CPUs that of the nearest
// cell that has some.
func setSockets(c *cpus, cells []*berthv1.Cell) {
	for _, cell := range cells {
		if set := cpusOf(cell); !set.Empty() {
			cell.Socket = c.socket[set.First()]
			continue
		}
		best := uint32(1<<32 - 1)
		for k, other := range cells {
			if d := cell.GetDistances()[k]; len(other.GetCores()) > 0 && d < best {
				best, cell.Socket = d, c.socket[cpusOf(other).First()]
			}
		}
	}
}

// readCaches gives each cell the caches that more than one core shares; those of one
// core are all alike and would be many.
func readCaches(t tree, c *cpus, cells []*berthv1.Cell) {
	for _, cell := range cells {
		seen := map[string]bool{}
		for cpu := range cpusOf(cell).All() {
			dir := path.Join(cpuDir, fmt.Sprintf("cpu%d", cpu), "cache")
			for _, n := range t.numbered(dir, "index") {
				index := path.Join(dir, fmt.Sprintf("index%d", n))
				shared, ok := t.cpus(index+"/shared_cpu_list", index+"/shared_cpu_map")
				shared = shared.Intersect(c.online)
				if !ok || c.core[cpu].ContainsAll(shared) {
					continue
				}
				cache := &berthv1.Cache{
					Level: uint32(t.count(index + "/level")), Type: strings.ToLower(t.text(index + "/type")),
					SizeKib: parseSize(t.text(index + "/size")), Cpus: shared.String(),
				}
				if key := fmt.Sprint(cache.GetLevel(), cache.GetType(), cache.GetCpus()); !seen[key] {
					seen[key] = true
					cell.Caches = append(cell.Caches, cache)
				}
			}
		}
	}
}

// parseSize reads "32768K" or "1M" as KiB.
func parseSize(s string) uint64 {
	unit := uint64(1)
	if text, ok := strings.CutSuffix(s, "M"); ok {
		s, unit = text, 1024
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(s, "K"), 10, 32)
	if err != nil {
		return 0
	}
	return n * unit
}
