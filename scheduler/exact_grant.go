package scheduler

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// asAsked checks that an assignment is what the group asks for, no less and no more, and
// lies in the node as the group's policy wants it. What is free is not looked at.
func (g *Group) asAsked(m *topology.Machine, n *berthv1.Node, given *berthv1.Assignment) (*berthv1.Assignment, error) {
	ports, bad := g.portsAsAsked(m, n, given.GetPorts())
	switch {
	case bad != nil:
		return nil, bad
	case given.GetDiskMib() != g.diskMiB:
		return nil, misfit(WrongGrant, "assignment.disk_mib", "%d MiB are granted, %d asked for", given.GetDiskMib(), g.diskMiB)
	case given.GetWholeNode() != g.wholeNode:
		return nil, misfit(WrongGrant, "assignment.whole_node", "it is %v, and %v asked for", given.GetWholeNode(), g.wholeNode)
	case len(given.GetTasks()) != len(g.tasks):
		return nil, misfit(WrongGrant, "assignment.tasks", "%d tasks are granted something, the group has %d", len(given.GetTasks()), len(g.tasks))
	}
	out := &berthv1.Assignment{Ports: ports, DiskMib: given.GetDiskMib(), WholeNode: given.GetWholeNode()}
	c := grantCheck{g: g, m: m, cells: map[int]*need{}, taken: map[string]bool{}}
	for i := range g.tasks {
		t := &g.tasks[i]
		at := slices.IndexFunc(given.GetTasks(), func(grant *berthv1.TaskGrant) bool { return grant.GetTask() == t.name })
		if at < 0 {
			return nil, misfit(WrongGrant, "assignment.tasks", "task %q is granted nothing", t.name)
		}
		grant := given.GetTasks()[at]
		if err := c.task(t, grant); err != nil {
			return nil, misfit(WrongGrant, fmt.Sprintf("assignment.tasks[%d]", at), "task %q: %w", t.name, err)
		}
		out.Tasks = append(out.Tasks, proto.CloneOf(grant))
	}
	if err := c.policy(); err != nil {
		return nil, misfit(WrongGrant, "assignment", "%w", err)
	}
	return out, nil
}

// grantCheck sums up what an assignment grants.
type grantCheck struct {
	g     *Group
	m     *topology.Machine
	cells map[int]*need   // what the policy is about, by index of the cell
	taken map[string]bool // ids of devices
}

// cell is the sum of what is aligned in a cell.
func (c *grantCheck) cell(i int, a align) *need {
	if c.g.align&a == 0 {
		return &need{}
	}
	if c.cells[i] == nil {
		c.cells[i] = &need{}
	}
	return c.cells[i]
}

func (c *grantCheck) task(t *taskNeed, grant *berthv1.TaskGrant) error {
	var sum need
	seen := map[uint32]bool{}
	for _, part := range grant.GetCells() {
		i := c.m.CellIndex(part.GetCell())
		switch {
		case i < 0:
			return fmt.Errorf("the node has no cell %d", part.GetCell())
		case seen[part.GetCell()]:
			return fmt.Errorf("cell %d is there twice", part.GetCell())
		}
		seen[part.GetCell()] = true
		if err := c.part(t, i, part, &sum); err != nil {
			return fmt.Errorf("cell %d: %w", part.GetCell(), err)
		}
	}
	switch {
	case sum.cores != t.cores || sum.threads != t.threads:
		return fmt.Errorf("%d exclusive cores are granted, %d asked for", sum.cores+sum.threads, t.cores+t.threads)
	case sum.milli != t.milli:
		return fmt.Errorf("%d milli of shared CPU are granted, %d asked for", sum.milli, t.milli)
	case sum.memory != t.memory:
		return fmt.Errorf("%d MiB are granted, %d asked for", sum.memory, t.memory)
	}
	var asked need
	asked.add(&t.need) // sizes that are there twice become one
	for _, h := range sum.hugepages {
		if i := sizeIndex(asked.hugepages, h.SizeKiB); i < 0 || asked.hugepages[i].Count != h.Count {
			return fmt.Errorf("%d hugepages of %d KiB are granted, which is not what is asked for", h.Count, h.SizeKiB)
		}
	}
	for _, h := range asked.hugepages {
		if h.Count > 0 && sizeIndex(sum.hugepages, h.SizeKiB) < 0 {
			return fmt.Errorf("no hugepages of %d KiB are granted, %d are asked for", h.SizeKiB, h.Count)
		}
	}
	return c.devices(t, grant.GetDevices())
}

func sizeIndex(list []topology.Hugepages, size uint64) int {
	return slices.IndexFunc(list, func(h topology.Hugepages) bool { return h.SizeKiB == size })
}

// part adds up one cell's part of a task.
func (c *grantCheck) part(t *taskNeed, i int, part *berthv1.CellGrant, sum *need) error {
	one := need{milli: uint64(part.GetCpuMilli()), memory: part.GetMemoryMib()}
	if part.GetCpus() != "" {
		cpus, err := topology.ParseCPUSet(part.GetCpus())
		if err != nil {
			return err
		}
		if one.cores, one.threads, err = coresOf(&c.m.Cells[i], cpus, t.cores > 0); err != nil {
			return err
		}
	}
	if one.milli > maxMilli || one.memory > maxMemory {
		return fmt.Errorf("%d milli and %d MiB are too much", one.milli, one.memory)
	}
	for _, h := range part.GetHugepages() {
		if h.GetCount() > maxPages || h.GetCount() == 0 {
			return fmt.Errorf("%d hugepages make no sense", h.GetCount())
		}
		one.add(&need{hugepages: []topology.Hugepages{{SizeKiB: h.GetSizeKib(), Count: h.GetCount()}}})
	}
	sum.add(&one)
	if one.milli > 0 || one.cores+one.threads > 0 {
		c.cell(i, alignCPU).add(&need{milli: one.milli, cores: one.cores, threads: one.threads})
	}
	if one.memory > 0 {
		c.cell(i, alignMemory).add(&need{memory: one.memory})
	}
	if len(one.hugepages) > 0 {
		c.cell(i, alignHugepages).add(&need{hugepages: one.hugepages})
	}
	return nil
}

// coresOf counts exclusive CPUs of a cell, as whole cores or as threads.
func coresOf(cell *topology.Cell, cpus topology.CPUSet, whole bool) (cores, threads int, err error) {
	if !cell.Schedulable.ContainsAll(cpus) {
		return 0, 0, fmt.Errorf("CPUs %s are not all of this cell, or are reserved", cpus)
	}
	if !whole {
		return 0, cpus.Count(), nil
	}
	for k := range cell.Cores {
		core := &cell.Cores[k]
		switch common := core.Threads.CountCommon(cpus); {
		case common == 0:
		case common != core.Count || !core.Whole:
			return 0, 0, fmt.Errorf("CPUs %s are not whole cores: core %s is divided", cpus, core.Threads)
		default:
			cores++
		}
	}
	return cores, 0, nil
}

// devices checks that the devices are the ones that are asked for.
func (c *grantCheck) devices(t *taskNeed, grants []*berthv1.DeviceGrant) error {
	devs := make([]*topology.Device, len(grants))
	total := 0
	for k := range t.need.devices {
		total += t.need.devices[k].count
	}
	if len(grants) != total {
		return fmt.Errorf("%d devices are granted, %d asked for", len(grants), total)
	}
	for i, d := range grants {
		at := c.m.DeviceIndex(d.GetId())
		if at < 0 {
			return fmt.Errorf("the node has no device %q", d.GetId())
		}
		if c.taken[d.GetId()] && d.GetShareMilli() == topology.WholeDevice {
			return fmt.Errorf("device %q is granted twice", d.GetId())
		}
		c.taken[d.GetId()] = true
		if devs[i] = &c.m.Devices[at]; devs[i].Kind != d.GetKind() {
			return fmt.Errorf("device %q is a %s, not a %s", d.GetId(), devs[i].Kind, d.GetKind())
		}
		if a := alignOf(devs[i].Kind); a != 0 && c.g.align&a != 0 && (c.g.policy != anywhere || c.g.cells > 0) {
			if devs[i].Cell < 0 {
				return fmt.Errorf("device %q is to be aligned, and on no known cell", d.GetId())
			}
			c.cell(devs[i].Cell, a).devices = append(c.cell(devs[i].Cell, a).devices, deviceNeed{kind: devs[i].Kind, count: 1})
		}
	}
	return c.match(t, grants, devs)
}

// maxMatchSteps bounds the search for who of a task's asks gets which device.
const maxMatchSteps = 100_000

// match divides the devices among the asks for them; the asks are few, and each takes its
// devices from those that fit it alone first.
func (c *grantCheck) match(t *taskNeed, grants []*berthv1.DeviceGrant, devs []*topology.Device) error {
	owner := make([]int, len(devs)) // 1 + index of the ask; 0: none
	steps := maxMatchSteps
	var assign func(ask, left int, from int) bool
	assign = func(ask, left, from int) bool {
		if left == 0 {
			need := &t.need.devices[ask]
			if !c.linkedAll(need, ask+1, owner, devs) {
				return false
			}
			if ask+1 == len(t.need.devices) {
				return c.nearAll(t, owner, devs)
			}
			return assign(ask+1, t.need.devices[ask+1].count, 0)
		}
		for i := from; i < len(devs); i++ {
			need := &t.need.devices[ask]
			if steps--; steps < 0 {
				return false
			}
			if owner[i] != 0 || grants[i].GetShareMilli() != need.share || !need.is(devs[i]) {
				continue
			}
			owner[i] = ask + 1
			if assign(ask, left-1, i+1) {
				return true
			}
			owner[i] = 0
		}
		return false
	}
	if len(t.need.devices) == 0 || assign(0, t.need.devices[0].count, 0) {
		return nil
	}
	var words []string
	for k := range t.need.devices {
		words = append(words, t.need.devices[k].words())
	}
	return fmt.Errorf("the devices are not what is asked for: %v", words)
}

// linkedAll says whether the devices of an ask are different ones, and linked as it wants
// them.
func (c *grantCheck) linkedAll(need *deviceNeed, ask int, owner []int, devs []*topology.Device) bool {
	for i := range owner {
		for k := range owner[:i] {
			if owner[i] != ask || owner[k] != ask {
				continue
			}
			if devs[i] == devs[k] || need.link != "" &&
				!c.m.Linked(c.m.DeviceIndex(devs[i].ID), c.m.DeviceIndex(devs[k].ID), need.link) {
				return false
			}
		}
	}
	return true
}

// nearAll says whether all devices of a task are near those that they are to be near to.
func (c *grantCheck) nearAll(t *taskNeed, owner []int, devs []*topology.Device) bool {
	for i, o := range owner {
		need := &t.need.devices[o-1]
		if need.near != "" && !slices.ContainsFunc(devs, func(d *topology.Device) bool {
			return d.Kind == need.near && areNear(c.m, c.m.DeviceIndex(devs[i].ID), c.m.DeviceIndex(d.ID), need.within)
		}) {
			return false
		}
	}
	return true
}

// policy checks how the aligned part lies in the cells.
func (c *grantCheck) policy() error {
	if c.g.cells > 0 {
		return c.even()
	}
	switch c.g.policy {
	case single:
		if len(c.cells) > 1 {
			return fmt.Errorf("it lies in %d cells, and must lie in one", len(c.cells))
		}
	case restricted:
		if most := fewestCells(c.m, c.g); len(c.cells) > most {
			return fmt.Errorf("it lies in %d cells, and may lie in %d", len(c.cells), most)
		}
	}
	return nil
}

// even checks that each of the cells asked for holds the same part.
func (c *grantCheck) even() error {
	if len(c.cells) > c.g.cells || len(c.cells) < c.g.cells && !c.isPart(&need{}) {
		return fmt.Errorf("it lies in %d cells, and must lie in %d", len(c.cells), c.g.cells)
	}
	for i, n := range c.cells {
		if !c.isPart(n) {
			return fmt.Errorf("cell %d holds another part than the %d cells are to hold each", c.m.Cells[i].ID, c.g.cells)
		}
	}
	return nil
}

// isPart says whether n is what one of the cells is to hold: of shared CPU and memory
// perhaps one milli or MiB less.
func (c *grantCheck) isPart(n *need) bool {
	part := &c.g.part
	if n.cores != part.cores || n.threads != part.threads || len(n.hugepages) != len(part.hugepages) ||
		n.milli > part.milli || n.milli+1 < part.milli || n.memory > part.memory || n.memory+1 < part.memory {
		return false
	}
	for _, h := range part.hugepages {
		if k := n.pageIndex(h.SizeKiB); k < 0 || n.hugepages[k].Count != h.Count {
			return false
		}
	}
	for k := range c.g.total.devices {
		kind := c.g.total.devices[k].kind
		if c.g.align&alignOf(kind) != 0 && devicesOf(n, kind)*c.g.cells != devicesOf(&c.g.total, kind) {
			return false
		}
	}
	return true
}
