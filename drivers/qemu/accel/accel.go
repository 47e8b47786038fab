// Package accel finds out whether KVM works for machines.
//
// That /dev/kvm opens says little: where the host is a guest itself, KVM may emulate
// every instruction, which is slower than QEMU's own emulation and ends with guests that
// hang. So a child runs a loop of 100,000 rounds in a machine of its own and counts what
// was emulated of it. The child is this same binary, executed again under another name;
// one that hangs is killed.
package accel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Name is the name under which the binary is executed as the child.
const Name = "berth-kvm-probe"

const (
	// deadline is how long the child may take: the loop is done in less than a millisecond
	// by hardware, and in about 0.2 s where all is emulated.
	deadline = 2 * time.Second
	// mostEmulated is how many instructions may be emulated: a few are everywhere.
	mostEmulated = 100
	// slowest is for a kernel that does not count them (before 5.14).
	slowest = 50 * time.Millisecond
)

// Result says whether KVM works, or why not.
type Result struct {
	OK     bool
	Reason string
}

// sample is what the child has found.
type sample struct {
	// Error says what could not be done at all.
	Error string `json:"error,omitempty"`
	// Emulated is how many instructions were; -1: the kernel does not say.
	Emulated int64         `json:"emulated"`
	Took     time.Duration `json:"took"`
}

func init() {
	if len(os.Args) != 1 || os.Args[0] != Name {
		return
	}
	s := measure()
	if err := json.NewEncoder(os.Stdout).Encode(s); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// Probe says whether KVM works on this host. What the child has found is kept in the file
// cache ("": nowhere) for as long as the host is not booted again.
func Probe(ctx context.Context, cache string) Result {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return Result{Reason: reasonOf(err)}
	}
	f.Close()
	boot := bootID()
	if r, ok := load(cache, boot); ok {
		return r
	}
	s, err := run(ctx)
	if ctx.Err() != nil {
		return Result{Reason: "it was not looked at"}
	}
	r := judge(s, err)
	save(cache, boot, r)
	return r
}

func reasonOf(err error) string {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "there is no /dev/kvm: the CPU's virtualization is off, or its module is not loaded"
	case errors.Is(err, os.ErrPermission):
		return "/dev/kvm may not be opened by the agent"
	}
	return err.Error()
}

// run has a child measure.
func run(ctx context.Context) (sample, error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	var out strings.Builder
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args, cmd.Env, cmd.Stdout = []string{Name}, []string{}, &out
	cmd.WaitDelay = time.Second
	var s sample
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return s, fmt.Errorf("a loop in a machine did not end within %v", deadline)
		}
		return s, fmt.Errorf("a loop in a machine: %w", err)
	}
	return s, json.Unmarshal([]byte(out.String()), &s)
}

func judge(s sample, err error) Result {
	switch {
	case err != nil:
		return Result{Reason: err.Error()}
	case s.Error != "":
		return Result{Reason: s.Error}
	case s.Emulated >= mostEmulated:
		return Result{Reason: fmt.Sprintf("it emulates guests instead of running them (%d instructions of a short loop): the host's own virtualization is not nested", s.Emulated)}
	case s.Emulated < 0 && s.Took > slowest:
		return Result{Reason: fmt.Sprintf("it is too slow: a short loop took %v", s.Took.Round(time.Millisecond))}
	}
	return Result{OK: true}
}

// kept is the cache's content.
type kept struct {
	Boot   string `json:"boot"`
	Result Result `json:"result"`
}

func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

func load(cache, boot string) (Result, bool) {
	var k kept
	b, err := os.ReadFile(cache)
	if err != nil || json.Unmarshal(b, &k) != nil || boot == "" {
		return Result{}, false
	}
	return k.Result, k.Boot == boot
}

// save keeps a result; without it the next agent looks again.
func save(cache, boot string, r Result) {
	if cache == "" {
		return
	}
	b, err := json.Marshal(kept{boot, r})
	if err != nil || os.MkdirAll(filepath.Dir(cache), 0o700) != nil {
		return
	}
	if temp := cache + ".new"; os.WriteFile(temp, b, 0o600) == nil {
		_ = os.Rename(temp, cache)
	}
}
