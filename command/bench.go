package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/command/bench"
	"github.com/berthd/berth/problem"
)

func (a *app) benchCommands() *cobra.Command {
	return a.group("bench", "Measure Berth on this machine", "", a.benchPlane(), a.benchAgent(), a.benchFleet())
}

func (a *app) benchPlane() *cobra.Command {
	p := bench.Plane{Apart: true}
	var asJSON, verbose bool
	cmd := a.leaf("plane", "Measure the control plane: servers, placement, Raft, dispatch",
		"Starts servers with their data on disk in this process and simulated agents in another, submits jobs through the API, and waits until every allocation is durable and acknowledged by its agent. Put -dir on the kind of disk that the servers will have.\n"+
			"Rates count from the first submission until the last allocation is durable; one_submit figures are those of single jobs on the idle cluster afterwards.",
		func(ctx context.Context, _ []string) error {
			p.Progress = a.Err
			if asJSON {
				p.Progress = io.Discard
			}
			if verbose {
				p.Log = slog.NewTextHandler(a.Err, nil)
			}
			result, err := p.Run(ctx)
			if err != nil {
				return err
			}
			return a.printBench(result, asJSON)
		})
	f := cmd.Flags()
	f.IntVar(&p.Servers, "servers", 3, "`number` of servers")
	f.IntVar(&p.Nodes, "nodes", 1000, "`number` of simulated nodes")
	f.IntVar(&p.Allocs, "allocs", 100000, "`number` of allocations in all")
	f.IntVar(&p.Jobs, "jobs", 100, "`number` of jobs that they belong to")
	f.StringVar(&p.Dir, "dir", "", "`directory` for the servers' data, which is removed at the end (default the system's for temporary files)")
	f.DurationVar(&p.Timeout, "timeout", 10*time.Minute, "`duration` after which to give up")
	f.StringVar(&p.CPUProfile, "cpuprofile", "", "`file` for a CPU profile of the servers; FILE.opening takes the time until all sessions are open, FILE.agents the simulated agents' (go tool pprof reads them)")
	f.BoolVar(&verbose, "verbose", false, "print what the servers log to stderr")
	f.BoolVar(&asJSON, "json", false, "print the figures as JSON")
	return cmd
}

// benchFleet is what "bench plane" runs its simulated agents with.
func (a *app) benchFleet() *cobra.Command {
	f := bench.Fleet{}
	cmd := a.leaf("fleet ADDRESSES", "Simulated agents for bench plane, until stdin ends", "",
		func(ctx context.Context, args []string) error {
			f.Servers = strings.Split(args[0], ",")
			return f.Run(ctx, a.In, a.Out)
		})
	cmd.Hidden = true
	cmd.Flags().IntVar(&f.Nodes, "nodes", 1000, "`number` of nodes")
	cmd.Flags().StringVar(&f.CPUProfile, "cpuprofile", "", "`file` for a CPU profile")
	return cmd
}

func (a *app) benchAgent() *cobra.Command {
	b := bench.Agent{Single: 30, Settle: 5 * time.Second, Nap: 10 * time.Second}
	var dir string
	var asJSON bool
	cmd := a.leaf("agent", "Measure the agent: memory, start of tasks, what a sleeping task costs",
		"Starts a server and an agent as processes of their own on loopback, has the agent run real tasks with the exec driver, and looks at its processes. Needs root. At the end, and on Ctrl-C, everything is stopped and removed.\n"+
			"Times end when the API tells the submitter that the tasks run. The memory of a task is its share of the shims and of what the agent has grown by; what the task itself takes is not counted.",
		func(ctx context.Context, _ []string) (err error) {
			b.Progress = a.Err
			if asJSON {
				b.Progress = io.Discard
			}
			if b.Dir, err = os.MkdirTemp(dir, "berth-bench-"); err != nil {
				return problem.New(problem.Invalid, "-dir", "no directory for the data can be made: %w", err)
			}
			defer func() {
				if removeErr := removeTree(b.Dir); err == nil && removeErr != nil {
					err = fmt.Errorf("removing %s: %w", b.Dir, removeErr)
				}
			}()
			result, err := b.Run(ctx)
			if err != nil {
				return err
			}
			return a.printBench(result, asJSON)
		})
	f := cmd.Flags()
	f.IntVar(&b.Tasks, "tasks", 100, "`number` of tasks to submit as one job")
	f.IntVar(&b.Sleeping, "sleeping", 300, "`number` of tasks to leave sleeping")
	f.StringVar(&dir, "dir", "", "`directory` for the data of server and agent, which is removed at the end (default the system's for temporary files)")
	f.DurationVar(&b.Timeout, "timeout", 5*time.Minute, "`duration` after which to give up")
	f.BoolVar(&asJSON, "json", false, "print the figures as JSON")
	return cmd
}

func (a *app) printBench(result fmt.Stringer, asJSON bool) error {
	if !asJSON {
		a.printf("%s", result)
		return nil
	}
	out := json.NewEncoder(a.Out)
	out.SetIndent("", "  ")
	return out.Encode(result)
}
