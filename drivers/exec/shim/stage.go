package shim

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Descriptors of a stage beside the standard ones and FDSpec; those after fdReport are
// EnterName's alone.
const (
	fdReport   = 4 // pipe: pid on the host, then a Failure if there is one
	fdRequest  = 5 // pipe with the Request
	fdTerminal = 6 // socket that gets the terminal, with Request.TTY
	fdSpaces   = 7 // namespaces ipc, uts, mnt and the task's root
	enterFDs   = fdSpaces + 4
)

// stage makes the task's surroundings and becomes the task. It runs in new namespaces
// on the process's first thread, and only that thread is changed; execve takes it along.
func stage() {
	closeOnExec()
	unix.Umask(0o022)
	sayPID(fdReport)
	spec, f := readSpec(FDSpec)
	if f == nil {
		f = become(spec)
	}
	giveUp(fdReport, f)
}

// become returns only if it fails.
func become(spec *Spec) *Failure {
	dieWithShim(spec)
	if f := joinCgroups(spec); f != nil {
		return f
	}
	if f := makeView(&spec.View, !spec.NoNewPrivileges, spec.IPCPrivate); f != nil {
		return f
	}
	argv := append([]string{spec.Command}, spec.Args...)
	return run(spec, argv, spec.Env, "config.command")
}

// enter joins a running task and becomes a command inside it.
func enter() {
	closeOnExec()
	unix.Umask(0o022)
	sayPID(fdReport)
	giveUp(fdReport, becomeCommand())
}

func becomeCommand() *Failure {
	spec, f := readSpec(FDSpec)
	if f != nil {
		return f
	}
	request, ok := DecodeRequest(readAll(os.NewFile(fdRequest, "request"), MaxOrder))
	if !ok || len(request.Command) == 0 {
		return &Failure{Kind: kindInvalid, Field: "command", Reason: "the request is damaged"}
	}
	dieWithShim(spec)
	if f := joinCgroups(spec); f != nil {
		return f
	}
	// A mount namespace can be joined only by a thread that shares its root with no other.
	err := unix.Unshare(unix.CLONE_FS)
	for i := 0; i < 3 && err == nil; i++ {
		err = unix.Setns(fdSpaces+i, 0)
	}
	if err == nil {
		err = unix.Fchdir(fdSpaces + 3)
	}
	if err == nil {
		err = unix.Chroot(".")
	}
	if err != nil {
		return failure(kindUnavailable, "task", "joining the task", err)
	}
	if request.TTY {
		if err := openTerminal(fdTerminal, request.Rows, request.Columns); err != nil {
			return failure(kindUnavailable, "tty", "making a terminal", err)
		}
	}
	return run(spec, request.Command, request.Env, "command")
}

// dieWithShim makes this process die with the shim where no PID namespace sees to that.
func dieWithShim(spec *Spec) {
	if spec.PIDPrivate {
		return
	}
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
	// It may have died before: then nobody reads the report.
	report := []unix.PollFd{{Fd: fdReport}}
	if n, err := unix.Poll(report, 0); err == nil && n > 0 && report[0].Revents&unix.POLLERR != 0 {
		os.Exit(1)
	}
}

// run takes on the task's user, power and limits and executes argv.
func run(spec *Spec, argv, env []string, field string) *Failure {
	path, f := lookPath(argv[0], env, spec.WorkDir, field)
	if f != nil {
		return f
	}
	for _, l := range spec.Rlimits {
		limit := unix.Rlimit{Cur: l.Value, Max: l.Value}
		if err := unix.Setrlimit(l.Resource, &limit); err != nil {
			return failure(kindInvalid, "config.rlimits", "setting a limit to "+itoa(int(l.Value)), err)
		}
	}
	if f := takeOn(&spec.Process); f != nil {
		return f
	}
	if err := unix.Chdir(spec.WorkDir); err != nil {
		return failure(kindInvalid, "config.work_dir", "going to "+spec.WorkDir, err)
	}
	defaultSignals()
	dieWithShim(spec) // again, for changing the user cleared it
	err := unix.Exec(path, argv, env)
	switch err {
	case unix.ENOEXEC:
		return &Failure{Kind: kindInvalid, Field: field, Reason: path + " is no program for this machine, nor a script with a #! line"}
	case unix.ENOENT:
		return &Failure{Kind: kindInvalid, Field: field, Reason: "the interpreter or loader that " + path + " needs is not in the task's file system"}
	}
	return failure(kindInvalid, field, "executing "+path, err)
}

// lookPath finds a program as the task would, after the view was made.
func lookPath(name string, env []string, workDir, field string) (string, *Failure) {
	if strings.Contains(name, "/") {
		path := name
		if !strings.HasPrefix(path, "/") {
			path = workDir + "/" + path
		}
		if err := executable(path); err != nil {
			return "", failure(kindInvalid, field, "looking for "+path+" in the task's file system", err)
		}
		return path, nil
	}
	search := "/usr/local/bin:/usr/bin:/bin"
	for _, e := range env {
		if p, ok := strings.CutPrefix(e, "PATH="); ok {
			search = p
		}
	}
	for dir := range strings.SplitSeq(search, ":") {
		if path := dir + "/" + name; strings.HasPrefix(dir, "/") && executable(path) == nil {
			return path, nil
		}
	}
	return "", &Failure{Kind: kindInvalid, Field: field, Reason: "no program " + name + " in the task's file system, looking in " + search}
}

func executable(path string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return unix.EISDIR
	}
	if st.Mode&0o111 == 0 {
		return unix.EACCES
	}
	return nil
}

// joinCgroups moves this process into the task's cgroups and sets what is inherited.
func joinCgroups(spec *Spec) *Failure {
	for _, procs := range spec.TaskProcs {
		if err := os.WriteFile(procs, []byte("0"), 0); err != nil {
			return failure(kindUnavailable, "", "joining the task's cgroup", err)
		}
	}
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte(itoa(spec.OOMScoreAdj)), 0); err != nil {
		return failure(kindUnavailable, "config.oom_score_adj", "setting it", err)
	}
	return nil
}

// sayPID reports this process's pid on the host: /proc is the host's until the view is made.
func sayPID(fd int) {
	self, _ := os.Readlink("/proc/self")
	if _, err := unix.Write(fd, []byte(self+"\n")); err != nil {
		os.Exit(1) // the shim is dead
	}
}

func giveUp(fd int, f *Failure) {
	_, _ = unix.Write(fd, f.Encode())
	os.Exit(1)
}
