package command

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/command/bench"
)

func (a *app) benchCommands() *cobra.Command {
	return a.group("bench", "Measure Berth on this machine", "", a.benchPlane())
}

func (a *app) benchPlane() *cobra.Command {
	p := bench.Plane{}
	var asJSON bool
	cmd := a.leaf("plane", "Measure the control plane: servers, placement, Raft, dispatch",
		"Starts servers with their data on disk and simulated agents in this process, submits jobs through the API, and waits until every allocation is durable and acknowledged by its agent. Put -dir on the kind of disk that the servers will have.\n"+
			"Rates count from the first submission until the last allocation is durable; one_submit figures are those of single jobs on the idle cluster afterwards.",
		func(ctx context.Context, _ []string) error {
			p.Progress = a.Err
			if asJSON {
				p.Progress = io.Discard
			}
			result, err := p.Run(ctx)
			if err != nil {
				return err
			}
			if asJSON {
				out := json.NewEncoder(a.Out)
				out.SetIndent("", "  ")
				return out.Encode(result)
			}
			a.printf("%s", result)
			return nil
		})
	f := cmd.Flags()
	f.IntVar(&p.Servers, "servers", 3, "`number` of servers")
	f.IntVar(&p.Nodes, "nodes", 1000, "`number` of simulated nodes")
	f.IntVar(&p.Allocs, "allocs", 100000, "`number` of allocations in all")
	f.IntVar(&p.Jobs, "jobs", 100, "`number` of jobs that they belong to")
	f.StringVar(&p.Dir, "dir", "", "`directory` for the servers' data, which is removed at the end (default the system's for temporary files)")
	f.DurationVar(&p.Timeout, "timeout", 10*time.Minute, "`duration` after which to give up")
	f.BoolVar(&asJSON, "json", false, "print the figures as JSON")
	return cmd
}
