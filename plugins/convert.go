package plugins

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/berthd/berth/drivers"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func taskToWire(t *drivers.Task) *berthv1.DriverTask {
	return &berthv1.DriverTask{
		Id: t.ID, AllocId: t.AllocID, Name: t.Name, Job: t.Job, Group: t.Group, Namespace: t.Namespace,
		Config: t.Config, Env: t.Env, User: t.User, Resources: t.Resources, Grant: t.Grant, SharedCpus: t.SharedCPUs,
		Dirs: &berthv1.DriverDirs{
			Alloc: t.Dirs.Alloc, Shared: t.Dirs.Shared, Task: t.Dirs.Task,
			Secrets: t.Dirs.Secrets, Logs: t.Dirs.Logs, State: t.Dirs.State,
		},
		LogMaxFiles: uint32(max(t.Logs.MaxFiles, 0)), LogMaxFileBytes: uint64(max(t.Logs.MaxFileBytes, 0)),
		KillSignal: t.KillSignal, KillTimeout: durationpb.New(t.KillTimeout),
		Ports: t.Ports, Devices: t.Devices, Cells: t.Cells,
	}
}

func taskFromWire(t *berthv1.DriverTask) *drivers.Task {
	d := t.GetDirs()
	return &drivers.Task{
		ID: t.GetId(), AllocID: t.GetAllocId(), Name: t.GetName(), Job: t.GetJob(), Group: t.GetGroup(), Namespace: t.GetNamespace(),
		Config: t.GetConfig(), Env: t.GetEnv(), User: t.GetUser(), Resources: t.GetResources(), Grant: t.GetGrant(),
		SharedCPUs: t.GetSharedCpus(),
		Dirs: drivers.Dirs{
			Alloc: d.GetAlloc(), Shared: d.GetShared(), Task: d.GetTask(),
			Secrets: d.GetSecrets(), Logs: d.GetLogs(), State: d.GetState(),
		},
		Logs:       drivers.LogPolicy{MaxFiles: int(t.GetLogMaxFiles()), MaxFileBytes: int64(t.GetLogMaxFileBytes())},
		KillSignal: t.GetKillSignal(), KillTimeout: t.GetKillTimeout().AsDuration(),
		Ports: t.GetPorts(), Devices: t.GetDevices(), Cells: t.GetCells(),
	}
}

func handleToWire(h *drivers.Handle) *berthv1.DriverHandle {
	if h == nil {
		return nil
	}
	return &berthv1.DriverHandle{
		Driver: h.Driver, Version: uint32(max(h.Version, 0)), Pid: uint32(max(h.PID, 0)),
		StartedAt: timestamppb.New(h.StartedAt), State: h.State,
	}
}

func handleFromWire(h *berthv1.DriverHandle) *drivers.Handle {
	if h == nil {
		return nil
	}
	return &drivers.Handle{
		Driver: h.GetDriver(), Version: int(h.GetVersion()), PID: int(h.GetPid()),
		StartedAt: instant(h.GetStartedAt()), State: h.GetState(),
	}
}

func exitToWire(e *drivers.Exit) *berthv1.DriverExit {
	if e == nil {
		return nil
	}
	return &berthv1.DriverExit{
		Code: int32(e.Code), Signal: uint32(max(e.Signal, 0)), OomKilled: e.OOMKilled, At: timestamppb.New(e.At), Err: e.Err,
	}
}

func exitFromWire(e *berthv1.DriverExit) *drivers.Exit {
	return &drivers.Exit{
		Code: int(e.GetCode()), Signal: int(e.GetSignal()), OOMKilled: e.GetOomKilled(), At: instant(e.GetAt()), Err: e.GetErr(),
	}
}

func statsToWire(s *drivers.Stats) *berthv1.DriverStats {
	return &berthv1.DriverStats{
		Time: timestamppb.New(s.Time), CpuTime: durationpb.New(s.CPUTime), MemoryBytes: s.MemoryBytes, Pids: s.PIDs,
	}
}

func statsFromWire(s *berthv1.DriverStats) *drivers.Stats {
	return &drivers.Stats{
		Time: instant(s.GetTime()), CPUTime: s.GetCpuTime().AsDuration(), MemoryBytes: s.GetMemoryBytes(), PIDs: s.GetPids(),
	}
}

func sizeToWire(s drivers.TerminalSize) *berthv1.TerminalSize {
	return &berthv1.TerminalSize{Columns: uint32(s.Columns), Rows: uint32(s.Rows)}
}

func sizeFromWire(s *berthv1.TerminalSize) drivers.TerminalSize {
	const most = 1<<16 - 1
	return drivers.TerminalSize{Columns: uint16(min(s.GetColumns(), most)), Rows: uint16(min(s.GetRows(), most))}
}

// instant is the zero time for one that was not given.
func instant(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// checkHandle refuses what a driver may not hand out.
func checkHandle(h *berthv1.DriverHandle) error {
	switch {
	case h.GetDriver() == "":
		return garbage("its handle names no driver")
	case len(h.GetState()) > maxHandleState:
		return garbage("its handle has more than 64 KiB")
	case h.GetStartedAt() == nil || !h.GetStartedAt().IsValid():
		return garbage("its handle has no time of start")
	case h.GetPid() > 1<<30:
		return garbage("its handle's pid is not one")
	}
	return nil
}

func checkExit(e *berthv1.DriverExit) error {
	switch {
	case e.GetSignal() > 127:
		return garbage("a task ended by a signal that does not exist")
	case e.GetAt() == nil || !e.GetAt().IsValid():
		return garbage("a task ended at no time")
	}
	return nil
}

// garbage is the problem of a plugin that answers what the contract does not allow.
func garbage(what string) error {
	return problem.New(problem.Internal, "", "the plugin's answer breaks the driver contract: %s", what).
		WithRemedy("the fault is in the plugin: ask whoever made it")
}
