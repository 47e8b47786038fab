package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"runtime"
	"runtime/metrics"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/problem"
	"github.com/berthd/berth/scheduler/sim/bench"
)

func (a *app) simBench() *cobra.Command {
	cfg := bench.Config{}
	var asJSON, quiet bool
	cmd := a.leaf("bench", "Measure placement on a drawn fleet, against policies of other schedulers",
		"Draws a fleet and shapes of asks from -seed, fills the fleet to -util, and measures steady churn: asks end, others come. The engine and the references take turns in slices of 64 placements in this process, each on its own copy of the fleet under the same stream of asks, so that noise hits all alike. Times are the thread's CPU time, not the clock's.\n"+
			"References: full_scan (every node, the same score), log2_sample (best of the first log2(n) of a random order that fit), power_of_two, sample_5_percent (best of the first 5 % that fit, going round). Slow references place fewer asks.\n"+
			"empty_nodes_at_70: nodes with nothing on them when the fleet is brought to 70 % after the churn. spans_left: how many asks still fit then of the exclusive cores of two whole cells (of the smallest kind; one where nodes have one), in as few cells as they need. gpu_sets_left: how many of 4 whole GPUs with 8 cores. None of these for references too slow to have filled the fleet themselves and placed all asks.\n"+
			"docs/bench.md says more.",
		func(_ context.Context, _ []string) error {
			if err := cfg.Check(); err != nil {
				return problem.New(problem.Invalid, "sim bench", "%w", err)
			}
			say := func(format string, args ...any) { a.note(format, args...) }
			if asJSON || quiet {
				say = func(string, ...any) {}
			}
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			result, err := bench.Run(cfg, newMeter(), say)
			if err != nil {
				return err
			}
			if asJSON {
				out := json.NewEncoder(a.Out)
				out.SetIndent("", "  ")
				return out.Encode(result)
			}
			return printSimBench(a.Out, result)
		})
	f := cmd.Flags()
	f.IntVar(&cfg.Nodes, "nodes", 10000, "`number` of nodes")
	f.StringVar(&cfg.Cells, "cells", "mixed", "cells of a node: mixed (six kinds of nodes of 2 to 8, some with GPUs), 1, 2, 4 or 8")
	f.IntVar(&cfg.Asks, "asks", 20000, "`number` of asks that the engine places while it is measured")
	f.IntVar(&cfg.Shapes, "shapes", 20, "`number` of shapes of asks; every tenth is of the same kind")
	f.Float64Var(&cfg.Util, "util", 0.8, "part of the fleet's CPU or memory that is granted, above 0 and at most 1")
	f.IntVar(&cfg.JobSize, "job-size", 1, "identical instances of an ask")
	f.IntVar(&cfg.Classes, "classes", 0, "constraint classes: each is met by about half of the nodes (default none)")
	f.BoolVar(&cfg.Spread, "spread", false, "spread each ask over the racks of 40 nodes")
	f.BoolVar(&cfg.Verify, "verify", false, "hold every placement of the engine against a full scan of a fleet like it; its times mean little then")
	f.Uint64Var(&cfg.Seed, "seed", 1, "`number` that everything is drawn from")
	f.StringSliceVar(&cfg.References, "references", nil, "`names` of the references to measure, separated by commas (default all)")
	f.BoolVar(&quiet, "quiet", false, "do not say how far it is")
	f.BoolVar(&asJSON, "json", false, "print the figures as JSON")
	return cmd
}

// newMeter measures this thread and this process.
func newMeter() bench.Meter {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}}
	return bench.Meter{
		CPU: func() time.Duration {
			var t unix.Timespec
			_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t)
			return time.Duration(t.Nano())
		},
		Mallocs: func() uint64 {
			metrics.Read(sample)
			return sample[0].Value.Uint64()
		},
		Heap: func() uint64 {
			runtime.GC()
			runtime.GC() // what the first one found to be finalised
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		},
	}
}

// printSimBench is the result for people: a column for each policy.
func printSimBench(w io.Writer, r *bench.Result) error {
	if _, err := fmt.Fprintf(w, "%d nodes (%s), %d instances placed, %d shapes, seed %d\n\n", r.Nodes, r.Cells, r.Allocs, r.Shapes, r.Seed); err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(r.Reference))
	columns := []column{{title: ""}, {title: "engine", right: true}}
	sides := []*bench.Figures{r.Engine}
	for _, name := range names {
		columns, sides = append(columns, column{title: name, right: true}), append(sides, r.Reference[name])
	}
	t := newTable(columns...)
	row := func(name string, of func(*bench.Figures) string) {
		values := []any{name}
		for _, s := range sides {
			values = append(values, of(s))
		}
		t.add(values...)
	}
	number := func(of func(*bench.Figures) float64) func(*bench.Figures) string {
		return func(f *bench.Figures) string { return figure(of(f)) }
	}
	counted := func(of func(*bench.Figures) *int) func(*bench.Figures) string {
		return func(f *bench.Figures) string {
			if n := of(f); n != nil {
				return fmt.Sprint(*n)
			}
			return ""
		}
	}
	row("place, ns of CPU", number(func(f *bench.Figures) float64 { return f.PlaceCPUNS }))
	row("  p50", number(func(f *bench.Figures) float64 { return f.PlaceP50NS }))
	row("  p99", number(func(f *bench.Figures) float64 { return f.PlaceP99NS }))
	row("release, ns of CPU", number(func(f *bench.Figures) float64 { return f.ReleaseCPUNS }))
	row("objects allocated", func(f *bench.Figures) string { return fmt.Sprintf("%.2f", f.AllocsPerOp) })
	row("asks while measured", func(f *bench.Figures) string { return fmt.Sprint(f.Asks) })
	row("instances placed of them", func(f *bench.Figures) string { return fmt.Sprint(f.Placed) })
	row("asks not placed", func(f *bench.Figures) string { return fmt.Sprint(f.Unplaced) })
	row("mismatches", counted(func(f *bench.Figures) *int { return f.Mismatches }))
	row("empty nodes at 70 %", counted(func(f *bench.Figures) *int { return f.EmptyNodesAt70 }))
	row("spans left", counted(func(f *bench.Figures) *int { return f.SpansLeft }))
	row("GPU sets left", counted(func(f *bench.Figures) *int { return f.GPUSetsLeft }))
	if err := t.render(w, 0, func(_ style, text string) string { return text }); err != nil {
		return err
	}
	e := r.Engine
	_, err := fmt.Fprintf(w, "\nfleet: %.0f bytes a node, %.0f more for its indexes, %.0f an allocation; built in %.0f ms, indexed in %.0f ms of CPU\n",
		e.BytesPerNode, e.IndexBytesPerNode, e.BytesPerAlloc, e.FleetBuildMS, e.IndexBuildMS)
	return err
}

// figure is a number of nanoseconds, to three digits that matter.
func figure(ns float64) string {
	if ns == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f", ns)
}
