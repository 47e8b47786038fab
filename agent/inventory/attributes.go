package inventory

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Attribute is a fact that constraints can name.
type Attribute struct{ Name, Meaning string }

// The names. Those that end in a dot are beginnings.
const (
	AttrAgentVersion   = "agent.version"
	AttrBIOSVersion    = "bios.version"
	AttrBMC            = "bmc"
	AttrCgroup         = "cgroup.version"
	AttrCgroupUsable   = "cgroup.controllers"
	AttrClockSkew      = "clock.skew"
	AttrCPUArch        = "cpu.arch"
	AttrCPUCores       = "cpu.cores"
	AttrCPUCount       = "cpu.count"
	AttrCPUFlag        = "cpu.flag."
	AttrCPUModel       = "cpu.model"
	AttrCPUSockets     = "cpu.sockets"
	AttrCPUVendor      = "cpu.vendor"
	AttrDiskTotal      = "disk.total"
	AttrDNSAddress     = "dns.address"
	AttrHugepages      = "hugepages."
	AttrIOMMU          = "iommu"
	AttrKernelName     = "kernel.name"
	AttrKernelVersion  = "kernel.version"
	AttrMachineProduct = "machine.product"
	AttrMachineSerial  = "machine.serial"
	AttrMachineVendor  = "machine.vendor"
	AttrMemoryTotal    = "memory.total"
	AttrRegion         = "node.region"
	AttrNumaCells      = "numa.cells"
	AttrOSID           = "os.id"
	AttrOSName         = "os.name"
	AttrOSVersion      = "os.version"
	AttrVirtualization = "virtualization"
)

// Attributes is every attribute that an agent reports, for the reference page; drivers
// add "driver.<name>" and what they say of themselves below it.
var Attributes = []Attribute{
	{AttrAgentVersion, "Version of the agent."},
	{AttrBIOSVersion, "Version of the firmware, as DMI says."},
	{AttrBMC, `"true" where the machine shows a management controller (IPMI) to its system.`},
	{AttrCgroup, `"1", "2", or "hybrid" (controllers are on version 1).`},
	{AttrCgroupUsable, "Controllers that can be used, with commas between."},
	{AttrClockSkew, "How far the servers' clock is ahead of the node's; only where they differ by more than 5 s."},
	{AttrCPUArch, "Architecture, as Go calls it: amd64, arm64."},
	{AttrCPUCores, "Physical cores that are online."},
	{AttrCPUCount, "Threads (logical CPUs) that are online."},
	{AttrCPUFlag, `"true" for each of the CPU's abilities that programs ask for, such as cpu.flag.avx512f.`},
	{AttrCPUModel, "Name of the CPU."},
	{AttrCPUSockets, "Sockets with an online CPU."},
	{AttrCPUVendor, "Maker of the CPU, as it says itself."},
	{AttrDiskTotal, "Disk for allocations, in MiB."},
	{AttrDNSAddress, "Address and port where the agent answers for names in berth."},
	{AttrHugepages, "Number of hugepages of a size: hugepages.2048k, hugepages.1048576k."},
	{AttrIOMMU, `"true" where devices can be given to virtual machines.`},
	{AttrKernelName, "Name of the kernel: linux."},
	{AttrKernelVersion, "Release of the kernel."},
	{AttrMachineProduct, "Product name of the machine, as DMI says."},
	{AttrMachineSerial, "Serial number of the machine, as DMI says."},
	{AttrMachineVendor, "Maker of the machine, as DMI says."},
	{AttrMemoryTotal, "Memory of all cells, in MiB."},
	{AttrRegion, "Region that the agent is configured for."},
	{AttrNumaCells, "Number of cells (NUMA nodes)."},
	{AttrOSID, "Identifier of the operating system: debian, fedora."},
	{AttrOSName, "Name of the operating system for people."},
	{AttrOSVersion, "Version of the operating system."},
	{AttrVirtualization, `What the node is a guest of (kvm, vmware, ...), or "none".`},
}

// flags are the CPU abilities that become attributes; the rest of the hundreds would
// only be load.
var flags = map[string]bool{
	"aes": true, "avx": true, "avx2": true, "avx512f": true, "avx512bw": true, "avx512vl": true, "avx512_vnni": true,
	"avx512_bf16": true, "amx_tile": true, "amx_int8": true, "amx_bf16": true, "bmi2": true, "fma": true, "sha_ni": true,
	"sse4_2": true, "pdpe1gb": true, "rdrand": true, "vmx": true, "svm": true, "sev": true, "sev_snp": true, "tdx_guest": true,
	"asimd": true, "sve": true, "sve2": true, "bf16": true, "i8mm": true, "crc32": true, "atomics": true, "sha2": true, "vsx": true, "altivec": true,
}

// attributes collects; empty values are left out.
type attributes map[string]string

func (a attributes) text(name, value string) {
	if value = strings.TrimSpace(value); value != "" {
		a[name] = value
	}
}

func (a attributes) number(name string, n uint64) { a[name] = strconv.FormatUint(n, 10) }

func (a attributes) yes(name string, is bool) {
	if is {
		a[name] = "true"
	}
}

func (a attributes) system(t tree) {
	a[AttrKernelName] = "linux"
	a.text(AttrKernelVersion, t.text("proc/sys/kernel/osrelease"))
	release := t.text("etc/os-release")
	if release == "" {
		release = t.text("usr/lib/os-release")
	}
	fields := map[string]string{}
	for line := range strings.Lines(release) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && !strings.HasPrefix(key, "#") {
			if unquoted, err := strconv.Unquote(value); err == nil {
				value = unquoted
			}
			fields[key] = strings.Trim(value, "'")
		}
	}
	a.text(AttrOSID, fields["ID"])
	a.text(AttrOSName, fields["PRETTY_NAME"])
	a.text(AttrOSVersion, fields["VERSION_ID"])
}

func (a attributes) cpu(t tree, c *cpus) {
	a.number(AttrCPUCount, uint64(c.online.Count()))
	a.number(AttrCPUCores, uint64(len(c.cores(c.online))))
	a.number(AttrCPUSockets, uint64(len(c.sockets())))
	info := firstCPU(t.text("proc/cpuinfo"))
	for _, key := range []string{"model name", "cpu model", "Processor", "cpu", "uarch"} {
		if info[key] != "" {
			a.text(AttrCPUModel, strings.Join(strings.Fields(info[key]), " "))
			break
		}
	}
	if part := info["CPU part"]; a[AttrCPUModel] == "" && part != "" {
		a.text(AttrCPUModel, "arm "+info["CPU implementer"]+" "+part)
	}
	for _, key := range []string{"vendor_id", "CPU implementer", "mvendorid"} {
		if info[key] != "" {
			a.text(AttrCPUVendor, info[key])
			break
		}
	}
	guest := false
	for _, f := range append(strings.Fields(info["flags"]), strings.Fields(info["Features"])...) {
		a.yes(AttrCPUFlag+f, flags[f])
		guest = guest || f == "hypervisor"
	}
	a[AttrVirtualization] = virtualization(t, guest)
}

// firstCPU reads the first CPU's entries of /proc/cpuinfo, and those for all CPUs.
func firstCPU(cpuinfo string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(cpuinfo) {
		key, value, ok := strings.Cut(line, ":")
		key = strings.TrimSpace(key)
		if _, twice := info[key]; ok && !twice {
			info[key] = strings.TrimSpace(value)
		}
	}
	return info
}

// virtualization says what the node is a guest of.
func virtualization(t tree, guest bool) string {
	vendor := strings.ToLower(t.text("sys/class/dmi/id/sys_vendor") + " " + t.text("sys/class/dmi/id/product_name") + " " + t.text("sys/class/dmi/id/bios_vendor"))
	for _, known := range []struct{ word, name string }{
		{"vmware", "vmware"}, {"virtualbox", "virtualbox"}, {"innotek", "virtualbox"}, {"microsoft corporation virtual", "hyperv"},
		{"kvm", "kvm"}, {"qemu", "kvm"}, {"amazon ec2", "kvm"}, {"google compute", "kvm"}, {"openstack", "kvm"}, {"xen", "xen"}, {"firecracker", "kvm"},
	} {
		if strings.Contains(vendor, known.word) && (guest || known.name != "kvm" || !strings.Contains(vendor, "metal")) {
			return known.name
		}
	}
	if kind := t.text("sys/hypervisor/type"); kind != "" {
		return kind
	}
	if guest {
		return "unknown"
	}
	return "none"
}

func (a attributes) firmware(t tree) {
	dmi := "sys/class/dmi/id/"
	a.text(AttrMachineVendor, t.text(dmi+"sys_vendor"))
	a.text(AttrMachineProduct, t.text(dmi+"product_name"))
	a.text(AttrMachineSerial, t.text(dmi+"product_serial"))
	a.text(AttrBIOSVersion, t.text(dmi+"bios_version"))
	if a[AttrMachineProduct] == "" {
		a.text(AttrMachineProduct, t.text("proc/device-tree/model"))
	}
	a.yes(AttrBMC, len(t.names("sys/class/ipmi")) > 0 || t.exists("dev/ipmi0"))
	a.yes(AttrIOMMU, len(t.names("sys/kernel/iommu_groups")) > 0)
}

func (a attributes) cgroups(t tree) {
	if t.exists("sys/fs/cgroup/cgroup.controllers") {
		a[AttrCgroup] = "2"
		a.text(AttrCgroupUsable, strings.Join(strings.Fields(t.text("sys/fs/cgroup/cgroup.controllers")), ","))
		return
	}
	var v1 []string
	unified := false
	for line := range strings.Lines(t.text("proc/mounts")) {
		f := strings.Fields(line)
		if len(f) < 4 {
			continue
		}
		unified = unified || f[2] == "cgroup2"
		if f[2] == "cgroup" {
			for _, opt := range strings.Split(f[3], ",") {
				if known[opt] {
					v1 = append(v1, opt)
				}
			}
		}
	}
	switch {
	case len(v1) > 0 && unified:
		a[AttrCgroup] = "hybrid"
	case len(v1) > 0:
		a[AttrCgroup] = "1"
	case unified:
		a[AttrCgroup] = "2"
	}
	slices.Sort(v1)
	a.text(AttrCgroupUsable, strings.Join(slices.Compact(v1), ","))
}

// known are the version 1 controllers, among the mount options beside them.
var known = map[string]bool{
	"blkio": true, "cpu": true, "cpuacct": true, "cpuset": true, "devices": true, "freezer": true, "hugetlb": true,
	"memory": true, "net_cls": true, "net_prio": true, "perf_event": true, "pids": true, "rdma": true, "misc": true,
}

func (a attributes) hardware(hw *berthv1.Hardware) {
	a.number(AttrNumaCells, uint64(len(hw.GetCells())))
	var memory uint64
	pages := map[uint64]uint64{}
	for _, c := range hw.GetCells() {
		memory += c.GetMemoryMib()
		for _, h := range c.GetHugepages() {
			pages[h.GetSizeKib()] += h.GetCount()
		}
	}
	a.number(AttrMemoryTotal, memory)
	for _, size := range slices.Sorted(maps.Keys(pages)) {
		a.number(AttrHugepages+strconv.FormatUint(size, 10)+"k", pages[size])
	}
}
