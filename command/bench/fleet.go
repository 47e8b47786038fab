package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Fleet is the simulated agents in a process of their own, so that their CPU time and
// memory are not the servers'.
type Fleet struct {
	Servers []string // addresses of gRPC
	Nodes   int
	// CPUProfile takes a profile of the agents. Empty: none.
	CPUProfile string
}

// Run holds the sessions until in ends, and writes what happens to out: "ready" once all
// are open, then for allocations that have come "job server number unix-nanoseconds".
func (f Fleet) Run(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if f.Nodes <= fewAgents {
		debug.SetGCPercent(fleetGC)
	}
	stopProfile, err := profile(f.CPUProfile, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopProfile()) }()
	go func() {
		_, _ = io.Copy(io.Discard, in) // until the bench ends, however it does
		cancel()
	}()
	var mu sync.Mutex
	buffered := bufio.NewWriterSize(out, 1<<16)
	a := newAgents(f.Nodes, len(f.Servers), func(job string, server, n int, at time.Time) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = buffered.Write(appendArrival(buffered.AvailableBuffer(), job, server, n, at)) // without a reader there is no bench
	})
	go func() {
		for tick := time.NewTicker(time.Millisecond); ctx.Err() == nil; <-tick.C {
			mu.Lock()
			_ = buffered.Flush() // without a reader there is no bench
			mu.Unlock()
		}
	}()
	return a.run(ctx, f.Servers, func() {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(buffered, "ready")
	})
}

func newAgents(nodes, servers int, seen func(job string, server, n int, at time.Time)) *agents {
	a := &agents{seen: seen}
	for i := range nodes {
		a.nodes = append(a.nodes, newNode(i, servers))
	}
	return a
}

// appendArrival appends a line of what has come; readArrival reads it. There are as many as
// allocations, and the servers' CPU time is what reads them: fmt took 2 us for each.
func appendArrival(b []byte, job string, server, n int, at time.Time) []byte {
	b = append(append(b, job...), ' ')
	b = append(strconv.AppendInt(b, int64(server), 10), ' ')
	b = append(strconv.AppendInt(b, int64(n), 10), ' ')
	return append(strconv.AppendInt(b, at.UnixNano(), 10), '\n')
}

func readArrival(line string) (job string, server, n int, at time.Time, err error) {
	job, line, _ = strings.Cut(line, " ")
	for _, to := range []*int{&server, &n} {
		var word string
		word, line, _ = strings.Cut(line, " ")
		if *to, err = strconv.Atoi(word); err != nil {
			return "", 0, 0, at, err
		}
	}
	nanos, err := strconv.ParseInt(line, 10, 64)
	return job, server, n, time.Unix(0, nanos), err
}

// The heap of few simulated agents is little and may grow a while: their garbage must not
// take the machine from the servers.
const (
	fleetGC   = 800    // per cent
	fewAgents = 10_000 // some 30 KB each
)

// startFleet starts this program as a Fleet and follows what it says.
func (r *run) startFleet(ctx context.Context, ready chan<- struct{}) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, "bench", "fleet", "-nodes", fmt.Sprint(r.plane.Nodes), "-cpuprofile="+agentsProfile(r.plane.CPUProfile), strings.Join(r.address, ","))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the bench, which ends it
	cmd.WaitDelay = 5 * time.Second
	stdin, err := cmd.StdinPipe() // closed when this process ends
	if err != nil {
		return err
	}
	cmd.Cancel = stdin.Close
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the simulated agents: %w", err)
	}
	r.fleet.Store(int64(cmd.Process.Pid))
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == "ready" {
			close(ready)
			continue
		}
		job, server, n, at, err := readArrival(lines.Text())
		if err != nil {
			return fmt.Errorf("the simulated agents said %q: %w", lines.Text(), err)
		}
		r.seen(job, server, n, at)
	}
	if err := cmd.Wait(); err != nil && ctx.Err() == nil {
		return errors.Join(errors.New("the simulated agents have ended by themselves"), err)
	}
	return nil
}
