package inventory

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// with adds CPUs to a machine: one line each, "cpu socket core-threads".
func (m *memory) with(cpus string) *memory {
	for line := range strings.Lines(cpus) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		dir := cpuDir + "/cpu" + f[0]
		if f[1] == "offline" {
			m.file(dir+"/online", "0\n")
			continue
		}
		m.file(dir+"/topology/physical_package_id", f[1]+"\n").file(dir+"/topology/thread_siblings_list", f[2]+"\n")
	}
	return m
}

// node adds a NUMA node.
func (m *memory) node(id int, cpulist string, mib int, distance string) *memory {
	dir := fmt.Sprintf("%s/node%d", nodeDir, id)
	return m.file(dir+"/cpulist", cpulist+"\n").file(dir+"/distance", distance+"\n").
		file(dir+"/meminfo", fmt.Sprintf("Node %d MemTotal:       %d kB\nNode %d MemFree: 5 kB\n", id, mib*1024, id))
}

func TestCells(t *testing.T) {
	for _, tc := range []struct {
		name    string
		machine *memory
		want    []*berthv1.Cell
	}{
		{"two sockets with threads", newMemory().with("0 0 0,4\n1 0 1,5\n2 1 2,6\n3 1 3,7\n4 0 0,4\n5 0 1,5\n6 1 2,6\n7 1 3,7").
			node(0, "0-1,4-5", 1000, "10 21").node(1, "2-3,6-7", 2000, "21 10"), []*berthv1.Cell{
			{Id: 0, Socket: 0, Cores: []string{"0,4", "1,5"}, MemoryMib: 1000, Distances: []uint32{10, 21}},
			{Id: 1, Socket: 1, Cores: []string{"2,6", "3,7"}, MemoryMib: 2000, Distances: []uint32{21, 10}},
		}},
		{"sub-NUMA clusters share a socket", newMemory().with("0 0 0\n1 0 1\n2 0 2\n3 0 3").
			node(0, "0-1", 500, "10 12").node(1, "2-3", 500, "12 10"), []*berthv1.Cell{
			{Id: 0, Cores: []string{"0", "1"}, MemoryMib: 500, Distances: []uint32{10, 12}},
			{Id: 1, Cores: []string{"2", "3"}, MemoryMib: 500, Distances: []uint32{12, 10}},
		}},
		{"memory without CPUs, CPUs without memory, a gap in the numbers", newMemory().with("0 0 0\n1 1 1").
			node(0, "0", 500, "10 20 17").node(2, "1", 0, "20 10 28").node(5, "", 4000, "17 28 10"), []*berthv1.Cell{
			{Id: 0, Cores: []string{"0"}, MemoryMib: 500, Distances: []uint32{10, 20, 17}},
			{Id: 2, Socket: 1, Cores: []string{"1"}, Distances: []uint32{20, 10, 28}},
			{Id: 5, Socket: 0, MemoryMib: 4000, Distances: []uint32{17, 28, 10}},
		}},
		{"offline CPUs", newMemory().with("0 0 0,2\n1 0 1\n2 0 0,2\n3 offline").node(0, "0-3", 100, "10"), []*berthv1.Cell{
			{Cores: []string{"0,2", "1"}, MemoryMib: 100, Distances: []uint32{10}},
		}},
		{"no NUMA at all", newMemory().with("0 0 0\n1 0 1").file("proc/meminfo", "MemTotal: 2048000 kB\n"), []*berthv1.Cell{
			{Cores: []string{"0", "1"}, MemoryMib: 2000, Distances: []uint32{10}},
		}},
		{"only cpuinfo", newMemory().file("proc/cpuinfo", "processor\t: 0\nmodel name: x\n\nprocessor\t: 1\n"), []*berthv1.Cell{
			{Cores: []string{"0", "1"}, Distances: []uint32{10}},
		}},
		{"a CPU that no node names", newMemory().with("0 0 0\n1 0 1").node(0, "0", 100, "10"), []*berthv1.Cell{
			{Cores: []string{"0", "1"}, MemoryMib: 100, Distances: []uint32{10}},
		}},
		{"a CPU in two nodes", newMemory().with("0 0 0\n1 0 1").node(0, "0-1", 100, "10 20").node(1, "1", 100, "20 10"), []*berthv1.Cell{
			{Cores: []string{"0", "1"}, MemoryMib: 200, Distances: []uint32{10}},
		}},
		{"a core in two nodes", newMemory().with("0 0 0-1\n1 0 0-1").node(0, "0", 100, "10 20").node(1, "1", 100, "20 10"), []*berthv1.Cell{
			{Cores: []string{"0"}, MemoryMib: 100, Distances: []uint32{10, 20}},
			{Id: 1, Cores: []string{"1"}, MemoryMib: 100, Distances: []uint32{20, 10}},
		}},
		{"distances that do not fit", newMemory().with("0 0 0\n1 0 1").node(0, "0", 100, "10").node(1, "1", 100, "x y"), []*berthv1.Cell{
			{Cores: []string{"0"}, MemoryMib: 100, Distances: []uint32{10, 20}},
			{Id: 1, Cores: []string{"1"}, MemoryMib: 100, Distances: []uint32{20, 10}},
		}},
		{"hugepages by node", newMemory().with("0 0 0\n1 0 1").node(0, "0", 8192, "10 20").node(1, "1", 8192, "20 10").
			file(nodeDir+"/node0/hugepages/hugepages-2048kB/nr_hugepages", "512\n").
			file(nodeDir+"/node0/hugepages/hugepages-1048576kB/nr_hugepages", "2\n").
			file(nodeDir+"/node1/hugepages/hugepages-2048kB/nr_hugepages", "0\n"), []*berthv1.Cell{
			{Cores: []string{"0"}, MemoryMib: 8192, ReservedMemoryMib: 1024 + 2048, Distances: []uint32{10, 20},
				Hugepages: []*berthv1.Hugepages{{SizeKib: 2048, Count: 512}, {SizeKib: 1048576, Count: 2}}},
			{Id: 1, Cores: []string{"1"}, MemoryMib: 8192, Distances: []uint32{20, 10}},
		}},
		{"a shared cache", newMemory().with("0 0 0\n1 0 1").node(0, "0-1", 100, "10").
			file(cpuDir+"/cpu0/cache/index0/shared_cpu_list", "0").
			file(cpuDir+"/cpu0/cache/index3/shared_cpu_list", "0-1").file(cpuDir+"/cpu0/cache/index3/level", "3").
			file(cpuDir+"/cpu0/cache/index3/type", "Unified").file(cpuDir+"/cpu0/cache/index3/size", "32M").
			file(cpuDir+"/cpu1/cache/index3/shared_cpu_map", "00000000,00000003").file(cpuDir+"/cpu1/cache/index3/level", "3").
			file(cpuDir+"/cpu1/cache/index3/type", "Unified"), []*berthv1.Cell{
			{Cores: []string{"0", "1"}, MemoryMib: 100, Distances: []uint32{10},
				Caches: []*berthv1.Cache{{Level: 3, Type: "unified", SizeKib: 32768, Cpus: "0-1"}}},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := readMemory(tc.machine)
			checkSound(t, r)
			if diff := cmp.Diff(tc.want, r.Hardware.GetCells(), protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDevices(t *testing.T) {
	pf := "sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0"
	m := newMemory().with("0 0 0\n1 1 1").node(0, "0", 100, "10 20").node(1, "1", 100, "20 10").
		file(pf+"/numa_node", "1\n").file(pf+"/sriov_totalvfs", "16").file(pf+"/sriov_numvfs", "2").
		symlink(pf+"/driver", "../../../../bus/pci/drivers/mlx5_core").
		file(pf+"/net/ens1/address", "aa:bb:cc:00:11:22\n").file(pf+"/net/ens1/mtu", "9000").
		file(pf+"/net/ens1/speed", "100000").file(pf+"/net/ens1/operstate", "up\n").symlink(pf+"/net/ens1/device", "../../../0000:3b:00.0").
		symlink("sys/class/net/ens1", "../../devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0/net/ens1").
		// Its virtual function, and what software made.
		symlink("sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.2/physfn", "../0000:3b:00.0").
		file("sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.2/net/ens1v0/mtu", "1500").
		symlink("sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.2/net/ens1v0/device", "../../../0000:3b:00.2").
		symlink("sys/class/net/ens1v0", "../../devices/pci0000:3a/0000:3a:00.0/0000:3b:00.2/net/ens1v0").
		file("sys/devices/virtual/net/br0/mtu", "1500").symlink("sys/class/net/br0", "../../devices/virtual/net/br0").
		// A disk behind a controller, and a loop device.
		file("sys/devices/pci0000:00/0000:00:1f.2/numa_node", "-1").
		file("sys/devices/pci0000:00/0000:00:1f.2/nvme/nvme0/model", "SAMSUNG X   ").file("sys/devices/pci0000:00/0000:00:1f.2/nvme/nvme0/serial", "S64F\n").
		file("sys/devices/pci0000:00/0000:00:1f.2/nvme/nvme0/nvme0n1/size", "1953525168").
		file("sys/devices/pci0000:00/0000:00:1f.2/nvme/nvme0/nvme0n1/wwid", "eui.0025").
		file("sys/devices/pci0000:00/0000:00:1f.2/nvme/nvme0/nvme0n1/queue/rotational", "0").
		symlink("sys/devices/pci0000:00/0000:00:1f.2/nvme/nvme0/nvme0n1/device", "../../nvme0").
		symlink("sys/block/nvme0n1", "../devices/pci0000:00/0000:00:1f.2/nvme/nvme0/nvme0n1").
		file("sys/devices/virtual/block/loop0/size", "1000000").symlink("sys/block/loop0", "../devices/virtual/block/loop0")
	hw := readMemory(m).Hardware
	wantNics := []*berthv1.Nic{{Name: "ens1", Mac: "aa:bb:cc:00:11:22", Mtu: 9000, SpeedMbit: 100000, Up: true, Driver: "mlx5_core",
		PciAddress: "0000:3b:00.0", Cell: 1, VfTotal: 16, VfCount: 2}}
	if diff := cmp.Diff(wantNics, hw.GetNics(), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	wantDisks := []*berthv1.Disk{{Name: "nvme0n1", Model: "SAMSUNG X", Serial: "S64F", Wwn: "eui.0025", SizeMib: 953869, PciAddress: "0000:00:1f.2", Cell: -1}}
	if diff := cmp.Diff(wantDisks, hw.GetDisks(), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestAttributes(t *testing.T) {
	r := readMemory(newMemory().with("0 0 0").file("proc/meminfo", "MemTotal: 1024000 kB").
		file("proc/cpuinfo", "processor: 0\nvendor_id : AuthenticAMD\nmodel name\t: AMD EPYC  7742\nflags : fpu avx2 hypervisor nonsense\n").
		file("proc/sys/kernel/osrelease", "6.1.0-9-amd64\n").file("proc/sys/kernel/hostname", "n7\n").file("proc/sys/kernel/random/boot_id", "b-1\n").
		file("etc/os-release", "PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\nVERSION_ID='12'\n# comment\n").
		file("sys/class/dmi/id/sys_vendor", "QEMU\n").file("sys/class/dmi/id/product_serial", "XY1").
		file("sys/fs/cgroup/cgroup.controllers", "cpuset cpu memory\n").file("sys/class/ipmi/ipmi0/dev", "1").
		file("sys/kernel/iommu_groups/0/type", "DMA"))
	want := map[string]string{
		"kernel.name": "linux", "kernel.version": "6.1.0-9-amd64", "os.id": "debian", "os.name": "Debian GNU/Linux 12", "os.version": "12",
		"cpu.count": "1", "cpu.cores": "1", "cpu.sockets": "1", "cpu.vendor": "AuthenticAMD", "cpu.model": "AMD EPYC 7742", "cpu.flag.avx2": "true",
		"machine.vendor": "QEMU", "machine.serial": "XY1", "virtualization": "kvm", "bmc": "true", "iommu": "true",
		"cgroup.version": "2", "cgroup.controllers": "cpuset,cpu,memory", "memory.total": "1000", "numa.cells": "1",
	}
	if diff := cmp.Diff(want, r.Attributes); diff != "" {
		t.Error(diff)
	}
	if r.Hostname != "n7" || r.BootID != "b-1" {
		t.Errorf("hostname %q, boot id %q", r.Hostname, r.BootID)
	}
	for name := range r.Attributes {
		if !described(name) {
			t.Errorf("the attribute %q is not in the table", name)
		}
	}
}

func described(name string) bool {
	for _, a := range Attributes {
		if a.Name == name || strings.HasSuffix(a.Name, ".") && strings.HasPrefix(name, a.Name) {
			return true
		}
	}
	return false
}

func TestChangesAreNoticed(t *testing.T) {
	m := newMemory().with("0 0 0\n1 0 1").node(0, "0", 1024, "10 20").node(1, "1", 1024, "20 10")
	i := New("", "")
	look := func() *Reading {
		r := &Reading{Attributes: map[string]string{}, Hardware: &berthv1.Hardware{}}
		i.read(tree{m}, r)
		return r
	}
	first := look()
	if diff := cmp.Diff(first, look(), protocmp.Transform()); diff != "" {
		t.Error("nothing has changed, but:", diff)
	}
	m.file(cpuDir+"/cpu1/online", "0")
	if got := look().Attributes["cpu.count"]; got != "1" {
		t.Errorf("%s CPUs after one went offline", got)
	}
	m.file(nodeDir+"/node0/hugepages/hugepages-2048kB/nr_hugepages", "5")
	if got := look().Attributes["hugepages.2048k"]; got != "5" {
		t.Errorf("%q hugepages", got)
	}
}

func TestThisMachine(t *testing.T) {
	r := New("/", t.TempDir()).Read(t.Context())
	checkSound(t, r)
	if r.Attributes["kernel.version"] == "" || r.Attributes["memory.total"] == "0" || r.Hardware.GetDiskMib() == 0 || r.Hostname == "" {
		t.Errorf("this machine reads as %v, %v", r.Attributes, r.Hardware)
	}
	for name := range r.Attributes {
		if !described(name) {
			t.Errorf("the attribute %q is not in the table", name)
		}
	}
}

// FuzzFiles puts nonsense into the files that are parsed.
func FuzzFiles(f *testing.F) {
	f.Add("0-1", "MemTotal: 5 kB", "10 20", "ffffffff,00000001")
	f.Add("0-99999999999", "MemTotal:", "-1", ",,,")
	f.Add("1-0", "MemTotal: x", "", "g")
	f.Fuzz(func(t *testing.T, list, meminfo, distance, mask string) {
		m := newMemory().with("0 0 0\n1 0 0-1").file(cpuDir+"/cpu1/topology/core_cpus_list", list).
			file(cpuDir+"/online", list).file(nodeDir+"/node0/cpumap", mask).file(nodeDir+"/node0/meminfo", meminfo).
			file(nodeDir+"/node1/cpulist", list).file(nodeDir+"/node1/distance", distance).file("proc/meminfo", meminfo).
			file("proc/cpuinfo", list).file(cpuDir+"/cpu0/cache/index0/shared_cpu_map", mask).file("proc/mounts", list)
		r := readMemory(m)
		if !cpuSetOf(r.Hardware.GetCells()).Empty() {
			checkSound(t, r)
		}
	})
}
