package qemu

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"github.com/berthd/berth/drivers/cgroup"
	"github.com/berthd/berth/drivers/qemu/machine"
)

// process is a child of this process.
type process struct {
	pid  int
	done chan struct{} // closed when it has ended
	cmd  *exec.Cmd
}

// join joins cgroups and becomes QEMU; $1 is how many files there are to write to. Should
// it be late, for the agent has died and another has cleared up, it cannot join and ends.
const join = `umask 077; n=$1; shift
while [ "$n" -gt 0 ]; do echo 0 >"$1" || exit 125; shift; n=$((n-1)); done
exec "$@"`

// spawn starts QEMU in the group, in a session of its own. It holds the lock from now on.
func spawn(dir stateDir, m *machine.Machine, group *cgroup.Group, lock, memory *os.File) (*process, error) {
	args := m.Args
	files := []*os.File{lock}
	if memory != nil {
		files = append(files, memory)
		args = append(args[:len(args):len(args)], "-incoming", "fd:4") // after 0, 1, 2 and the lock
	}
	return start(dir, group, files, m.Binary, args)
}

// start starts a program that lives in the machine's cgroup and directory.
func start(dir stateDir, group *cgroup.Group, files []*os.File, program string, args []string) (*process, error) {
	procs := group.Procs()
	line := append([]string{"-c", join, "sh", strconv.Itoa(len(procs))}, procs...)
	line = append(append(line, program), args...)
	log, err := os.OpenFile(dir.path(errorsFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command("/bin/sh", line...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = string(dir), log, log, files
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/", "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{pid: cmd.Process.Pid, done: make(chan struct{}), cmd: cmd}
	go func() { // ends with the process
		defer close(p.done)
		_ = cmd.Wait()
	}()
	return p, nil
}

// reap waits for the end of a process that is ending.
func (p *process) reap() { <-p.done }

// how says how it ended.
func (p *process) how() string { return p.cmd.ProcessState.String() }
