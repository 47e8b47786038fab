package command

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/berthd/berth/scheduler/sim/events"
)

// eventReplays is the help of the replay of a cluster's own events.
const eventReplays = "events (what /v1/events streams, one JSON object a line): places each allocation of -pods anew as it came, and releases it as it ended, on the nodes that the events tell of; what was there before comes from -nodes, a snapshot that `berth operator snapshot save` has written. Policies: berth, and spread, which is berth with load evened out. Quotas and reservations are not looked at."

func (a *app) replayEvents(o *replayFlags) error {
	start := &events.Start{}
	if o.nodes != "" {
		var err error
		start, err = readTrace("-nodes", o.nodes, func(r io.Reader) (*events.Start, error) {
			_, view, err := readSnapshot(r, o.nodes)
			if err != nil {
				return nil, err
			}
			return &events.Start{Nodes: slices.Collect(view.Nodes("")), Jobs: slices.Collect(view.Jobs("", "")), Allocs: slices.Collect(view.Allocs(""))}, nil
		})
		if err != nil {
			return err
		}
	}
	r, err := readTrace("-pods", o.pods, func(in io.Reader) (*events.Result, error) { return events.Replay(in, start, o.policy) })
	if err != nil {
		return err
	}
	if o.asJSON {
		return a.printJSON(r)
	}
	t := newTable(column{title: "TIME"}, column{title: "ALLOCS", right: true}, column{title: "NODES", right: true}, column{title: "EMPTY", right: true}, column{title: "CPU", right: true})
	step := (len(r.Samples) + 23) / 24
	for i, s := range r.Samples {
		if i%max(step, 1) == 0 || i == len(r.Samples)-1 {
			t.add(s.Time.UTC().Format(time.RFC3339), s.Allocs, s.Nodes, s.EmptyNodes, fmt.Sprintf("%.1f %%", s.CPUPercent))
		}
	}
	if err := a.table(t); err != nil {
		return err
	}
	a.printf("%s: %d of %d allocations placed, %d on another node than recorded, %d violations; %d skipped, as their job is not known\n",
		r.Policy, r.Arrived-r.Unplaced, r.Arrived, r.Moved, r.Violations, r.Skipped)
	return nil
}
