package shim

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// takeOn changes the calling thread, and no other, to the task's user and power. What
// it may still do afterwards is in the seccomp filter's hands: it allows all that is
// used below the line where it is installed.
func takeOn(p *Process) *Failure {
	for c := range 64 {
		if p.Bounding&(1<<c) != 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err == unix.EINVAL {
			break // the kernel knows no more
		} else if err != nil {
			return failure(kindUnavailable, "", "dropping capabilities", err)
		}
	}
	if p.NoNewPrivileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return failure(kindUnavailable, "config.no_new_privileges", "setting it", err)
		}
	}
	if f := installSeccomp(p.Seccomp); f != nil {
		return f
	}
	if err := switchUser(p); err != nil {
		return failure(kindUnavailable, "user", "becoming user "+itoa(p.UID)+", group "+itoa(p.GID), err)
	}
	return nil
}

func switchUser(p *Process) error {
	// Capabilities survive the change of user until capset says which are meant to.
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return err
	}
	groups := make([]uint32, len(p.Groups)+1)
	for i, g := range p.Groups {
		groups[i] = uint32(g)
	}
	// Raw, for this thread only: the package functions of syscall change every thread.
	if _, _, no := syscall.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(p.Groups)), uintptr(unsafe.Pointer(&groups[0])), 0); no != 0 {
		return no
	}
	gid, uid := uintptr(p.GID), uintptr(p.UID)
	if _, _, no := syscall.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); no != 0 {
		return no
	}
	if _, _, no := syscall.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); no != 0 {
		return no
	}
	keep := p.Ambient
	if p.UID == 0 {
		keep = p.Bounding
	}
	return setCapabilities(keep, p.Ambient)
}

// setCapabilities makes keep the permitted and effective set and raises the ambient one.
func setCapabilities(keep, ambient uint64) error {
	var have [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&header, &have[0]); err != nil {
		return err
	}
	for i := range have {
		// Never ask for more than there is: an agent may itself run with less than all.
		mask := uint32(keep>>(32*i)) & have[i].Permitted
		have[i] = unix.CapUserData{Effective: mask, Permitted: mask, Inheritable: uint32(ambient>>(32*i)) & mask}
	}
	if err := unix.Capset(&header, &have[0]); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	for c := range 64 {
		if have[c/32].Inheritable&(1<<(c%32)) == 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(c), 0, 0); err != nil {
			return err
		}
	}
	return nil
}

func installSeccomp(program []byte) *Failure {
	if len(program) == 0 {
		return nil
	}
	prog := unix.SockFprog{Len: uint16(len(program) / 8), Filter: (*unix.SockFilter)(unsafe.Pointer(&program[0]))}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0); err != nil {
		return failure(kindUnavailable, "config.seccomp", "installing the filter", err)
	}
	return nil
}

// kernelSigaction is what the system call takes; zero: the default action.
type kernelSigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

func setSignal(sig int, handler uintptr) {
	act := kernelSigaction{handler: handler}
	_, _, _ = syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&act)), 0, 8, 0, 0)
}

// ignoreSignals makes the shim deaf to what a task of the same user could send it: only
// SIGKILL from outside its namespace ends it. os/signal would cost a goroutine and a thread.
func ignoreSignals() {
	for _, sig := range []unix.Signal{
		unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM,
		unix.SIGPIPE, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGVTALRM, unix.SIGIO, unix.SIGPWR,
	} {
		const sigIgn = 1
		setSignal(int(sig), sigIgn)
	}
}

// defaultSignals undoes that for the task: what is ignored stays so across execve.
func defaultSignals() {
	for sig := 1; sig <= 64; sig++ {
		setSignal(sig, 0)
	}
	var none uint64
	const sigSetmask = 2
	_, _, _ = syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, sigSetmask, uintptr(unsafe.Pointer(&none)), 0, 8, 0, 0)
}
