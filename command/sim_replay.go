package command

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/problem"
	"github.com/berthd/berth/scheduler/sim/events"
	"github.com/berthd/berth/scheduler/sim/replay"
	"github.com/berthd/berth/scheduler/sim/trace"
	"github.com/berthd/berth/scheduler/sim/vm"
)

// replayFlags are what berth sim replay is told.
type replayFlags struct {
	trace, nodes, pods, arrivals, policy string
	seed                                 int64
	tune                                 float64
	asJSON                               bool
	vm                                   vmFlags
}

// replays are what can be replayed, by -trace. Each prints its own result.
var replays = map[string]func(a *app, o *replayFlags) error{
	"openb": (*app).replayOpenb, "huawei": (*app).replayHuawei, "azure": (*app).replayAzure,
	"events": (*app).replayEvents,
}

func (a *app) simReplay() *cobra.Command {
	var o replayFlags
	cmd := a.leaf("replay", "Replay a recorded workload against a placement policy",
		"openb (Alibaba's GPU trace of 2023, as CSV): offers the pods of -pods to the nodes of -nodes, one after the other; none leaves, and one that does not fit is dropped. -policy berth places with the servers' own code and knows of the demand only what has come so far; the others are those of the FGD paper (USENIX ATC'23), exact to the published curves.\n"+
			"Columns are found by the names in the header. The order is that of -arrivals, or drawn from -seed as the paper's authors did: all pods in a random order, then more or fewer of them until -tune times all GPUs are asked for. Files may be gzipped.\n"+
			"gpu_allocated_percent has 131 numbers: the part of all GPUs that is allocated when 0 to 130 % of them have been asked for; fragmentation, likewise: what of them is free and expected to be of no use to the next pod. violations: grants that a second set of books found wrong.\n"+
			vmReplays+"\n"+eventReplays,
		func(_ context.Context, _ []string) error {
			run := replays[o.trace]
			if run == nil {
				return problem.New(problem.Invalid, "trace", "there is no trace %q", o.trace).WithRemedy("take one of %s", strings.Join(traceNames(), ", "))
			}
			return run(a, &o)
		})
	f := cmd.Flags()
	f.StringVar(&o.trace, "trace", "openb", "`kind` of trace: "+strings.Join(traceNames(), ", "))
	f.StringVar(&o.nodes, "nodes", "", "`file` with the nodes")
	f.StringVar(&o.pods, "pods", "", "`file` with what is asked for")
	f.StringVar(&o.arrivals, "arrivals", "", "`file` with the order of the pods, and of the nodes among equals (default drawn from -seed)")
	f.StringVar(&o.policy, "policy", "berth", "`name` of the policy: "+strings.Join(replay.Policies(), ", ")+"; for virtual machines "+strings.Join(vm.Policies(), ", ")+"; for events "+strings.Join(events.Policies(), ", "))
	f.Int64Var(&o.seed, "seed", 42, "`number` that the order is drawn from, and what the policy Random does")
	f.Float64Var(&o.tune, "tune", trace.Tune, "`factor`: how much is asked for, in terms of all GPUs, where the order is drawn")
	o.vm.register(f)
	f.BoolVar(&o.asJSON, "json", false, "print the result as JSON")
	return cmd
}

func traceNames() []string {
	names := make([]string, 0, len(replays))
	for name := range replays {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (a *app) replayOpenb(o *replayFlags) error {
	nodes, err := readTrace("-nodes", o.nodes, trace.ReadNodes)
	if err != nil {
		return err
	}
	pods, err := readTrace("-pods", o.pods, trace.ReadPods)
	if err != nil {
		return err
	}
	var order trace.Arrivals
	if o.arrivals == "" {
		order, err = trace.Draw(pods, nodes, rand.New(rand.NewSource(o.seed)), o.tune)
	} else {
		order, err = readTrace("-arrivals", o.arrivals, func(r io.Reader) (trace.Arrivals, error) {
			return trace.ReadArrivals(r, len(pods), len(nodes))
		})
	}
	if err != nil {
		return err
	}
	result, err := replay.Run(nodes, pods, order, o.policy, rand.New(rand.NewSource(o.seed)).Intn)
	if err != nil {
		return err
	}
	if o.asJSON {
		return a.printJSON(result)
	}
	t := newTable(column{title: "ASKED FOR", right: true}, column{title: "ALLOCATED", right: true}, column{title: "FRAGMENTS", right: true})
	for x := 0; x <= replay.Percent; x += 10 {
		t.add(fmt.Sprintf("%d %%", x), fmt.Sprintf("%.2f %%", result.AllocatedPercent[x]), fmt.Sprintf("%.2f %%", result.Fragmentation[x]))
	}
	if err := a.table(t); err != nil {
		return err
	}
	a.printf("%s: %d of %d pods not placed, %d violations\n", result.Policy, result.Unplaced, result.Arrived, result.Violations)
	return nil
}

func (a *app) printJSON(v any) error {
	out := json.NewEncoder(a.Out)
	out.SetIndent("", "  ")
	return out.Encode(v)
}

// mostTrace bounds what a gzipped trace may unpack to.
const mostTrace = 4 << 30

// readTrace reads a file, gzipped or not. Its errors name the flag's file.
func readTrace[T any](flag, path string, read func(io.Reader) (T, error)) (T, error) {
	var none T
	if path == "" {
		return none, problem.New(problem.Invalid, flag, "no file is given").WithRemedy("give one: %s FILE", flag)
	}
	f, err := os.Open(path)
	if err != nil {
		return none, problem.New(problem.Invalid, flag, "%w", err).WithRemedy("give a file that can be read")
	}
	defer func() { _ = f.Close() }()
	in := bufio.NewReader(f)
	var text io.Reader = in
	if magic, _ := in.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(in)
		if err != nil {
			return none, problem.New(problem.Invalid, path, "not gzip: %w", err)
		}
		text = io.LimitReader(z, mostTrace)
	}
	v, err := read(text)
	var p *problem.Error
	switch {
	case errors.As(err, &p):
		return none, problem.New(p.Kind, path+": "+p.Field, "%s", p.Reason).WithRemedy("%s", p.Remedy)
	case err != nil:
		return none, problem.New(problem.Invalid, path, "%w", err)
	}
	return v, nil
}
