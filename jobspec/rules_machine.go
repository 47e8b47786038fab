package jobspec

import (
	"net"
	"regexp"
	"slices"
	"strings"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// machineName is the name of a disk, CD-ROM drive or interface: a disk's is its serial
// number in the guest, which has room for so much.
var machineName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,19}$`)

const machineNameRule = `letters, digits, "-", "_" and ".", at most 20, the first a letter or digit`

var checksum = regexp.MustCompile(`^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$`)

// machines are the kinds by architecture.
var machines = map[string][]string{"amd64": {"q35", "pc", "microvm"}, "arm64": {"virt"}}

// machine is a virtual machine that is checked as far as it can be without a node.
type machine struct {
	*checker
	task   *berthv1.Task
	config *berthv1.QemuConfig
	// path is the task's.
	path string
}

// machine checks a task of the qemu driver, whose config has been checked by its schema.
func (c *checker) machine(job *berthv1.Job, t *berthv1.Task, path string) {
	config, ok := configOf(t).(*berthv1.QemuConfig)
	if !ok {
		return
	}
	m := &machine{c, t, config, path}
	m.start()
	m.arch(job)
	m.disks()
	m.nics()
	m.cpus()
	m.memory()
	m.microvm()
	m.guest()
}

// mark is a field, and whether something about it is so.
type mark struct {
	field string
	set   bool
}

// bad adds a problem of a field of the config.
func (m *machine) bad(field, remedy, format string, args ...any) {
	m.add(m.path+".config."+field, remedy, format, args...)
}

// open says whether a text is known only at the node.
func open(s string) bool { return strings.Contains(s, "${") }

// start checks what the machine starts from.
func (m *machine) start() {
	x := m.config
	some := x.GetImage() != "" || x.GetKernel() != "" || len(x.GetDisks()) > 0 || len(x.GetCdroms()) > 0
	if !some {
		m.bad("image", "set image, or describe a disk, a cdrom or a kernel", "the machine has nothing to start from")
	}
	if x.GetKernel() == "" {
		for _, f := range []mark{{"initrd", x.GetInitrd() != ""}, {"cmdline", x.GetCmdline() != ""}} {
			if f.set {
				m.bad(f.field, "set kernel too", "%s goes with a kernel", f.field)
			}
		}
		if x.GetFirmware() == "none" {
			m.bad("firmware", "set kernel, or another firmware", "without firmware a kernel is needed")
		}
	}
	if x.GetFirmware() == "secure-boot" && (x.GetMachine() == "pc" || x.GetMachine() == "virt") {
		m.bad("firmware", `use "uefi", or machine = "q35"`, "a machine %s has no secure boot", x.GetMachine())
	}
	m.sum(x.GetChecksum(), "checksum")
	if x.GetChecksum() != "" && x.GetImage() == "" {
		m.bad("checksum", "", "checksum goes with an image")
	}
}

func (m *machine) sum(s, field string) {
	if s != "" && !open(s) && !checksum.MatchString(s) {
		m.bad(field, `write "sha256:" or "sha512:" and the sum in small hexadecimal digits`, "%q is no checksum", clip(s))
	}
}

// arch checks the machine's kind against its architecture, and that against the job's.
func (m *machine) arch(job *berthv1.Job) {
	x := m.config
	if kinds := machines[x.GetArch()]; x.GetMachine() != "" && x.GetArch() != "" && !slices.Contains(kinds, x.GetMachine()) {
		m.bad("machine", "it has "+strings.Join(kinds, ", "), "%s has no machine %q", x.GetArch(), x.GetMachine())
	}
	if x.GetFirmware() == "bios" && (x.GetArch() == "arm64" || x.GetMachine() == "virt") {
		m.bad("firmware", `use "uefi"`, "arm64 has no BIOS")
	}
	if x.GetArch() == "" || len(job.GetArch()) == 0 || x.GetAccel() == "tcg" {
		return
	}
	if !slices.Contains(job.GetArch(), x.GetArch()) {
		m.bad("arch", `accel = "tcg" emulates it on others`, "the guest is %s, and the job runs on %s only", x.GetArch(), strings.Join(job.GetArch(), ", "))
	}
}

func (m *machine) disks() {
	keys := elementKeysOf(m.config, "disks")
	for i, d := range m.config.GetDisks() {
		at := "disks[" + keys[i] + "]"
		m.deviceName(d.GetName(), "disk", at)
		m.sum(d.GetChecksum(), at+".checksum")
		m.disk(d, at)
	}
	keys = elementKeysOf(m.config, "cdroms")
	for i, d := range m.config.GetCdroms() {
		at := "cdroms[" + keys[i] + "]"
		m.deviceName(d.GetName(), "cdrom", at)
		m.sum(d.GetChecksum(), at+".checksum")
	}
}

// rootDisk is the name of the disk that holds the config's image.
const rootDisk = "root"

func (m *machine) disk(d *berthv1.QemuDisk, at string) {
	image := d.GetImage()
	if d.GetName() == rootDisk && m.config.GetImage() != "" {
		if image != "" {
			m.bad(at+".image", "leave one of them out", "the config has an image for the disk %q already", rootDisk)
		}
		image = m.config.GetImage()
	}
	if image == "" && d.GetSizeMib() == 0 {
		m.bad(at+".size_mib", "set size, or image", "disk %q has no size", d.GetName())
	}
	if image == "" && d.GetClone() == "linked" {
		m.bad(at+".clone", "", "disk %q has no image that it could be linked to", d.GetName())
	}
	if d.GetFormat() == "raw" {
		for _, f := range []mark{
			{"clone", d.GetClone() == "linked"}, {"cluster_kib", d.GetClusterKib() != 0},
			{"preallocation", d.GetPreallocation() == "metadata"},
		} {
			if f.set {
				m.bad(at+"."+f.field, `use format = "qcow2"`, "disk %q is raw", d.GetName())
			}
		}
	}
	if n := d.GetClusterKib(); n != 0 && n&(n-1) != 0 {
		m.bad(at+".cluster_kib", `such as "64KiB"`, "the size of a cluster is a power of two")
	}
	linked := d.GetClone() == "linked" || d.GetClone() == "" && d.GetFormat() != "raw" && image != ""
	if p := d.GetPreallocation(); linked && (p == "falloc" || p == "full") {
		m.bad(at+".preallocation", `use clone = "full"`, "a linked disk is not allocated in advance")
	}
	if b := d.GetBus(); d.GetReadOnly() && (b == "sata" || b == "nvme") {
		m.bad(at+".bus", "use virtio or scsi", "disk %q is read-only: not on the bus %s", d.GetName(), b)
	}
}

func (m *machine) deviceName(name, what, at string) {
	if name != "" && !machineName.MatchString(name) {
		m.bad(at+".name", "a name is made of "+machineNameRule, "%s %q is not a name", what, clip(name))
	}
}

func (m *machine) nics() {
	functions := 0
	for _, d := range m.task.GetResources().GetDevices() {
		if d.GetKind() == "vf" {
			functions += int(max(d.GetCount(), 1))
		}
	}
	keys := elementKeysOf(m.config, "nics")
	for i, n := range m.config.GetNics() {
		at := "nics[" + keys[i] + "]"
		m.deviceName(n.GetName(), "nic", at)
		if mac, err := net.ParseMAC(n.GetMac()); n.GetMac() != "" && !open(n.GetMac()) && (err != nil || len(mac) != 6 || mac[0]&1 != 0) {
			m.bad(at+".mac", `such as "52:54:00:12:34:56"`, "%q is no address of an interface", clip(n.GetMac()))
		}
		bridged := n.GetMode() == "bridge"
		for _, f := range []mark{{"bridge", n.GetBridge() != ""}, {"queues", n.GetQueues() != 0}, {"rate_mbit", n.GetRateMbit() != 0}} {
			if f.set && !bridged {
				m.bad(at+"."+f.field, `set mode = "bridge"`, `%s goes with mode "bridge"`, f.field)
			}
		}
		if bridged && n.GetBridge() == "" {
			m.bad(at+".bridge", "name a bridge of the host", "interface %q is on no bridge", n.GetName())
		}
		if n.GetMode() == "vf" {
			if functions--; functions < 0 {
				m.bad(at+".mode", `add device "vf" {} to the task's resources`, "there is no virtual function for interface %q", n.GetName())
			}
		}
	}
}

// vcpus is how many the machine starts with, as far as it is known before there is a grant:
// of a whole core only that it has one thread at least.
func (m *machine) vcpus() uint64 {
	r := m.task.GetResources()
	if r.GetCores() > 0 {
		return uint64(r.GetCores())
	}
	if n := m.config.GetCpu().GetCount(); n > 0 {
		return uint64(n)
	}
	return max(1, (uint64(r.GetCpuMilli())+999)/1000)
}

func (m *machine) cpus() {
	cpu, exclusive := m.config.GetCpu(), m.task.GetResources().GetCores() > 0
	if cpu.GetCount() > 0 && exclusive {
		m.bad("cpu.count", "leave it out", "with exclusive cores there is a vCPU for each CPU of the grant")
	}
	count, most := m.vcpus(), uint64(cpu.GetMax())
	if most > 0 && most < count {
		m.bad("cpu.max", "", "max is %d, and the machine starts with %d vCPUs", most, count)
	}
	most = max(most, count)
	sockets, threads := uint64(max(cpu.GetSockets(), 1)), uint64(max(cpu.GetThreads(), 1))
	if !exclusive && (most%(sockets*threads) != 0 || count%threads != 0) {
		m.bad("cpu", "", "%d vCPUs cannot be divided into %d sockets with cores of %d threads", most, sockets, threads)
	}
}

// memoryMiB is the guest's: the hugepages, where the task has some.
func (m *machine) memoryMiB() uint64 {
	var pages uint64
	for _, h := range m.task.GetResources().GetHugepages() {
		pages += h.GetCount() * h.GetSizeKib() / 1024
	}
	if pages > 0 {
		return pages
	}
	return m.task.GetResources().GetMemoryMib()
}

func (m *machine) memory() {
	r := m.task.GetResources()
	for _, h := range r.GetHugepages() {
		if h.GetSizeKib() != r.GetHugepages()[0].GetSizeKib() {
			m.add(m.path+".resources.hugepages", "", "a machine's memory has hugepages of one size")
		}
	}
	if most := m.config.GetMemory().GetMaxMib(); most > 0 && most < m.memoryMiB() {
		m.bad("memory.max_mib", "", "max is %d MiB, and the machine starts with %d MiB", most, m.memoryMiB())
	}
	for i, d := range r.GetDevices() {
		if d.GetProfile() != "" || d.GetShareMilli() > 0 && d.GetShareMilli() < 1000 {
			at := m.path + ".resources.devices[" + elementKeysOf(r, "devices")[i] + "]"
			m.add(at, "leave out share and profile", "a machine takes whole devices only")
		}
	}
}

// microvm checks what so small a machine lacks.
func (m *machine) microvm() {
	x := m.config
	if x.GetMachine() != "microvm" {
		return
	}
	for _, f := range []mark{
		{"tpm", x.GetTpm()},
		{"watchdog", x.GetWatchdog() != ""},
		{"display", x.GetDisplay() != "" && x.GetDisplay() != "none"},
		{"firmware", x.GetFirmware() == "uefi" || x.GetFirmware() == "secure-boot"},
		{"cpu.max", uint64(x.GetCpu().GetMax()) > m.vcpus()},
		{"memory.max_mib", x.GetMemory().GetMaxMib() > m.memoryMiB()},
	} {
		if f.set {
			m.bad(f.field, `use machine = "q35"`, "a microvm has no such thing")
		}
	}
	if len(m.task.GetResources().GetDevices()) > 0 {
		m.add(m.path+".resources.devices", `use machine = "q35"`, "a microvm takes no devices of the host")
	}
}

// guest checks what goes on in the guest.
func (m *machine) guest() {
	x := m.config
	if init := x.GetCloudInit(); init.GetUserData() != "" && init.GetUserDataFile() != "" {
		m.bad("cloud_init.user_data", "leave one of them out", "user_data and user_data_file are both set")
	}
	switch {
	case x.GetReady() == "phone-home" && x.GetCloudInit() == nil:
		m.bad("ready", "describe cloud_init", "without cloud_init nobody phones home")
	case x.GetReady() == "guest-agent" && x.GuestAgent != nil && !x.GetGuestAgent():
		m.bad("ready", "leave out guest_agent", "without the channel to it the guest's agent cannot answer")
	}
}
