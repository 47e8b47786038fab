package scheduler

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// exactNode has two cells of four cores with two threads each, two GPUs and hugepages.
func exactNode() *berthv1.Node {
	n := &berthv1.Node{Id: "n1", Name: "n1", Arch: "amd64", MinPort: 20000, MaxPort: 20100, Address: "10.0.0.1",
		Status: berthv1.Node_ready, Drivers: []*berthv1.DriverInfo{{Name: "mock", Healthy: true}},
		Hardware: &berthv1.Hardware{DiskMib: 10000}}
	for c := range 2 {
		cell := &berthv1.Cell{Id: uint32(c), MemoryMib: 8192, Hugepages: []*berthv1.Hugepages{{SizeKib: 2048, Count: 100}}}
		for k := range 4 {
			cell.Cores = append(cell.Cores, fmt.Sprintf("%d,%d", c*4+k, 8+c*4+k))
		}
		n.Hardware.Cells = append(n.Hardware.Cells, cell)
		n.Hardware.Devices = append(n.Hardware.Devices, &berthv1.Device{Id: fmt.Sprintf("gpu%d", c), Kind: "gpu", Model: "H100", Cell: int32(c), Healthy: true})
	}
	return n
}

func exactJob() *berthv1.Job {
	return &berthv1.Job{Name: "j", Namespace: "default", Groups: []*berthv1.Group{{
		Name: "g", Topology: &berthv1.TopologyPolicy{Policy: "single", Align: []string{"cpu", "memory", "gpu"}},
		Network: &berthv1.Network{Ports: []*berthv1.Port{{Name: "http"}, {Name: "admin", Static: 9000}}},
		Tasks: []*berthv1.Task{
			{Name: "a", Driver: "mock", Resources: &berthv1.Resources{Cores: 2, MemoryMib: 1000, Devices: []*berthv1.DeviceAsk{{Kind: "gpu", Count: 1, Model: "H*"}}}},
			{Name: "b", Driver: "mock", Resources: &berthv1.Resources{CpuMilli: 500, MemoryMib: 200, Hugepages: []*berthv1.Hugepages{{SizeKib: 2048, Count: 10}}}},
		},
	}}}
}

func exactAssignment() *berthv1.Assignment {
	return &berthv1.Assignment{
		Ports: []*berthv1.PortGrant{{Name: "admin", Port: 9000}, {Name: "http", Port: 20005}},
		Tasks: []*berthv1.TaskGrant{
			{Task: "a", Cells: []*berthv1.CellGrant{{Cell: 1, Cpus: "4-5,12-13", MemoryMib: 1000}}, Devices: []*berthv1.DeviceGrant{{Kind: "gpu", Id: "gpu1", ShareMilli: 1000}}},
			{Task: "b", Cells: []*berthv1.CellGrant{{Cell: 1, CpuMilli: 500, MemoryMib: 200, Hugepages: []*berthv1.Hugepages{{SizeKib: 2048, Count: 10}}}}},
		},
	}
}

func exactFleet(t testing.TB) (*Fleet, *Group) {
	f := NewFleet()
	if _, err := f.UpsertNode(exactNode()); err != nil {
		t.Fatal(err)
	}
	job := exactJob()
	g, err := Compile(job, job.GetGroups()[0])
	if err != nil {
		t.Fatal(err)
	}
	return f, g
}

func TestPlaceExact(t *testing.T) {
	f, g := exactFleet(t)
	p, err := f.PlaceExact(g, "n1", exactAssignment())
	if err != nil {
		t.Fatal(err)
	}
	if http := p.Assignment.GetPorts()[0]; http.GetName() != "http" || http.GetTo() != 20005 || http.GetAddress() != "10.0.0.1" {
		t.Errorf("ports %v", p.Assignment.GetPorts())
	}
	_, err = f.PlaceExact(g, "n1", exactAssignment())
	if m := (*Misfit)(nil); !errors.As(err, &m) || m.Why != Held {
		t.Errorf("twice: %v", err)
	}
	f.Undo(g, p)
	if _, err := f.PlaceExact(g, "n1", exactAssignment()); err != nil {
		t.Errorf("after undo: %v", err)
	}
}

func TestPlaceExactRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		why    Why
		amend  func(a *berthv1.Assignment)
		node   func(n *berthv1.Node)
		nodeID string
	}{
		"unknown node":      {why: NodeGone, nodeID: "n9"},
		"down":              {why: NodeGone, node: func(n *berthv1.Node) { n.Status = berthv1.Node_down }},
		"not eligible":      {why: NodeGone, node: func(n *berthv1.Node) { n.Eligibility = berthv1.Node_ineligible }},
		"no driver":         {why: NotAllowed, node: func(n *berthv1.Node) { n.Drivers = nil }},
		"other pool":        {why: NotAllowed, node: func(n *berthv1.Node) { n.Pool = "gpu" }},
		"nothing":           {why: WrongGrant, amend: func(a *berthv1.Assignment) { proto.Reset(a) }},
		"fewer cores":       {why: WrongGrant, amend: func(a *berthv1.Assignment) { a.Tasks[0].Cells[0].Cpus = "4,12" }},
		"more cores":        {why: WrongGrant, amend: func(a *berthv1.Assignment) { a.Tasks[0].Cells[0].Cpus = "4-6,12-14" }},
		"half cores":        {why: WrongGrant, amend: func(a *berthv1.Assignment) { a.Tasks[0].Cells[0].Cpus = "4-7" }},
		"another cell's":    {why: WrongGrant, amend: func(a *berthv1.Assignment) { a.Tasks[0].Cells[0].Cpus = "0-1,8-9" }},
		"no CPU list":       {why: WrongGrant, amend: func(a *berthv1.Assignment) { a.Tasks[0].Cells[0].Cpus = "4-" }},
		"huge CPU":          {why: WrongGrant, amend: func(a *berthv1.Assignment) { a.Tasks[0].Cells[0].Cpus = "0-4294967295" }},
		"less memory":       {why: WrongGrant, amend: func(a *berthv1.Assignment) { a.Tasks[0].Cells[0].MemoryMib = 1 }},
		"huge memory":       {why: WrongGrant, amend: func(a *berthv1.Assignment) { a.Tasks[0].Cells[0].MemoryMib = 1 << 63 }},
		"more shared CPU":   {why: WrongGrant, amend: func(a *berthv1.Assignment) { a.Tasks[1].Cells[0].CpuMilli = 1 << 31 }},
		"two cells":         {why: WrongGrant, amend: func(a *berthv1.Assignment) { a.Tasks[1].Cells[0].Cell = 0 }},
		"no such cell":      {why: WrongGrant, amend: func(a *berthv1.Assignment) { a.Tasks[1].Cells[0].Cell = 7 }},
		"cell twice":        {why: WrongGrant, amend: func(a *berthv1.Assignment) { a.Tasks[1].Cells = append(a.Tasks[1].Cells, a.Tasks[1].Cells[0]) }},
		"no hugepages":      {why: WrongGrant, amend: func(a *berthv1.Assignment) { a.Tasks[1].Cells[0].Hugepages = nil }},
		"other hugepages":   {why: WrongGrant, amend: func(a *berthv1.Assignment) { a.Tasks[1].Cells[0].Hugepages[0].SizeKib = 4096 }},
		"no device":         {why: WrongGrant, amend: func(a *berthv1.Assignment) { a.Tasks[0].Devices = nil }},
		"unknown device":    {why: WrongGrant, amend: func(a *berthv1.Assignment) { a.Tasks[0].Devices[0].Id = "gpu7" }},
		"device elsewhere":  {why: WrongGrant, amend: func(a *berthv1.Assignment) { a.Tasks[0].Devices[0].Id = "gpu0" }},
		"wrong kind":        {why: WrongGrant, amend: func(a *berthv1.Assignment) { a.Tasks[0].Devices[0].Kind = "vf" }},
		"share":             {why: WrongGrant, amend: func(a *berthv1.Assignment) { a.Tasks[0].Devices[0].ShareMilli = 500 }},
		"other model":       {why: WrongGrant, node: func(n *berthv1.Node) { n.Hardware.Devices[1].Model = "A100" }},
		"unhealthy":         {why: Held, node: func(n *berthv1.Node) { n.Hardware.Devices[1].Healthy = false }},
		"other task":        {why: WrongGrant, amend: func(a *berthv1.Assignment) { a.Tasks[0].Task = "c" }},
		"one task":          {why: WrongGrant, amend: func(a *berthv1.Assignment) { a.Tasks = a.Tasks[:1] }},
		"task twice":        {why: WrongGrant, amend: func(a *berthv1.Assignment) { a.Tasks[1] = a.Tasks[0] }},
		"disk":              {why: WrongGrant, amend: func(a *berthv1.Assignment) { a.DiskMib = 1 }},
		"no port":           {why: WrongGrant, amend: func(a *berthv1.Assignment) { a.Ports = a.Ports[:1] }},
		"another port":      {why: WrongGrant, amend: func(a *berthv1.Assignment) { a.Ports[0].Port = 9001 }},
		"port out of range": {why: WrongGrant, amend: func(a *berthv1.Assignment) { a.Ports[1].Port = 80 }},
		"port twice":        {why: WrongGrant, amend: func(a *berthv1.Assignment) { a.Ports[1] = a.Ports[0] }},
	} {
		t.Run(name, func(t *testing.T) {
			f, g := exactFleet(t)
			if test.node != nil {
				n := exactNode()
				test.node(n)
				f = NewFleet()
				if _, err := f.UpsertNode(n); err != nil {
					t.Fatal(err)
				}
			}
			a, id := exactAssignment(), "n1"
			if test.amend != nil {
				test.amend(a)
			}
			if test.nodeID != "" {
				id = test.nodeID
			}
			_, err := f.PlaceExact(g, id, a)
			m := (*Misfit)(nil)
			if !errors.As(err, &m) || m.Why != test.why {
				t.Fatalf("%v, want kind %d", err, test.why)
			}
			t.Log(err)
		})
	}
}

// TestPlaceExactTakesWhatPlaceGives: what Place grants passes the checks, and is free
// again when it is undone; granted twice it is refused or harmless.
func TestPlaceExactTakesWhatPlaceGives(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 11))
	for range 300 {
		f := NewFleet()
		n := exactNode()
		if _, err := f.UpsertNode(n); err != nil {
			t.Fatal(err)
		}
		job := exactJob()
		spec := job.GetGroups()[0]
		spec.Topology.Policy = []string{"none", "best-effort", "restricted", "single"}[rnd.IntN(4)]
		a := spec.GetTasks()[0].GetResources()
		a.Cores, a.CoreUnit = uint32(1+rnd.IntN(5)), []string{"core", "thread"}[rnd.IntN(2)]
		a.Devices[0].Count = uint32(1 + rnd.IntN(2))
		a.MemoryMib = uint64(1 + rnd.IntN(9000))
		g, err := Compile(job, spec)
		if err != nil {
			t.Fatal(err)
		}
		placed, _ := Place(f, []*Ask{{Group: g, Count: 1, Silent: true}})
		if len(placed) == 0 {
			continue
		}
		if _, err := f.PlaceExact(g, "n1", placed[0].Assignment); err == nil {
			t.Fatalf("granted twice: %v", placed[0].Assignment)
		}
		f.Undo(g, placed[0])
		again, err := f.PlaceExact(g, "n1", placed[0].Assignment)
		if err != nil {
			t.Fatalf("%v of %v: %v", placed[0].Assignment, spec, err)
		}
		if !proto.Equal(again.Assignment, placed[0].Assignment) {
			t.Fatalf("%v became %v", placed[0].Assignment, again.Assignment)
		}
	}
}

// FuzzPlaceExact: whatever grant somebody makes up, nothing is granted that is not asked
// for, and undoing it leaves the node as it was.
func FuzzPlaceExact(f *testing.F) {
	seed, _ := proto.Marshal(exactAssignment())
	f.Add(seed)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		a := &berthv1.Assignment{}
		if proto.Unmarshal(data, a) != nil {
			return
		}
		fleet, g := exactFleet(t)
		p, err := fleet.PlaceExact(g, "n1", a)
		if err != nil {
			if m := (*Misfit)(nil); !errors.As(err, &m) {
				t.Fatalf("%T: %v", err, err)
			}
		} else {
			fleet.Undo(g, p)
		}
		for _, want := range []int{1, 0} { // the second has the static port against it
			if placed, _ := Place(fleet, []*Ask{{Group: g, Count: 1, Silent: true}}); len(placed) != want {
				t.Fatalf("%d placed, want %d", len(placed), want)
			}
		}
	})
}
