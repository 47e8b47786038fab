package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// memory is that of a process, in bytes.
type memory struct {
	rss     uint64 // resident, shared or not
	private uint64 // resident and of no other process
	share   uint64 // private, and its share of what several processes have (PSS)
}

// memoryOf reads it from /proc/<pid>/smaps_rollup (proc(5)), whose figures are in KiB.
func memoryOf(pid int) (memory, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return memory{}, fmt.Errorf("reading how much memory process %d has: %w", pid, err)
	}
	return parseRollup(string(data)), nil
}

func parseRollup(text string) (m memory) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[2] != "kB" {
			continue
		}
		n, _ := strconv.ParseUint(fields[1], 10, 64)
		switch fields[0] {
		case "Rss:":
			m.rss = n << 10
		case "Pss:":
			m.share = n << 10
		case "Private_Clean:", "Private_Dirty:":
			m.private += n << 10
		}
	}
	return m
}

// cpuTimeOf is the CPU time of processes: the first figure of each thread's schedstat,
// in nanoseconds. The clock ticks of /proc/<pid>/stat are too coarse for what sleeps.
func cpuTimeOf(pids []int) (total time.Duration) {
	for _, pid := range pids {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		for _, name := range threads {
			data, _ := os.ReadFile(name) // a thread may end meanwhile
			ran, _, _ := strings.Cut(string(data), " ")
			ns, _ := strconv.ParseInt(ran, 10, 64)
			total += time.Duration(ns)
		}
	}
	return total
}

// tick is the unit of times in /proc/<pid>/stat, USER_HZ: 100 to the second wherever Go runs.
const tick = time.Second / 100

// familyTime is the CPU time of a process and of all its children that have ended.
func familyTime(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("reading the CPU time of process %d: %w", pid, err)
	}
	// The name in parentheses may hold anything; behind it, from the 3rd field on (proc(5)),
	// utime, stime, cutime and cstime are the 14th to 17th.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	var ticks int64
	for _, f := range fields[min(11, len(fields)):min(15, len(fields))] {
		n, _ := strconv.ParseInt(f, 10, 64)
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// shims finds the processes that supervise tasks of this host's agent: they run this
// program, in a directory of the agent.
func (h *host) shims() ([]int, error) {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	dir, err := filepath.EvalSymlinks(h.agentDir())
	if err != nil {
		return nil, err
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, p := range processes {
		exe, _ := os.Readlink(filepath.Join(p, "exe")) // it may have ended
		cwd, _ := os.Readlink(filepath.Join(p, "cwd"))
		if pid, err := strconv.Atoi(filepath.Base(p)); err == nil && exe == program && strings.HasPrefix(cwd, dir+"/") {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// killShims ends what is left of tasks when the agent has not done so. Their processes
// die with their shims.
func (h *host) killShims(ctx context.Context) error {
	killed := map[int]bool{}
	for {
		shims, err := h.shims()
		if err != nil {
			return nil //nolint:nilerr // the agent has not even made its directory
		}
		if len(shims) == 0 {
			break
		}
		for _, pid := range shims {
			killed[pid] = true
			_ = syscall.Kill(pid, syscall.SIGKILL) // an error means that it has ended
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%d tasks could not be killed: %w", len(shims), context.Cause(ctx))
		}
	}
	if len(killed) > 0 {
		return fmt.Errorf("%d tasks had to be killed by the bench; empty cgroups of theirs may be left", len(killed))
	}
	return nil
}
