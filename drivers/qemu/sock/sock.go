// Package sock dials the sockets that QEMU makes in its working directory, however long
// that directory's path is: the address of a unix socket has 108 bytes.
package sock

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Dial connects to the socket called name in dir.
func Dial(ctx context.Context, dir, name string) (*net.UnixConn, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", "/proc/self/fd/"+strconv.Itoa(fd)+"/"+name)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s in %s: %w", name, dir, cause(err))
	}
	return c.(*net.UnixConn), nil
}

// cause leaves out the address, which says nothing to people.
func cause(err error) error {
	if op, ok := err.(*net.OpError); ok { //nolint:errorlint // exactly what Dial gives
		return op.Err
	}
	return err
}
