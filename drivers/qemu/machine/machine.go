// Package machine turns everything that is known of a virtual machine into the arguments
// that QEMU is started with. It is pure: no I/O, clock or randomness, and the same input
// gives the same arguments, so a machine that is started again is the same machine.
//
// What QEMU takes as JSON (-object, -device, -blockdev, -netdev) is written as JSON, in the
// words that QMP takes for the same thing while the machine runs; no name or path in it
// can become an option. QEMU follows no file by itself: an image's header is never
// asked for a backing file, the whole chain is in the arguments.
//
// The machine starts with its CPUs standing still (-S): the caller places its threads by
// Machine.VCPUs, Machine.Emulator and Machine.IOThreads, and then lets them go. QEMU stays
// when the guest has ended (shut down, panicked, or its watchdog bit), paused and with
// the reason as its status, until the caller has done what the config says.
package machine

// Names of what QEMU makes in its working directory, which is the task's state directory,
// or expects there. They are relative: the address of a unix socket has 108 bytes.
const (
	// QMPSocket is the driver's. A QMP socket serves one client at a time.
	QMPSocket = "qmp.sock"
	// SpareQMPSocket is for people, when the driver has the other.
	SpareQMPSocket = "qmp-spare.sock"
	ConsoleSocket  = "console.sock"
	// ConsoleLog gets all of the console's output, whether or not anybody is attached.
	ConsoleLog = "console.log"
	// AgentSocket leads to qemu-guest-agent in the guest.
	AgentSocket = "qga.sock"
	VNCSocket   = "vnc.sock"
	// ReadyLog gets what cloud-init in the guest says of itself (cloudinit.ReadyPort), with
	// ready = "phone-home".
	ReadyLog = "ready.log"
	// TPMSocket is swtpm's control channel; swtpm runs before QEMU starts.
	TPMSocket = "swtpm.sock"
)

// SerialID and AgentID are the ids of the chardevs behind ConsoleSocket and AgentSocket.
const (
	SerialID = "console"
	AgentID  = "qga"
)

// Machine is a virtual machine as QEMU is to start it.
type Machine struct {
	// Binary is the program's name: "qemu-system-x86_64".
	Binary string
	// Args are its arguments, without its name.
	Args []string
	// Type is the versioned machine type ("pc-q35-7.2"); on a host with several versions
	// of QEMU it is what must be kept for the guest to see the same machine.
	Type string
	// Accel is "kvm" or "tcg".
	Accel string
	// MemoryMiB is the guest's.
	MemoryMiB uint64
	// VCPUs are those that the machine starts with, in the order of query-cpus-fast.
	VCPUs []VCPU
	// Emulator are the host's CPUs that QEMU's main thread, and all threads that are not
	// listed otherwise, run on, in list format; "": wherever the task may.
	Emulator string
	// IOThreads are the ids of its I/O threads (query-iothreads), which run where the
	// emulator does.
	IOThreads []string
	// Passthrough are the PCI functions that the driver vfio-pci must have before QEMU
	// starts: those of the grant, and what goes with them.
	Passthrough []string
	// SparePorts are the ids of the PCIe ports that are free for what is plugged in later.
	SparePorts []SparePort
}

// VCPU is a vCPU and where its thread runs.
type VCPU struct {
	// Index is its "cpu-index".
	Index int
	// CPUs are the host's CPUs that its thread runs on, in list format: one where it is
	// pinned; "": wherever the task may.
	CPUs string
}

// SparePort is a free PCIe port.
type SparePort struct {
	ID string
	// Cell is the cell of the host that it lies near to; -1: none in particular.
	Cell int
}

// NodeOf gives the name of the block node that a device's disk is read and written through
// (its throttle where it has one), FormatNodeOf that of its image, which snapshots are
// made of. Device is a disk's or CD-ROM's id: DiskID(name), CdromID(name).
func NodeOf(device string, limited bool) string {
	if limited {
		return "limit-" + device
	}
	return device
}

// DiskID is the id of a disk, by its name in the config. The block node of its image has the
// same name; a limited disk has a node "limit-..." above it, and every image a node
// "file-..." below.
func DiskID(name string) string { return "disk-" + name }

// CdromID is the id of a CD-ROM drive, and of the block node of its medium.
func CdromID(name string) string { return "cd-" + name }

// NicID is the id of an interface, and of its other end.
func NicID(name string) string { return "nic-" + name }
