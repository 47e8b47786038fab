package replay

import (
	"os"
	"strconv"
	"testing"
)

// TestBerthAgainstFGD holds Berth's policy to allocate at least as much as FGD.
// BERTH_REPLAY=all replays every workload: minutes.
func TestBerthAgainstFGD(t *testing.T) {
	dir := openbData(t)
	names, seeds := []string{"default"}, 1
	if os.Getenv("BERTH_REPLAY") == "all" {
		names = []string{"cpu0", "cpu050", "cpu072", "cpu200", "default", "gpushare40", "gpushare80", "gpuspec05", "gpuspec10", "gpuspec25", "multigpu20", "multigpu40"}
		seeds = 3
	}
	for _, name := range names {
		w := load(t, dir, name)
		var fgd, berth [2]float64
		for seed := 42; seed < 42+seeds; seed++ {
			order := w.order(t, int64(seed))
			for policy, sum := range map[string]*[2]float64{"FGD": &fgd, "berth": &berth} {
				r, err := Run(w.nodes, w.pods, order, policy, nil)
				if err != nil {
					t.Fatal(err)
				}
				if r.Violations > 0 {
					t.Errorf("%s, seed %d: %d violations", name, seed, r.Violations)
				}
				sum[0] += r.AllocatedPercent[100] / float64(seeds)
				sum[1] += r.AllocatedPercent[Percent] / float64(seeds)
			}
		}
		t.Logf("%-12s at 100 %%: FGD %.2f, berth %.2f; at 130 %%: FGD %.2f, berth %.2f", name, fgd[0], berth[0], fgd[1], berth[1])
		for i, at := range []int{100, Percent} {
			if berth[i] < fgd[i] {
				t.Errorf("%s at %s %%: %.2f %% allocated, FGD %.2f", name, strconv.Itoa(at), berth[i], fgd[i])
			}
		}
	}
}
