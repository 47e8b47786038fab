package bench

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/scheduler"
)

// stopped is a meter whose clock goes on by a microsecond a look.
func stopped() Meter {
	now, heap := time.Duration(0), uint64(0)
	return Meter{
		CPU:     func() time.Duration { now += time.Microsecond; return now },
		Mallocs: func() uint64 { return 7 },
		Heap:    func() uint64 { heap += 1 << 20; return heap },
	}
}

func quiet(string, ...any) {}

func tiny() Config {
	return Config{Nodes: 24, Cells: "mixed", Asks: 300, Shapes: 20, Util: 0.7, JobSize: 1, Seed: 7}
}

func run(t *testing.T, cfg Config) *Result {
	t.Helper()
	r, err := Run(cfg, stopped(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What is placed follows from the configuration alone.
func TestRunIsDeterministic(t *testing.T) {
	configs := map[string]func(*Config){
		"mixed":   func(*Config) {},
		"jobs":    func(c *Config) { c.JobSize = 5 },
		"classes": func(c *Config) { c.Classes = 3 },
		"spread":  func(c *Config) { c.Spread, c.JobSize, c.Nodes = true, 4, 90 },
		"one":     func(c *Config) { c.Cells = "1" },
		"eight":   func(c *Config) { c.Cells = "8" },
	}
	for name, change := range configs {
		t.Run(name, func(t *testing.T) {
			cfg := tiny()
			change(&cfg)
			first, second := run(t, cfg), run(t, cfg)
			if !reflect.DeepEqual(first, second) {
				t.Errorf("two runs differ:\n%+v\n%+v", first.Engine, second.Engine)
			}
			if first.Engine.Placed == 0 || first.Allocs == 0 || len(first.Reference) != len(references) {
				t.Errorf("%d allocations, %+v, %d references", first.Allocs, first.Engine, len(first.Reference))
			}
			cfg.Seed++
			if reflect.DeepEqual(first.Engine, run(t, cfg).Engine) {
				t.Error("another seed gives the same")
			}
		})
	}
}

// The engine agrees with the scan, whatever comes; a policy that does not is found.
func TestVerify(t *testing.T) {
	for _, cells := range []string{"mixed", "2", "8"} {
		cfg := tiny()
		cfg.Verify, cfg.References, cfg.Cells = true, []string{}, cells
		r := run(t, cfg)
		if *r.Engine.Mismatches != 0 || r.Engine.Compared < 250 {
			t.Errorf("cells %s: %d mismatches of %d", cells, *r.Engine.Mismatches, r.Engine.Compared)
		}
		honest := theEngine.place
		theEngine.place = references[2].place // power of two
		r = run(t, cfg)
		theEngine.place = honest
		if *r.Engine.Mismatches < r.Engine.Compared/4 {
			t.Errorf("cells %s: a policy that takes one of two at random shows %d mismatches of %d", cells, *r.Engine.Mismatches, r.Engine.Compared)
		}
	}
}

// The full scan of a fleet that it fills itself leaves what the engine leaves: both place
// the same asks. Others are held against it, too.
func TestReferencesAreComparable(t *testing.T) {
	for _, verify := range []bool{false, true} {
		cfg := tiny()
		cfg.Nodes, cfg.Asks, cfg.Verify = 300, 500, verify
		r := run(t, cfg)
		scan := r.Reference["full_scan"]
		if scan.Asks != 500 || scan.Placed != r.Engine.Placed || *scan.EmptyNodesAt70 != *r.Engine.EmptyNodesAt70 ||
			*scan.SpansLeft != *r.Engine.SpansLeft || *scan.GPUSetsLeft != *r.Engine.GPUSetsLeft {
			t.Errorf("verified %v: the engine leaves %+v, the scan %+v", verify, r.Engine, scan)
		}
		for name, f := range r.Reference {
			if f.Asks != r.Engine.Asks || f.EmptyNodesAt70 == nil || f.BytesPerNode != r.Engine.BytesPerNode {
				t.Errorf("verified %v: %s has %+v, the engine %+v", verify, name, f, r.Engine)
			}
			if (f.Mismatches != nil) != verify || verify && (*f.Mismatches == 0) != (name == "full_scan") {
				t.Errorf("verified %v: %s has %d mismatches of %d", verify, name, f.Mismatches, f.Compared)
			}
		}
	}
}

// Whoever reads the figures finds every field, measured or null.
func TestKeys(t *testing.T) {
	cfg := tiny()
	cfg.References = []string{"power_of_two"}
	text, err := json.Marshal(run(t, cfg))
	if err != nil {
		t.Fatal(err)
	}
	var out struct {
		Engine    map[string]any            `json:"engine"`
		Reference map[string]map[string]any `json:"reference"`
	}
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	for _, side := range []map[string]any{out.Engine, out.Reference["power_of_two"]} {
		for _, key := range []string{"place_cpu_ns", "release_cpu_ns", "place_p50_ns", "place_p99_ns", "allocs_per_op", "bytes_per_node",
			"bytes_per_alloc", "index_build_ms", "mismatches", "empty_nodes_at_70", "spans_left"} {
			if value, has := side[key]; !has || value == nil != (key == "mismatches") {
				t.Errorf("%s is %v", key, value)
			}
		}
	}
}

// One wrong placement among right ones is one mismatch, and the shadow goes on from what
// was placed.
func TestVerifyFindsOne(t *testing.T) {
	cfg := tiny()
	cfg.Verify, cfg.References = true, []string{}
	honest := theEngine.place
	defer func() { theEngine.place = honest }()
	n, planted := 0, 0
	theEngine.place = func(s *side, res *scheduler.Result, ask *scheduler.Ask) {
		honest(s, res, ask)
		measured := false
		for i := range s.ready {
			measured = measured || s.verified && ask == &s.ready[i].ask
		}
		if n++; n%10 != 0 || !measured || len(res.Placed) == 0 {
			return
		}
		// On any node but the best.
		best := s.fleet.NodeAt(res.Placed[0].Slot).GetId()
		s.undo(ask.Group, res)
		other := *ask
		other.Excluded = []string{best}
		planted++
		honest(s, res, &other)
	}
	r := run(t, cfg)
	if planted == 0 || *r.Engine.Mismatches != planted {
		t.Errorf("%d planted, %d found", planted, *r.Engine.Mismatches)
	}
}

// The fleet stays as full as it is meant to be, and what the books say is on the nodes is
// what the scheduler has.
func TestChurnIsSteady(t *testing.T) {
	cfg := tiny()
	w, err := newWorld(&cfg, stopped())
	if err != nil {
		t.Fatal(err)
	}
	s, err := w.side(theEngine, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.start()
	jobs, waiting := len(s.live), len(s.queue)
	for number := range 40 {
		s.slice(8, number, nil)
	}
	if len(s.live)+len(s.queue) != jobs+waiting {
		t.Errorf("%d live and %d waiting became %d and %d", jobs, waiting, len(s.live), len(s.queue))
	}
	on := int32(0)
	for _, n := range s.on {
		on += n
	}
	if int(on) != s.allocs() {
		t.Errorf("%d instances on nodes, %d live", on, s.allocs())
	}
	for len(s.live) > 0 {
		l := s.pick()
		s.release(&l)
		s.account(&l, -1)
	}
	if s.used != (amount{}) {
		t.Errorf("an empty fleet uses %+v", s.used)
	}
	fresh, err := w.side(theEngine, 0)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := s.fitting(w.span), fresh.fitting(w.span); a != b || a == 0 {
		t.Errorf("%d spans fit after everything was released, %d on a new fleet", a, b)
	}
}

func TestCheck(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"-nodes":      func(c *Config) { c.Nodes = 0 },
		"-cells":      func(c *Config) { c.Cells = "3" },
		"-asks":       func(c *Config) { c.Asks = -1 },
		"-shapes":     func(c *Config) { c.Shapes = 0 },
		"-util":       func(c *Config) { c.Util = 1.5 },
		"-job-size":   func(c *Config) { c.JobSize = 0 },
		"-classes":    func(c *Config) { c.Classes = 1000 },
		"-references": func(c *Config) { c.References = []string{"nomad"} },
	} {
		cfg := tiny()
		change(&cfg)
		if _, err := Run(cfg, stopped(), quiet); err == nil || !strings.HasPrefix(err.Error(), want+":") {
			t.Errorf("%s: %v", want, err)
		}
	}
}
