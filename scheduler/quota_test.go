package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func gpuNodes(t *testing.T) *world {
	w := &world{t: t, f: NewFleet(), nodes: map[string]*berthv1.Node{}}
	for _, name := range []string{"n1", "n2"} {
		w.run("node " + name)
		w.run("cell 4x2 64000 pages=100")
		for i := range 4 {
			w.run(fmt.Sprintf("device %s-g%d gpu", name, i))
		}
	}
	w.flush()
	return w
}

func none0(func(*berthv1.Alloc) bool) {}

// What a quota has no room for is not placed, and the explanation says why.
func TestQuotaBoundsPlacement(t *testing.T) {
	for _, c := range []struct {
		name, ask string
		quota     *berthv1.Quota
		placed    int
		why       string
	}{
		{"gpus", "count=6 device=gpu,1", &berthv1.Quota{DevicesMilli: map[string]uint64{"gpu": 4000}}, 4, "namespace default: 4 of 4 gpu are used, 2 more are asked for"},
		{"cpu", "count=4 cpu=1500", &berthv1.Quota{CpuMilli: 3500}, 2, "namespace default: 3 of 3.5 CPU threads are used, 3 more are asked for"},
		{"cores count with their threads", "count=4 cores=1", &berthv1.Quota{CpuMilli: 5000}, 2, "namespace default: 4 of 5 CPU threads are used, 2 more are asked for"},
		{"memory and pages", "count=4 mem=100 pages=50", &berthv1.Quota{MemoryMib: 500}, 2, "namespace default: 400 MiB of 500 MiB memory are used, 400 MiB more are asked for"},
		{"disk", "count=4 disk=100", &berthv1.Quota{DiskMib: 350}, 3, "namespace default: 300 MiB of 350 MiB disk are used, 100 MiB more are asked for"},
		{"allocs", "count=4", &berthv1.Quota{Allocs: 3}, 3, "namespace default: 3 of 3 allocations are used, 1 more are asked for"},
		{"gang", "count=4 gang", &berthv1.Quota{Allocs: 3}, 0, "namespace default: 0 of 3 allocations are used, 4 more are asked for"},
		{"no limit", "count=4", &berthv1.Quota{}, 4, ""},
		{"another limit", "count=4", &berthv1.Quota{DevicesMilli: map[string]uint64{"gpu": 1}}, 4, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := gpuNodes(t)
			w.f.SetQuota("default", c.quota, none0)
			o := parseOptions(strings.Fields(c.ask))
			job := jobOf(t, "job", o)
			placed, unplaced := Place(w.f, []*Ask{askOf(t, job, o)})
			if len(placed) != c.placed || (len(unplaced) > 0) != (c.why != "") {
				t.Fatalf("placed %d, left %v", len(placed), unplaced)
			}
			if c.why != "" {
				failed := unplaced[0].Explanation.GetFailed()
				if !unplaced[0].OverQuota || len(failed) != 1 || failed[0].GetCheck() != "quota" || failed[0].GetDetail() != c.why {
					t.Errorf("explained by %v, want %q", failed, c.why)
				}
			}
			var recount Use
			for _, p := range placed {
				recount.Add(UseOf(p.Assignment))
			}
			if got := w.f.Quotas().Used("default"); !proto.Equal(got, recount.Quota()) {
				t.Errorf("counted %v, is %v", got, recount.Quota())
			}
			for _, p := range placed {
				w.f.Undo(askOf(t, job, o).Group, p)
			}
			if got := w.f.Quotas().Used("default"); !proto.Equal(got, &berthv1.Quota{}) {
				t.Errorf("with nothing left, %v is counted", got)
			}
		})
	}
}

// Nobody gives way to what a quota keeps from being placed.
func TestNoPreemptionOverQuota(t *testing.T) {
	w := gpuNodes(t)
	low := parseOptions(strings.Fields("count=8 device=gpu,1 prio=10"))
	placed, _ := Place(w.f, []*Ask{askOf(t, jobOf(t, "low", low), low)})
	on := func(node string) (out []Holder) {
		for i, p := range placed {
			if p.NodeID == node {
				out = append(out, HolderOf(&berthv1.Alloc{Id: fmt.Sprint(i), NodeId: node, Namespace: "default", Job: "low", Group: "low", Assignment: p.Assignment}, 10))
			}
		}
		return out
	}
	high := parseOptions(strings.Fields("count=3 device=gpu,1 prio=90"))
	job := jobOf(t, "high", high)
	job.Namespace = "team"
	w.f.SetQuota("team", &berthv1.Quota{DevicesMilli: map[string]uint64{"gpu": 2000}}, none0)
	trial := NewTrial(w.f, on, func(GroupKey) int { return 100 })
	if ways := trial.Preempt(askOf(t, job, high), 90); len(ways) != 2 {
		t.Errorf("%d ways for a quota of 2", len(ways))
	}
	trial.Undo()
}

// Whatever happens to allocations and nodes: what is counted is what is held, and
// placing never goes beyond the quota.
func TestQuotaIsARecount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := NewFleet()
		nodes := map[string]*berthv1.Node{}
		var allocs []*berthv1.Alloc
		quota := &berthv1.Quota{CpuMilli: 6000, Allocs: 9}
		opened := false
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			node := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "node")
			switch rapid.IntRange(0, 5).Draw(t, "op") {
			case 0:
				if nodes[node] == nil {
					nodes[node] = &berthv1.Node{Id: node, Name: node, Status: berthv1.Node_ready, Pool: "default", Drivers: []*berthv1.DriverInfo{{Name: "exec", Healthy: true}},
						Hardware: &berthv1.Hardware{DiskMib: 1000, Cells: []*berthv1.Cell{{Cores: []string{"0,4", "1,5", "2,6", "3,7"}, MemoryMib: 1000}}}}
					if _, err := f.UpsertNode(nodes[node]); err != nil {
						t.Fatal(err)
					}
				}
				f.Regrant(node, func(yield func(*berthv1.Alloc) bool) {
					for _, a := range allocs {
						if a.GetNodeId() == node && !yield(a) {
							return
						}
					}
				})
			case 1:
				delete(nodes, node)
				f.RemoveNode(node)
			case 2:
				f.SetQuota("default", quota, slices.Values(allocs))
				opened = true
			case 3:
				if len(allocs) > 0 {
					k := rapid.IntRange(0, len(allocs)-1).Draw(t, "alloc")
					after := proto.CloneOf(allocs[k])
					after.Status = berthv1.Alloc_Status(rapid.IntRange(0, 5).Draw(t, "status"))
					if allocs[k].Ended() {
						after.Status = allocs[k].Status
					}
					f.ChangeAlloc(allocs[k], after)
					allocs[k] = after
				}
			default:
				shape := rapid.SampledFrom([]string{"cpu=700", "cores=1", "threads=1"}).Draw(t, "shape")
				o := parseOptions([]string{"count=2", shape, "type=batch"})
				g, err := Compile(jobOfRapid(o), jobOfRapid(o).Groups[0])
				if err != nil {
					t.Fatal(err)
				}
				placed, _ := Place(f, []*Ask{{Group: g, Count: 2, Silent: true}})
				for k, p := range placed {
					allocs = append(allocs, &berthv1.Alloc{Id: fmt.Sprint(i, k), Namespace: "default", Job: "job", Group: "job", NodeId: p.NodeID, Assignment: p.Assignment})
				}
				if used := f.Quotas().Used("default"); len(placed) > 0 && opened && (used.GetCpuMilli() > quota.CpuMilli || used.GetAllocs() > quota.Allocs) {
					t.Fatalf("placed %d, and %v is used", len(placed), used)
				}
			}
			var recount Use
			for _, a := range allocs {
				if nodes[a.GetNodeId()] != nil && a.HoldsGrant() {
					recount.Add(UseOf(a.GetAssignment()))
				}
			}
			if got := f.Quotas().Used("default"); opened && !proto.Equal(got, recount.Quota()) {
				t.Fatalf("counted %v, is %v", got, recount.Quota())
			}
		}
	})
}

func jobOfRapid(o options) *berthv1.Job { return jobOf(nil, "job", o) }
