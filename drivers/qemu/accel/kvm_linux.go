package accel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of the kernel's KVM API, <linux/kvm.h>.
const (
	getAPIVersion     = 0xae00
	createVM          = 0xae01
	getVCPUMmapSize   = 0xae04
	createVCPU        = 0xae41
	setUserMemory     = 0x4020ae46
	runVCPU           = 0xae80
	getStatsFD        = 0xaece
	apiVersion        = 12
	offsetExitReason  = 8 // in struct kvm_run
	guestMemory       = 2 << 20
	loopRounds        = 100_000
	emulatedStatistic = "insn_emulation"
)

// memoryRegion is struct kvm_userspace_memory_region.
type memoryRegion struct {
	slot, flags                uint32
	guest, size, userspaceAddr uint64
}

// vcpu is a machine with one vCPU and 2 MiB of memory.
type vcpu struct {
	vm, fd int
	memory []byte
	run    []byte
}

// measure runs the loop, once.
func measure() sample {
	// The vCPU belongs to the thread that runs it first.
	runtime.LockOSThread()
	v, err := newVCPU()
	if err != nil {
		return sample{Error: err.Error()}
	}
	if err := v.prepare(); err != nil {
		return sample{Error: err.Error()}
	}
	began := time.Now()
	for {
		_, err := ioctl(v.fd, runVCPU, 0)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return sample{Error: fmt.Sprintf("running a machine: %v", err)}
		}
		break
	}
	s := sample{Emulated: v.emulated(), Took: time.Since(began)}
	if reason := binary.NativeEndian.Uint32(v.run[offsetExitReason:]); reason != loopEnds {
		s.Error = fmt.Sprintf("a loop in a machine ended with %d instead of %d", reason, loopEnds)
	}
	return s
}

func newVCPU() (*vcpu, error) {
	kvm, err := unix.Open("/dev/kvm", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening /dev/kvm: %w", err)
	}
	if n, err := ioctl(kvm, getAPIVersion, 0); err != nil || n != apiVersion {
		return nil, fmt.Errorf("its API is version %d: %w", n, err)
	}
	v := &vcpu{}
	if v.vm, err = ioctl(kvm, createVM, 0); err != nil {
		return nil, fmt.Errorf("making a machine: %w", err)
	}
	if v.memory, err = unix.Mmap(-1, 0, guestMemory, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS); err != nil {
		return nil, fmt.Errorf("memory for a machine: %w", err)
	}
	region := memoryRegion{guest: guestBase, size: guestMemory, userspaceAddr: uint64(uintptr(unsafe.Pointer(&v.memory[0])))}
	if _, err = ioctl(v.vm, setUserMemory, uintptr(unsafe.Pointer(&region))); err != nil {
		return nil, fmt.Errorf("memory of a machine: %w", err)
	}
	if v.fd, err = ioctl(v.vm, createVCPU, 0); err != nil {
		return nil, fmt.Errorf("making a vCPU: %w", err)
	}
	size, err := ioctl(kvm, getVCPUMmapSize, 0)
	if err != nil {
		return nil, fmt.Errorf("the size of a vCPU: %w", err)
	}
	if v.run, err = unix.Mmap(v.fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("the state of a vCPU: %w", err)
	}
	return v, nil
}

// emulated reads how many of the vCPU's instructions KVM has emulated; -1: it does not say.
// The descriptor has a header (flags, length of names, count, and where what begins), then
// descriptions (16 bytes and the name), then values.
func (v *vcpu) emulated() int64 {
	fd, err := ioctl(v.fd, getStatsFD, 0)
	if err != nil {
		return -1
	}
	all := make([]byte, 256<<10)
	n, err := unix.Pread(fd, all, 0)
	if err != nil || n < 24 {
		return -1
	}
	return findStatistic(all[:n], emulatedStatistic)
}

func findStatistic(all []byte, name string) int64 {
	word := func(at uint64) (uint64, bool) {
		if at+4 > uint64(len(all)) {
			return 0, false
		}
		return uint64(binary.NativeEndian.Uint32(all[at:])), true
	}
	length, _ := word(4)
	count, _ := word(8)
	descriptions, _ := word(16)
	values, ok := word(20)
	for i := uint64(0); ok && i < count; i++ {
		at := descriptions + i*(16+length)
		end := at + 16 + length
		if end > uint64(len(all)) {
			break
		}
		found, _, _ := strings.Cut(string(all[at+16:end]), "\x00")
		offset, _ := word(at + 8)
		if found == name && values+offset+8 <= uint64(len(all)) {
			return int64(binary.NativeEndian.Uint64(all[values+offset:]))
		}
	}
	return -1
}

func ioctl(fd int, request, argument uintptr) (int, error) {
	n, _, no := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, argument)
	if no != 0 {
		return 0, no
	}
	return int(n), nil
}
