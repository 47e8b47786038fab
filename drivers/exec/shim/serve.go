package shim

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Orders. A connection carries one: the byte, then its length as 4 bytes (low first),
// then its content. The answer has the same form.
const (
	// OpWatch has no answer: the connection ends with the shim.
	OpWatch = 'W'
	// OpSignal sends the signal in its one byte to the main process.
	OpSignal = 'S'
	// OpExec runs the Request in it. With it come the descriptors for its standard input,
	// output and error; or one socket that gets the terminal. Closing the connection kills it.
	OpExec = 'X'

	// AnswerOK to OpSignal is empty; to OpExec it is one byte each of exit code and
	// signal, when the command has ended.
	AnswerOK = 'K'
	// AnswerFailure holds a Failure.
	AnswerFailure = 'F'

	// MaxOrder is the most that an order or answer may hold; a pipe takes it whole.
	MaxOrder = 60 << 10
	// HeaderSize is the size of byte and length.
	HeaderSize = 5
)

// listen makes the socket by its short relative name: a full path may be too long for one.
func listen() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	_ = os.Remove(SocketFile)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: SocketFile}); err != nil {
		return nil, err
	}
	if err := os.Chmod(SocketFile, 0o600); err != nil {
		return nil, err
	}
	if err := unix.Listen(fd, 64); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), SocketFile), nil
}

// serve takes connections until the shim ends.
func (s *supervisor) serve(socket *os.File) {
	raw, err := socket.SyscallConn()
	if err != nil {
		warn("serving: " + err.Error())
		return
	}
	for {
		var fd int
		var acceptErr error
		err := raw.Read(func(listener uintptr) bool {
			fd, _, acceptErr = unix.Accept4(int(listener), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			return acceptErr != unix.EAGAIN
		})
		if err != nil {
			warn("serving: " + err.Error())
			return
		}
		if acceptErr != nil {
			time.Sleep(50 * time.Millisecond) // out of descriptors, or the caller has gone
			continue
		}
		go s.handle(os.NewFile(uintptr(fd), "connection"))
	}
}

func (s *supervisor) handle(conn *os.File) {
	defer conn.Close()
	op, content, fds, ok := receive(conn)
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	switch {
	case !ok:
	case op == OpWatch:
		untilClosed(conn)
	case op == OpSignal && len(content) == 1:
		answer(conn, nil, s.signal(syscall.Signal(content[0])))
	case op == OpExec:
		result, f := s.exec(conn, content, fds)
		answer(conn, result, f)
	default:
		answer(conn, nil, &Failure{Kind: kindUnsupported, Reason: "the task's shim is older than the agent and does not know this order"})
	}
}

// receive reads an order and the descriptors that came with it.
func receive(conn *os.File) (op byte, content []byte, fds []int, ok bool) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, nil, nil, false
	}
	header, oob := make([]byte, HeaderSize), make([]byte, unix.CmsgSpace(4*4))
	var n, oobn int
	var recvErr error
	if err := raw.Read(func(fd uintptr) bool {
		n, oobn, _, _, recvErr = unix.Recvmsg(int(fd), header, oob, unix.MSG_CMSG_CLOEXEC)
		return recvErr != unix.EAGAIN
	}); err != nil || recvErr != nil {
		return 0, nil, nil, false
	}
	if messages, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil {
		for i := range messages {
			if got, err := unix.ParseUnixRights(&messages[i]); err == nil {
				fds = append(fds, got...)
			}
		}
	}
	if !readFull(conn, header[n:]) {
		return 0, nil, fds, false
	}
	length := int(header[1]) | int(header[2])<<8 | int(header[3])<<16 | int(header[4])<<24
	if length < 0 || length > MaxOrder {
		return 0, nil, fds, false
	}
	content = make([]byte, length)
	return header[0], content, fds, readFull(conn, content)
}

// Frame gives an order or answer as it travels.
func Frame(op byte, content []byte) []byte {
	n := len(content)
	return append([]byte{op, byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}, content...)
}

func answer(conn *os.File, result []byte, f *Failure) {
	frame := Frame(AnswerOK, result)
	if f != nil {
		frame = Frame(AnswerFailure, f.Encode())
	}
	_, _ = conn.Write(frame)
}

func (s *supervisor) signal(sig syscall.Signal) *Failure {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.main == 0 {
		return nil // it has ended: whoever sends a signal then is late, not wrong
	}
	// The main process is not reaped while mu is held: the pid is the task's.
	if err := unix.Kill(s.main, sig); err != nil {
		return failure(kindUnavailable, "signal", "sending "+unix.SignalName(sig), err)
	}
	return nil
}

// exec runs a command inside the task until it ends or the connection does.
func (s *supervisor) exec(conn *os.File, content []byte, given []int) ([]byte, *Failure) {
	request, ok := DecodeRequest(content)
	if !ok || len(request.Command) == 0 || (request.TTY && len(given) != 1) || (!request.TTY && len(given) != 3) {
		return nil, &Failure{Kind: kindInvalid, Field: "command", Reason: "the order to run a command is not well-formed"}
	}
	done := make(chan syscall.WaitStatus, 1)
	pid, f := s.spawnCommand(content, given, request.TTY, done)
	if f != nil {
		return nil, f
	}
	closed := make(chan struct{})
	go func() { untilClosed(conn); close(closed) }()
	var ws syscall.WaitStatus
	select {
	case ws = <-done:
	case <-closed:
		s.killCommand(pid)
		ws = <-done
	}
	if ws.Signaled() {
		return []byte{0, byte(ws.Signal())}, nil
	}
	return []byte{byte(ws.ExitStatus()), 0}, nil
}

// killCommand kills a command and what is in its process group, if it is still there.
func (s *supervisor) killCommand(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.waiters[pid]; there {
		_ = unix.Kill(-pid, unix.SIGKILL)
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// spawnCommand starts a stage that joins the task, and returns when it has become the command.
func (s *supervisor) spawnCommand(content []byte, given []int, tty bool, done chan syscall.WaitStatus) (int, *Failure) {
	orders, w, err := pipe()
	if err != nil {
		return 0, failure(kindUnavailable, "", "making a pipe", err)
	}
	defer orders.Close()
	_, err = unix.Write(w, content) // fits: MaxOrder
	unix.Close(w)
	if err != nil {
		return 0, failure(kindUnavailable, "", "passing the command on", err)
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, failure(kindUnavailable, "", "opening /dev/null", err)
	}
	defer unix.Close(null)
	fds := make([]uintptr, enterFDs)
	for i := range 3 {
		fds[i] = uintptr(null)
		if !tty {
			fds[i] = uintptr(given[i])
		}
	}
	fds[FDSpec], fds[fdRequest], fds[fdTerminal] = FDSpec, orders.Fd(), uintptr(given[0])
	spaces, f := s.namespaces()
	if f != nil {
		return 0, f
	}
	for i, fd := range spaces {
		defer unix.Close(fd)
		fds[fdSpaces+i] = uintptr(fd)
	}
	pid := 0
	report, f := s.spawn(EnterName, fds, &syscall.SysProcAttr{Setsid: true}, func(p int) {
		pid = p
		s.waiters[p] = done
	})
	if f != nil {
		return 0, f
	}
	if _, f := readReport(report); f != nil {
		s.killCommand(pid)
		<-done
		return 0, f
	}
	return pid, nil
}

// namespaces opens what a stage needs to join the task, in the order of fdSpaces.
func (s *supervisor) namespaces() ([]int, *Failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.main == 0 {
		return nil, &Failure{Kind: kindNotFound, Field: "task", Reason: "the task has ended"}
	}
	var fds []int
	for _, name := range []string{"ns/ipc", "ns/uts", "ns/mnt", "root"} {
		fd, err := unix.Open("/proc/"+itoa(s.hostPID)+"/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			for _, fd := range fds {
				unix.Close(fd)
			}
			return nil, failure(kindNotFound, "task", "joining the task", err)
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

// untilClosed returns when the other side has closed the connection.
func untilClosed(conn *os.File) {
	var b [16]byte
	for {
		if _, err := conn.Read(b[:]); err != nil {
			return
		}
	}
}

func readFull(r *os.File, b []byte) bool {
	for len(b) > 0 {
		n, err := r.Read(b)
		if n <= 0 || err != nil {
			return false
		}
		b = b[n:]
	}
	return true
}
