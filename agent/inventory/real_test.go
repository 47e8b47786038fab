package inventory

import (
	"archive/tar"
	"bufio"
	"compress/bzip2"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"testing"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/topology"
)

// testdata finds the folder with captured machines: $BERTH_TESTDATA, or shared/data
// beside the repository. A test that needs it is skipped where it is not.
func testdata(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("BERTH_TESTDATA"); dir != "" {
		return dir
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if data := filepath.Join(dir, "shared", "data"); exists(data) {
			return data
		}
	}
	t.Skip("no captured machines: neither BERTH_TESTDATA nor shared/data is there")
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// capture reads a captured machine from its archive.
func capture(t *testing.T, archive string) *Reading {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader
	if strings.HasSuffix(archive, ".bz2") {
		r = bzip2.NewReader(bufio.NewReader(f))
	} else if r, err = gzip.NewReader(bufio.NewReader(f)); err != nil {
		t.Fatal(err)
	}
	m := newMemory()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch h.Typeflag {
		case tar.TypeDir:
			m.add(h.Name, &entry{below: map[string]*entry{}})
		case tar.TypeSymlink:
			m.add(h.Name, &entry{link: h.Linkname})
		case tar.TypeReg:
			b, err := io.ReadAll(io.LimitReader(tr, 1<<20))
			if err != nil {
				t.Fatal(err)
			}
			m.add(h.Name, &entry{data: b})
		}
	}
	return readMemory(m.machine(t))
}

func readMemory(m *memory) *Reading {
	r := &Reading{Attributes: map[string]string{}, Hardware: &berthv1.Hardware{}}
	new(Inventory).read(tree{m}, r)
	return r
}

// checkSound checks what must be true of every reading.
func checkSound(t *testing.T, r *Reading) {
	t.Helper()
	var seen topology.CPUSet
	for i, c := range r.Hardware.GetCells() {
		if i > 0 && c.GetId() <= r.Hardware.GetCells()[i-1].GetId() {
			t.Errorf("cell %d is out of order", c.GetId())
		}
		if len(c.GetDistances()) != len(r.Hardware.GetCells()) {
			t.Errorf("cell %d has %d distances", c.GetId(), len(c.GetDistances()))
		}
		if c.GetReservedMemoryMib() > c.GetMemoryMib() {
			t.Errorf("cell %d reserves more memory than it has", c.GetId())
		}
		for _, core := range c.GetCores() {
			set, err := topology.ParseCPUSet(core)
			if err != nil || set.Empty() || set.Overlaps(seen) {
				t.Errorf("cell %d: core %q: %v", c.GetId(), core, err)
			}
			seen.AddAll(set)
		}
	}
	if seen.Empty() {
		t.Error("no CPU was found")
	}
}

func cpuSetOf(cells []*berthv1.Cell) topology.CPUSet {
	var set topology.CPUSet
	for _, c := range cells {
		set.AddAll(cpusOf(c))
	}
	return set
}

func coreCount(cells []*berthv1.Cell) int {
	n := 0
	for _, c := range cells {
		n += len(c.GetCores())
	}
	return n
}

// TestHwloc compares with what hwloc says of its own captured machines.
func TestHwloc(t *testing.T) {
	dir := filepath.Join(testdata(t), "topo", "hwloc", "linux")
	archives, err := filepath.Glob(filepath.Join(dir, "*.tar.bz2"))
	if err != nil || len(archives) == 0 {
		t.Skip("no captured machines in " + dir)
	}
	for i, archive := range archives {
		name := strings.TrimSuffix(filepath.Base(archive), ".tar.bz2")
		t.Run(name, func(t *testing.T) {
			if testing.Short() && i%4 != 0 {
				t.Skip("every fourth machine only, with -short")
			}
			r := capture(t, archive)
			checkSound(t, r)
			want, ok := readConsole(t, filepath.Join(dir, name+".console"))
			if !ok || confined[name] != "" {
				t.Log("not compared:", confined[name])
				return
			}
			cells := r.Hardware.GetCells()
			if got := cpuSetOf(cells); !got.Equal(want.cpus) {
				t.Errorf("CPUs %s, hwloc says %s", got, want.cpus)
			}
			if len(cells) != want.cells {
				t.Errorf("%d cells, hwloc says %d", len(cells), want.cells)
			}
			if got := coreCount(cells); want.cores > 0 && differs[name] == "" && got != want.cores {
				t.Errorf("%d cores, hwloc says %d", got, want.cores)
			}
			if got := int(r.Hardware.GetSockets()); want.sockets > 0 && differs[name] == "" && got != want.sockets {
				t.Errorf("%d sockets, hwloc says %d", got, want.sockets)
			}
		})
	}
}

// confined are machines on which hwloc shows what its own cgroup may use; the node has
// all of it.
var confined = map[string]string{
	"16amd64-4n4c-cgroup-distance-merge": "hwloc was in a cgroup",
	"16amd64-8n2c-cpusets":               "hwloc was in a cpuset",
	"4fake-4gr1nu1pu":                    "hwloc was in a cgroup",
}

// differs are machines on which hwloc sees other cores or sockets than the kernel says.
var differs = map[string]string{
	"256ppc-8n8s4t":      "the kernel gives no socket; hwloc takes each core for one",
	"64amd64-4s2n4ca2co": "the kernel takes the two halves of a module for threads of one core",
}

// oracle is what another tool says of a machine.
type oracle struct {
	cpus                  topology.CPUSet
	cells, cores, sockets int
}

var consolePU = regexp.MustCompile(`PU L#\d+ \(P#(\d+)`)

func readConsole(t *testing.T, file string) (oracle, bool) {
	b, err := os.ReadFile(file)
	if err != nil {
		return oracle{}, false
	}
	var o oracle
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "depth 0:") {
			break // what follows is about the same objects
		}
		switch text := strings.TrimSpace(line); {
		case strings.HasPrefix(text, "NUMANode"):
			o.cells++
		case strings.HasPrefix(text, "Package L#"):
			o.sockets++
		case strings.HasPrefix(text, "Core L#"):
			o.cores++
		}
		if m := consolePU.FindStringSubmatch(line); m != nil {
			n, err := strconv.Atoi(m[1])
			if err != nil {
				t.Fatal(err)
			}
			o.cpus.Add(n)
		}
	}
	return o, !o.cpus.Empty()
}

// TestLscpu compares with what lscpu says of its own captured machines.
func TestLscpu(t *testing.T) {
	dir := filepath.Join(testdata(t), "topo", "util-linux-lscpu")
	archives, err := filepath.Glob(filepath.Join(dir, "dumps", "*.tar.gz"))
	if err != nil || len(archives) == 0 {
		t.Skip("no captured machines in " + dir)
	}
	for _, archive := range archives {
		name := strings.TrimSuffix(filepath.Base(archive), ".tar.gz")
		t.Run(name, func(t *testing.T) {
			r := capture(t, archive)
			checkSound(t, r)
			b, err := os.ReadFile(filepath.Join(dir, "expected", "lscpu-"+name))
			if err != nil {
				t.Skip("lscpu's own words are not there")
			}
			compareLscpu(t, r, string(b))
		})
	}
}

// parseLscpu reads lscpu's lists, which may have strides: "0-62:2".
func parseLscpu(t *testing.T, list string) topology.CPUSet {
	t.Helper()
	var set topology.CPUSet
	for _, part := range strings.Split(list, ",") {
		span, stride, strided := strings.Cut(part, ":")
		s, err := topology.ParseCPUSet(span)
		step := 1
		if strided {
			step, _ = strconv.Atoi(stride)
		}
		if err != nil || step < 1 {
			t.Fatalf("lscpu's list %q: %v", list, err)
		}
		for cpu := range s.All() {
			if (cpu-s.First())%step == 0 {
				set.Add(cpu)
			}
		}
	}
	return set
}

var lscpuNode = regexp.MustCompile(`^NUMA node(\d+) CPU\(s\):\s*(\S*)`)

func compareLscpu(t *testing.T, r *Reading, said string) {
	t.Helper()
	cells := r.Hardware.GetCells()
	for line := range strings.Lines(said) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch key {
		case "On-line CPU(s) list":
			if got := cpuSetOf(cells); !got.Equal(parseLscpu(t, value)) {
				t.Errorf("CPUs %s, lscpu says %s", got, value)
			}
		case "NUMA node(s)":
			if got := strconv.Itoa(len(cells)); got != value {
				t.Errorf("%s cells, lscpu says %s", got, value)
			}
		}
		if m := lscpuNode.FindStringSubmatch(line); m != nil {
			for _, c := range cells {
				if got := cpusOf(c); strconv.Itoa(int(c.GetId())) == m[1] && !got.Equal(parseLscpu(t, m[2])) {
					t.Errorf("cell %s has %s, lscpu says %s", m[1], got, m[2])
				}
			}
		}
	}
}

// TestOtherMachines reads the rest of the captured machines.
func TestOtherMachines(t *testing.T) {
	top := filepath.Join(testdata(t), "topo")
	var archives []string
	for _, pattern := range []string{"ghw/*.tar.gz", "cluster-node-tuning-operator/*.tgz", "hwloc/linux-old-branches/*.tar.bz2", "hwloc/x86+linux/*.tar.bz2"} {
		found, err := filepath.Glob(filepath.Join(top, pattern))
		if err != nil {
			t.Fatal(err)
		}
		archives = append(archives, found...)
	}
	sort.Strings(archives)
	for i, archive := range archives {
		t.Run(filepath.Base(archive), func(t *testing.T) {
			if testing.Short() && i%4 != 0 {
				t.Skip("every fourth machine only, with -short")
			}
			r := capture(t, archive)
			checkSound(t, r)
			t.Logf("%d cells, %d cores, %v CPUs, %d NICs, %d disks, %v", len(r.Hardware.GetCells()), coreCount(r.Hardware.GetCells()),
				cpuSetOf(r.Hardware.GetCells()), len(r.Hardware.GetNics()), len(r.Hardware.GetDisks()), r.Attributes)
			for _, n := range r.Hardware.GetNics() {
				t.Log("nic", n)
			}
			for _, d := range r.Hardware.GetDisks() {
				t.Log("disk", d)
			}
		})
	}
}
