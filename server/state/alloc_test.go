package state

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
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
		if n := len(table.w.jobOf) + len(table.w.nodeOf) + table.byJob.Len() + table.byNode.Len() + table.jobNames.Len() + table.nodeIDs.Len(); n > 0 {
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
	}
	if v.AllocCount() != len(model) {
		t.Fatalf("%d allocations, want %d", v.AllocCount(), len(model))
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
