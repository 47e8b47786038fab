package command

import (
	"net"
)

// notifySystemd tells systemd how the service is, if it asked to be told (Type=notify):
// NOTIFY_SOCKET names a datagram socket. That it does not listen is no reason to fail.
func notifySystemd(getenv func(string) string, state string) {
	name := getenv("NOTIFY_SOCKET")
	if name == "" {
		return
	}
	if name[0] == '@' {
		name = "\x00" + name[1:] // an abstract socket
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = conn.Write([]byte(state))
}
