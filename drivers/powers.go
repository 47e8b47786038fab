package drivers

import (
	"context"
	"io"
	"time"
)

// The powers of drivers whose tasks are machines.
const (
	// CapConsole and CapVNC are channels of an Attacher.
	CapConsole Capability = "console"
	CapVNC     Capability = "vnc"
	// CapPause, CapReset, CapPowerdown, CapNMI, CapSuspend and CapFreeze are actions of a Controller.
	CapPause     Capability = "pause"
	CapReset     Capability = "reset"
	CapPowerdown Capability = "powerdown"
	CapNMI       Capability = "nmi"
	CapSuspend   Capability = "suspend"
	CapFreeze    Capability = "freeze"

	CapScreenshot Capability = "screenshot"
	CapSnapshot   Capability = "snapshot"
	CapObserve    Capability = "observe"
)

// Attacher is the powers CapConsole and CapVNC: a two-way channel into a running task.
type Attacher interface {
	// Attach joins the channel ("console": its serial console, scrollback first; "vnc":
	// its display) to rw until either side ends or ctx does. Several may be attached to
	// a console at a time: all see the output, and what any of them types goes in.
	Attach(ctx context.Context, id string, channel Capability, rw io.ReadWriter) error
}

// Action is what a Controller does to a machine.
type Action string

// The actions, by the capability that each needs.
const (
	ActionPause     Action = "pause"     // CapPause: its CPUs stand still
	ActionResume    Action = "resume"    // CapPause, CapSuspend: they go on
	ActionReset     Action = "reset"     // CapReset: as its reset button
	ActionPowerdown Action = "powerdown" // CapPowerdown: as its power button; the guest decides
	ActionNMI       Action = "nmi"       // CapNMI: for a guest's crash dump
	ActionSuspend   Action = "suspend"   // CapSuspend: its memory goes to disk, and it uses nothing
	ActionFreeze    Action = "freeze"    // CapFreeze: its file systems stand still
	ActionThaw      Action = "thaw"      // CapFreeze: they go on
)

// Controller is the power to act on a running task as on a machine.
type Controller interface {
	// Control returns when the action is done. What is so already is no error. Conflict:
	// the machine's condition does not allow it. The task goes on existing: a paused or
	// suspended one has not ended.
	Control(ctx context.Context, id string, action Action) error
}

// Screenshotter is the power CapScreenshot.
type Screenshotter interface {
	// Screenshot gives what the task's display shows, as a PNG.
	Screenshot(ctx context.Context, id string) ([]byte, error)
}

// Snapshotter is the power CapSnapshot. Names are unique in a task.
type Snapshotter interface {
	// Snapshot keeps the state of the task's disks at one instant, and of its memory
	// where that is asked for. It goes on running.
	Snapshot(ctx context.Context, id string, req *SnapshotRequest) (*Snapshot, error)
	// Snapshots lists them, oldest first.
	Snapshots(ctx context.Context, id string) ([]*Snapshot, error)
	// Revert takes the task back to a snapshot. With memory it goes on from that instant,
	// without it is started anew.
	Revert(ctx context.Context, id string, name string) error
	// DeleteSnapshot frees what only it keeps.
	DeleteSnapshot(ctx context.Context, id string, name string) error
}

// SnapshotRequest says what to keep.
type SnapshotRequest struct {
	Name        string
	Description string
	// Memory keeps the memory and the devices too.
	Memory bool
	// Consistent has the guest's agent write out and freeze its file systems first;
	// otherwise the disks are as after a loss of power.
	Consistent bool
}

// Snapshot is one that is kept.
type Snapshot struct {
	Name        string    `json:"name"`
	Description string    `json:"description,omitempty"`
	At          time.Time `json:"at"`
	Memory      bool      `json:"memory"`
	Consistent  bool      `json:"consistent"`
	// Bytes that it takes on disk; about.
	Bytes uint64 `json:"bytes"`
}

// Observer is the power CapObserve: what happens to a task beyond its start and end.
type Observer interface {
	// Observe calls told with the task's condition at once and with every change until
	// ctx ends or the task has.
	Observe(ctx context.Context, id string, told func(Condition)) error
}

// Condition is how a running task is, as its driver sees it.
type Condition struct {
	// State is "running", "paused", "suspended", "panicked" or "failing" (its disk is full).
	State string
	// Ready says that the task is what its config calls ready.
	Ready bool
	// Event is what has just happened, for people; "": nothing new ("guest panicked", "watchdog: reset").
	Event string
	// Hostname, OS and Addresses are what the guest says of itself; empty: not known.
	Hostname, OS string
	Addresses    []string
}
