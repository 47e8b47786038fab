package machine

import berthv1 "github.com/berthd/berth/proto/berth/v1"

// Input is everything that is known of a machine before it is started.
type Input struct {
	// Name is for people ("web[0]"); it is in QEMU's process title.
	Name string
	// UUID is the machine's; see UUID.
	UUID string
	// Config is decoded and with its defaults (drivers/config).
	Config    *berthv1.QemuConfig
	Resources *berthv1.Resources
	Grant     *berthv1.TaskGrant
	// SharedCPUs are the node's shared CPUs in list format; "": all.
	SharedCPUs string
	// Cells are the node's, ascending; empty: it is one, and memory is bound nowhere.
	Cells []*berthv1.Cell
	Host  Host
	// Disks and Cdroms are made already, in the config's order. A disk "root" comes first.
	Disks  []Disk
	Cdroms []Cdrom
	// SeedISO is the CD-ROM that cloud-init reads; "": none.
	SeedISO string
	// Kernel and Initrd are files; "": none.
	Kernel, Initrd string
	// Firmware is what UEFI starts from; unset with another firmware.
	Firmware Firmware
	// Nics are in the config's order.
	Nics []Nic
	// Ports lead from the host to the first interface in mode "user".
	Ports []*berthv1.PortGrant
	// Devices are those of the grant, in its order.
	Devices []Device
	// RunAs is the user ("name", or "uid:gid") that QEMU becomes when it has opened
	// everything; "": it stays who starts it.
	RunAs string
}

// Host is what the host's QEMU can do.
type Host struct {
	// Arch is the host's, a GOARCH name.
	Arch string
	// KVM says that it works for guests of the host's architecture; otherwise
	// KVMReason says why not.
	KVM       bool
	KVMReason string
	// AMD says that its CPUs are AMD's, which show their threads to a guest only when asked.
	AMD bool
	// Guests are the architectures that there is a QEMU for.
	Guests map[string]Guest
	// NetworkROMs says that interfaces have a program to boot from a network.
	NetworkROMs bool
	// TPM says that swtpm is there.
	TPM bool
}

// Guest is a QEMU for one architecture.
type Guest struct {
	// Binary is the program's path or name.
	Binary string
	// Version is QEMU's: "7.2.22".
	Version string
	// Machines are the newest versioned types by kind: "q35" is "pc-q35-7.2".
	Machines map[string]string
	// Firmware are the kinds that there are files for: "uefi", "secure-boot".
	Firmware map[string]Firmware
}

// Firmware is a pair of files of UEFI.
type Firmware struct {
	// Code is read-only; Vars are the machine's own (in Host: what they are copied from).
	Code, Vars string
	// Format is "raw" or "qcow2".
	Format string
}

// Disk is a disk that has been made.
type Disk struct {
	// Config is its block; the name "root" may have none of its own but the name.
	Config *berthv1.QemuDisk
	// Path and Format are those of its image.
	Path, Format string
	// Base is what a linked clone is an overlay over, and that over the next: the whole
	// chain below Path, nearest first.
	Base []Layer
	// Buffered says that its file system cannot do direct I/O (tmpfs).
	Buffered bool
}

// Layer is a read-only image.
type Layer struct{ Path, Format string }

// Cdrom is a drive, and the medium that lies in it.
type Cdrom struct {
	Config *berthv1.QemuCdrom
	// Path is a raw image; "": no medium.
	Path string
}

// Nic is an interface whose other end exists.
type Nic struct {
	Config *berthv1.QemuNic
	// MAC is resolved; see MAC.
	MAC string
	// Tap is the tap's name, for QEMU to open; or TapFDs are its queues, and VhostFDs as
	// many of /dev/vhost-net, as numbers in QEMU. Mode "bridge".
	Tap      string
	TapFDs   []int
	VhostFDs []int
	// Vhost has the kernel move packets; with Tap.
	Vhost bool
	// VF is the granted function's id among Input.Devices. Mode "vf".
	VF string
}

// Device is a granted device, and what the host knows of it.
type Device struct {
	// ID is the grant's.
	ID string
	// Kind is "gpu", "vf" and so on.
	Kind string
	// Address is its PCI address: "0000:41:00.0".
	Address string
	// Cell is the cell that it is attached to; -1: not known.
	Cell int
	// Group are all functions of its IOMMU group, itself too.
	Group []Function
}

// Function is a PCI function in an IOMMU group.
type Function struct {
	Address string
	// Class is as in sysfs: "0x030000".
	Class string
	// Words are for people: the vendor and device numbers, or a name.
	Words string
}
