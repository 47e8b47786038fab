package inventory

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/scheduler"
	"github.com/berthd/berth/topology"
)

// Real machines are filled to the last core, cell by cell, and what one cell cannot hold
// lies in the fewest that can.
func TestRealMachinesAreFilled(t *testing.T) {
	dir := filepath.Join(testdata(t), "topo", "hwloc", "linux")
	archives, err := filepath.Glob(filepath.Join(dir, "*.tar.bz2"))
	if err != nil || len(archives) == 0 {
		t.Skip("no captured machines in " + dir)
	}
	for i, archive := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(archive), ".tar.bz2"), func(t *testing.T) {
			if testing.Short() && i%4 != 0 {
				t.Skip("every fourth machine only, with -short")
			}
			hw := capture(t, archive).Hardware
			node := &berthv1.Node{Id: "n", Name: "n", Status: berthv1.Node_ready, Hardware: hw, Drivers: []*berthv1.DriverInfo{{Name: "exec", Healthy: true}}}
			want, cores := 0, []int{}
			for _, c := range hw.GetCells() {
				want += min(len(c.GetCores()), int((c.GetMemoryMib()-c.GetReservedMemoryMib())/64))
				cores = append(cores, len(c.GetCores()))
			}
			if got := len(fill(t, node, "single", 1, want+1)); got != want {
				t.Errorf("%d cores were placed in single cells, of %d", got, want)
			}
			slices.SortFunc(cores, func(a, b int) int { return cmp.Compare(b, a) })
			sum := 0
			for k := range min(len(cores), 4) {
				if cores[k] == 0 {
					break // cells of memory alone
				}
				sum += cores[k]
				placed := fill(t, node, "best-effort", sum, 1)
				if len(placed) != 1 {
					t.Errorf("%d cores do not fit in %d cells", sum, k+1)
				} else if got := coresIn(t, placed[0]); got != k+1 {
					t.Errorf("%d cores lie in %d cells, %d have as many", sum, got, k+1)
				}
			}
		})
	}
}

// fill asks an empty node for exclusive cores so many times.
func fill(t *testing.T, node *berthv1.Node, policy string, cores, count int) []scheduler.Placement {
	t.Helper()
	f := scheduler.NewFleet()
	if _, err := f.UpsertNode(node); err != nil {
		t.Fatal(err)
	}
	n := uint32(count)
	align := []string{"cpu", "memory"}
	if policy != "single" {
		align = []string{"cpu"}
	}
	spec := &berthv1.Group{Name: "g", Count: &n, Topology: &berthv1.TopologyPolicy{Policy: policy, Align: align},
		Tasks: []*berthv1.Task{{Name: "t", Driver: "exec", Resources: &berthv1.Resources{Cores: uint32(cores), CoreUnit: "core", MemoryMib: 64}}}}
	g, err := scheduler.Compile(&berthv1.Job{Name: "j", Namespace: "default", Groups: []*berthv1.Group{spec}}, spec)
	if err != nil {
		t.Fatal(err)
	}
	placed, _ := scheduler.Place(f, []*scheduler.Ask{{Group: g, Count: count, Silent: true}})
	return placed
}

// coresIn is how many cells exclusive cores are granted in.
func coresIn(t *testing.T, p scheduler.Placement) (cells int) {
	t.Helper()
	for _, c := range p.Assignment.GetTasks()[0].GetCells() {
		if cpus, err := topology.ParseCPUSet(c.GetCpus()); err != nil {
			t.Fatal(err)
		} else if !cpus.Empty() {
			cells++
		}
	}
	return cells
}
