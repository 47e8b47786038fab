package drivers

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/problem"
)

// ParseSignal gives the signal of a name as people write it: "SIGTERM", "term". "" is
// SIGTERM. An unknown name is an Invalid problem.
func ParseSignal(name string) (syscall.Signal, error) {
	if name == "" {
		return syscall.SIGTERM, nil
	}
	full := strings.ToUpper(name)
	if !strings.HasPrefix(full, "SIG") {
		full = "SIG" + full
	}
	if s := unix.SignalNum(full); s != 0 {
		return s, nil
	}
	return 0, problem.New(problem.Invalid, "signal", "%q is not a signal", name).
		WithRemedy("name one such as SIGTERM, SIGHUP or SIGUSR1")
}
