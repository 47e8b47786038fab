package replay

import (
	"compress/gzip"
	"encoding/csv"
	"io"
	"math"
	"math/rand"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/berthd/berth/scheduler/sim/trace"
)

// openbData is the folder with the openb trace.
func openbData(t testing.TB) string {
	t.Helper()
	for _, dir := range []string{os.Getenv("BERTH_TESTDATA"), "../../../../shared/data"} {
		if _, err := os.Stat(filepath.Join(dir, "openb")); dir != "" && err == nil {
			return filepath.Join(dir, "openb")
		}
	}
	t.Skip("no openb trace: neither BERTH_TESTDATA nor shared/data is there")
	return ""
}

func open(t testing.TB, path ...string) io.Reader {
	t.Helper()
	f, err := os.Open(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if filepath.Ext(f.Name()) != ".gz" {
		return f
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// published gives the allocation curves of the authors, by workload, policy and seed.
func published(t testing.TB, dir, file string) map[[3]string][]float64 {
	t.Helper()
	in := csv.NewReader(open(t, dir, "results", file))
	records, err := in.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	first := len(records[0]) - Percent - 1
	out := map[[3]string][]float64{}
	for _, r := range records[1:] {
		var points []float64
		for _, text := range r[first:] {
			y, err := strconv.ParseFloat(text, 64)
			if err != nil {
				t.Fatal(err)
			}
			points = append(points, y)
		}
		_, policy, _ := strings.Cut(r[1], "-")
		out[[3]string{strings.TrimPrefix(r[0], "openb_pod_list_"), policy, r[3]}] = points
	}
	return out
}

type workload struct {
	name  string
	nodes []trace.Node
	pods  []trace.Pod
}

func load(t testing.TB, dir, name string) workload {
	t.Helper()
	nodes, err := trace.ReadNodes(open(t, dir, "nodes", "openb_node_list_gpu_node.csv"))
	if err != nil {
		t.Fatal(err)
	}
	pods, err := trace.ReadPods(open(t, dir, "pods", "openb_pod_list_"+name+".csv"))
	if err != nil {
		t.Fatal(err)
	}
	return workload{name, nodes, pods}
}

func (w *workload) order(t testing.TB, seed int64) trace.Arrivals {
	t.Helper()
	order, err := trace.Draw(w.pods, w.nodes, rand.New(rand.NewSource(seed)), trace.Tune)
	if err != nil {
		t.Fatal(err)
	}
	return order
}

// TestPublished holds the policies of the paper to the curves that its authors
// published. BERTH_REPLAY=all compares all runs: minutes.
func TestPublished(t *testing.T) {
	dir := openbData(t)
	curves := published(t, dir, "analysis_allo_discrete.csv.gz")
	fragments := published(t, dir, "analysis_frag_discrete.csv.gz")
	names := []string{"default"}
	seeds := []string{"42"}
	if os.Getenv("BERTH_REPLAY") == "all" {
		names = []string{"cpu050", "cpu200", "default", "gpushare40", "gpushare80", "gpuspec10", "gpuspec25", "multigpu20", "multigpu40"}
		seeds = []string{"42", "43", "44", "45", "46", "47", "48", "49", "50", "51"}
	}
	for _, name := range names {
		w := load(t, dir, name)
		for _, seed := range seeds {
			n, _ := strconv.ParseInt(seed, 10, 64)
			order := w.order(t, n)
			for _, policy := range []string{"FGD", "BestFit", "DotProd", "GpuPacking", "GpuClustering"} {
				t.Run(name+"/"+policy+"/"+seed, func(t *testing.T) {
					want := curves[[3]string{name, policy, seed}]
					if want == nil {
						t.Fatal("not published")
					}
					got, err := Run(w.nodes, w.pods, order, policy, nil)
					if err != nil {
						t.Fatal(err)
					}
					if got.Violations > 0 {
						t.Errorf("%d violations", got.Violations)
					}
					for x, y := range got.Fragmentation {
						if want := fragments[[3]string{name, policy, seed}][x]; math.Abs(y-want) > 0.0201 {
							t.Fatalf("at %d %%: fragments of %.2f %%, published %.2f", x, y, want)
						}
					}
					for x, y := range got.AllocatedPercent {
						if math.Abs(y-want[x]) > 0.0101 {
							t.Fatalf("at %d %%: %.2f %% allocated, published %.2f", x, y, want[x])
						}
					}
				})
			}
		}
	}
}
