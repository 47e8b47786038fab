package state

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/rows"
)

// Whatever field an allocation has, the rows must give it back: a new field of the
// schema that nobody taught them fails here.
func TestRowsKeepEveryField(t *testing.T) {
	whole := &berthv1.Alloc{Id: idA}
	fill(whole.ProtoReflect(), 0)
	for _, one := range append([]*berthv1.Alloc{whole}, fieldByField(whole)...) {
		s := New()
		one.Id, one.NodeId = idA, "n"
		put(s, func(tx *Tx) { tx.PutAlloc(one) })
		if got := s.View().Alloc(idA); !proto.Equal(got, one) {
			t.Errorf("stored %v\ngot back %v", one, got)
		}
		sameWire(t, s.View(), idA)
	}
}

// fill sets every field, to values that differ.
func fill(m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case f.IsMap() || depth > 4:
		case f.IsList() && f.Kind() == protoreflect.MessageKind:
			l := m.Mutable(f).List()
			e := l.NewElement()
			fill(e.Message(), depth+1)
			l.Append(e)
		case f.IsList():
		case f.Kind() == protoreflect.MessageKind:
			fill(m.Mutable(f).Message(), depth+1)
		default:
			m.Set(f, scalar(f, i))
		}
	}
}

func scalar(f protoreflect.FieldDescriptor, i int) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(fmt.Sprint(f.Name(), i))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(1)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(i + 1))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(uint64(i + 1))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(i + 1))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(i + 1))
	}
	panic("a kind of field that this test does not know: " + f.Kind().String())
}

// fieldByField gives an allocation with one field of the whole each.
func fieldByField(whole *berthv1.Alloc) []*berthv1.Alloc {
	var out []*berthv1.Alloc
	whole.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		one := &berthv1.Alloc{}
		one.ProtoReflect().Set(f, v)
		out = append(out, one)
		return true
	})
	return out
}

// The table must be what a map would be, and every view what the map was.
func TestTableIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, model := New(), map[string]*berthv1.Alloc{}
		type moment struct {
			view  *View
			model map[string]*berthv1.Alloc
		}
		var moments []moment
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			put(s, func(tx *Tx) {
				for range rapid.IntRange(1, 4).Draw(t, "writes") {
					a := drawAlloc(t)
					if rapid.IntRange(0, 3).Draw(t, "delete") == 0 {
						tx.DeleteAlloc(a.GetId())
						delete(model, a.GetId())
						continue
					}
					tx.PutAlloc(a)
					model[a.GetId()] = a
				}
			})
			if rapid.Bool().Draw(t, "look") {
				moments = append(moments, moment{s.View(), maps.Clone(model)})
			}
		}
		for _, m := range append(moments, moment{s.View(), model}) {
			sameAllocs(t, m.view, m.model)
		}
		table := s.live.allocs
		for id := range model {
			table.remove(keyOf(must(ParseAllocID(id))))
		}
		ids := 0
		for _, p := range table.w.slotOf.parts {
			ids += p.used
		}
		held := int(table.used) - len(table.w.slots.free)
		if n := len(table.w.jobOf) + len(table.w.nodeOf) + table.byID.len() + held + ids + table.jobNames.Len() + table.nodeIDs.Len(); n > 0 {
			t.Fatalf("an empty table holds %d things", n)
		}
	})
}

func must(id AllocID, ok bool) AllocID {
	if !ok {
		panic("no id")
	}
	return id
}

func drawAlloc(t *rapid.T) *berthv1.Alloc {
	pick := func(what string, of ...string) string { return rapid.SampledFrom(of).Draw(t, what) }
	// Ids that differ only at the front or only at the end.
	a := &berthv1.Alloc{
		Id:        pick("front", "00000000", "00000001", "f0000000") + "-0000-4000-8000-00000000000" + pick("end", "0", "1", "f"),
		Namespace: "default", Job: pick("job", "j1", "j2"), Group: pick("group", "g", "h"), EvalId: pick("eval", "e1", "e2"),
		NodeId: pick("node", "n1", "n2"), NodeName: pick("name", "x", "y"), Index: uint32(rapid.IntRange(0, 2).Draw(t, "index")),
		Status: berthv1.Alloc_Status(rapid.IntRange(0, 5).Draw(t, "status")), StatusReason: pick("why", "", "because"),
		CreateTime: &timestamppb.Timestamp{Seconds: int64(rapid.IntRange(0, 1).Draw(t, "at"))}, ModifyRevision: uint64(rapid.IntRange(1, 3).Draw(t, "rev")),
	}
	if disk := rapid.IntRange(0, 3).Draw(t, "disk"); disk > 0 {
		a.Assignment = &berthv1.Assignment{DiskMib: uint64(disk)}
	}
	return a
}

func sameAllocs(t *rapid.T, v *View, model map[string]*berthv1.Alloc) {
	byID := func(keep func(*berthv1.Alloc) bool) (out []*berthv1.Alloc) {
		for _, a := range slices.SortedFunc(maps.Values(model), func(a, b *berthv1.Alloc) int { return cmp.Compare(a.GetId(), b.GetId()) }) {
			if keep(a) {
				out = append(out, a)
			}
		}
		return out
	}
	check := func(what string, got iter.Seq[*berthv1.Alloc], keep func(*berthv1.Alloc) bool) {
		if !slices.EqualFunc(slices.Collect(got), byID(keep), func(a, b *berthv1.Alloc) bool { return proto.Equal(a, b) }) {
			t.Fatalf("%s: got %v\nwant %v", what, slices.Collect(got), byID(keep))
		}
	}
	for _, start := range []string{"", "0", "00000000-", "00000000-0000-4000-8000-000000000001", "0z", "f", "g"} {
		check("from "+start, v.Allocs(start), func(a *berthv1.Alloc) bool { return a.GetId() >= start })
		check("of j1 from "+start, v.AllocsByJobFrom("default", "j1", start), func(a *berthv1.Alloc) bool { return a.GetId() >= start && a.GetJob() == "j1" })
	}
	check("on n2", v.AllocsByNode("n2"), func(a *berthv1.Alloc) bool { return a.GetNodeId() == "n2" })
	for id, a := range model {
		if !proto.Equal(v.Alloc(id), a) {
			t.Fatalf("%s: got %v, want %v", id, v.Alloc(id), a)
		}
		sameWire(t, v, id)
	}
	if v.AllocCount() != len(model) {
		t.Fatalf("%d allocations, want %d", v.AllocCount(), len(model))
	}
}

// An id that is taken leaves nothing behind, and does not hurt who comes after it.
func TestCohortsRefuseTakenIDs(t *testing.T) {
	s := New()
	place := func(job string, nodes ...string) (placed int) {
		put(s, func(tx *Tx) {
			c := tx.NewCohort(rows.Cohort{Namespace: "default", Job: job}, timestamppb.New(time.Unix(1, 0)))
			for i, node := range nodes {
				if c.Place(AllocID{15: byte(i)}, &OnNode{ID: node, Name: "name of " + node}, 0, c.Grant(&berthv1.Assignment{}, nil), nil) {
					placed++
				}
			}
			c.Close()
		})
		return placed
	}
	if n := place("a", "n1", "n1"); n != 2 {
		t.Fatalf("%d placed", n)
	}
	if n := place("b", "n2", "n3"); n != 0 {
		t.Errorf("%d placed under taken ids", n)
	}
	if n := place("c", "n4", "n5", "n5", "n1"); n != 2 {
		t.Errorf("%d placed beside taken ids", n)
	}
	v, w := s.View(), s.live.allocs.w
	if v.AllocCount() != 4 || len(w.jobOf) != 2 || len(w.nodeOf) != 2 || v.allocs.jobNames.Len() != 2 || v.Alloc(AllocID{15: 0}.String()).GetJob() != "a" {
		t.Errorf("%d allocations, jobs %v, nodes %v", v.AllocCount(), w.jobOf, w.nodeOf)
	}
}

func FuzzAllocID(f *testing.F) {
	f.Add(idA)
	f.Add("00000000-0000-4000-8000-00000000000A")
	f.Fuzz(func(t *testing.T, s string) {
		id, ok := ParseAllocID(s)
		if ok && id.String() != s {
			t.Errorf("%q became %q", s, id)
		}
		if ok && lowest(s) != keyOf(id) {
			t.Errorf("the lowest from %q on is %q", s, lowest(s).id())
		}
	})
}

// A snapshot must restore every allocation, and two stores that came to the same ones by
// different ways must hash alike.
func TestBlocksKeepTheTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, other := New(), New()
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			a := drawAlloc(t)
			put(s, func(tx *Tx) { tx.PutAlloc(a) })
		}
		for _, a := range rapid.Permutation(slices.Collect(s.View().Allocs(""))).Draw(t, "order") {
			other.Update(s.Revision(), time.Unix(0, 0), func(tx *Tx) { tx.PutAlloc(a) })
		}
		var b bytes.Buffer
		if err := s.View().Write(&b); err != nil {
			t.Fatal(err)
		}
		restored, err := Read(&b)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(restored.View().Hash(), s.View().Hash()) {
			t.Fatal("the restored state is another")
		}
		model := map[string]*berthv1.Alloc{}
		for a := range s.View().Allocs("") {
			model[a.GetId()] = a
		}
		sameAllocs(t, restored.View(), model)
		sameAllocs(t, other.View(), model)
	})
}

// Snapshots of before had a message for each allocation.
func TestSnapshotOfVersion1IsRead(t *testing.T) {
	s := New()
	put(s, func(tx *Tx) {
		for i := range byte(200) {
			tx.PutAlloc(&berthv1.Alloc{Id: AllocID{15: i}.String(), Namespace: "default", Job: fmt.Sprint("j", i%3), NodeId: "n", Status: berthv1.Alloc_Status(i % 6)})
		}
	})
	var b bytes.Buffer
	sum := &summer{h: sha256.New()}
	write := func(r *berthv1.SnapshotRecord) {
		sum.add(r)
		if _, err := protodelim.MarshalTo(&b, r); err != nil {
			t.Fatal(err)
		}
	}
	write(&berthv1.SnapshotRecord{Record: &berthv1.SnapshotRecord_Header{Header: &berthv1.SnapshotHeader{Version: 1, Revision: 1}}})
	write(&berthv1.SnapshotRecord{Record: &berthv1.SnapshotRecord_SchedulerConfig{SchedulerConfig: &berthv1.SchedulerConfig{}}})
	for a := range s.View().Allocs("") {
		write(&berthv1.SnapshotRecord{Record: &berthv1.SnapshotRecord_Alloc{Alloc: a}})
	}
	end := &berthv1.SnapshotEnd{Records: sum.n, Hash: sum.h.Sum(nil)}
	if _, err := protodelim.MarshalTo(&b, &berthv1.SnapshotRecord{Record: &berthv1.SnapshotRecord_End{End: end}}); err != nil {
		t.Fatal(err)
	}
	old, err := Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(old.View().Hash(), s.View().Hash()) {
		t.Error("another state")
	}
}

// Damaged blocks are errors, whatever they are.
func FuzzBlocks(f *testing.F) {
	s := New()
	put(s, func(tx *Tx) {
		for i := range byte(3) {
			tx.PutAlloc(&berthv1.Alloc{Id: AllocID{15: i}.String(), Namespace: "default", Job: "j", NodeId: "n", StatusReason: "so", Assignment: &berthv1.Assignment{DiskMib: 1}})
		}
	})
	for b := range s.live.allocs.blocks() {
		f.Add(slices.Clone(b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := New()
		s.Update(1, time.Unix(0, 0), func(tx *Tx) {
			if tx.loadAllocs(b) == nil && tx.allocs.loaded() {
				for a := range tx.Allocs("") {
					_ = a
				}
			}
		})
	})
}

func BenchmarkBlocks(b *testing.B) {
	const n = 200000
	s := New()
	rng := rand.New(rand.NewPCG(1, 2))
	at := timestamppb.New(time.Unix(1767323045, 5))
	for i := range n / 1000 {
		put(s, func(tx *Tx) {
			c := tx.NewCohort(rows.Cohort{Namespace: "default", Job: fmt.Sprint("job", i%20), Group: "g", EvalID: "e", JobVersion: 1}, at)
			g := c.Grant(&berthv1.Assignment{DiskMib: 1}, nil)
			for k := range uint32(1000) {
				c.Place(allocKey{rng.Uint64(), rng.Uint64()}.id(), &OnNode{ID: fmt.Sprint("node", k/50), Name: "x"}, k, g, nil)
			}
			c.Close()
		})
	}
	var snapshot bytes.Buffer
	b.Run("write", func(b *testing.B) {
		for range b.N {
			snapshot.Reset()
			if err := s.View().Write(&snapshot); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/alloc")
		b.ReportMetric(float64(snapshot.Len())/n, "B/alloc")
	})
	b.Run("read", func(b *testing.B) {
		for range b.N {
			if _, err := Read(bytes.NewReader(snapshot.Bytes())); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/alloc")
	})
}
