package machine

import (
	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// change makes a case of the plain machine.
type change func(*Input)

// cases are the machines of the golden files, a feature each.
var cases = map[string]change{
	"plain":      func(*Input) {},
	"phone-home": func(in *Input) { in.Config.Ready, in.SeedISO = "phone-home", "seed.iso" },
	"pc":         func(in *Input) { in.Config.Machine = "pc"; in.Config.Balloon = true },
	"microvm":    func(in *Input) { in.Config.Machine = "microvm"; direct(in); in.Config.Balloon = true },
	"microvm-none": func(in *Input) {
		in.Config.Machine, in.Config.Firmware = "microvm", "none"
		direct(in)
	},
	"kvm":     func(in *Input) { in.Host.KVM, in.Host.KVMReason = true, "" },
	"kvm-amd": func(in *Input) { in.Host.KVM, in.Host.AMD = true, true; cores(in, "0-1,32-33") },
	"cpu-model": func(in *Input) {
		in.Config.Cpu = &berthv1.QemuCpu{Model: "EPYC-v3,-svm", Count: 4, Max: 8, Sockets: 2, Threads: 2}
	},
	"uefi": func(in *Input) { in.Config.Firmware = "uefi"; in.Firmware = files("raw") },
	"secure-boot": func(in *Input) {
		in.Config.Firmware, in.Config.Tpm, in.Host.TPM = "secure-boot", true, true
		in.Firmware = files("qcow2")
	},
	"kernel":      direct,
	"kernel-none": func(in *Input) { direct(in); in.Config.Firmware = "none" },
	"cores":       func(in *Input) { cores(in, "0-3,32-35", "") },
	"cores-numa": func(in *Input) {
		cores(in, "0-1,32-33", "16-17,48-49")
		in.Config.Cpu = &berthv1.QemuCpu{Max: 16}
		in.Config.Memory = &berthv1.QemuMemory{MaxMib: 8192}
		in.Config.IoThreads = 2
		in.Disks = append(in.Disks, disk("data", "raw"))
	},
	"cores-uneven": func(in *Input) { cores(in, "0-2", "16"); in.Config.EmulatorCores = "granted" },
	"cores-sockets": func(in *Input) {
		cores(in, "0-2", "16")
		in.Config.Cpu = &berthv1.QemuCpu{Sockets: 2}
	},
	"cores-no-numa": func(in *Input) {
		cores(in, "0-1", "16-17")
		in.Config.Memory = &berthv1.QemuMemory{Numa: proto.Bool(false), Shared: true}
	},
	"shared-numa": func(in *Input) { cores(in, "", ""); in.Resources.CpuMilli = 3500 },
	"hugepages": func(in *Input) {
		cores(in, "0-1", "16-17")
		in.Resources.Hugepages = []*berthv1.Hugepages{{SizeKib: 2048, Count: 64}}
		for _, c := range in.Grant.Cells {
			c.Hugepages = []*berthv1.Hugepages{{SizeKib: 2048, Count: 32}}
		}
	},
	"disks": func(in *Input) {
		in.Config.IoThreads = 2
		for i, bus := range []string{"virtio", "scsi", "scsi", "sata", "sata", "nvme"} {
			d := disk(string(rune('a'+i)), []string{"qcow2", "raw"}[i%2])
			d.Config.Bus = bus
			in.Disks = append(in.Disks, d)
		}
		in.Disks[0].Base = []Layer{{"root.base", "qcow2"}, {"root.base2", "raw"}}
	},
	"disk-limits": func(in *Input) {
		d := in.Disks[0].Config
		d.Iops, d.BandwidthMib = 500, 20
		more := disk("data", "qcow2")
		more.Config.Iops = 100
		in.Disks = append(in.Disks, more)
	},
	"disk-caches": func(in *Input) {
		for _, cache := range []string{"none", "writeback", "writethrough", "unsafe"} {
			d := disk(cache, "raw")
			d.Config.Cache, d.Config.Discard = cache, proto.Bool(cache == "unsafe")
			in.Disks = append(in.Disks, d)
		}
		in.Disks[1].Buffered = true
		in.Disks[2].Config.ReadOnly = true
	},
	"boot-order": func(in *Input) {
		in.Disks = append(in.Disks, disk("data", "raw"))
		in.Disks[1].Config.BootOrder = 2
		in.Cdroms = []Cdrom{{Config: &berthv1.QemuCdrom{Name: "install", BootOrder: 1}, Path: "install.iso"}}
		in.Config.Boot = []string{"network", "disk"}
		in.Host.NetworkROMs = true
	},
	"cdroms":    cdroms("q35"),
	"cdroms-pc": cdroms("pc"),
	"cdroms-microvm": func(in *Input) {
		cdroms("microvm")(in)
		direct(in)
	},
	"ports": func(in *Input) {
		in.Ports = []*berthv1.PortGrant{
			{Name: "ssh", Port: 20022, To: 22, Address: "127.0.0.1"},
			{Name: "http", Port: 20080},
		}
		in.Nics = append(in.Nics, nic("second", "user"))
		in.Nics[1].Config.Model = "e1000"
	},
	"bridge": func(in *Input) {
		in.Resources.CpuMilli = 4000
		in.Nics = []Nic{nic("lan", "bridge"), nic("dmz", "bridge")}
		in.Nics[0].Tap = "btap0"
		in.Nics[1].Tap = "btap1"
		in.Nics[1].Config.Queues, in.Nics[1].Config.Model = 1, "e1000e"
	},
	"bridge-fds": func(in *Input) {
		in.Resources.CpuMilli = 2000
		in.Nics = []Nic{nic("lan", "bridge")}
		in.Nics[0].TapFDs, in.Nics[0].VhostFDs = []int{3, 4}, []int{5, 6}
	},
	"passthrough":    func(in *Input) { cores(in, "0-1", "16-17"); passthrough(in) },
	"passthrough-pc": func(in *Input) { in.Config.Machine = "pc"; passthrough(in) },
	"nothing-extra": func(in *Input) {
		in.Config.Rng, in.Config.GuestAgent, in.Config.Display = proto.Bool(false), proto.Bool(false), "none"
		in.Config.OnPanic = "none"
		in.Nics, in.Disks = nil, nil
	},
	"display":           func(in *Input) { in.Config.Display = "std" },
	"watchdog":          func(in *Input) { in.Config.Watchdog = "reset" },
	"watchdog-poweroff": func(in *Input) { in.Config.Watchdog = "poweroff" },
	"runas":             func(in *Input) { in.RunAs = "65534:65534" },
	"odd-names": func(in *Input) {
		in.Name = `a,b="c" ,,d`
		in.Disks[0].Path = `odd, file="x",readonly=on {}.img`
		in.Disks[0].Base = []Layer{{"base,with,commas\\\n", "raw"}}
		direct(in)
		in.Config.Cmdline = `console=ttyS0 a="b,c" -drive file=/etc/shadow`
	},
	"arm64": func(in *Input) {
		in.Config.Arch = "arm64"
		in.Firmware = files("raw")
		in.Config.Watchdog = "pause"
		cores(in, "0-1", "16-17")
		cdroms("virt")(in)
	},
	"arm64-kernel": func(in *Input) { in.Config.Arch = "arm64"; direct(in) },
	"arm64-kvm": func(in *Input) {
		in.Host.Arch, in.Host.KVM = "arm64", true
		in.Config.Firmware, in.Config.Tpm, in.Host.TPM = "uefi", true, true
		in.Firmware = files("qcow2")
	},
}

// plain is a small machine on a host of two cells of 16 cores with two threads each.
func plain() *Input {
	return &Input{
		Name: "web[0]",
		UUID: UUID("0f2c/web"),
		Config: &berthv1.QemuConfig{
			Accel: "auto", OnPanic: "poweroff", Ready: "started", EmulatorCores: "shared",
		},
		Resources:  &berthv1.Resources{CpuMilli: 1000, MemoryMib: 128},
		Grant:      &berthv1.TaskGrant{Task: "web", Cells: []*berthv1.CellGrant{{Cell: 0, CpuMilli: 1000, MemoryMib: 178}}},
		SharedCPUs: "8-15,40-47",
		Cells: []*berthv1.Cell{
			{Id: 0, Cores: pairs(0, 16), Distances: []uint32{10, 21}},
			{Id: 1, Cores: pairs(16, 32), Distances: []uint32{21, 10}},
		},
		Host: Host{
			Arch: "amd64", KVMReason: "there is no /dev/kvm",
			Guests: map[string]Guest{
				"amd64": {
					Binary: "qemu-system-x86_64", Version: "7.2.22",
					Machines: map[string]string{"q35": "pc-q35-7.2", "pc": "pc-i440fx-7.2", "microvm": "microvm"},
					Firmware: map[string]Firmware{"uefi": files("raw"), "secure-boot": files("raw")},
				},
				"arm64": {
					Binary: "qemu-system-aarch64", Version: "7.2.22", Machines: map[string]string{"virt": "virt-7.2"},
					Firmware: map[string]Firmware{"uefi": files("raw")},
				},
			},
		},
		Disks: []Disk{disk("root", "qcow2")},
		Nics:  []Nic{nic("default", "user")},
	}
}

func pairs(first, end int) (cores []string) {
	for i := first; i < end; i++ {
		cores = append(cores, joinCPUs(i, i+32))
	}
	return cores
}

func direct(in *Input) {
	in.Kernel, in.Initrd = "vmlinuz", "initrd.img"
	in.Config.Cmdline = "console=ttyS0 panic=-1"
}

func files(format string) Firmware {
	return Firmware{Code: "code.fd", Vars: "vars.fd", Format: format}
}

// cores grants a part of each cell; "" are shared cores.
func cores(in *Input, cpus ...string) {
	in.Resources = &berthv1.Resources{MemoryMib: 256}
	in.Grant.Cells = nil
	for i, list := range cpus {
		in.Grant.Cells = append(in.Grant.Cells, &berthv1.CellGrant{Cell: uint32(i), Cpus: list, MemoryMib: 150})
	}
}

func disk(name, format string) Disk {
	return Disk{Config: &berthv1.QemuDisk{Name: name, Bus: "virtio"}, Path: name + "." + format, Format: format}
}

func nic(name, mode string) Nic {
	return Nic{Config: &berthv1.QemuNic{Name: name, Mode: mode}, MAC: MAC(UUID("0f2c/web"), name)}
}

func cdroms(kind string) change {
	return func(in *Input) {
		in.Config.Machine = kind
		in.Cdroms = []Cdrom{
			{Config: &berthv1.QemuCdrom{Name: "install"}, Path: "install.iso"},
			{Config: &berthv1.QemuCdrom{Name: "empty"}},
		}
		in.SeedISO = "seed.iso"
	}
}

// passthrough grants a GPU with its sound, and two virtual functions.
func passthrough(in *Input) {
	gpu := Device{ID: "GPU-1", Kind: "gpu", Address: "0000:41:00.0", Cell: 1, Group: []Function{
		{Address: "0000:40:01.1", Class: "0x060400"},
		{Address: "0000:41:00.0", Class: "0x030000"},
		{Address: "0000:41:00.1", Class: "0x040300"},
	}}
	in.Devices = []Device{gpu}
	for i, cell := range []int{0, -1} {
		address := []string{"0000:03:02.3", "0000:03:02.4"}[i]
		in.Devices = append(in.Devices, Device{
			ID: address, Kind: "vf", Address: address, Cell: cell,
			Group: []Function{{Address: address, Class: "0x020000"}},
		})
	}
	for _, d := range in.Devices {
		in.Grant.Devices = append(in.Grant.Devices, &berthv1.DeviceGrant{Kind: d.Kind, Id: d.ID, ShareMilli: 1000})
	}
	in.Nics = append(in.Nics, Nic{Config: &berthv1.QemuNic{Name: "fast", Mode: "vf", BootOrder: 1}, VF: "0000:03:02.3"})
}

// refusals are machines that cannot be, with the field that is to blame.
var refusals = map[string]struct {
	change change
	field  string
	words  string
}{
	"no QEMU":     {func(in *Input) { in.Host.Guests = nil }, "config.arch", "no QEMU for amd64"},
	"no machine":  {func(in *Input) { in.Config.Machine = "virt" }, "config.machine", "no machine of amd64"},
	"old QEMU":    {func(in *Input) { delete(in.Host.Guests["amd64"].Machines, "q35") }, "config.machine", "7.2.22"},
	"no KVM":      {func(in *Input) { in.Config.Accel = "kvm" }, "config.accel", "no /dev/kvm"},
	"foreign KVM": {func(in *Input) { in.Config.Accel, in.Config.Arch = "kvm", "arm64"; in.Host.KVM = true }, "config.accel", "the guest arm64"},
	"secure pc":   {func(in *Input) { in.Config.Firmware, in.Config.Machine = "secure-boot", "pc" }, "config.firmware", "machine pc"},
	"no firmware": {func(in *Input) { in.Config.Firmware = "none" }, "config.firmware", "a kernel is needed"},
	"no UEFI": {func(in *Input) {
		in.Config.Firmware = "uefi"
		delete(in.Host.Guests["amd64"].Firmware, "uefi")
	}, "config.firmware", "no files"},
	"files missing": {func(in *Input) { in.Config.Firmware = "uefi" }, "config.firmware", "missing"},
	"initrd alone":  {func(in *Input) { in.Initrd = "initrd" }, "config.kernel", "initrd"},
	"cmdline alone": {func(in *Input) { in.Config.Cmdline = "quiet" }, "config.kernel", "command line"},
	"CPU words":     {func(in *Input) { in.Config.Cpu = &berthv1.QemuCpu{Model: "max -snapshot"} }, "config.cpu.model", "no CPU model"},
	"CPU help":      {func(in *Input) { in.Config.Cpu = &berthv1.QemuCpu{Model: "help"} }, "config.cpu.model", "no CPU model"},
	"other count":   {func(in *Input) { cores(in, "0-3"); in.Config.Cpu = &berthv1.QemuCpu{Count: 2} }, "config.cpu.count", "granted 4"},
	"max below":     {func(in *Input) { in.Config.Cpu = &berthv1.QemuCpu{Count: 4, Max: 2} }, "config.cpu.max", "starts with 4"},
	"too many CPUs": {func(in *Input) { in.Config.Cpu = &berthv1.QemuCpu{Count: 256} }, "config.cpu.max", "255"},
	"microvm max":   {func(in *Input) { direct(in); in.Config.Machine = "microvm"; in.Config.Cpu = &berthv1.QemuCpu{Max: 2} }, "config.cpu.max", "microvm"},
	"odd threads":   {func(in *Input) { in.Config.Cpu = &berthv1.QemuCpu{Count: 3, Threads: 2} }, "config.cpu.threads", "cores of 2"},
	"split core":    {func(in *Input) { cores(in, "0-2", "16"); in.Config.Cpu = &berthv1.QemuCpu{Threads: 2} }, "config.cpu.threads", "one NUMA node"},
	"odd sockets":   {func(in *Input) { in.Config.Cpu = &berthv1.QemuCpu{Count: 4, Sockets: 3} }, "config.cpu.sockets", "3 sockets"},
	"no memory":     {func(in *Input) { in.Resources.MemoryMib = 0 }, "config.memory", "no memory"},
	"memory max":    {func(in *Input) { in.Config.Memory = &berthv1.QemuMemory{MaxMib: 64} }, "config.memory.max", "starts with 128"},
	"two pages": {func(in *Input) {
		in.Resources.Hugepages = []*berthv1.Hugepages{{SizeKib: 2048, Count: 1}, {SizeKib: 1 << 20, Count: 1}}
	}, "config.memory", "several sizes"},
	"disk name":      {func(in *Input) { in.Disks[0].Config.Name = "a,b" }, "config.disk[0].name", "no name"},
	"disk twice":     {func(in *Input) { in.Disks = append(in.Disks, in.Disks[0]) }, "config.disk[1].name", "twice"},
	"disk format":    {func(in *Input) { in.Disks[0].Format = "vmdk" }, "config.disk[0].format", "raw and qcow2"},
	"read-only sata": {func(in *Input) { in.Disks[0].Config.Bus, in.Disks[0].Config.ReadOnly = "sata", true }, "config.disk[0].bus", "read-only"},
	"microvm nvme":   {func(in *Input) { direct(in); in.Config.Machine = "microvm"; in.Disks[0].Config.Bus = "nvme" }, "config.disk[0].bus", "no bus nvme"},
	"microvm full": {func(in *Input) {
		direct(in)
		in.Config.Machine = "microvm"
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			in.Disks = append(in.Disks, disk(name, "raw"))
		}
	}, "config", "more devices"},
	"CD-ROMs": {func(in *Input) {
		cdroms("pc")(in)
		in.Cdroms = append(in.Cdroms, Cdrom{Config: &berthv1.QemuCdrom{Name: "x"}}, Cdrom{Config: &berthv1.QemuCdrom{Name: "y"}})
	},
		"config.cdrom", "at most 4"},
	"MAC":             {func(in *Input) { in.Nics[0].MAC = "01:00:00:00:00:00" }, "config.nic[0].mac", "no address"},
	"no tap":          {func(in *Input) { in.Nics[0].Config.Mode = "bridge" }, "config.nic[0].bridge", "no tap"},
	"queues":          {func(in *Input) { in.Nics[0].Config.Mode = "bridge"; in.Nics[0].TapFDs = []int{3, 4} }, "config.nic[0].queues", "its tap 2"},
	"no VF":           {func(in *Input) { in.Nics[0].Config.Mode = "vf" }, "config.nic[0].mode", "virtual function"},
	"port of IPv6":    {func(in *Input) { in.Ports = []*berthv1.PortGrant{{Name: "a", Port: 1, Address: "::1"}} }, "config.nic[0].mode", "IPv4"},
	"microvm model":   {func(in *Input) { direct(in); in.Config.Machine = "microvm"; in.Nics[0].Config.Model = "e1000" }, "config.nic[0].model", "virtio"},
	"microvm display": {func(in *Input) { direct(in); in.Config.Machine, in.Config.Display = "microvm", "std" }, "config.display", "no display"},
	"microvm dog":     {func(in *Input) { direct(in); in.Config.Machine, in.Config.Watchdog = "microvm", "reset" }, "config.watchdog", "no watchdog"},
	"microvm TPM":     {func(in *Input) { direct(in); in.Config.Machine, in.Config.Tpm = "microvm", true }, "config.tpm", "no TPM"},
	"no swtpm":        {func(in *Input) { in.Config.Tpm = true }, "config.tpm", "swtpm"},
	"bad text":        {func(in *Input) { in.Disks[0].Path = "a\xff" }, "config", "no valid text"},
	"group": {func(in *Input) {
		passthrough(in)
		in.Devices[0].Group = append(in.Devices[0].Group, Function{Address: "0000:42:00.0", Class: "0x010802", Words: "a disk"})
	}, "resources.devices", "0000:42:00.0 (a disk)"},
	"share":          {func(in *Input) { passthrough(in); in.Grant.Devices[0].ShareMilli = 500 }, "resources.devices", "whole devices"},
	"slice":          {func(in *Input) { passthrough(in); in.Devices[0].Address = "" }, "resources.devices", "no PCI function"},
	"microvm device": {func(in *Input) { passthrough(in); direct(in); in.Config.Machine = "microvm" }, "config.machine", "no devices of the host"},
}
