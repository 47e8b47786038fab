package scheduler

import (
	"fmt"
	"math/rand/v2"
	"testing"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Whatever the fleet: each move fits where it goes when those before it are done, with
// what it leaves still held; what is said to be freed is; what stays has not moved.
func TestRebalanceIsPossible(t *testing.T) {
	moves, emptied := 0, 0
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 1))
		fleets := [2]*Fleet{}
		for i := range fleets {
			w := &world{t: t, f: NewFleet(), nodes: map[string]*berthv1.Node{}}
			for k := range 6 {
				w.run(fmt.Sprintf("node n%d", k))
				w.run("cell 4x2 8000")
				for d := range k % 3 {
					w.run(fmt.Sprintf("device n%d-g%d gpu", k, d))
				}
			}
			w.flush()
			fleets[i] = w.f
		}
		on := map[string][]Mover{}
		for k := range 8 {
			o := parseOptions([]string{"count=1", []string{"cpu=1500", "cores=1", "device=gpu,1"}[rng.IntN(3)], "type=batch"})
			job := jobOf(t, fmt.Sprintf("j%d", k), o)
			g, err := Compile(job, job.GetGroups()[0])
			if err != nil {
				t.Fatal(err)
			}
			placed, _ := Place(fleets[0], []*Ask{{Group: g, Count: 1, Nodes: []string{fmt.Sprintf("id-n%d", rng.IntN(6))}, Silent: true}})
			for _, p := range placed {
				a := &berthv1.Alloc{Id: fmt.Sprint(k), NodeId: p.NodeID, Namespace: "default", Job: job.Name, Group: job.Name, Assignment: p.Assignment}
				m := Mover{Alloc: a, Group: g}
				if rng.IntN(6) == 0 {
					m.Stays = "it stays"
				}
				on[p.NodeID] = append(on[p.NodeID], m)
				fleets[1].ChangeAlloc(nil, a)
			}
		}
		plan := Rebalance(fleets[0], func(id string) []Mover { return on[id] }, "", 100)
		where, used := map[string]Mover{}, map[string]int{}
		for id, list := range on {
			used[id] = len(list)
			for _, m := range list {
				where[m.Alloc.GetId()] = m
			}
		}
		for _, m := range plan.GetMoves() {
			was := where[m.GetAllocId()]
			if was.Stays != "" || was.Alloc.GetNodeId() != m.GetFromNodeId() || used[m.GetToNodeId()] == 0 {
				t.Fatalf("seed %d: %v moves %v", seed, m, was)
			}
			there := &berthv1.Alloc{Id: m.GetAllocId(), NodeId: m.GetToNodeId(), Namespace: "default", Job: m.GetJob(), Group: m.GetGroup()}
			p, err := fleets[1].PlaceExact(was.Group, m.GetToNodeId(), m.GetAssignment())
			if err != nil {
				t.Fatalf("seed %d: %v is not possible: %v", seed, m, err)
			}
			there.Assignment = p.Assignment
			fleets[1].ChangeAlloc(was.Alloc, nil)
			used[m.GetFromNodeId()]--
			used[m.GetToNodeId()]++
			where[m.GetAllocId()] = Mover{Alloc: there, Group: was.Group}
		}
		for _, name := range plan.GetEmptied() {
			if used["id-"+name] != 0 {
				t.Errorf("seed %d: %s is said to be empty and has %d", seed, name, used["id-"+name])
			}
		}
		if got := plan.GetEmptyAfter() - plan.GetEmptyBefore(); int(got) != len(plan.GetEmptied()) {
			t.Errorf("seed %d: %d nodes emptied, named are %v", seed, got, plan.GetEmptied())
		}
		if plan.GetFreeGpuNodesAfter()-plan.GetFreeGpuNodesBefore() != uint32(len(plan.GetGpuNodesFreed())) {
			t.Errorf("seed %d: GPU nodes %d to %d, named are %v", seed, plan.GetFreeGpuNodesBefore(), plan.GetFreeGpuNodesAfter(), plan.GetGpuNodesFreed())
		}
		moves, emptied = moves+len(plan.GetMoves()), emptied+len(plan.GetEmptied())
	}
	if moves == 0 || emptied == 0 {
		t.Errorf("%d moves, %d emptied: the test is void", moves, emptied)
	}
}
