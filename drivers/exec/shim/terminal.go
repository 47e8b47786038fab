package shim

import (
	"golang.org/x/sys/unix"
)

// openTerminal makes a terminal inside the task, so that its name (/dev/pts/0) means
// there what it should, makes it this process's standard streams and controlling
// terminal, and sends its other end through socket.
func openTerminal(socket int, rows, columns uint16) error {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return err
	}
	number, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return err
	}
	if rows > 0 && columns > 0 {
		if err := unix.IoctlSetWinsize(master, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
			return err
		}
	}
	slave, err := unix.Open("/dev/pts/"+itoa(number), unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	if err := unix.IoctlSetInt(slave, unix.TIOCSCTTY, 0); err != nil {
		return err
	}
	for fd := range 3 {
		if err := unix.Dup3(slave, fd, 0); err != nil {
			return err
		}
	}
	if slave > 2 {
		unix.Close(slave)
	}
	return unix.Sendmsg(socket, []byte{'T'}, unix.UnixRights(master), nil, 0)
}
