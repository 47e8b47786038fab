package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
)

// fake makes directories that look like cgroup file systems, and a Host over them.
func fake(t *testing.T, mounts map[string]string) (*Host, string) {
	t.Helper()
	root := t.TempDir()
	var mountinfo strings.Builder
	names := make([]string, 0, len(mounts))
	for name := range mounts {
		names = append(names, name)
	}
	sort.Strings(names)
	for i, name := range names {
		dir := filepath.Join(root, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		kind, options := "cgroup", "rw,"+mounts[name]
		if name == "unified" {
			kind, options = "cgroup2", "rw"
			if err := os.WriteFile(dir+"/cgroup.controllers", []byte(mounts[name]+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		fmt.Fprintf(&mountinfo, "%d 20 0:%d / %s rw,relatime shared:9 - %s cgroup %s\n", 30+i, i, dir, kind, options)
	}
	h, err := probe(strings.NewReader(mountinfo.String()), "sys/berth")
	if err != nil {
		t.Fatal(err)
	}
	return h, root
}

// limited makes a group whose files are there, sets limits and gives the files' contents.
func limited(t *testing.T, h *Host, root string, files []string, l Limits) map[string]string {
	t.Helper()
	g := h.Group("id/web")
	if err := g.Make(); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(root, f), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Set(l); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range files {
		b, _ := os.ReadFile(filepath.Join(root, f))
		got[filepath.Base(f)] = string(b)
	}
	return got
}

var limitsForTest = Limits{
	CPUMilli: 1500, CPUHard: true, CPUs: "2-3", Mems: "1", MemoryBytes: 1 << 30, PIDs: 99, IOWeight: 200,
	Hugepages: map[uint64]uint64{2048: 64 << 20},
}

func TestLimitsV2(t *testing.T) {
	h, root := fake(t, map[string]string{"unified": "cpuset cpu io memory hugetlb pids"})
	if h.Version() != "v2" || len(h.Missing()) != 0 {
		t.Errorf("version %s, missing %v", h.Version(), h.Missing())
	}
	dir := "unified/sys/berth/id.web/"
	got := limited(t, h, root, []string{
		dir + "cpu.weight", dir + "cpu.max", dir + "cpuset.cpus", dir + "cpuset.mems", dir + "memory.max", dir + "memory.swap.max",
		dir + "pids.max", dir + "io.weight",
	}, limitsForTest)
	for file, want := range map[string]string{
		"cpu.weight": "150", "cpu.max": "150000 100000", "cpuset.cpus": "2-3", "cpuset.mems": "1",
		"memory.max": "1073741824", "memory.swap.max": "0", "pids.max": "99", "io.weight": "default 200",
	} {
		if got[file] != want {
			t.Errorf("%s = %q, want %q", file, got[file], want)
		}
	}
	// Every level hands all controllers down; the fake file keeps the last word.
	for _, d := range []string{"unified", "unified/sys", "unified/sys/berth"} {
		if b, _ := os.ReadFile(filepath.Join(root, d, "cgroup.subtree_control")); string(b) != "+io" {
			t.Errorf("%s: subtree_control = %q", d, b)
		}
	}
	// What the parent may not hand down is missing, whatever the kernel has.
	if err := os.WriteFile(filepath.Join(root, "unified/sys/berth/cgroup.subtree_control"), []byte("cpu memory pids\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(h.Missing(), " "); got != "cpuset hugetlb io" {
		t.Errorf("missing %s", got)
	}
	k := h.Group("id/web").Killer()
	if k.KillFile != filepath.Join(root, dir, "cgroup.kill") {
		t.Errorf("killed by %q", k.KillFile)
	}
}

func TestLimitsV1(t *testing.T) {
	h, root := fake(t, map[string]string{"cpu": "cpu,cpuacct", "memory": "memory", "pids": "pids", "blkio": "blkio", "freezer": "freezer"})
	if h.Version() != "v1" || strings.Join(h.Missing(), " ") != "cpuset hugetlb" {
		t.Errorf("version %s, missing %v", h.Version(), h.Missing())
	}
	got := limited(t, h, root, []string{
		"cpu/sys/berth/id.web/cpu.shares", "cpu/sys/berth/id.web/cpu.cfs_quota_us", "memory/sys/berth/id.web/memory.limit_in_bytes",
		"pids/sys/berth/id.web/pids.max", "blkio/sys/berth/id.web/blkio.weight",
	}, limitsForTest)
	for file, want := range map[string]string{
		"cpu.shares": "1536", "cpu.cfs_quota_us": "150000", "memory.limit_in_bytes": "1073741824", "pids.max": "99", "blkio.weight": "200",
	} {
		if got[file] != want {
			t.Errorf("%s = %q, want %q", file, got[file], want)
		}
	}
	if k := h.Group("id/web").Killer(); k.FreezeFile != filepath.Join(root, "freezer/sys/berth/id.web/freezer.state") || k.KillFile != "" {
		t.Errorf("killed by %+v", k)
	}
}

func TestHybrid(t *testing.T) {
	h, _ := fake(t, map[string]string{"unified": "hugetlb", "memory": "memory", "cpuset": "cpuset"})
	if h.Version() != "hybrid" || strings.Join(h.Controllers(), " ") != "cpuset memory hugetlb" {
		t.Errorf("version %s, controllers %v", h.Version(), h.Controllers())
	}
	if file, v2 := h.Group("x").file("hugetlb", "one", "two"); !v2 || !strings.HasSuffix(file, "/unified/sys/berth/x/two") {
		t.Errorf("hugetlb by %s", file)
	}
}

func TestNamesAreApart(t *testing.T) {
	seen := map[string]string{}
	for _, name := range []string{"a/b", "a.b", "a%b", "a%2Fb", "..", ".", "a b", "ä", "A/b"} {
		e := escape(name)
		if other, ok := seen[e]; ok {
			t.Errorf("%q and %q are both %q", name, other, e)
		}
		if seen[e] = name; strings.ContainsAny(e, "/ ") || e == "." || e == ".." {
			t.Errorf("%q gives %q", name, e)
		}
	}
}

func TestNoCgroups(t *testing.T) {
	if _, err := probe(strings.NewReader("22 1 0:20 / /proc rw - proc proc rw\nnonsense\n"), ""); err == nil {
		t.Error("a host without cgroups is no error")
	}
	for _, parent := range []string{"../x", "a//b", "a/../b"} {
		if _, err := probe(strings.NewReader(""), parent); err == nil || !strings.Contains(err.Error(), "clean path") {
			t.Errorf("%q: %v", parent, err)
		}
	}
}

func TestOOMKills(t *testing.T) {
	file := filepath.Join(t.TempDir(), "memory.events")
	if err := os.WriteFile(file, []byte("low 0\nhigh 0\nmax 12\noom 2\noom_kill 3\noom_group_kill 0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := OOMKills(file); got != 3 {
		t.Errorf("%d kills, want 3", got)
	}
}
