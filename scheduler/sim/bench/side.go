package bench

import (
	"fmt"
	"math/bits"
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
)

// policy places one ask on a fleet and appends what it placed.
type policy struct {
	name string
	// looks says about how many nodes a placement looks at in a fleet of n: the bench
	// gives slow policies fewer asks by it.
	looks func(n int) int
	place func(s *side, ask *scheduler.Ask, into []scheduler.Placement) []scheduler.Placement
}

func engine(s *side, ask *scheduler.Ask, into []scheduler.Placement) []scheduler.Placement {
	s.one[0] = ask
	placed, _ := scheduler.Place(s.fleet, s.one[:])
	return append(into, placed...)
}

var theEngine = policy{name: "engine", looks: func(int) int { return 1 }, place: engine}

// references are policies of others, and the scan that the engine must agree with.
var references = []policy{
	{"full_scan", func(n int) int { return n }, scan},
	// As Nomad does for services: of the nodes in a random order, the best of the first
	// log2(n) that it fits on.
	{"log2_sample", func(n int) int { return bits.Len(uint(n)) }, func(s *side, ask *scheduler.Ask, into []scheduler.Placement) []scheduler.Placement {
		return s.sampled(ask, into, bits.Len(uint(s.fleet.Len()))-1, s.shuffled)
	}},
	// The better of two that it fits on, drawn at random.
	{"power_of_two", func(int) int { return 2 }, func(s *side, ask *scheduler.Ask, into []scheduler.Placement) []scheduler.Placement {
		return s.sampled(ask, into, 2, s.shuffled)
	}},
	// As kube-scheduler does in large clusters: the best of the first 5 % that it fits on,
	// going round from where the last search ended.
	{"sample_5_percent", func(n int) int { return n / 20 }, func(s *side, ask *scheduler.Ask, into []scheduler.Placement) []scheduler.Placement {
		return s.sampled(ask, into, max(s.fleet.Len()/20, 1), s.round)
	}},
}

// scan has the scheduler look at every node.
func scan(s *side, ask *scheduler.Ask, into []scheduler.Placement) []scheduler.Placement {
	s.fleet.Scan(true)
	into = engine(s, ask, into)
	s.fleet.Scan(false)
	return into
}

// sampled places instance after instance.
func (s *side) sampled(ask *scheduler.Ask, into []scheduler.Placement, most int, order func() func() (int32, bool)) []scheduler.Placement {
	for range ask.Count {
		p, ok := scheduler.PlaceSampled(s.fleet, ask, most, order())
		if !ok {
			break
		}
		into = append(into, p)
	}
	return into
}

// shuffled gives the slots in a random order, drawn as far as it is asked for.
func (s *side) shuffled() func() (int32, bool) {
	n := s.fleet.Slots()
	for len(s.order) < n {
		s.order = append(s.order, int32(len(s.order)))
	}
	i := 0
	return func() (int32, bool) {
		if i == n {
			return 0, false
		}
		k := i + s.dice.below(n-i)
		s.order[i], s.order[k] = s.order[k], s.order[i]
		i++
		return s.order[i-1], true
	}
}

// round gives all slots, on from the last one that it gave.
func (s *side) round() func() (int32, bool) {
	n := int32(s.fleet.Slots())
	left := n
	return func() (int32, bool) {
		if left == 0 {
			return 0, false
		}
		left--
		s.at = (s.at + 1) % n
		return s.at, true
	}
}

// side is a policy with its own copy of the fleet, under the same stream of asks as the
// others.
type side struct {
	policy
	w      *world
	fleet  *scheduler.Fleet
	stream draws // which asks come and which end
	dice   draws // the policy's own
	order  []int32
	at     int32

	live  []live
	used  amount
	queue []int32 // shapes that were released and come again
	on    []int32 // instances by node, in the order of world.nodes
	jobs  int
	own   bool // it has filled its fleet itself

	figures figures
	one     [1]*scheduler.Ask
	ready   []ready // of the slice that is measured
	placed  []scheduler.Placement
	ends    []int // of each ask's placements in placed
}

// live is an ask that was placed.
type live struct {
	shape      int32
	group      *scheduler.Group
	placements []scheduler.Placement
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
	index    map[string]int32 // of nodes by id
	shapes   []shape
	capacity amount
	overhead time.Duration    // of a reading of the clock
	span     *scheduler.Group // what spans_left counts
	gpuSet   *scheduler.Group // what gpu_sets_left counts; nil: the fleet has no GPUs
}

func (w *world) side(p policy, salt uint64) (*side, error) {
	s := &side{policy: p, w: w, fleet: scheduler.NewFleet(), stream: draws{w.cfg.Seed}, dice: draws{w.cfg.Seed ^ salt}, on: make([]int32, len(w.nodes))}
	for _, n := range w.nodes {
		if _, err := s.fleet.UpsertNode(n); err != nil {
			return nil, err
		}
	}
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
func (s *side) took(r *ready, placements []scheduler.Placement) bool {
	if len(placements) < r.ask.Count {
		for _, p := range placements {
			s.fleet.Undo(r.ask.Group, p)
		}
		return false
	}
	l := live{r.shape, r.ask.Group, append([]scheduler.Placement(nil), placements...)}
	s.live = append(s.live, l)
	s.account(&l, 1)
	return true
}

func (s *side) account(l *live, sign int32) {
	s.used.add(s.w.shapes[l.shape].takes, int64(sign)*int64(len(l.placements)))
	for _, p := range l.placements {
		s.on[s.w.index[p.NodeID]] += sign
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
	for _, p := range l.placements {
		s.fleet.Undo(l.group, p)
	}
}

// copyFrom takes over what another side has placed.
func (s *side) copyFrom(o *side) {
	for _, l := range o.live {
		for _, p := range l.placements {
			s.fleet.ChangeAlloc(nil, allocOf(l.group, p))
		}
	}
	s.live = append(s.live, o.live...)
	s.queue = append(s.queue, o.queue...)
	copy(s.on, o.on)
	s.used, s.stream, s.jobs = o.used, o.stream, o.jobs
}

// allocOf is a placement as the allocation that the state has.
func allocOf(g *scheduler.Group, p scheduler.Placement) *berthv1.Alloc {
	return &berthv1.Alloc{Namespace: g.Key.Namespace, Job: g.Key.Job, Group: g.Key.Group, NodeId: p.NodeID, Assignment: p.Assignment}
}
