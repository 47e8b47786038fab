package accel

import (
	"encoding/binary"
	"fmt"
	"unsafe"
)

const (
	getSregs = 0x8138ae83
	setSregs = 0x4138ae84
	setRegs  = 0x4090ae82
	// loopEnds is KVM_EXIT_HLT.
	loopEnds  = 5
	guestBase = 0
)

// Where things are in the machine's memory.
const (
	pageTables = 0x1000 // three levels, a page each
	code       = 0x4000
)

// segment is struct kvm_segment.
type segment struct {
	base                            uint64
	limit                           uint32
	selector                        uint16
	kind, present, dpl, db, s, l, g uint8
	avl, unusable, _                uint8
}

// sregs is struct kvm_sregs.
type sregs struct {
	cs, ds, es, fs, gs, ss, tr, ldt     segment
	gdt, idt                            [2]uint64
	cr0, cr2, cr3, cr4, cr8, efer, apic uint64
	interrupts                          [4]uint64
}

// regs is struct kvm_regs.
type regs struct {
	general [16]uint64 // rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8 to r15
	rip     uint64
	rflags  uint64
}

// prepare puts the loop into memory and the vCPU into long mode, in front of it.
func (v *vcpu) prepare() error {
	// PML4, PDPT and a page of 2 MiB, all present and writable.
	for i, entry := range []uint64{pageTables + 0x1000 | 3, pageTables + 0x2000 | 3, 0x83} {
		binary.LittleEndian.PutUint64(v.memory[pageTables+i*0x1000:], entry)
	}
	program := []byte{0xb9, 0, 0, 0, 0 /* mov ecx, rounds */, 0xff, 0xc9 /* dec ecx */, 0x75, 0xfc /* jnz */, 0xf4 /* hlt */}
	binary.LittleEndian.PutUint32(program[1:], loopRounds)
	copy(v.memory[code:], program)

	var s sregs
	if _, err := ioctl(v.fd, getSregs, uintptr(unsafe.Pointer(&s))); err != nil {
		return fmt.Errorf("reading a vCPU: %w", err)
	}
	s.cr3 = pageTables
	s.cr4 = 1 << 5           // PAE
	s.cr0 = 1<<31 | 1<<4 | 1 // PG, ET, PE
	s.efer = 1<<10 | 1<<8    // LMA, LME
	s.cs = segment{limit: 0xffffffff, selector: 8, kind: 11, present: 1, s: 1, l: 1, g: 1}
	data := segment{limit: 0xffffffff, selector: 16, kind: 3, present: 1, db: 1, s: 1, g: 1}
	s.ds, s.es, s.fs, s.gs, s.ss = data, data, data, data, data
	if _, err := ioctl(v.fd, setSregs, uintptr(unsafe.Pointer(&s))); err != nil {
		return fmt.Errorf("setting up a vCPU: %w", err)
	}
	r := regs{rip: code, rflags: 2}
	if _, err := ioctl(v.fd, setRegs, uintptr(unsafe.Pointer(&r))); err != nil {
		return fmt.Errorf("setting up a vCPU: %w", err)
	}
	return nil
}
