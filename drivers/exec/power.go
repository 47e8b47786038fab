package exec

import (
	"os"
	"strings"
	"sync"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/moby/sys/capability"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/problem"
)

// defaultCapabilities are what root inside a task may do: what servers that start as
// root and change to another user need, and nothing that reaches beyond the task.
var defaultCapabilities = []capability.Cap{
	capability.CAP_CHOWN, capability.CAP_DAC_OVERRIDE, capability.CAP_FOWNER, capability.CAP_FSETID,
	capability.CAP_KILL, capability.CAP_SETGID, capability.CAP_SETUID, capability.CAP_SETPCAP,
	capability.CAP_SETFCAP, capability.CAP_NET_BIND_SERVICE, capability.CAP_SYS_CHROOT,
}

// capabilities gives the mask of those that the task can ever have, and of those that it
// has without being root: what was added by name.
func capabilities(c *execConfig, uid int) (bounding, ambient uint64, err error) {
	for _, d := range defaultCapabilities {
		bounding |= 1 << d
	}
	drop, err := capMask("config.cap_drop", c.GetCapDrop())
	if err != nil {
		return 0, 0, err
	}
	add, err := capMask("config.cap_add", c.GetCapAdd())
	if err != nil {
		return 0, 0, err
	}
	bounding = bounding&^drop | add
	if uid != 0 {
		ambient = add
	}
	return bounding, ambient, nil
}

func capMask(field string, names []string) (uint64, error) {
	var mask uint64
	for _, name := range names {
		short := strings.TrimPrefix(strings.ToLower(name), "cap_")
		if short == "all" {
			for _, c := range capability.ListKnown() {
				mask |= 1 << c
			}
			continue
		}
		found := false
		for _, c := range capability.ListKnown() {
			if c.String() == short {
				mask |= 1 << c
				found = true
			}
		}
		if !found {
			return 0, problem.New(problem.Invalid, field, "%q is not a capability", name).
				WithRemedy("name one such as net_bind_service, or all")
		}
	}
	return mask, nil
}

// refused are the system calls that administer the host, watch others or are known more
// for holes than for use. Everything else is allowed.
var refused = []string{
	"acct", "add_key", "bpf", "clock_settime", "create_module", "delete_module",
	"finit_module", "fsconfig", "fsmount", "fsopen", "fspick", "get_kernel_syms", "init_module",
	"io_uring_enter", "io_uring_register", "io_uring_setup", "ioperm", "iopl", "kcmp", "kexec_file_load",
	"kexec_load", "keyctl", "lookup_dcookie", "mount", "mount_setattr", "move_mount",
	"name_to_handle_at", "nfsservctl", "open_by_handle_at", "open_tree", "perf_event_open", "pivot_root",
	"process_vm_readv", "process_vm_writev", "query_module", "quotactl", "quotactl_fd", "reboot", "request_key",
	"setns", "settimeofday", "stime", "swapoff", "swapon", "sysfs", "syslog", "umount", "umount2", "unshare",
	"uselib", "userfaultfd", "vhangup", "vm86", "vm86old", "_sysctl",
}

func seccompAvailable() bool {
	if _, err := arch.GetInfo(""); err != nil {
		return false
	}
	_, err := os.Stat("/proc/sys/kernel/seccomp/actions_avail")
	return err == nil
}

// seccompFilter gives the program that shims install, as bytes; it is the same for all.
var seccompFilter = sync.OnceValues(func() ([]byte, error) {
	native, err := arch.GetInfo("")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, n := range refused {
		if _, known := native.SyscallNames[n]; known {
			names = append(names, n)
		}
	}
	// clone3 keeps its flags where a filter cannot look: programs that find it missing use clone.
	const noSuchCall = seccomp.ActionErrno | seccomp.Action(unix.ENOSYS)
	policy := seccomp.Policy{DefaultAction: seccomp.ActionAllow, Syscalls: []seccomp.SyscallGroup{
		{Action: seccomp.ActionErrno, Names: names},
		{Action: noSuchCall, Names: []string{"clone3"}},
		{Action: seccomp.ActionErrno, NamesWithCondtions: []seccomp.NameWithConditions{{
			Name: "clone", Conditions: seccomp.ArgumentConditions{{
				Argument: 0, Operation: seccomp.BitsSet, Value: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET |
					unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP,
			}},
		}}},
	}}
	program, err := policy.Assemble()
	if err != nil {
		return nil, err
	}
	// The library lets calls by another architecture's numbers (32-bit ones) pass.
	const archOffset = 4
	program = append([]bpf.Instruction{
		bpf.LoadAbsolute{Off: archOffset, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(native.ID), SkipTrue: 1},
		bpf.RetConstant{Val: uint32(noSuchCall)},
	}, program...)
	raw, err := bpf.Assemble(program)
	if err != nil {
		return nil, err
	}
	return encodeBPF(raw), nil
})
