package scheduler

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// resizeWorld is a node with an instance of a group on it.
func resizeWorld(t testing.TB) (*Fleet, *berthv1.Alloc) {
	f, g := exactFleet(t)
	p, err := f.PlaceExact(g, "n1", exactAssignment())
	if err != nil {
		t.Fatal(err)
	}
	return f, &berthv1.Alloc{Id: "a", Namespace: "default", Job: "j", Group: "g", NodeId: "n1", Assignment: p.Assignment}
}

// grown is the group with other resources.
func grown(t testing.TB, amend func(a, b *berthv1.Resources)) *Group {
	job := exactJob()
	amend(job.GetGroups()[0].GetTasks()[0].GetResources(), job.GetGroups()[0].GetTasks()[1].GetResources())
	g, err := Compile(job, job.GetGroups()[0])
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// What changes is amounts; cores that are kept, devices and ports stay as they are.
func TestResize(t *testing.T) {
	for name, test := range map[string]struct {
		amend   func(a, b *berthv1.Resources)
		cpus    string
		memory  uint64
		refused string // what the error says; "": there is none
		why     Why
	}{
		"nothing":          {amend: func(_, _ *berthv1.Resources) {}, cpus: "4-5,12-13", memory: 1000},
		"more memory":      {amend: func(a, _ *berthv1.Resources) { a.MemoryMib = 4000 }, cpus: "4-5,12-13", memory: 4000},
		"less memory":      {amend: func(a, _ *berthv1.Resources) { a.MemoryMib = 10 }, cpus: "4-5,12-13", memory: 10},
		"all memory":       {amend: func(a, _ *berthv1.Resources) { a.MemoryMib = 7992 }, cpus: "4-5,12-13", memory: 7992},
		"too much memory":  {amend: func(a, _ *berthv1.Resources) { a.MemoryMib = 9016 }, refused: "n1 lacks 1 GiB on cell 1", why: Held},
		"more cores":       {amend: func(a, _ *berthv1.Resources) { a.Cores = 3 }, cpus: "4-6,12-14", memory: 1000},
		"fewer cores":      {amend: func(a, _ *berthv1.Resources) { a.Cores = 1 }, cpus: "4,12", memory: 1000},
		"too many cores":   {amend: func(a, _ *berthv1.Resources) { a.Cores = 6 }, refused: "n1 has no 2 more exclusive cores free on cell 1", why: Held},
		"no room to share": {amend: func(a, _ *berthv1.Resources) { a.Cores = 4 }, refused: "n1 lacks 500m of CPU on cell 1", why: Held},
		"shared instead":   {amend: func(a, _ *berthv1.Resources) { a.Cores, a.CpuMilli = 0, 1500 }, cpus: "", memory: 1000},
		"threads":          {amend: func(a, _ *berthv1.Resources) { a.Cores, a.CoreUnit = 3, "thread" }, cpus: "4-5,12", memory: 1000},
		"other device":     {amend: func(a, _ *berthv1.Resources) { a.Devices[0].Model = "A100" }, refused: "the devices are not what is asked for", why: WrongGrant},
	} {
		t.Run(name, func(t *testing.T) {
			f, a := resizeWorld(t)
			before := proto.CloneOf(a)
			to, err := f.Resize(grown(t, test.amend), a)
			if !proto.Equal(a, before) {
				t.Errorf("the allocation itself was changed: %v", a)
			}
			if test.refused != "" {
				m := (*Misfit)(nil)
				if !errors.As(err, &m) || m.Why != test.why || !strings.Contains(err.Error(), test.refused) {
					t.Fatalf("got %v", err)
				}
				to = a.GetAssignment()
			} else if err != nil {
				t.Fatal(err)
			}
			if cell := to.GetTasks()[0].GetCells()[0]; test.refused == "" && (cell.GetCpus() != test.cpus || cell.GetMemoryMib() != test.memory) {
				t.Errorf("got %v", cell)
			}
			if !proto.Equal(to.GetPorts()[0], before.GetAssignment().GetPorts()[0]) || to.GetTasks()[0].GetDevices()[0].GetId() != "gpu1" {
				t.Errorf("ports or devices are others: %v", to)
			}
			f.ChangeAlloc(&berthv1.Alloc{Namespace: "default", Job: "j", Group: "g", NodeId: "n1", Assignment: to}, nil)
			if used := f.nodes[f.slots["n1"]].usage; used.Used() || used.FreeMemory(1) != 8192 || used.FreeMilli(1) != 8000 {
				t.Errorf("something is left of it: %v", used)
			}
		})
	}
}

// A quota is asked for what is added only, so that what is too much can become less.
func TestResizeKeepsToQuota(t *testing.T) {
	f, a := resizeWorld(t)
	f.Quotas().Open("default", &berthv1.Quota{MemoryMib: 1500}, func(yield func(string, *berthv1.Assignment) bool) { yield("n1", a.GetAssignment()) })
	_, err := f.Resize(grown(t, func(x, _ *berthv1.Resources) { x.MemoryMib = 1300 }), a)
	if m := (*Misfit)(nil); !errors.As(err, &m) || m.Why != OverQuota {
		t.Fatalf("above the quota: %v", err)
	}
	f.Quotas().Open("default", &berthv1.Quota{MemoryMib: 100}, nil)
	to, err := f.Resize(grown(t, func(x, _ *berthv1.Resources) { x.MemoryMib = 900 }), a)
	if err != nil || f.Quotas().Used("default").GetMemoryMib() != 900+200+20 {
		t.Errorf("%v, %v, %v are used", to, err, f.Quotas().Used("default"))
	}
}

// Whatever the parts and amounts: nothing is lost, and no part is off by one or more.
func TestInProportion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		by := rapid.SliceOfN(rapid.Uint64Range(0, 1<<41), 1, 64).Draw(t, "by")
		total := rapid.Uint64Range(0, 1<<41).Draw(t, "total")
		sum, got := uint64(0), uint64(0)
		for _, n := range by {
			sum += n
		}
		for k, n := range inProportion(total, by) {
			got += n
			exact := float64(total) / float64(len(by))
			if sum > 0 {
				exact = float64(total) * float64(by[k]) / float64(sum)
			}
			if d := float64(n) - exact; d <= -1.001 || d >= 1.001 {
				t.Fatalf("part %d is %d, %f in proportion", k, n, exact)
			}
		}
		if got != total {
			t.Fatalf("%d of %d", got, total)
		}
	})
}

// A group that is spread evenly over cells stays so.
func TestResizeOverCells(t *testing.T) {
	job := func(cores uint32, memory uint64) *berthv1.Job {
		return &berthv1.Job{Name: "j", Namespace: "default", Groups: []*berthv1.Group{{Name: "g", Topology: &berthv1.TopologyPolicy{Cells: 2},
			Tasks: []*berthv1.Task{{Name: "a", Driver: "mock", Resources: &berthv1.Resources{Cores: cores, MemoryMib: memory}}}}}}
	}
	group := func(j *berthv1.Job) *Group {
		g, err := Compile(j, j.GetGroups()[0])
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	f, _ := exactFleet(t)
	placed, _ := Place(f, []*Ask{{Group: group(job(2, 1000)), Count: 1}})
	a := &berthv1.Alloc{Namespace: "default", Job: "j", Group: "g", NodeId: "n1", Assignment: placed[0].Assignment}
	to, err := f.Resize(group(job(6, 4001)), a)
	if err != nil {
		t.Fatal(err)
	}
	for k, want := range []*berthv1.CellGrant{{Cell: 0, Cpus: "0-2,8-10", MemoryMib: 2001}, {Cell: 1, Cpus: "4-6,12-14", MemoryMib: 2000}} {
		if got := to.GetTasks()[0].GetCells()[k]; !proto.Equal(got, want) {
			t.Errorf("cell %d: %v", k, got)
		}
	}
}
