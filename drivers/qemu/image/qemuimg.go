package image

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/berthd/berth/problem"
)

// limits are what a qemu-img may use that reads what somebody else wrote.
type limits struct {
	memoryMiB  int64
	cpuSeconds int64
	fileBytes  int64
}

func convertLimits(virtual int64) limits {
	return limits{memoryMiB: 4096, cpuSeconds: 3600, fileBytes: virtual + virtual/8 + 64<<20}
}

// check has qemu-img look through an image's tables. It reads no data.
func check(ctx context.Context, format, path string) error {
	err := qemuImg(ctx, limits{memoryMiB: 2048, cpuSeconds: 300}, "check", "-q", "-f", format, path)
	var e *exec.ExitError
	const leaks, unsupported = 3, 63 // it takes more space than it must; the format cannot be checked
	if errors.As(err, &e) && (e.ExitCode() == leaks || e.ExitCode() == unsupported) {
		return nil
	}
	return err
}

// qemuImg runs qemu-img. The shell sets its limits before there is anything to be limited.
func qemuImg(ctx context.Context, l limits, args ...string) error {
	const script = `ulimit -v "$1" && ulimit -t "$2" && ulimit -f "$3" && ulimit -c 0 && shift 3 && exec qemu-img "$@"`
	c := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", script, "sh",
		strconv.FormatInt(l.memoryMiB<<10, 10), strconv.FormatInt(l.cpuSeconds, 10), strconv.FormatInt(l.fileBytes/512+1, 10)}, args...)...)
	out, err := runChild(c)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	words := strings.TrimPrefix(firstLine(out), "qemu-img: ")
	if strings.Contains(words, "No space left") {
		return problem.New(problem.Exhausted, "image", "no space: %s", words)
	}
	return problem.New(problem.Invalid, "image", "qemu-img %s: %s: %w", args[0], words, err)
}

// runChild runs a program that dies with this one, and gives what it said.
func runChild(c *exec.Cmd) (string, error) {
	// The kernel sends the signal when the thread ends that made the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	out, err := c.CombinedOutput()
	return string(out), err
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line[:min(len(line), 500)]
}

var versionWord = regexp.MustCompile(`version (\d+\.\d+(\.\d+)?)`)

// Probe says whether this host can make disks: the version of qemu-img.
func (s *Store) Probe(ctx context.Context) (version string, err error) {
	out, err := runChild(exec.CommandContext(ctx, "qemu-img", "--version"))
	if err != nil {
		return "", problem.New(problem.Unavailable, "qemu-img", "cannot be run: %w", err).
			WithRemedy("install it (Debian: qemu-utils)")
	}
	m := versionWord.FindStringSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("qemu-img does not say its version but %q", firstLine(out))
	}
	return m[1], nil
}
