package mock

import (
	"sync"
	"syscall"
	"time"

	"github.com/berthd/berth/drivers"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Host is where mock tasks live: it outlives the drivers that are made over it as a
// real host outlives its agent. Share one Host between the drivers of an agent's
// successive lives.
type Host struct {
	mu    sync.Mutex
	pid   int
	tasks map[string]*task
	// prepared has the tasks that were prepared and not removed yet.
	prepared map[string]bool
}

// NewHost makes a host on which nothing runs.
func NewHost() *Host {
	return &Host{pid: 1000, tasks: map[string]*task{}, prepared: map[string]bool{}}
}

// Reboot ends everything and forgets it, as the host's reboot would.
func (h *Host) Reboot() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.tasks {
		t.endLocked(drivers.Exit{Signal: int(syscall.SIGKILL)})
	}
	clear(h.tasks)
	clear(h.prepared)
}

// Running gives how many tasks run.
func (h *Host) Running() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, t := range h.tasks {
		if t.exit == nil {
			n++
		}
	}
	return n
}

// Starts gives how often a task of this id has been started for real; a Start that found
// it running does not count. It tells whether something ran twice.
func (h *Host) Starts(id string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.tasks[id]; t != nil {
		return t.starts
	}
	return 0
}

// End makes a running task end as if by itself. False: no such task runs.
func (h *Host) End(id string, exit drivers.Exit) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.tasks[id]
	return t != nil && t.endLocked(exit)
}

// Has says whether anything is known of the task.
func (h *Host) Has(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tasks[id] != nil || h.prepared[id]
}

// task is one run of a task. Its host's mu guards it.
type task struct {
	host    *Host
	config  *berthv1.MockConfig
	pid     int
	started time.Time
	starts  int
	timer   *time.Timer // ends it by itself; nil: runs until stopped
	signals []syscall.Signal

	ended chan struct{} // closed when exit is set
	exit  *drivers.Exit

	machine
}

// startLocked starts a task.
func (h *Host) startLocked(id string, c *berthv1.MockConfig) *task {
	h.pid++
	t := &task{host: h, config: c, pid: h.pid, started: time.Now(), starts: 1, ended: make(chan struct{}), machine: newMachine(c.GetStdout())}
	h.tasks[id] = t
	if d := c.GetRunFor().AsDuration(); d > 0 {
		exit := drivers.Exit{Code: int(c.GetExitCode()), Signal: int(c.GetExitSignal()), OOMKilled: c.GetOom()}
		t.endAfter(d, exit)
	}
	return t
}

// endAfter lets the task end so in d.
func (t *task) endAfter(d time.Duration, exit drivers.Exit) {
	t.timer = time.AfterFunc(d, func() {
		t.host.mu.Lock()
		defer t.host.mu.Unlock()
		t.endLocked(exit)
	})
}

// endLocked ends the task; false: it had ended.
func (t *task) endLocked(exit drivers.Exit) bool {
	if t.exit != nil {
		return false
	}
	if t.timer != nil {
		t.timer.Stop()
	}
	exit.At = time.Now()
	t.exit = &exit
	close(t.ended)
	return true
}

// signalLocked does what a process would do on a signal.
func (t *task) signalLocked(sig syscall.Signal) {
	if t.exit != nil {
		return
	}
	t.signals = append(t.signals, sig)
	switch {
	case sig == syscall.SIGKILL:
		t.endLocked(drivers.Exit{Signal: int(sig)})
	case t.config.GetIgnoreSignal() || sig == syscall.SIGHUP || sig == syscall.SIGCHLD || sig == syscall.SIGWINCH:
	case t.config.GetStopDelay().AsDuration() > 0:
		if t.timer != nil {
			t.timer.Stop()
		}
		t.endAfter(t.config.GetStopDelay().AsDuration(), drivers.Exit{Signal: int(sig)})
	default:
		t.endLocked(drivers.Exit{Signal: int(sig)})
	}
}
