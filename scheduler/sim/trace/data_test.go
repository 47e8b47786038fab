package trace

import (
	"compress/gzip"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
)

// openbData is the folder with the openb trace.
func openbData(t *testing.T) string {
	t.Helper()
	for _, dir := range []string{os.Getenv("BERTH_TESTDATA"), "../../../../shared/data"} {
		if _, err := os.Stat(filepath.Join(dir, "openb")); dir != "" && err == nil {
			return filepath.Join(dir, "openb")
		}
	}
	t.Skip("no openb trace: neither BERTH_TESTDATA nor shared/data is there")
	return ""
}

func open(t *testing.T, path string) io.Reader {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if filepath.Ext(path) != ".gz" {
		return f
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// TestDrawPublished draws the orders that come with the trace.
func TestDrawPublished(t *testing.T) {
	dir := openbData(t)
	nodes, err := ReadNodes(open(t, filepath.Join(dir, "nodes", "openb_node_list_gpu_node.csv")))
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "arrivals", "arrivals_*.json.gz"))
	if len(files) == 0 {
		t.Fatal("no arrivals")
	}
	for _, file := range files {
		name := regexp.MustCompile(`^arrivals_(.*)_seed(\d+)\.json\.gz$`).FindStringSubmatch(filepath.Base(file))
		pods, err := ReadPods(open(t, filepath.Join(dir, "pods", "openb_pod_list_"+name[1]+".csv")))
		if err != nil {
			t.Fatal(err)
		}
		want, err := ReadArrivals(open(t, file), len(pods), len(nodes))
		if err != nil {
			t.Fatal(err)
		}
		seed, _ := strconv.ParseInt(name[2], 10, 64)
		got, err := Draw(pods, nodes, rand.New(rand.NewSource(seed)), Tune)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.Pods, want.Pods) {
			t.Errorf("%s: %d pods drawn, %d published, or in another order", file, len(got.Pods), len(want.Pods))
		}
		if !slices.Equal(got.Nodes, want.Nodes) {
			t.Errorf("%s: the nodes are in another order", file)
		}
	}
}
