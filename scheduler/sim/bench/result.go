package bench

import "github.com/berthd/berth/scheduler"

// Result is what was measured.
type Result struct {
	Config
	// Allocs is how many instances are placed on the fleet while it is measured.
	Allocs    int                 `json:"allocs"`
	Engine    *Figures            `json:"engine"`
	Reference map[string]*Figures `json:"reference"`
}

// Figures are one policy's. What was not measured of a policy is null.
type Figures struct {
	PlaceCPUNS   float64 `json:"place_cpu_ns"`
	ReleaseCPUNS float64 `json:"release_cpu_ns"`
	PlaceP50NS   float64 `json:"place_p50_ns"`
	PlaceP99NS   float64 `json:"place_p99_ns"`
	// AllocsPerOp counts objects, of a placement and a release together.
	AllocsPerOp float64 `json:"allocs_per_op"`
	// What a fleet weighs is the same for all: only the engine has indexes.
	BytesPerNode      float64 `json:"bytes_per_node"`
	IndexBytesPerNode float64 `json:"index_bytes_per_node"`
	BytesPerAlloc     float64 `json:"bytes_per_alloc"`
	FleetBuildMS      float64 `json:"fleet_build_ms"`
	IndexBuildMS      float64 `json:"index_build_ms"`
	// Mismatches of Compared placements, with -verify.
	Mismatches *int `json:"mismatches"`
	Compared   int  `json:"compared"`
	// Asks are those that were asked for while it was measured; of these, Unplaced found no
	// room. Placed are the instances.
	Asks     int `json:"asks"`
	Placed   int `json:"placed"`
	Unplaced int `json:"unplaced"`
	// Null where the policy is too slow to have filled the fleet itself, and to have placed
	// all that the engine has.
	EmptyNodesAt70 *int `json:"empty_nodes_at_70"`
	SpansLeft      *int `json:"spans_left"`
	GPUSetsLeft    *int `json:"gpu_sets_left"`
}

// summarise works the figures out, and then what the policy has left whole.
func (s *side) summarise(out, engine *Figures) {
	out.BytesPerNode, out.BytesPerAlloc, out.FleetBuildMS = engine.BytesPerNode, engine.BytesPerAlloc, engine.FleetBuildMS
	f := &s.figures
	per := func(total float64, n int) float64 { return max(total, 0) / float64(max(n, 1)) }
	out.PlaceCPUNS = per(float64(f.placeCPU), f.placed)
	out.ReleaseCPUNS = per(float64(f.releaseCPU), f.released)
	out.PlaceP50NS, out.PlaceP99NS = f.quantile(0.5), f.quantile(0.99)
	out.AllocsPerOp = per(float64(f.mallocs), f.counted)
	out.Asks, out.Placed, out.Unplaced = f.asks, f.placed, f.unplaced
	if s.w.cfg.Verify {
		out.Mismatches, out.Compared = &f.mismatches, f.compared
	}
	if !s.own {
		return
	}
	s.settle(quality)
	empty := 0
	for _, n := range s.on {
		if n == 0 {
			empty++
		}
	}
	out.EmptyNodesAt70 = &empty
	spans := s.fitting(s.w.span)
	out.SpansLeft = &spans
	if s.w.gpuSet != nil {
		sets := s.fitting(s.w.gpuSet)
		out.GPUSetsLeft = &sets
	}
}

// fitting counts how many instances of a group there is room for.
func (s *side) fitting(g *scheduler.Group) int {
	res, ask := scheduler.Result{}, scheduler.Ask{Group: g, Count: len(s.w.nodes) * mostOnNode, Silent: true}
	engine(s, &res, &ask)
	s.undo(g, &res)
	return len(res.Placed)
}

// mostOnNode bounds how many of what is counted fit on a node.
const mostOnNode = 64
