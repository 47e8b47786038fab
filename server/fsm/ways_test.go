package fsm

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/rows"
)

// together is what is said of a placement for another's sake.
const together = "another instance of its gang was refused"

// ways are the forms in which placements can be proposed: the entries of each.
var ways = map[string]func(s *source, data []byte, allocs []*berthv1.Alloc) []*berthv1.Plan{
	"rows": func(_ *source, data []byte, _ []*berthv1.Alloc) []*berthv1.Plan { return []*berthv1.Plan{{Rows: data}} },
	"messages": func(_ *source, _ []byte, all []*berthv1.Alloc) []*berthv1.Plan {
		return []*berthv1.Plan{{Placements: all}}
	},
	"atomic rows": func(_ *source, data []byte, _ []*berthv1.Alloc) []*berthv1.Plan {
		return []*berthv1.Plan{{Atomic: true, Rows: data}}
	},
	"atomic messages": func(_ *source, _ []byte, all []*berthv1.Alloc) []*berthv1.Plan {
		return []*berthv1.Plan{{Atomic: true, Placements: all}}
	},
	"gang of messages": func(s *source, _ []byte, all []*berthv1.Alloc) []*berthv1.Plan {
		cut := s.rng.IntN(len(all) + 1)
		return []*berthv1.Plan{{Atomic: true, Gang: "way", GangParts: 2, Placements: all[:cut]}, {Atomic: true, Gang: "way", GangParts: 2, Placements: all[cut:]}}
	},
	"gang of rows": func(_ *source, data []byte, _ []*berthv1.Alloc) []*berthv1.Plan {
		return []*berthv1.Plan{{Atomic: true, Gang: "way", GangParts: 2}, {Atomic: true, Gang: "way", GangParts: 2, Rows: data}}
	},
}

// become proposes plans to a copy of the state, and gives what is refused and why, what
// is placed, and the state's hash.
func become(t *testing.T, snapshot []byte, index uint64, at *berthv1.LogEntry, plans []*berthv1.Plan, ids []string) (refused map[string]string, placed []string, kinds map[problem.Kind]int) {
	f, store := newTestFSM(t)
	if err := f.Restore(io.NopCloser(bytes.NewReader(snapshot))); err != nil {
		t.Fatal(err)
	}
	refused, kinds = map[string]string{}, map[problem.Kind]int{}
	for i, p := range plans {
		e := &berthv1.LogEntry{Version: EntryVersion, Time: at.GetTime(), Fact: &berthv1.LogEntry_Plan{Plan: p}}
		r := f.apply(index+uint64(i)+1, encode(e))
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		for _, x := range r.Refused {
			refused[x.AllocID] = x.Reason.Error()
			kinds[problem.From(x.Reason).Kind]++
		}
	}
	for _, id := range ids {
		if a := store.View().Alloc(id); a.GetCreateRevision() > index {
			placed = append(placed, id)
		}
	}
	for _, err := range slices.Concat(f.AuditQuotas(), audited(f)) {
		t.Fatal(err)
	}
	return refused, placed, kinds
}

// audited compares what is counted of each node with what a copy that starts anew counts.
func audited(f *FSM) (found []error) {
	anew := newGrants()
	anew.rebuild(f.store.View())
	for id, usage := range f.grants.nodes {
		for cell := range usage.Machine().Cells {
			if a, b := usage.FreeMilli(cell), anew.nodes[id].FreeMilli(cell); a != b {
				found = append(found, fmt.Errorf("node %s: %d of cell %d are free, counted anew %d", id, a, cell, b))
			}
		}
		if a, b := usage.FreeDisk(), anew.nodes[id].FreeDisk(); a != b {
			found = append(found, fmt.Errorf("node %s: %d of disk are free, counted anew %d", id, a, b))
		}
	}
	return found
}

// However placements are proposed, the same is refused for the same reasons: what is
// held, a broken quota, a reservation, a node that takes nothing, a job that is gone. Of
// placements that go together all are refused when one is.
func TestEveryWayOfPlacingIsCheckedAlike(t *testing.T) {
	seen := map[problem.Kind]int{}
	whole, broken := 0, 0
	for seed := range uint64(6) {
		f, store := newTestFSM(t)
		s := newSource(seed+900, store)
		for i := uint64(1); i <= 700; i++ {
			e := s.entry()
			f.apply(i, encode(e))
			if len(e.GetPlan().GetRows()) == 0 {
				continue
			}
			data := s.asRows(s.plannedAllocs())
			allocs, err := rows.ToAllocs(data)
			if err != nil {
				t.Fatal(err)
			}
			if len(allocs) == 0 {
				continue
			}
			var ids []string
			for _, a := range allocs {
				ids = append(ids, a.GetId())
			}
			snapshot := snapshotOf(t, store)
			refused, placed := map[string]map[string]string{}, map[string][]string{}
			for name, plans := range ways {
				r, p, kinds := become(t, snapshot, i, e, plans(s, data, allocs), ids)
				refused[name], placed[name] = r, p
				if name == "rows" {
					for kind, n := range kinds {
						seen[kind] += n
					}
				}
			}
			same := func(a, b string) {
				if fmt.Sprint(refused[a], placed[a]) != fmt.Sprint(refused[b], placed[b]) {
					t.Fatalf("seed %d, entry %d: %s: %v, %v\n%s: %v, %v", seed, i, a, refused[a], placed[a], b, refused[b], placed[b])
				}
			}
			same("rows", "messages")
			for _, name := range []string{"atomic messages", "gang of rows", "gang of messages"} {
				same("atomic rows", name)
			}
			if len(refused["rows"]) == 0 {
				whole++
				same("rows", "atomic rows")
				continue
			}
			broken++
			if len(placed["atomic rows"]) > 0 {
				t.Fatalf("seed %d, entry %d: %v of a gang are placed, %v are refused", seed, i, placed["atomic rows"], refused["rows"])
			}
			for id, why := range refused["atomic rows"] {
				if was := refused["rows"][id]; why != was && was != "" && !strings.HasSuffix(why, together) {
					t.Fatalf("seed %d, entry %d: %s alone: %q, in a gang: %q", seed, i, id, was, why)
				}
			}
		}
	}
	t.Logf("%d whole, %d broken, refused: %v", whole, broken, seen)
	if whole == 0 || broken == 0 || seen[problem.Conflict] == 0 || seen[problem.Exhausted] == 0 || seen[problem.Exists] == 0 || seen[problem.Invalid] == 0 {
		t.Errorf("%d whole, %d broken, refused: %v: the test is void", whole, broken, seen)
	}
}
