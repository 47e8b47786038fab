package fsm

import (
	"bytes"
	"io"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/rows"
	"github.com/berthd/berth/server/state"
)

func newTestFSM(t testing.TB) (*FSM, *state.Store) {
	store := state.New()
	return New(store, func(err error) { t.Errorf("fatal: %v", err) }), store
}

// randomLog gives n encoded entries.
func randomLog(t testing.TB, seed uint64, n int) [][]byte {
	f, store := newTestFSM(t)
	s := newSource(seed, store)
	var log [][]byte
	for i := range n {
		data := encode(s.entry())
		log = append(log, data)
		f.apply(uint64(i+1), data)
	}
	return log
}

func snapshotOf(t testing.TB, store *state.Store) []byte {
	var b bytes.Buffer
	if err := store.View().Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestSameLogSameHash(t *testing.T) {
	for seed := range uint64(20) {
		log := randomLog(t, seed, 400)
		one, oneStore := newTestFSM(t)
		two, twoStore := newTestFSM(t)
		for i, data := range log {
			one.apply(uint64(i+1), data)
		}
		var batch []*raft.Log
		for i, data := range log {
			batch = append(batch, &raft.Log{Index: uint64(i + 1), Type: raft.LogCommand, Data: data})
		}
		two.ApplyBatch(batch)
		if !bytes.Equal(oneStore.View().Hash(), twoStore.View().Hash()) {
			t.Fatalf("seed %d: the same log gave two states", seed)
		}
		if oneStore.View().AllocCount() == 0 {
			t.Fatalf("seed %d: the log placed nothing, the test is void", seed)
		}
	}
}

// Restoring at any index and going on must end in the same state, and refuse the same.
func TestRestoreAtEveryIndexThenContinue(t *testing.T) {
	const n = 300
	log := randomLog(t, 42, n)
	live, liveStore := newTestFSM(t)
	snapshots, results := make([][]byte, n+1), make([]Result, n+1)
	snapshots[0] = snapshotOf(t, liveStore)
	for i, data := range log {
		results[i+1] = live.apply(uint64(i+1), data)
		snapshots[i+1] = snapshotOf(t, liveStore)
	}
	want := liveStore.View().Hash()
	for at := 0; at <= n; at++ {
		f, store := newTestFSM(t)
		if err := f.Restore(io.NopCloser(bytes.NewReader(snapshots[at]))); err != nil {
			t.Fatalf("restoring at %d: %v", at, err)
		}
		for i := at; i < n; i++ {
			got := f.apply(uint64(i+1), log[i])
			if len(got.Refused) != len(results[i+1].Refused) || (got.Err == nil) != (results[i+1].Err == nil) {
				t.Fatalf("restored at %d, entry %d: %+v, before it was %+v", at, i+1, got, results[i+1])
			}
		}
		if !bytes.Equal(store.View().Hash(), want) {
			t.Fatalf("restored at %d and continued: another state", at)
		}
	}
}

// Rows are only another form: as messages, the same facts make the same state and refuse
// the same.
func TestRowsSayWhatMessagesSay(t *testing.T) {
	for seed := range uint64(10) {
		compact, compactStore := newTestFSM(t)
		plain, plainStore := newTestFSM(t)
		s := newSource(seed, compactStore)
		placed := 0
		for i := range 400 {
			e := s.entry()
			got := compact.apply(uint64(i+1), encode(e))
			if p := e.GetPlan(); len(p.GetRows()) > 0 {
				allocs, err := rows.ToAllocs(p.GetRows())
				if err != nil {
					t.Fatal(err)
				}
				p.Rows, p.Placements = nil, append(p.Placements, allocs...)
				placed += len(allocs) - len(got.Refused)
			}
			if r := e.GetAllocsReported(); len(r.GetRows()) > 0 {
				updates, err := rows.ToUpdates(r.GetRows())
				if err != nil {
					t.Fatal(err)
				}
				r.Rows, r.Updates = nil, updates
			}
			want := plain.apply(uint64(i+1), encode(e))
			if len(got.Refused) != len(want.Refused) || (got.Err == nil) != (want.Err == nil) {
				t.Fatalf("seed %d, entry %d: %+v, as messages %+v", seed, i, got, want)
			}
			if !bytes.Equal(compactStore.View().Hash(), plainStore.View().Hash()) {
				t.Fatalf("seed %d, entry %d: another state", seed, i)
			}
		}
		if placed == 0 {
			t.Errorf("seed %d: no row was placed, the test is void", seed)
		}
	}
}

// After every entry, what all allocations of a node hold must fit it, unless its
// inventory shrank under them.
func TestNothingIsGrantedTwice(t *testing.T) {
	f, store := newTestFSM(t)
	s := newSource(3, store)
	refused := 0
	for i := range 3000 {
		e := s.entry()
		if n := e.GetNodeRegistered().GetNode(); n != nil && store.View().Node(n.GetId()) != nil {
			continue // inventories stay what they are in this test
		}
		refused += len(f.apply(uint64(i+1), encode(e)).Refused)
		checkGrants(t, store.View())
		for _, err := range f.AuditQuotas() {
			t.Fatal(err)
		}
	}
	if refused == 0 {
		t.Error("nothing was ever refused, the test is void")
	}
}

func checkGrants(t *testing.T, view *state.View) {
	t.Helper()
	for _, err := range Audit(view) {
		t.Fatal(err)
	}
}

func TestAPlanThatNamesAnAllocationTwice(t *testing.T) {
	for _, atomic := range []bool{false, true} {
		f, store := newTestFSM(t)
		for i, fact := range []func(*berthv1.LogEntry){
			func(e *berthv1.LogEntry) {
				e.Fact = &berthv1.LogEntry_ClusterCreated{ClusterCreated: &berthv1.ClusterCreated{ClusterId: "c"}}
			},
			func(e *berthv1.LogEntry) {
				e.Fact = &berthv1.LogEntry_JobRegistered{JobRegistered: &berthv1.JobRegistered{Job: &berthv1.Job{Name: "j", Namespace: "default", Version: 1}}}
			},
			func(e *berthv1.LogEntry) {
				e.Fact = &berthv1.LogEntry_NodeRegistered{NodeRegistered: &berthv1.NodeRegistered{Node: &berthv1.Node{Id: "n", Name: "n", Hardware: &berthv1.Hardware{DiskMib: 10}}}}
			},
		} {
			f.apply(uint64(i+1), encode(NewEntry(epoch, fact)))
		}
		alloc := &berthv1.Alloc{Id: "00000000-0000-4000-8000-000000000001", Namespace: "default", Job: "j", JobVersion: 1, NodeId: "n",
			Assignment: &berthv1.Assignment{DiskMib: 4}}
		r := f.apply(10, encode(NewEntry(epoch, func(e *berthv1.LogEntry) {
			e.Fact = &berthv1.LogEntry_Plan{Plan: &berthv1.Plan{Atomic: atomic, Placements: []*berthv1.Alloc{alloc, alloc}}}
		})))
		want := 1
		if atomic {
			want = 0
		}
		if n := store.View().AllocCount(); n != want || len(r.Refused) != 2-want {
			t.Errorf("atomic %t: %d placed, %d refused", atomic, n, len(r.Refused))
		}
		if free := f.grants.nodes["n"].FreeDisk(); free != uint64(10-4*want) {
			t.Errorf("atomic %t: %d MiB are free", atomic, free)
		}
	}
}

func TestEntriesOfNewerServersStopTheServer(t *testing.T) {
	var fatal error
	f := New(state.New(), func(err error) { fatal = err })
	f.apply(1, encode(&berthv1.LogEntry{Version: EntryVersion + 1}))
	if !problem.Is(fatal, problem.Unsupported) {
		t.Errorf("fatal is %v", fatal)
	}
	r := f.apply(2, []byte("garbage"))
	if !problem.Is(r.Err, problem.Invalid) {
		t.Errorf("garbage: %v", r.Err)
	}
}

func TestRestoreRefusesEveryTruncation(t *testing.T) {
	f, store := newTestFSM(t)
	for i, data := range randomLog(t, 5, 60) {
		f.apply(uint64(i+1), data)
	}
	whole, before := snapshotOf(t, store), store.View().Hash()
	for n := range len(whole) {
		if err := f.Restore(io.NopCloser(bytes.NewReader(whole[:n]))); err == nil {
			t.Fatalf("the first %d of %d bytes were restored", n, len(whole))
		}
	}
	if !bytes.Equal(store.View().Hash(), before) {
		t.Error("a refused snapshot changed the state")
	}
}

func FuzzApply(f *testing.F) {
	for _, data := range randomLog(f, 1, 60) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fsm, store := newTestFSM(t)
		fsm.fatal = func(error) {}
		for i, known := range seedLog(t) {
			fsm.apply(uint64(i+1), known)
		}
		fsm.apply(1000, data)
		fsm.apply(1001, data)
		restored, _ := newTestFSM(t)
		if err := restored.Restore(io.NopCloser(bytes.NewReader(snapshotOf(t, store)))); err != nil {
			t.Fatalf("what was applied cannot be restored: %v", err)
		}
	})
}

// seedLog is a small world for fuzzing, made once.
var seeds [][]byte

func seedLog(t testing.TB) [][]byte {
	if seeds == nil {
		seeds = randomLog(t, 9, 80)
	}
	return seeds
}

func FuzzRestore(f *testing.F) {
	live, store := newTestFSM(f)
	for i, data := range seedLog(f) {
		live.apply(uint64(i+1), data)
	}
	f.Add(snapshotOf(f, store))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		fsm, store := newTestFSM(t)
		if fsm.Restore(io.NopCloser(bytes.NewReader(data))) == nil {
			if again := snapshotOf(t, store); len(again) == 0 {
				t.Fatal("restored to nothing")
			}
		}
	})
}
