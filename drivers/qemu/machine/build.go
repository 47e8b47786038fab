package machine

import (
	"fmt"
	"slices"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Build makes the machine. What cannot be is an Invalid problem that names the config's
// field.
func Build(in Input) (*Machine, error) {
	if err := check(&in); err != nil {
		return nil, err
	}
	choice, err := Choose(in.Config, &in.Host, in.Kernel != "")
	if err != nil {
		return nil, err
	}
	b := &builder{in: &in, choice: choice}
	if b.board, err = boardOf(choice.Kind, choice.Arch); err != nil {
		return nil, err
	}
	c, err := planCPUs(&in, &b.board)
	if err != nil {
		return nil, err
	}
	devices, err := planPassthrough(&in, c, &b.board)
	if err != nil {
		return nil, err
	}
	if err := b.write(c, devices); err != nil {
		return nil, err
	}
	return &b.out, b.err
}

// write writes all arguments. Their order is the order in which QEMU makes the devices.
func (b *builder) write(c *cpus, devices []passed) error {
	pageKiB, err := planMemory(b.in, c.nodes)
	if err != nil {
		return err
	}
	b.base(c)
	if err := b.memory(c, pageKiB); err != nil {
		return err
	}
	if err := b.start(c); err != nil {
		return err
	}
	b.boot = bootOrder(b.in)
	b.iothreads()
	used := func(node int) bool {
		return slices.ContainsFunc(devices, func(d passed) bool { return d.node == node })
	}
	steps := []func() error{
		func() error { return b.bridgesFor(c, used) },
		b.display, b.channels, b.watch, b.extras,
		b.disks, b.cdroms,
		func() error { return b.nics(c) },
		func() error { return b.passthrough(devices) },
		b.spares,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// base writes what every machine has.
func (b *builder) base(c *cpus) {
	b.out.Binary = b.in.Host.Guests[b.choice.Arch].Binary
	b.out.Type, b.out.Accel = b.choice.Type, b.choice.Accel
	b.flag("name", "guest="+b.in.Name, "debug-threads=on")
	b.flag("uuid", b.in.UUID)
	for _, name := range []string{"no-user-config", "nodefaults", "no-shutdown", "S"} {
		b.flag(name)
	}
	b.flag("msg", "timestamp=on")
	b.flag("boot", "strict=on")
	b.sandbox()
	b.flag("machine", b.machineWords(c)...)
	if b.choice.Accel == "tcg" {
		b.flag("accel", "tcg", fmt.Sprintf("tb-size=%d", b.in.Config.TranslationMiB()))
	} else {
		b.flag("accel", b.choice.Accel)
	}
	b.raw("cpu", cpuModel(b.in.Config.GetCpu().GetModel(), b.choice, b.in.Host.AMD && c.threads > 1))
	b.flag("smp", fmt.Sprintf("cpus=%d", c.count), fmt.Sprintf("maxcpus=%d", c.max),
		fmt.Sprintf("sockets=%d", c.sockets), fmt.Sprintf("cores=%d", c.cores), fmt.Sprintf("threads=%d", c.threads))
	if b.board.kind == "q35" || b.board.kind == "pc" {
		b.flag("rtc", "base=utc", "driftfix=slew")
	} else {
		b.flag("rtc", "base=utc")
	}
	if !b.board.microvm() {
		b.flag("smbios", "type=1", "manufacturer=Berth", "product=Virtual machine", "serial="+b.in.UUID)
	}
}

// sandbox has the kernel refuse system calls that QEMU does not need. Becoming another
// user is one of them, so that one that is to do it must be allowed to.
func (b *builder) sandbox() {
	privileges := "deny"
	if b.in.RunAs != "" {
		privileges = "allow"
		b.flag("runas", b.in.RunAs)
	}
	b.flag("sandbox", "on", "obsolete=deny", "elevateprivileges="+privileges, "spawn=deny", "resourcecontrol=deny")
}

func (b *builder) machineWords(c *cpus) []string {
	words := []string{b.choice.Type, "dump-guest-core=off"}
	if len(c.nodes) == 1 {
		words = append(words, "memory-backend=mem0")
	}
	if b.board.arch == "arm64" {
		gic := "3"
		if b.choice.Accel == "kvm" {
			gic = "host"
		}
		words = append(words, "gic-version="+gic)
	}
	if b.choice.Firmware == "secure-boot" {
		words = append(words, "smm=on")
	}
	if b.choice.UEFI() {
		words = append(words, "pflash0=firmware-code", "pflash1=firmware-vars")
	}
	return words
}

// cpuModel is the config's, or all that there is.
func cpuModel(asked string, c Choice, askThreads bool) string {
	switch {
	case asked != "":
		return asked
	case c.Accel == "kvm" && askThreads:
		return "host,topoext=on"
	case c.Accel == "kvm":
		return "host"
	case c.Arch == "arm64":
		return "max,pauth-impdef=on" // the architecture's own signing of pointers is slow to emulate
	}
	return "max"
}

// start writes what the machine starts from, and where its threads run.
func (b *builder) start(c *cpus) error {
	switch b.choice.Firmware {
	case "uefi", "secure-boot":
		if b.in.Firmware.Code == "" || b.in.Firmware.Vars == "" {
			return invalid("firmware", "the files of %q are missing", b.choice.Firmware)
		}
		b.firmware()
	case "none":
		if b.choice.Arch == "amd64" {
			b.raw("bios", "qboot.rom") // does no more than start the kernel
		}
	}
	if b.in.Kernel == "" && (b.in.Initrd != "" || b.in.Config.GetCmdline() != "") {
		return invalid("kernel", "an initrd and a command line go with a kernel")
	}
	if b.in.Kernel != "" {
		b.raw("kernel", b.in.Kernel)
		if b.in.Initrd != "" {
			b.raw("initrd", b.in.Initrd)
		}
		if b.in.Config.GetCmdline() != "" {
			b.raw("append", b.in.Config.GetCmdline())
		}
	}
	var first string
	for _, n := range c.nodes {
		for _, pin := range n.pins {
			if first == "" {
				first = pin
			}
			b.out.VCPUs = append(b.out.VCPUs, VCPU{Index: len(b.out.VCPUs), CPUs: pin})
		}
	}
	b.out.Emulator = b.emulator(first)
	return nil
}

func (b *builder) firmware() {
	for _, f := range []struct {
		node, path string
		readOnly   bool
	}{{"firmware-code", b.in.Firmware.Code, true}, {"firmware-vars", b.in.Firmware.Vars, false}} {
		p := props{{"node-name", f.node}, {"driver", b.in.Firmware.Format}, {"read-only", f.readOnly}, {"file", props{
			{"driver", "file"}, {"filename", f.path}, {"read-only", f.readOnly},
		}}}
		b.blockdev(p.when(b.in.Firmware.Format == "qcow2", "backing", nil))
	}
	if b.choice.Firmware == "secure-boot" {
		// Only code in system management mode, which is the firmware's, may write the variables.
		b.flag("global", "driver=cfi.pflash01", "property=secure", "value=on")
		b.flag("global", "driver=ICH9-LPC", "property=disable_s3", "value=1")
	}
}

// emulator is where QEMU's own threads run: on the shared CPUs, but for a machine with
// cores of its own that wants them there.
func (b *builder) emulator(firstPin string) string {
	exclusive := slices.ContainsFunc(b.in.Grant.GetCells(), func(g *berthv1.CellGrant) bool { return g.GetCpus() != "" })
	switch {
	case !exclusive:
		return ""
	case b.in.Config.GetEmulatorCores() == "granted":
		return firstPin
	}
	return b.in.SharedCPUs
}
