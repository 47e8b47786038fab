package qemu

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/drivers/qemu/machine"
	"github.com/berthd/berth/drivers/qemu/qmp"
	"github.com/berthd/berth/topology"
)

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
