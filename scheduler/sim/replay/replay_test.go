package replay

import (
	"fmt"
	"math/rand"
	"reflect"
	"testing"

	"github.com/berthd/berth/scheduler/sim/trace"
)

// drawn is a small trace.
func drawn(seed int64) ([]trace.Node, []trace.Pod) {
	rng := rand.New(rand.NewSource(seed))
	models := []string{"T4", "G2", "P100"}
	var nodes []trace.Node
	for i := range 30 {
		n := trace.Node{Name: fmt.Sprintf("n%02d", i), CPUMilli: int64(8000 * (1 + rng.Intn(12))), MemoryMiB: int64(32_000 * (1 + rng.Intn(8))), GPUs: rng.Intn(9)}
		if n.GPUs > 0 {
			n.Model = models[rng.Intn(3)]
		}
		nodes = append(nodes, n)
	}
	var pods []trace.Pod
	for i := range 200 {
		p := trace.Pod{Name: fmt.Sprintf("p%03d", i), CPUMilli: int64(1000 * (1 + rng.Intn(16))), MemoryMiB: int64(1000 * (1 + rng.Intn(40))), GPUs: rng.Intn(3), GPUMilli: 1000}
		switch {
		case p.GPUs == 0:
			p.GPUMilli = 0
		case p.GPUs == 1 && rng.Intn(2) == 0:
			p.GPUMilli = 100 * (1 + rng.Intn(9))
		case p.GPUs == 2 && rng.Intn(3) == 0:
			p.GPUs = 8
		}
		if p.GPUs > 0 && rng.Intn(4) == 0 {
			p.Models = models[:1+rng.Intn(2)]
		}
		pods = append(pods, p)
	}
	return nodes, pods
}

// TestPolicies: whatever is asked for, no policy grants what is not there, and each does
// the same again.
func TestPolicies(t *testing.T) {
	for seed := range int64(5) {
		nodes, pods := drawn(seed)
		order, err := trace.Draw(pods, nodes, rand.New(rand.NewSource(seed)), trace.Tune)
		if err != nil {
			t.Fatal(err)
		}
		for _, policy := range Policies() {
			run := func() *Result {
				r, err := Run(nodes, pods, order, policy, rand.New(rand.NewSource(seed)).Intn)
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			r := run()
			if r.Violations > 0 {
				t.Errorf("seed %d, %s: %d violations", seed, policy, r.Violations)
			}
			if r.Unplaced == 0 || r.Unplaced == r.Arrived || r.AllocatedPercent[Percent] < 50 {
				t.Errorf("seed %d, %s: %d of %d not placed, %.2f %% allocated", seed, policy, r.Unplaced, r.Arrived, r.AllocatedPercent[Percent])
			}
			if again := run(); !reflect.DeepEqual(r, again) {
				t.Errorf("seed %d, %s: not the same again", seed, policy)
			}
		}
	}
}

// TestLedger: the books find grants that are wrong.
func TestLedger(t *testing.T) {
	nodes := []trace.Node{{Name: "n", CPUMilli: 4000, MemoryMiB: 4000, GPUs: 3, Model: "T4"}}
	pair, share := shape{cpu: 1000, memory: 1000, gpus: 2, milli: 1000}, shape{cpu: 1000, memory: 1000, gpus: 1, milli: 600}
	l := newLedger(nodes, newTypical([]trace.Pod{{Name: "p", GPUs: 1, GPUMilli: 1000}}))
	for i, step := range []struct {
		s    shape
		gpus []int
		want bool
	}{
		{pair, []int{0}, false},
		{pair, []int{1, 1}, false},
		{pair, []int{1, 3}, false},
		{pair, []int{2, 0}, true},
		{share, []int{0}, false},
		{share, []int{1}, true},
		{share, []int{1}, false},
		{shape{cpu: 3000}, nil, false},
		{shape{cpu: 1000, models: []string{"G2"}, gpus: 1, milli: 400}, []int{1}, false},
		{shape{cpu: 2000, models: []string{"T4"}, gpus: 1, milli: 400}, []int{1}, true},
	} {
		if got := l.enter(&step.s, grant{0, step.gpus}); got != step.want {
			t.Errorf("step %d: %v", i, got)
		}
	}
	if l.violations != 7 {
		t.Errorf("%d violations, want 7", l.violations)
	}
}

// TestCurve: bins without a value take the nearest.
func TestCurve(t *testing.T) {
	var c curve
	c.add(20, 1000, 1) // 2 %
	c.add(24, 1000, 4)
	c.add(50, 1000, 7)   // 5 %
	c.add(9999, 1000, 9) // beyond
	got := c.points()
	if want := []float64{2.5, 2.5, 2.5, 2.5, 2.5, 7, 7}; !reflect.DeepEqual(got[:7], want) || got[Percent] != 7 {
		t.Errorf("got %v", got[:7])
	}
}
