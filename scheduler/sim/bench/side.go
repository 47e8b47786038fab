package bench

import (
	"fmt"
	"math/bits"
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
	"github.com/berthd/berth/topology"
)

// policy places one ask on a side's fleet, into a result.
type policy struct {
	name string
	// looks says about how many nodes a placement looks at in a fleet of n: the bench
	// gives slow policies fewer asks by it.
	looks func(n int) int
	place func(s *side, res *scheduler.Result, ask *scheduler.Ask)
}

func engine(s *side, res *scheduler.Result, ask *scheduler.Ask) {
	s.one[0] = ask
	scheduler.PlaceInto(res, s.fleet, s.one[:])
}

var theEngine = policy{name: "engine", looks: func(int) int { return 1 }, place: engine}

// references are policies of others, and the scan that the engine must agree with.
var references = []policy{
	{"full_scan", func(n int) int { return n }, scan},
	// As Nomad does for services: of the nodes in a random order, the best of the first
	// log2(n) that it fits on.
	{"log2_sample", func(n int) int { return bits.Len(uint(n)) }, func(s *side, res *scheduler.Result, ask *scheduler.Ask) {
		scheduler.PlaceSampled(res, s.fleet, ask, bits.Len(uint(s.fleet.Len()))-1, &s.shuffle)
	}},
	// The better of two that it fits on, drawn at random.
	{"power_of_two", func(int) int { return 2 }, func(s *side, res *scheduler.Result, ask *scheduler.Ask) {
		scheduler.PlaceSampled(res, s.fleet, ask, 2, &s.shuffle)
	}},
	// As kube-scheduler does in large clusters: the best of the first 5 % that it fits on,
	// going round from where the last search ended.
	{"sample_5_percent", func(n int) int { return n / 20 }, func(s *side, res *scheduler.Result, ask *scheduler.Ask) {
		scheduler.PlaceSampled(res, s.fleet, ask, max(s.fleet.Len()/20, 1), &s.round)
	}},
}

// scan has the scheduler look at every node.
func scan(s *side, res *scheduler.Result, ask *scheduler.Ask) {
	s.fleet.Scan(true)
	engine(s, res, ask)
	s.fleet.Scan(false)
}

// shuffle gives the slots in a random order, drawn as far as it is asked for.
type shuffle struct {
	dice  draws
	order []int32
	given int
}

// Start begins a new order.
func (s *shuffle) Start(slots int) {
	for len(s.order) < slots {
		s.order = append(s.order, int32(len(s.order)))
	}
	s.given = 0
}

// Next draws one that was not given yet.
func (s *shuffle) Next() (int32, bool) {
	i := s.given
	if i == len(s.order) {
		return 0, false
	}
	k := i + s.dice.below(len(s.order)-i)
	s.order[i], s.order[k] = s.order[k], s.order[i]
	s.given++
	return s.order[i], true
}

// round gives all slots, on from the last one that it gave.
type round struct{ at, slots, left int32 }

// Start has all slots to come.
func (r *round) Start(slots int) { r.slots, r.left = int32(slots), int32(slots) }

// Next is the one after the last.
func (r *round) Next() (int32, bool) {
	if r.left == 0 {
		return 0, false
	}
	r.left--
	r.at = (r.at + 1) % r.slots
	return r.at, true
}

// side is a policy with its own copy of the fleet, under the same stream of asks as the
// others.
type side struct {
	policy
	w       *world
	fleet   *scheduler.Fleet
	stream  draws // which asks come and which end
	shuffle shuffle
	round   round

	live  []live
	used  amount
	queue []int32 // shapes that were released and come again
	on    []int32 // instances by slot
	jobs  int
	own   bool // it has filled its fleet itself
	// verified: each placement is compared with what a full scan chooses.
	verified bool

	figures figures
	one     [1]*scheduler.Ask
	gone    []live             // of the slice that is measured
	ready   []ready            // likewise
	results []scheduler.Result // of ready, and memory for more
	best    scheduler.Result   // what a scan would have placed
}

// live is an ask that was placed.
type live struct {
	shape int32
	group *scheduler.Group
	held  []held
}

// held is an instance on its node.
type held struct {
	slot  int32
	grant topology.Grant
}

// ready is an ask about to be placed.
type ready struct {
	shape int32
	ask   scheduler.Ask
}

// world is what all sides share.
type world struct {
	cfg      *Config
	meter    Meter
	nodes    []*berthv1.Node
	shapes   []shape
	capacity amount
	overhead time.Duration      // of a reading of the clock
	demand   []scheduler.Wanted // of GPUs: each shape as often as the others
	span     *scheduler.Group   // what spans_left counts
	gpuSet   *scheduler.Group   // what gpu_sets_left counts; nil: the fleet has no GPUs
}

func (w *world) side(p policy, salt uint64) (*side, error) {
	s := &side{policy: p, w: w, fleet: scheduler.NewFleet(), stream: draws{w.cfg.Seed}, on: make([]int32, len(w.nodes))}
	s.shuffle.dice = draws{w.cfg.Seed ^ salt}
	s.results = make([]scheduler.Result, 1)
	for _, n := range w.nodes {
		if _, err := s.fleet.UpsertNode(n); err != nil {
			return nil, err
		}
	}
	s.fleet.SetDemand(w.demand)
	return s, nil
}

// prepare draws the class of an ask of a shape. Where jobs are spread each ask is a job of
// its own.
func (s *side) prepare(shape int32) ready {
	groups := s.w.shapes[shape].groups
	g := groups[s.stream.below(len(groups))]
	if s.w.cfg.Spread {
		own := *g
		s.jobs++
		own.Key.Job = fmt.Sprintf("%s-%d", own.Key.Job, s.jobs)
		g = &own
	}
	return ready{shape, scheduler.Ask{Group: g, Count: s.w.cfg.JobSize, Silent: true}}
}

// took records an ask that was placed whole; else it is taken back.
func (s *side) took(r *ready, res *scheduler.Result) bool {
	if len(res.Placed) < r.ask.Count {
		s.undo(r.ask.Group, res)
		return false
	}
	l := live{shape: r.shape, group: r.ask.Group, held: make([]held, len(res.Placed))}
	for i := range l.held {
		l.held[i] = held{res.Placed[i].Slot, res.Grant(i).Clone()}
	}
	s.live = append(s.live, l)
	s.account(&l, 1)
	return true
}

// undo takes what a result has out of the fleet.
func (s *side) undo(g *scheduler.Group, res *scheduler.Result) {
	for i := range res.Placed {
		s.fleet.Release(g, res.Placed[i].Slot, res.Grant(i))
	}
}

func (s *side) account(l *live, sign int32) {
	s.used.add(s.w.shapes[l.shape].takes, int64(sign)*int64(len(l.held)))
	for i := range l.held {
		s.on[l.held[i].slot] += sign
	}
}

// pick takes a live ask out of the list to be released.
func (s *side) pick() live {
	k := s.stream.below(len(s.live))
	l := s.live[k]
	last := len(s.live) - 1
	s.live[k], s.live[last] = s.live[last], live{}
	s.live = s.live[:last]
	return l
}

func (s *side) release(l *live) {
	for i := range l.held {
		s.fleet.Release(l.group, l.held[i].slot, &l.held[i].grant)
	}
}

// copyFrom takes over what another side has placed.
func (s *side) copyFrom(o *side) {
	for i := range o.live {
		for k := range o.live[i].held {
			h := &o.live[i].held[k]
			s.fleet.Hold(o.live[i].group, h.slot, &h.grant)
		}
	}
	s.live = append(s.live, o.live...)
	s.queue = append(s.queue, o.queue...)
	copy(s.on, o.on)
	s.used, s.stream, s.jobs = o.used, o.stream, o.jobs
}
