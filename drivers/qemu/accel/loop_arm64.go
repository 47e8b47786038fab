package accel

import (
	"encoding/binary"
	"fmt"
	"unsafe"
)

const (
	vcpuInit        = 0x4020aeae
	preferredTarget = 0x8020aeaf
	setOneReg       = 0x4010aeac
	// programCounter is the register's number.
	programCounter = 0x6030000000100040
	// loopEnds is KVM_EXIT_MMIO: the program ends by a write where there is no memory.
	loopEnds  = 6
	guestBase = 1 << 30
)

// prepare puts the loop into memory and the vCPU, whose MMU is off, in front of it.
func (v *vcpu) prepare() error {
	program := []uint32{
		0x52800000 | loopRounds&0xffff<<5, // movz w0, rounds
		0x72a00000 | loopRounds>>16<<5,    // movk w0, rounds >> 16, lsl 16
		0x71000400,                        // subs w0, w0, 1
		0x54ffffe1,                        // b.ne to the line above
		0xd2800001,                        // mov x1, 0
		0xb9000020,                        // str w0, [x1]
	}
	for i, word := range program {
		binary.LittleEndian.PutUint32(v.memory[4*i:], word)
	}
	var target [8]uint32 // struct kvm_vcpu_init
	if _, err := ioctl(v.vm, preferredTarget, uintptr(unsafe.Pointer(&target))); err != nil {
		return fmt.Errorf("the kind of vCPU: %w", err)
	}
	if _, err := ioctl(v.fd, vcpuInit, uintptr(unsafe.Pointer(&target))); err != nil {
		return fmt.Errorf("setting up a vCPU: %w", err)
	}
	at := uint64(guestBase)
	reg := struct{ id, addr uint64 }{programCounter, uint64(uintptr(unsafe.Pointer(&at)))}
	if _, err := ioctl(v.fd, setOneReg, uintptr(unsafe.Pointer(&reg))); err != nil {
		return fmt.Errorf("setting up a vCPU: %w", err)
	}
	return nil
}
