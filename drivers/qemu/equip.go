package qemu

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/cgroup"
	"github.com/berthd/berth/drivers/qemu/machine"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// equip makes what a machine needs of its host. What is to be undone is written down first.
func (d *Driver) equip(t *drivers.Task, c *berthv1.QemuConfig, r *record, group *cgroup.Group) error {
	dir := stateDir(t.Dirs.State)
	taps := tapsOf(t, c, len(r.Machine.VCPUs))
	for _, tap := range taps {
		r.Taps = append(r.Taps, tap.name)
		if tap.rateMbit > 0 {
			r.Taps = append(r.Taps, tap.beside())
		}
	}
	var err error
	if r.Bound, err = planBinding(r.Machine.Passthrough); err != nil {
		return err
	}
	if err := dir.write(recordFile, r); err != nil {
		return err
	}
	if err := enoughHugepages(t.Grant); err != nil {
		return err
	}
	if err := group.Make(); err != nil {
		return unavailable("making the machine's cgroup", err)
	}
	if err := group.Set(limits(t, r.Machine)); err != nil {
		return problem.New(problem.Unavailable, "resources", "limiting the machine: %w", err)
	}
	for _, tap := range taps {
		if err := tap.make(); err != nil {
			return err
		}
	}
	return bind(r.Bound)
}

// limits are what the machine's cgroup gets. Its guest's processes are the guest's, so
// none are counted; what the guest has of memory is the grant's.
func limits(t *drivers.Task, m *machine.Machine) cgroup.Limits {
	r := t.Resources
	l := cgroup.Limits{
		CPUMilli: uint64(r.GetCpuMilli()), CPUs: t.SharedCPUs, IOWeight: uint64(r.GetIoWeight()), Hugepages: map[uint64]uint64{},
	}
	var exclusive, mems []string
	var granted uint64
	for _, cell := range t.Grant.GetCells() {
		granted += cell.GetMemoryMib()
		if cell.GetCpus() != "" {
			exclusive = append(exclusive, cell.GetCpus())
		}
		if cell.GetMemoryMib() > 0 || len(cell.GetHugepages()) > 0 {
			mems = append(mems, strconv.Itoa(int(cell.GetCell())))
		}
		for _, h := range cell.GetHugepages() {
			l.Hugepages[h.GetSizeKib()] += h.GetCount() * h.GetSizeKib() << 10
		}
	}
	l.MemoryBytes = max(granted, r.GetMemoryMaxMib()) << 20
	if len(exclusive) > 0 {
		if m.Emulator != "" {
			exclusive = append(exclusive, m.Emulator)
		}
		l.CPUs = strings.Join(exclusive, ",")
		if l.CPUMilli == 0 {
			l.CPUMilli = 1000 * uint64(max(r.GetCores(), 1))
		}
	}
	l.Mems = strings.Join(mems, ",")
	return l
}

// enoughHugepages refuses a machine for whose memory there are not as many pages as it was
// granted: something beside Berth has taken them.
func enoughHugepages(grant *berthv1.TaskGrant) error {
	for _, cell := range grant.GetCells() {
		for _, h := range cell.GetHugepages() {
			path := fmt.Sprintf("/sys/devices/system/node/node%d/hugepages/hugepages-%dkB/free_hugepages", cell.GetCell(), h.GetSizeKib())
			b, err := os.ReadFile(path)
			free, _ := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
			if err != nil || free < h.GetCount() {
				return problem.New(problem.Unavailable, "resources.hugepages", "cell %d has %d free hugepages of %d KiB, and the machine was granted %d",
					cell.GetCell(), free, h.GetSizeKib(), h.GetCount()).
					WithRemedy("something beside Berth uses them: end it, or reserve more")
			}
		}
	}
	return nil
}
