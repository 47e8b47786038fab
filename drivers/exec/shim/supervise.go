package shim

import (
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/drivers/cgroup"
	"github.com/berthd/berth/drivers/logs"
)

// exitSize is the size of the exit file: written when there is room, used when there may be none.
const exitSize = 512

// drainTime is how long the output of a task that has ended is waited for. Its writers
// are dead by then; only one that left the task's cgroup could still hold a pipe.
const drainTime = 2 * time.Second

// supervisor is a shim at work. Its main goroutine stays on the thread that started the
// task, because the parent death signal follows that thread, and reaps.
type supervisor struct {
	spec   *Spec
	specFD int
	exit   *os.File
	pumps  sync.WaitGroup

	mu      sync.Mutex
	main    int // pid in the shim's namespace; 0 when it was reaped
	hostPID int
	waiters map[int]chan syscall.WaitStatus // commands inside the task, by pid
	ended   bool
}

// supervise is the life of a shim. Its working directory is the state directory.
func supervise() {
	ignoreSignals()
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&[]byte(ShimName + "\x00")[0])), 0, 0, 0)
	closeOnExec()
	s := &supervisor{specFD: FDSpec, waiters: map[int]chan syscall.WaitStatus{}}
	status := os.NewFile(FDStatus, "status")
	if f := s.start(); f != nil {
		for _, name := range []string{SocketFile, RecordFile, ExitFile} {
			_ = os.Remove(name)
		}
		_, _ = status.Write(Frame(AnswerFailure, f.Encode()))
		os.Exit(1)
	}
	_, _ = status.Write(Frame(AnswerOK, nil))
	_ = status.Close()
	s.reap()
}

// start brings the task to life; on failure nothing of it runs.
func (s *supervisor) start() *Failure {
	spec, f := readSpec(s.specFD)
	if f != nil {
		return f
	}
	s.spec = spec
	for _, procs := range spec.ShimProcs {
		// Staying in the agent's cgroup is worse, not wrong.
		if err := os.WriteFile(procs, []byte("0"), 0); err != nil {
			warn("joining " + procs + ": " + err.Error())
		}
	}
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-900"), 0)
	if !spec.PIDPrivate {
		_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	}
	var err error
	if s.exit, err = os.OpenFile(ExitFile, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err == nil {
		_, err = s.exit.Write(make([]byte, exitSize))
	}
	if err != nil {
		return failure(kindUnavailable, "", "making room for how the task ends", err)
	}
	socket, err := listen()
	if err != nil {
		return failure(kindUnavailable, "", "listening in the state directory", err)
	}
	started := time.Now()
	if f := s.spawnTask(); f != nil {
		return f
	}
	if err := s.record(started); err != nil {
		s.killAll()
		return failure(kindUnavailable, "", "recording what was started", err)
	}
	go s.serve(socket)
	return nil
}

// spawnTask starts the first stage and returns when it has become the task.
func (s *supervisor) spawnTask() *Failure {
	var outs [2]*os.File
	fds := []uintptr{0, 0, 0, FDSpec, 0}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return failure(kindUnavailable, "", "opening /dev/null", err)
	}
	defer unix.Close(null)
	fds[0] = uintptr(null)
	for i := range outs {
		r, w, err := pipe()
		if err != nil {
			return failure(kindUnavailable, "", "making pipes", err)
		}
		defer unix.Close(w)
		outs[i], fds[i+1] = r, uintptr(w)
	}
	attr := &syscall.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWNS}
	if s.spec.IPCPrivate {
		attr.Cloneflags |= unix.CLONE_NEWIPC
	}
	if s.spec.UTSPrivate {
		attr.Cloneflags |= unix.CLONE_NEWUTS
	}
	report, f := s.spawn(StageName, fds, attr, func(pid int) { s.main = pid })
	if f != nil {
		return f
	}
	hostPID, f := readReport(report)
	if f != nil {
		var ws syscall.WaitStatus
		_ = unix.Kill(s.main, unix.SIGKILL)
		_, _ = syscall.Wait4(s.main, &ws, 0, nil)
		s.main = 0
		return f
	}
	s.hostPID = hostPID
	for i, stream := range []string{"stdout", "stderr"} {
		w := logs.Open(s.spec.LogsDir, s.spec.Task, stream, s.spec.MaxFiles, s.spec.MaxFileBytes)
		s.pumps.Go(func() { pump(outs[i], w) })
	}
	return nil
}

// spawn executes this binary again as name with fds; the descriptor at fdReport becomes
// the pipe by which the stage reports. begun gets the pid while s.mu is held, so that
// the reaper cannot overtake it.
func (s *supervisor) spawn(name string, fds []uintptr, attr *syscall.SysProcAttr, begun func(pid int)) (*os.File, *Failure) {
	r, w, err := pipe()
	if err != nil {
		return nil, failure(kindUnavailable, "", "making a pipe", err)
	}
	fds[fdReport] = uintptr(w)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		unix.Close(w)
		_ = r.Close()
		return nil, &Failure{Kind: kindNotFound, Field: "task", Reason: "the task has ended"}
	}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{name}, &syscall.ProcAttr{
		Env: []string{"GOMAXPROCS=1", "GOGC=off"}, Files: fds, Sys: attr,
	})
	unix.Close(w)
	if err != nil {
		_ = r.Close()
		return nil, failure(kindUnavailable, "", "starting a process in new namespaces", err)
	}
	begun(pid)
	return r, nil
}

// record writes what was started, whole or not at all.
func (s *supervisor) record(started time.Time) error {
	self, _ := os.Readlink("/proc/self") // the host's /proc: the host's pid
	text := "berth-exec 1\nboot " + s.spec.BootID + "\nshim " + self +
		"\npid " + itoa(s.hostPID) + "\nstarted " + strconv.FormatInt(started.UnixNano(), 10) + "\n"
	if err := os.WriteFile(RecordFile+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(RecordFile+".new", RecordFile)
}

// reap waits for processes until the task's main one and all others have ended, notes
// how, and ends the shim.
func (s *supervisor) reap() {
	var exit syscall.WaitStatus
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			break // no children any more
		}
		s.mu.Lock()
		if c, ok := s.waiters[pid]; ok {
			c <- ws
			delete(s.waiters, pid)
		}
		main := pid == s.main
		if main {
			s.main, s.ended = 0, true
		}
		s.mu.Unlock()
		if main {
			exit = ws
			s.killAll()
		}
	}
	ended := time.Now()
	drained := make(chan struct{})
	go func() { s.pumps.Wait(); close(drained) }()
	select {
	case <-drained:
	case <-time.After(drainTime):
	}
	s.writeExit(exit, ended)
	_ = os.Remove(SocketFile)
	os.Exit(0)
}

func (s *supervisor) writeExit(ws syscall.WaitStatus, at time.Time) {
	code, signal := ws.ExitStatus(), 0
	if ws.Signaled() {
		code, signal = 0, int(ws.Signal())
	}
	oom := "0"
	if cgroup.OOMKills(s.spec.OOMFile) > 0 && (code != 0 || signal != 0) {
		oom = "1"
	}
	text := "exit " + itoa(code) + " " + itoa(signal) + " " + oom + " " + strconv.FormatInt(at.UnixNano(), 10) + "\n"
	if _, err := s.exit.WriteAt([]byte(text), 0); err != nil {
		warn("writing how the task ended: " + err.Error())
	}
}

// killAll kills every process of the task.
func (s *supervisor) killAll() {
	if s.spec.PIDPrivate {
		_ = unix.Kill(-1, unix.SIGKILL) // all of the namespace but this, its first
	}
	_ = s.spec.Killer.Kill()
}

// pump moves a stream into its files until all its writers have closed it.
func pump(r *os.File, w *logs.Writer) {
	buf := make([]byte, 16<<10)
	for {
		n, err := r.Read(buf)
		_, _ = w.Write(buf[:n])
		if err != nil {
			w.Close()
			return
		}
	}
}

// pipe makes a pipe whose reading end waits without a thread.
func pipe() (r *os.File, w int, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, 0, err
	}
	if err := unix.SetNonblock(p[0], true); err != nil {
		return nil, 0, err
	}
	return os.NewFile(uintptr(p[0]), "pipe"), p[1], nil
}

// readReport reads what a stage says until it has become a program or given up.
func readReport(r *os.File) (hostPID int, f *Failure) {
	defer r.Close()
	said := readAll(r, 64<<10)
	// First its pid on the host, on a line; then a Failure if there is one.
	for i, b := range said {
		if b == '\n' {
			hostPID, _ = strconv.Atoi(string(said[:i]))
			said = said[i+1:]
			break
		}
	}
	if len(said) > 0 {
		if f, ok := DecodeFailure(said); ok {
			return hostPID, f
		}
		return hostPID, &Failure{Kind: kindUnavailable, Reason: "the stage said something that is no report"}
	}
	if hostPID == 0 {
		return 0, &Failure{Kind: kindUnavailable, Reason: "the stage died before it said anything"}
	}
	return hostPID, nil
}

func readAll(r *os.File, limit int) []byte {
	var all []byte
	buf := make([]byte, 4096)
	for len(all) < limit {
		n, err := r.Read(buf)
		all = append(all, buf[:n]...)
		if err != nil {
			break
		}
	}
	return all
}

func readSpec(fd int) (*Spec, *Failure) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, failure(kindUnavailable, "", "reading the task's specification", err)
	}
	b := make([]byte, st.Size)
	if n, err := unix.Pread(fd, b, 0); err != nil || n != len(b) {
		return nil, &Failure{Kind: kindUnavailable, Reason: "the task's specification cannot be read"}
	}
	spec, ok := DecodeSpec(b)
	if !ok {
		return nil, &Failure{Kind: kindUnavailable, Reason: "the task's specification is damaged"}
	}
	return spec, nil
}

func warn(words string) { _, _ = os.Stderr.WriteString(words + "\n") }

// closeOnExec keeps every descriptor but the standard ones from what is executed, those
// too that the agent got from whoever started it.
func closeOnExec() {
	if unix.CloseRange(3, 1<<31-1, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	// Before Linux 5.11: one by one. The runtime's own are marked already.
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}
