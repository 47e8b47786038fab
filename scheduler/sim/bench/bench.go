// Package bench measures placement: a fleet of drawn nodes, filled with drawn asks, under
// steady churn, placed by the scheduler and by policies of others in turn, each on its own
// copy of the fleet with the same stream of asks. It is pure but for the meter that its
// caller gives it; the caller is `berth sim bench`.
package bench

import (
	"fmt"
	"slices"
	"time"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
)

// Config says what is measured.
type Config struct {
	Nodes   int     `json:"nodes"`
	Cells   string  `json:"cells"` // mixed, 1, 2, 4, 8
	Asks    int     `json:"asks"`  // that are placed while measured
	Shapes  int     `json:"shapes"`
	Util    float64 `json:"util"` // part of the CPU or memory that is granted, 0..1
	JobSize int     `json:"job_size"`
	Classes int     `json:"classes"` // constraint classes; 0: no constraints
	Spread  bool    `json:"spread"`
	Verify  bool    `json:"verify"`
	Seed    uint64  `json:"seed"`
	// References names those to measure; nil: all, empty: none.
	References []string `json:"-"`
}

// Bounds of what a Config may ask for.
const (
	maxNodes  = 1 << 20
	maxShapes = 4096
	maxClass  = 256
)

// Check says what of the configuration makes no sense, with the flag's name.
func (c *Config) Check() error {
	_, err := hardwareOf(c.Cells)
	switch {
	case err != nil:
		return fmt.Errorf("-cells: %w", err)
	case c.Nodes < 1 || c.Nodes > maxNodes:
		return fmt.Errorf("-nodes: %d is not from 1 to %d", c.Nodes, maxNodes)
	case c.Asks < 1:
		return fmt.Errorf("-asks: there must be at least 1, not %d", c.Asks)
	case c.Shapes < 1 || c.Shapes > maxShapes:
		return fmt.Errorf("-shapes: %d is not from 1 to %d", c.Shapes, maxShapes)
	case !(c.Util > 0 && c.Util <= 1):
		return fmt.Errorf("-util: %v is not above 0 and at most 1", c.Util)
	case c.JobSize < 1 || c.JobSize > 100_000:
		return fmt.Errorf("-job-size: %d is not from 1 to 100000", c.JobSize)
	case c.Classes < 0 || c.Classes > maxClass:
		return fmt.Errorf("-classes: %d is not from 0 to %d", c.Classes, maxClass)
	}
	for _, name := range c.References {
		if referenceNamed(name) == nil {
			return fmt.Errorf("-references: there is no %q; there are full_scan, log2_sample, power_of_two and sample_5_percent", name)
		}
	}
	return nil
}

func referenceNamed(name string) *policy {
	for i := range references {
		if references[i].name == name {
			return &references[i]
		}
	}
	return nil
}

const (
	// perSlice is how many placements the engine makes before it is the others' turn.
	perSlice = 64
	// looksPerSlice bounds what a reference looks at in a slice: slow ones place fewer.
	looksPerSlice = perSlice * 256
	// mostWarm is how many slices go by before measuring, at most.
	mostWarm = 64
	// looksToFollow bounds what a reference may look at to fill its own fleet and to place
	// every ask that the engine places; one that would need more starts from what the engine
	// has placed, and places fewer.
	looksToFollow = 120_000_000
	// quality is the part granted at which what is left whole is counted.
	quality = 0.7
)

// Run measures. Progress, in words, goes to say.
func Run(cfg Config, meter Meter, say func(format string, args ...any)) (*Result, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	w, err := newWorld(&cfg, meter)
	if err != nil {
		return nil, err
	}
	result := &Result{Config: cfg, Reference: map[string]*Figures{}}
	memory, err := w.memory(result, say)
	if err != nil {
		return nil, err
	}
	sides, err := w.others(memory, say)
	if err != nil {
		return nil, err
	}
	sides = append([]*side{memory}, sides...)
	if err := w.churn(sides, say); err != nil {
		return nil, err
	}
	for _, s := range sides {
		say("looking at what %s has left whole", s.name)
		out := result.Engine
		if s != memory {
			out = &Figures{}
			result.Reference[s.name] = out
		}
		s.summarise(out, result.Engine)
	}
	return result, nil
}

func newWorld(cfg *Config, meter Meter) (*world, error) {
	types, err := hardwareOf(cfg.Cells)
	if err != nil {
		return nil, err
	}
	d := &draws{cfg.Seed}
	w := &world{cfg: cfg, meter: meter, nodes: drawNodes(cfg.Nodes, cfg.Classes, types, d)}
	w.overhead, w.capacity = overhead(meter.CPU), capacityOf(w.nodes)
	if w.shapes, err = drawShapes(cfg, types, d); err != nil {
		return nil, err
	}
	for _, s := range w.shapes {
		for _, g := range s.groups {
			w.demand = append(w.demand, scheduler.Wanted{Group: g, Count: cfg.JobSize})
		}
	}
	o := offerOf(types)
	plain := &Config{JobSize: 1}
	spanCores := uint32(o.cores * min(2, o.cells))
	w.span, err = compile("span", &berthv1.Task{Name: "main", Driver: "exec", Resources: &berthv1.Resources{
		Cores: spanCores, MemoryMib: uint64(spanCores) * gib}}, &berthv1.TopologyPolicy{Policy: "restricted"}, 0, plain)
	if err == nil && o.gpus {
		w.gpuSet, err = compile("gpu-set", &berthv1.Task{Name: "main", Driver: "exec", Resources: &berthv1.Resources{
			Cores: 8, MemoryMib: 32 * gib, Devices: []*berthv1.DeviceAsk{{Kind: "gpu", Count: 4}}}},
			&berthv1.TopologyPolicy{Policy: "restricted"}, 0, plain)
	}
	return w, err
}

// memory makes the engine's side, filled, and measures what it weighs.
func (w *world) memory(result *Result, say func(string, ...any)) (*side, error) {
	say("building %d nodes with %d cells' worth of %s hardware", w.cfg.Nodes, w.cells(), w.cfg.Cells)
	before := w.meter.Heap()
	start := w.meter.CPU()
	s, err := w.side(theEngine, 0)
	if err != nil {
		return nil, err
	}
	built := w.meter.CPU() - start
	empty := w.meter.Heap()
	say("filling it to %.0f %%", w.cfg.Util*100)
	s.start()
	result.Allocs, result.Engine = s.allocs(), &Figures{BytesPerNode: float64(empty-min(before, empty)) / float64(w.cfg.Nodes)}
	return s, s.weigh(result.Engine, built)
}

// weigh measures what a copy of the fleet weighs with everything that is placed, and how
// long it takes until its indexes are there.
func (s *side) weigh(out *Figures, built time.Duration) error {
	s.w.meter.Heap()
	copied, err := s.w.side(theEngine, 0)
	if err != nil {
		return err
	}
	empty := s.w.meter.Heap()
	copied.copyFrom(s)
	copied.live, copied.queue = nil, nil
	full := s.w.meter.Heap()
	if n := s.allocs(); n > 0 {
		out.BytesPerAlloc = float64(full-min(empty, full)) / float64(n)
	}
	once := func() time.Duration {
		start := s.w.meter.CPU()
		for i := range s.w.shapes {
			for _, g := range s.w.shapes[i].groups {
				ask := scheduler.Ask{Group: g, Count: 1, Silent: true}
				engine(copied, &copied.results[0], &ask)
				copied.undo(g, &copied.results[0])
			}
		}
		return s.w.meter.CPU() - start
	}
	first := once()
	out.IndexBuildMS = max(first-once(), 0).Seconds() * 1000
	out.FleetBuildMS = built.Seconds() * 1000
	indexed := s.w.meter.Heap()
	out.IndexBytesPerNode = float64(indexed-min(indexed, full)) / float64(s.w.cfg.Nodes)
	_ = copied.fleet.Len() // it lives until here
	return nil
}

func (w *world) cells() int {
	n := 0
	for _, node := range w.nodes {
		n += len(node.GetHardware().GetCells())
	}
	return n
}

func (s *side) allocs() int {
	n := 0
	for i := range s.live {
		n += len(s.live[i].held)
	}
	return n
}

// others makes the references' sides. Those that can fill their own fleet in time do; the
// others start from the engine's.
func (w *world) others(first *side, say func(string, ...any)) ([]*side, error) {
	var sides []*side
	for i := range references {
		p := references[i]
		if w.cfg.References != nil && !slices.Contains(w.cfg.References, p.name) {
			continue
		}
		s, err := w.side(p, uint64(i)+1)
		if err != nil {
			return nil, err
		}
		if p.looks(w.cfg.Nodes)*(first.allocs()+w.cfg.Asks*w.cfg.JobSize) <= looksToFollow {
			say("filling %s's copy", p.name)
			s.start()
		} else {
			s.copyFrom(first)
		}
		sides = append(sides, s)
	}
	return sides, nil
}

// churn gives each side its slice in turn until the engine has placed all asks.
func (w *world) churn(sides []*side, say func(string, ...any)) error {
	asks := max(perSlice/w.cfg.JobSize, 1)
	turns := (w.cfg.Asks + asks - 1) / asks
	w.warm(sides, min(turns/8, mostWarm))
	shadow, err := w.verify(sides)
	if err != nil {
		return err
	}
	for number := range turns {
		if number%max(turns/10, 1) == 0 {
			say("placed %d of %d asks", number*asks, w.cfg.Asks)
		}
		n := min(asks, w.cfg.Asks-number*asks)
		s := sides[0]
		s.slice(n, number, shadow)
		for _, s = range sides[1:] {
			s.slice(min(n, s.perSlice()), number, nil)
		}
	}
	return nil
}

// verify has all placements be compared from now on, where that is asked for: the engine's
// with those of a side that scans all nodes, on a fleet like it. Nothing can be said of
// allocations then, so they are counted before.
func (w *world) verify(sides []*side) (*side, error) {
	if !w.cfg.Verify {
		return nil, nil
	}
	for _, s := range sides {
		for number := range 3 {
			s.slice(min(max(perSlice/w.cfg.JobSize, 1), s.perSlice()), number, nil)
		}
		s.figures = figures{mallocs: s.figures.mallocs, counted: s.figures.counted}
		s.verified = true
	}
	shadow, err := w.side(references[0], 99)
	if err == nil {
		shadow.copyFrom(sides[0])
	}
	return shadow, err
}

// warm has some slices go by that are not measured: memory that is used again is there
// then.
func (w *world) warm(sides []*side, turns int) {
	for _, s := range sides {
		for number := range turns {
			s.slice(min(max(perSlice/w.cfg.JobSize, 1), s.perSlice()), number, nil)
		}
		s.figures = figures{}
	}
}

// perSlice is how many asks a policy may place in a slice: all, where what it leaves is to
// be compared.
func (s *side) perSlice() int {
	if s.own {
		return perSlice
	}
	return max(looksPerSlice/max(s.looks(s.w.cfg.Nodes)*s.w.cfg.JobSize, 1), 1)
}

// start fills the fleet, and has the asks wait that come first.
func (s *side) start() {
	s.own = true
	s.fill(s.w.cfg.Util)
	for range min(waiting, len(s.live)/2) {
		l := s.pick()
		s.release(&l)
		s.account(&l, -1)
		s.queue = append(s.queue, l.shape)
	}
}
