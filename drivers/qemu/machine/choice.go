package machine

import (
	"slices"
	"strings"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Choice is what a config leaves open, decided.
type Choice struct {
	// Arch is the guest's.
	Arch string
	// Accel is "kvm" or "tcg".
	Accel string
	// Kind is "q35", "pc", "microvm" or "virt"; Type the versioned type.
	Kind, Type string
	// Firmware is "bios", "uefi", "secure-boot" or "none".
	Firmware string
}

// UEFI says whether the machine starts from UEFI, and so needs Input.Firmware.
func (c Choice) UEFI() bool { return c.Firmware == "uefi" || c.Firmware == "secure-boot" }

// Choose decides what the config leaves to the host. direct says that a kernel is booted.
func Choose(config *berthv1.QemuConfig, host *Host, direct bool) (Choice, error) {
	c := Choice{Arch: config.GetArch(), Kind: config.GetMachine(), Firmware: config.GetFirmware()}
	if c.Arch == "" {
		c.Arch = host.Arch
	}
	guest, ok := host.Guests[c.Arch]
	if !ok {
		return c, invalid("arch", "the node has no QEMU for %s", c.Arch).
			WithRemedy("install QEMU for %s on it, or constrain the job to nodes that have it", c.Arch)
	}
	b, err := boardOf(c.Kind, c.Arch)
	if err != nil {
		return c, err
	}
	c.Kind = b.kind
	if c.Type = guest.Machines[c.Kind]; c.Type == "" {
		return c, invalid("machine", "the node's QEMU %s has no machine %q", guest.Version, c.Kind)
	}
	if err := c.chooseAccel(config.GetAccel(), host); err != nil {
		return c, err
	}
	return c, c.chooseFirmware(b, &guest, direct)
}

func (c *Choice) chooseAccel(asked string, host *Host) error {
	why := ""
	switch {
	case c.Arch != host.Arch:
		why = "the node is " + host.Arch + ", the guest " + c.Arch
	case !host.KVM:
		why = host.KVMReason
		if why == "" {
			why = "it was not found to work"
		}
	}
	switch {
	case asked == "tcg" || why != "" && asked != "kvm":
		c.Accel = "tcg"
	case why == "":
		c.Accel = "kvm"
	default:
		return invalid("accel", "kvm does not work here: %s", why).
			WithRemedy(`accel = "auto" emulates where kvm does not work`)
	}
	return nil
}

func (c *Choice) chooseFirmware(b board, guest *Guest, direct bool) error {
	if c.Firmware == "" {
		c.Firmware = b.firmware
		if direct && !slices.Contains(b.firmwares, "bios") {
			c.Firmware = "none"
		}
	}
	if !slices.Contains(b.firmwares, c.Firmware) {
		return invalid("firmware", "%q does not go with machine %s", c.Firmware, b.kind).
			WithRemedy("it takes %s", strings.Join(b.firmwares, ", "))
	}
	if c.Firmware == "none" && !direct {
		return invalid("firmware", "without firmware a kernel is needed").WithRemedy("set kernel, or another firmware")
	}
	if _, ok := guest.Firmware[c.Firmware]; c.UEFI() && !ok {
		return invalid("firmware", "the node has no files for %q", c.Firmware).
			WithRemedy("install ovmf or qemu-efi-aarch64 on it, or constrain the job to nodes that have it")
	}
	return nil
}

// board is what can be done with a kind of machine.
type board struct {
	kind, arch string
	// root is the bus that devices sit on; "": virtio-mmio, without PCI.
	root string
	// ports says that devices are plugged into PCIe ports.
	ports bool
	// firstSlot and lastSlot are the free ones of root.
	firstSlot, lastSlot int
	// cdroms is how many drives there can be.
	cdroms int
	// maxVCPUs is the most that it can have.
	maxVCPUs int
	// firmwares are those that it can start from; firmware is the default.
	firmwares []string
	firmware  string
	// numa, moreCPUs and moreMemory say whether it can have several NUMA nodes, and
	// more vCPUs and memory while it runs.
	numa, moreCPUs, moreMemory bool
	// panic is the device by which a guest reports a panic; "": none.
	panic string
}

// mmioSlots is the number of virtio devices that a microvm can have.
const mmioSlots = 8

var boards = []board{
	{
		kind: "q35", arch: "amd64", root: "pcie.0", ports: true, firstSlot: 1, lastSlot: 0x1e, cdroms: 6, maxVCPUs: 255,
		firmwares: []string{"bios", "uefi", "secure-boot", "none"}, firmware: "bios",
		numa: true, moreCPUs: true, moreMemory: true, panic: "pvpanic",
	},
	{
		kind: "pc", arch: "amd64", root: "pci.0", firstSlot: 2, lastSlot: 0x1f, cdroms: 4, maxVCPUs: 255,
		firmwares: []string{"bios", "uefi", "none"}, firmware: "bios",
		numa: true, moreCPUs: true, moreMemory: true, panic: "pvpanic",
	},
	{
		kind: "microvm", arch: "amd64", lastSlot: mmioSlots - 1, cdroms: 6, maxVCPUs: 255,
		firmwares: []string{"bios", "none"}, firmware: "bios",
	},
	{
		kind: "virt", arch: "arm64", root: "pcie.0", ports: true, firstSlot: 1, lastSlot: 0x1f, cdroms: 6, maxVCPUs: 512,
		firmwares: []string{"uefi", "none"}, firmware: "uefi",
		numa: true, moreMemory: true, panic: "pvpanic-pci",
	},
}

// boardOf finds the board; the first of an architecture is its default.
func boardOf(kind, arch string) (board, error) {
	for _, b := range boards {
		if b.arch == arch && (kind == "" || b.kind == kind) {
			return b, nil
		}
	}
	return board{}, invalid("machine", "%q is no machine of %s", kind, arch).
		WithRemedy("amd64 has q35, pc and microvm; arm64 has virt")
}

func (b *board) microvm() bool { return b.root == "" }

// virtio is the name of a virtio device on this board.
func (b *board) virtio(kind string) string {
	if b.microvm() {
		return "virtio-" + kind + "-device"
	}
	return "virtio-" + kind + "-pci"
}

// invalid is a problem of the config's field.
func invalid(field, format string, args ...any) *problem.Error {
	return problem.New(problem.Invalid, "config."+field, format, args...)
}
