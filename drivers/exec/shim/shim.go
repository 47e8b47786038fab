// Package shim is the process that stands between the agent and a task of the exec
// driver: it starts the task, keeps its output, learns how it ended and outlives the
// agent. docs/adr/0003-exec-shim.md has the reasons and the figures.
//
// The binary that runs the driver is its own shim: it is executed again with "berth-shim"
// as its name. This package's init sees the name, does the work and never returns. Go
// initialises packages as soon as what they import is ready, in the order of their
// paths, so a package that imports only little runs before most others have made their
// tables and goroutines: that keeps a shim small in a big binary. Keep it so: no
// encoding/json, net, os/exec, os/signal or third parties here (a test holds it).
//
// # The processes of a task
//
//	agent
//	  shim     in its own session, PID 1 of the task's PID namespace, host's file system
//	    stage  for a moment: sets up mounts, user, limits; then it becomes ...
//	    task
//	    exec   commands inside the task, each through a stage of its own
//
// As the first process of the namespace the shim reaps what the task leaves behind, and
// when the shim dies for any reason the kernel kills the whole task: no task is ever
// without a supervisor. With pid_mode "host" the same is brought about by the parent
// death signal for the main process and, for others, by the agent that clears the cgroup.
//
// # What it leaves in the state directory
//
//	lock    locked by the shim for as long as it lives: who gets the lock knows it is dead
//	record  what was started: written before Start returns
//	exit    how it ended; its block is written at the start, so a full disk loses nothing
//	sock    where it takes orders
//	root    mount point of the task's file system, in the task's mount namespace only
//	log     what the shim itself had to say: empty unless something broke
package shim

import (
	"os"
	"runtime"
)

// Names by which the binary is executed again.
const (
	ShimName  = "berth-shim"
	StageName = "berth-stage"
	EnterName = "berth-enter"
)

// Files in the state directory, which is the shim's working directory.
const (
	LockFile   = "lock"
	RecordFile = "record"
	ExitFile   = "exit"
	SocketFile = "sock"
	RootDir    = "root"
	LogFile    = "log"
)

// Descriptors that the agent gives a shim beside the standard ones.
const (
	FDSpec   = 3 // memory file with the Spec
	FDStatus = 4 // pipe: the shim says how Start went
	FDLock   = 5 // the locked lock file
)

func init() {
	if len(os.Args) != 1 {
		return
	}
	switch os.Args[0] {
	case ShimName:
		runtime.LockOSThread()
		supervise()
	case StageName:
		runtime.LockOSThread()
		stage()
	case EnterName:
		runtime.LockOSThread()
		enter()
	default:
		return
	}
	os.Exit(0)
}
