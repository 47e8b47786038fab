package berthv1

import (
	"slices"
	"strconv"

	"google.golang.org/protobuf/types/known/structpb"
)

// qemuDriver is the driver whose tasks are virtual machines.
const qemuDriver = "qemu"

// defaultMemoryMiB is what a task is given that asks for no memory.
const defaultMemoryMiB = 64

// What QEMU takes beside the guest's memory, in MiB: measured with 7.2, and then some. The
// page tables of the guest's memory are the host's and, with KVM, the guest's own too.
const (
	qemuBaseMiB      = 96 // about 45 are used by a machine with a display, network and disk
	qemuPerVCPUMiB   = 2
	qemuPerDiskMiB   = 8 // mostly the tables of a large qcow2
	qemuPerPagesMiB  = 256
	qemuTPMMiB       = 16 // swtpm
	qemuRoundMiB     = 4
	translationMiB   = 128
	translationFewer = 32
)

// TranslationMiB is how much QEMU keeps of a guest's code that it has translated, where it
// emulates. Only a task that asks for emulation is reserved more for it.
func (x *QemuConfig) TranslationMiB() uint64 {
	if x.GetAccel() == "tcg" {
		return translationMiB
	}
	return translationFewer // in qemuBaseMiB
}

// ReservedMemoryMiB is what is reserved on the node for a task: its memory and, for a
// virtual machine, what QEMU itself takes. A machine whose memory is hugepages has the
// task's memory for QEMU, and is reserved as much as that takes at least.
func (x *Task) ReservedMemoryMiB() uint64 {
	memory := x.GetResources().GetMemoryMib()
	if memory == 0 {
		memory = defaultMemoryMiB
	}
	if x.GetDriver() != qemuDriver {
		return memory
	}
	guest := memory
	var huge uint64
	for _, h := range x.GetResources().GetHugepages() {
		huge += h.GetCount() * h.GetSizeKib() / 1024
	}
	if huge > 0 {
		guest = huge
	}
	overhead := qemuOverheadMiB(x, guest)
	if huge > 0 {
		return max(memory, overhead)
	}
	return memory + overhead
}

func qemuOverheadMiB(x *Task, guest uint64) uint64 {
	config := x.GetConfig()
	r := x.GetResources()
	// Of a whole core it is not known here how many threads it has; most have two.
	vcpus := max(uint64(r.GetCpuMilli()+999)/1000, 2*uint64(r.GetCores()), 1)
	cpu := config.GetFields()["cpu"].GetStructValue()
	vcpus = max(vcpus, number(cpu, "count"), number(cpu, "max"))
	disks := max(uint64(len(values(config, "disks", "disk"))), 1)
	overhead := qemuBaseMiB + vcpus*qemuPerVCPUMiB + disks*qemuPerDiskMiB + guest/qemuPerPagesMiB
	if text(config, "accel") == "tcg" {
		overhead += translationMiB
	}
	if config.GetFields()["tpm"].GetBoolValue() {
		overhead += qemuTPMMiB
	}
	return (overhead + qemuRoundMiB - 1) / qemuRoundMiB * qemuRoundMiB
}

// ForwardsPorts says that a port of the task's group is another one inside the task: of a
// machine behind its host's address.
func (x *Task) ForwardsPorts() bool {
	if x.GetDriver() != qemuDriver {
		return false
	}
	nics := values(x.GetConfig(), "nics", "nic")
	return len(nics) == 0 || slices.ContainsFunc(nics, func(v *structpb.Value) bool {
		mode := text(v.GetStructValue(), "mode")
		return mode == "" || mode == "user"
	})
}

// ImpliedConstraints are what a task's config asks of the node, beside a healthy driver:
// that such a machine can be there.
func (x *Task) ImpliedConstraints() (out []*Constraint) {
	if x.GetDriver() != qemuDriver {
		return nil
	}
	add := func(attribute, operator, value string) {
		out = append(out, &Constraint{Attribute: attribute, Operator: operator, Value: value})
	}
	config := x.GetConfig()
	accel, arch, of := text(config, "accel"), text(config, "arch"), ""
	if accel == "kvm" {
		add("driver.qemu.accel", "=", "kvm")
	}
	switch {
	case arch == "":
	case accel == "tcg":
		// Emulated, so anywhere where there is a QEMU for it.
		of = "." + arch
		add("driver.qemu.guests", "contains", arch)
	default:
		add("node.arch", "=", arch)
	}
	if machine := text(config, "machine"); machine != "" {
		add("driver.qemu.machines"+of, "contains", machine)
	}
	if firmware := text(config, "firmware"); firmware == "uefi" || firmware == "secure-boot" {
		add("driver.qemu.firmware"+of, "contains", firmware)
	}
	if config.GetFields()["tpm"].GetBoolValue() {
		add("driver.qemu.tpm", "=", "true")
	}
	return out
}

func text(config *structpb.Struct, key string) string {
	return config.GetFields()[key].GetStringValue()
}

func number(config *structpb.Struct, key string) uint64 {
	switch v := config.GetFields()[key].GetKind().(type) {
	case *structpb.Value_NumberValue:
		if v.NumberValue > 0 && v.NumberValue < 1<<20 {
			return uint64(v.NumberValue)
		}
	case *structpb.Value_StringValue:
		n, _ := strconv.ParseUint(v.StringValue, 10, 20)
		return n
	}
	return 0
}

// values are the blocks of a config, by either of its keys' names.
func values(config *structpb.Struct, keys ...string) []*structpb.Value {
	for _, key := range keys {
		if v := config.GetFields()[key]; v != nil {
			if l := v.GetListValue(); l != nil {
				return l.GetValues()
			}
			return []*structpb.Value{v}
		}
	}
	return nil
}
