// Package drivers is the contract between the agent and what runs tasks. Each driver
// lives in a folder of its own; drivertest is the suite that every driver must pass, in
// process and through the plugin wire. The agent's runner is the only caller.
//
// # The life of a task
//
//	Prepare -> Start -> (Wait | Stop)* -> Remove
//	               \-> agent restarts -> Recover -> (Wait | Stop)* -> Remove
//
// The runner calls one operation at a time per task and stores what it got before it
// goes on, so a crash between any two calls is followed by the same call again.
// Therefore every operation is idempotent by Task.ID: what is done already is found,
// not done twice, and Remove of what is not there succeeds.
//
// # Errors
//
// Errors are problems (package problem). Invalid: the task's config is wrong and trying
// again is useless. NotFound: the driver knows no such task (it is gone). Unavailable:
// trying again later may help. A driver never leaves anything behind on the host when
// Prepare or Start fails: what it had done is undone.
//
// # What outlives the agent
//
// What Start started goes on when the agent ends for whatever reason. Handle is all
// that is needed to find it again; the agent stores it without looking inside.
package drivers

import (
	"context"
	"io"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Driver runs tasks of one kind. Methods are called from several goroutines for
// different tasks, never concurrently for one task but for Wait, which may run beside
// any other, and the optional powers.
type Driver interface {
	// Info says who the driver is. It does no I/O and never changes.
	Info() Info
	// Probe looks whether the driver can work on this host. It is called at start and
	// every now and then; it must return within seconds.
	Probe(ctx context.Context) (*berthv1.DriverInfo, error)
	// Prepare makes ready what Start needs and may take long (images); progress, may be
	// nil, takes words for people. Cancelling ctx ends it without leftovers.
	Prepare(ctx context.Context, task *Task, progress func(string)) error
	// Start starts the task and returns when it runs, or failed to.
	Start(ctx context.Context, task *Task) (*Handle, error)
	// Recover takes a task up again after the agent was restarted. NotFound: neither the
	// task nor a record of how it ended exists. A task that ended while the agent was
	// away is recovered, and Wait tells how it ended.
	Recover(ctx context.Context, task *Task, handle *Handle) error
	// Wait returns when the task has ended; as often as it is called.
	Wait(ctx context.Context, id string) (*Exit, error)
	// Stop asks the task to end by the signal and kills it after the timeout. It returns
	// when the task has ended; at once if it has already. timeout 0 kills at once.
	Stop(ctx context.Context, id string, signal string, timeout time.Duration) error
	// Remove undoes Prepare and Start: nothing of the task is left on the host but its
	// directory, which is the agent's. A running task is killed first.
	Remove(ctx context.Context, task *Task, handle *Handle) error
}

// Info is who a driver is.
type Info struct {
	Name    string
	Version string
	// Capabilities are the optional powers that it has; see Capability.
	Capabilities []Capability
}

// Capability names an optional power. The servers know them from Node.drivers and
// refuse early what a driver cannot do.
type Capability string

// The powers of any driver, each an interface below; those of machines are in powers.go.
const (
	CapSignal Capability = "signal"
	CapExec   Capability = "exec"
	CapStats  Capability = "stats"
	CapUpdate Capability = "update"
)

// Task is what a driver gets to run: everything is resolved.
type Task struct {
	// ID is unique on the host and stays with the task: "<alloc id>/<task name>".
	ID string
	// AllocID, Name, Job, Group and Namespace are for names and labels.
	AllocID, Name, Job, Group, Namespace string
	// Config is the task's config block.
	Config *structpb.Struct
	// Env is the whole environment.
	Env map[string]string
	// User is "user", "uid", "user:group" or "" for the driver's default.
	User string
	// Resources is what was asked for; Grant what it got: exact cores, memory, devices.
	Resources *berthv1.Resources
	Grant     *berthv1.TaskGrant
	// Ports lead to the task: those of its group, on the node and inside.
	Ports []*berthv1.PortGrant
	// Devices describes those of the grant, in its order.
	Devices []*berthv1.Device
	// Cells are the node's, ascending.
	Cells []*berthv1.Cell
	// SharedCPUs are the CPUs that tasks without exclusive ones run on, in list format;
	// empty: all.
	SharedCPUs string
	// Dirs are the task's directories on the host; the agent has made them.
	Dirs Dirs
	// Logs bounds what is kept of its output.
	Logs LogPolicy
	// KillSignal and KillTimeout are for a driver whose supervisor must end the task by
	// itself; Stop gets them too.
	KillSignal  string
	KillTimeout time.Duration
}

// Dirs are absolute paths on the host.
type Dirs struct {
	// Alloc is the allocation's directory; Shared is for all its tasks to share.
	Alloc, Shared string
	// Task is the task's own: its working directory unless its config says otherwise.
	Task string
	// Secrets is on memory where the host has tmpfs.
	Secrets string
	// Logs takes <task>.stdout.N and <task>.stderr.N, N rising from 0.
	Logs string
	// State is the driver's own: sockets, pid files, what Recover needs. Not visible to
	// the task.
	State string
}

// LogPolicy bounds a task's logs, per stream. The driver writes <task>.<stream>.<n> in
// Dirs.Logs, goes on to n+1 at MaxFileBytes and deletes the oldest beyond MaxFiles.
type LogPolicy struct {
	MaxFiles     int
	MaxFileBytes int64
}

// Handle is what finds a started task again.
type Handle struct {
	// Driver and Version say who made State, so that a newer driver can read it.
	Driver  string `json:"driver"`
	Version int    `json:"version"`
	// PID is the task's process on the host; 0 where it has none.
	PID int `json:"pid"`
	// StartedAt is when it was started.
	StartedAt time.Time `json:"started_at"`
	// State is the driver's own, at most 64 KiB.
	State []byte `json:"state"`
}

// Exit is how a task ended.
type Exit struct {
	// Code is its exit code; meaningful when Signal is 0.
	Code int
	// Signal ended it; 0: none.
	Signal int
	// OOMKilled says that it ran out of the memory that it was granted.
	OOMKilled bool
	// At is when it ended.
	At time.Time
	// Err says why the code is not known, or what went wrong beside it.
	Err string
}

// OK says whether the task ended well.
func (e *Exit) OK() bool { return e.Code == 0 && e.Signal == 0 && !e.OOMKilled && e.Err == "" }

// Signaler is the power CapSignal.
type Signaler interface {
	// Signal sends a signal by name ("SIGHUP") to the task's main process.
	Signal(ctx context.Context, id string, signal string) error
}

// Execer is the power CapExec: another command inside a running task.
type Execer interface {
	// Exec runs until the command ends; cancelling ctx kills it.
	Exec(ctx context.Context, id string, req *ExecRequest) (*Exit, error)
}

// ExecRequest is a command to run inside a task. Stdout and Stderr are written until
// Exec returns; with TTY all output comes on Stdout. Resize may be nil.
type ExecRequest struct {
	Command []string
	Env     map[string]string
	TTY     bool
	Size    TerminalSize
	Resize  <-chan TerminalSize
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
}

// TerminalSize is in characters.
type TerminalSize struct{ Columns, Rows uint16 }

// StatsReader is the power CapStats.
type StatsReader interface {
	// Stats reads the task's use of resources now.
	Stats(ctx context.Context, id string) (*Stats, error)
}

// Stats is a task's use of resources.
type Stats struct {
	Time        time.Time
	CPUTime     time.Duration // since its start, over all its processes
	MemoryBytes uint64        // charged to it now, without page cache that can go
	PIDs        uint64
}

// Updater is the power CapUpdate: change limits of a running task in place.
type Updater interface {
	// Update applies the task's new Grant, Resources and SharedCPUs.
	Update(ctx context.Context, task *Task) error
}
