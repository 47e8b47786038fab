// Package events replays what a cluster's event stream tells: nodes as they come, change
// and go, and allocations, each placed anew by a policy when it came and released when it
// ended. It does no I/O but what its reader does, and takes the time from the events.
package events

import (
	"bufio"
	"errors"
	"io"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Policies are the names that Replay knows: the scheduler, and the scheduler with load
// evened out.
func Policies() []string { return []string{"berth", "spread"} }

// Result is what became of the allocations.
type Result struct {
	Policy string `json:"policy"`
	Events int    `json:"events"`
	// Arrived allocations, and those that fitted nowhere.
	Arrived  int `json:"arrived"`
	Unplaced int `json:"unplaced"`
	// Moved lie on another node than in the record.
	Moved int `json:"moved"`
	// Skipped came before their job or their node was told of.
	Skipped int `json:"skipped"`
	// Violations are grants of the policy that did not fit books of their own.
	Violations int      `json:"violations"`
	Samples    []Sample `json:"samples"`
}

// Sample is the load at a time.
type Sample struct {
	Time       time.Time `json:"time"`
	Allocs     int       `json:"allocs"`
	Nodes      int       `json:"nodes"`
	EmptyNodes int       `json:"empty_nodes"`
	CPUPercent float64   `json:"cpu_percent"`
}

// mostLine bounds an event, in bytes.
const mostLine = 16 << 20

// Start is what is there before the first event: the zero value is an empty cluster.
type Start struct {
	Nodes []*berthv1.Node
	Jobs  []*berthv1.Job
	// Allocs are placed first, in this order.
	Allocs []*berthv1.Alloc
}

// Replay reads events as NDJSON, as GET /v1/events gives them.
func Replay(in io.Reader, start *Start, policy string) (*Result, error) {
	p := newReplay(policy)
	switch policy {
	case "berth":
	case "spread":
		p.fleet.SetStrategy(berthv1.SchedulerConfig_spread)
	default:
		return nil, problem.New(problem.Invalid, "-policy", "there is no policy %q for events", policy).WithRemedy("there are berth and spread")
	}
	for _, n := range start.Nodes {
		p.node(n)
	}
	for _, j := range start.Jobs {
		p.jobs[key(j.GetNamespace(), j.GetName())] = j
	}
	for _, a := range start.Allocs {
		if a.HoldsGrant() {
			p.come(a)
		}
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, mostLine)
	read := protojson.UnmarshalOptions{DiscardUnknown: true}
	for number := 1; lines.Scan(); number++ {
		if len(lines.Bytes()) == 0 {
			continue
		}
		e := &berthv1.Event{}
		if err := read.Unmarshal(lines.Bytes(), e); err != nil {
			return nil, problem.New(problem.Invalid, "events", "line %d is no event: %w", number, err).
				WithRemedy("record them with: berth events -json, or GET /v1/events")
		}
		p.event(e)
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, problem.New(problem.Invalid, "events", "a line is longer than %d bytes", mostLine)
	} else if err != nil {
		return nil, err
	}
	if !p.last.IsZero() {
		p.sample()
	}
	return &p.result, nil
}

func key(namespace, name string) string { return namespace + "/" + name }

func (p *replay) event(e *berthv1.Event) {
	if e.GetTopic() == "" {
		return // a heartbeat
	}
	p.result.Events++
	if at := e.GetTime().AsTime(); e.GetTime() != nil {
		if p.last.IsZero() || at.Sub(p.sampled) >= sampleEvery {
			if p.last = at; p.result.Events > 1 {
				p.sample()
			}
			p.sampled = at
		}
		p.last = at
	}
	switch deleted := e.GetType() == "deleted"; {
	case e.GetJob() != nil:
		p.jobs[key(e.GetJob().GetNamespace(), e.GetJob().GetName())] = e.GetJob()
	case e.GetNode() != nil:
		p.node(e.GetNode())
	case e.GetTopic() == "node" && deleted:
		p.nodeGone(e.GetKey())
	case e.GetAlloc() != nil && e.GetAlloc().HoldsGrant():
		p.come(e.GetAlloc())
	case e.GetAlloc() != nil:
		p.leave(e.GetAlloc().GetId())
	case e.GetTopic() == "alloc" && deleted:
		p.leave(e.GetKey())
	}
}
