package qemu

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/drivers/cgroup"
	"github.com/berthd/berth/drivers/qemu/machine"
	"github.com/berthd/berth/drivers/qemu/qmp"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
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

// placeThreads puts QEMU's threads where they belong, before the guest runs: each vCPU on its
// core, all others on the emulator's.
func placeThreads(ctx context.Context, mon *qmp.Monitor, pid int, m *machine.Machine) error {
	vcpus, err := mon.VCPUs(ctx)
	if err != nil {
		return asProblem(ctx, err)
	}
	where := map[int]string{}
	for _, v := range vcpus {
		for _, want := range m.VCPUs {
			if want.Index == v.Index {
				where[v.Thread] = want.CPUs
			}
		}
	}
	threads, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
	if err != nil {
		return unavailable("listing QEMU's threads", err)
	}
	for _, entry := range threads {
		thread, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		cpus, isVCPU := where[thread]
		if !isVCPU {
			cpus = m.Emulator
		}
		if err := pin(thread, cpus); err != nil {
			return unavailable("placing QEMU's threads", err)
		}
	}
	return nil
}

// pin has a thread run on the CPUs alone; "": wherever its cgroup may.
func pin(thread int, cpus string) error {
	if cpus == "" {
		return nil
	}
	list, err := topology.ParseCPUSet(cpus)
	if err != nil {
		return err
	}
	var set unix.CPUSet
	for cpu := range list.All() {
		set.Set(cpu)
	}
	err = unix.SchedSetaffinity(thread, &set)
	if err == unix.ESRCH { //nolint:errorlint // a bare errno
		return nil // a thread that came for a moment
	}
	if err != nil {
		return fmt.Errorf("on CPUs %s: %w", cpus, err)
	}
	return nil
}

// startTPM starts swtpm, which ends with QEMU's connection and lives in its cgroup.
func (d *Driver) startTPM(ctx context.Context, t *drivers.Task, c *berthv1.QemuConfig, group *cgroup.Group) error {
	if !c.GetTpm() {
		return nil
	}
	dir := stateDir(t.Dirs.State)
	state := filepath.Join(place(t), "tpm")
	if err := os.MkdirAll(state, 0o700); err != nil {
		return unavailable("making the TPM's directory", err)
	}
	program, err := exec.LookPath("swtpm")
	if err != nil {
		return problem.New(problem.Invalid, "config.tpm", "the node has no swtpm").WithRemedy("install swtpm on it")
	}
	_ = os.Remove(dir.path(machine.TPMSocket)) // of an earlier one
	p, err := start(dir, group, nil, program, []string{
		"socket", "--tpm2", "--tpmstate", "dir=" + state, "--ctrl", "type=unixio,path=" + machine.TPMSocket, "--terminate",
	})
	if err != nil {
		return unavailable("starting swtpm", err)
	}
	for !exists(dir.path(machine.TPMSocket)) {
		select {
		case <-p.done:
			return problem.New(problem.Unavailable, "config.tpm", "swtpm does not start: %s", dir.lastWords())
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
