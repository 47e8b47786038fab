package rows

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

var update = flag.Bool("update", false, "write the golden files")

var base = ID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

func grant(cell uint32) *berthv1.Assignment {
	return &berthv1.Assignment{DiskMib: 1, Tasks: []*berthv1.TaskGrant{{Task: "t", Cells: []*berthv1.CellGrant{{Cell: cell, CpuMilli: 10, MemoryMib: 16}}}}}
}

// some are placements of every kind, and the messages that they stand for.
func some() ([]byte, []*berthv1.Alloc) {
	w := NewPlacementWriter(base)
	var want []*berthv1.Alloc
	add := func(c Cohort, node string, index uint32, g *berthv1.Assignment, extra *berthv1.Alloc) {
		w.Cohort(c)
		id := w.Add(node, index, g, extra)
		a := &berthv1.Alloc{}
		if extra != nil {
			a = proto.Clone(extra).(*berthv1.Alloc)
		}
		a.Id, a.Namespace, a.Job, a.Group, a.EvalId, a.JobVersion = id.String(), c.Namespace, c.Job, c.Group, c.EvalID, c.JobVersion
		a.NodeId, a.Index, a.Assignment = node, index, g
		want = append(want, a)
	}
	web, db := Cohort{"default", "web", "g", "e1", 3}, Cohort{"default", "db", "main", "e2", 1}
	for i := range uint32(100) {
		add(web, fmt.Sprint("node-", i/40), i, grant(i/20%2), nil)
	}
	add(web, "node-0", 7, grant(0), &berthv1.Alloc{PreviousAlloc: "p", Reschedules: []*timestamppb.Timestamp{{Seconds: 5}}})
	add(web, "node-0", 8, grant(0), nil)
	add(db, "node-2", 0, grant(0), nil)
	add(web, "node-2", 4000000000, grant(5), nil)
	return w.Bytes(), want
}

func golden(t *testing.T, name string, got []byte) []byte {
	t.Helper()
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, []byte(hex.Dump(got)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != hex.Dump(got) {
		t.Errorf("%s is written in another way now: a log may hold the old one, so that is a new version", path)
	}
	return got
}

func TestPlacementsAreReadAsWritten(t *testing.T) {
	data, want := some()
	got, err := ToAllocs(golden(t, "placements.v1.hex", data))
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d of %d, %v", len(got), len(want), err)
	}
	for i := range got {
		if !proto.Equal(got[i], want[i]) {
			t.Errorf("row %d: got %v, want %v", i, got[i], want[i])
		}
	}
	if len(data) > 450 {
		t.Errorf("%d rows take %d bytes", len(got), len(data))
	}
}

func TestIDsDifferAndAreUUIDs(t *testing.T) {
	ids, seen := NewIDs(base), map[ID]bool{}
	for i := range MaxRows {
		id := ids.At(i)
		if back, ok := ParseID(id.String()); seen[id] || !ok || back != id || id.String()[14] != '4' || !strings.ContainsRune("89ab", rune(id.String()[19])) {
			t.Fatalf("%d: %s", i, id)
		}
		seen[id] = true
	}
	if first := ids.At(0).String(); first != "dbf18411-2eb9-4116-9971-2bafcff2ab24" {
		t.Errorf("the first is %s now: servers would differ about what a log says", first)
	}
}

func TestAnyPlacementsAreReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := NewPlacementWriter(base)
		var want []*berthv1.Alloc
		for range rapid.IntRange(0, 60).Draw(t, "rows") {
			c := Cohort{Namespace: "n", Job: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "job"), JobVersion: uint64(rapid.IntRange(0, 2).Draw(t, "version"))}
			node, g := rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "node"), grant(rapid.Uint32Range(0, 12).Draw(t, "cell"))
			index := rapid.OneOf(rapid.Uint32Range(0, 3), rapid.Uint32()).Draw(t, "index")
			var extra *berthv1.Alloc
			if rapid.IntRange(0, 5).Draw(t, "extra") == 0 {
				extra = &berthv1.Alloc{PreviousAlloc: "p"}
			}
			w.Cohort(c)
			id := w.Add(node, index, g, extra)
			want = append(want, &berthv1.Alloc{Id: id.String(), Namespace: c.Namespace, Job: c.Job, JobVersion: c.JobVersion, NodeId: node,
				Index: index, Assignment: g, PreviousAlloc: extra.GetPreviousAlloc()})
		}
		got, err := ToAllocs(w.Bytes())
		if err != nil || len(got) != len(want) {
			t.Fatalf("%d of %d, %v", len(got), len(want), err)
		}
		for i := range got {
			if !proto.Equal(got[i], want[i]) {
				t.Fatalf("row %d: got %v, want %v", i, got[i], want[i])
			}
		}
	})
}

func someReports() ([]byte, []*berthv1.AllocStatusUpdate) {
	id := func(n byte) string { return ID{15: n}.String() }
	want := []*berthv1.AllocStatusUpdate{
		{AllocId: id(1), Status: berthv1.Alloc_running, StatusTime: &timestamppb.Timestamp{Seconds: 1767323045, Nanos: 17}},
		{AllocId: id(2), Status: berthv1.Alloc_complete, StatusTime: &timestamppb.Timestamp{Seconds: 1767323044, Nanos: 999999999}},
		{AllocId: id(3), Status: berthv1.Alloc_failed, StatusReason: "it broke", StatusTime: &timestamppb.Timestamp{Seconds: 1}},
		{AllocId: id(4), Status: berthv1.Alloc_running, StatusTime: &timestamppb.Timestamp{Seconds: -5, Nanos: 5}},
		{AllocId: "no id", Status: berthv1.Alloc_running, StatusTime: &timestamppb.Timestamp{Seconds: 1}},
		{AllocId: id(5), Status: 4000},
		{AllocId: id(6), StatusTime: &timestamppb.Timestamp{Seconds: 1 << 40}},
		{AllocId: id(7), Tasks: []*berthv1.TaskState{{Task: "t"}}},
	}
	w := &ReportWriter{}
	for _, u := range want {
		w.Add(u)
	}
	return w.Bytes(), want
}

func TestReportsAreReadAsWritten(t *testing.T) {
	data, want := someReports()
	got, err := ToUpdates(golden(t, "reports.v1.hex", data))
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d of %d, %v", len(got), len(want), err)
	}
	for i := range got {
		if !proto.Equal(got[i], want[i]) {
			t.Errorf("update %d: got %v, want %v", i, got[i], want[i])
		}
	}
}

// What is cut short at any byte is an error or a shorter list; nothing panics.
func TestTruncations(t *testing.T) {
	placements, allocs := some()
	reports, _ := someReports()
	for n := range placements {
		if got, err := ToAllocs(placements[:n]); err == nil && len(got) >= len(allocs) {
			t.Errorf("%d of %d bytes gave everything", n, len(placements))
		}
	}
	for n := range reports {
		_, _ = ToUpdates(reports[:n])
	}
	if _, err := ToAllocs(append([]byte{PlacementVersion + 1}, placements[1:]...)); err == nil {
		t.Error("a newer format was read")
	}
}

func FuzzPlacements(f *testing.F) {
	data, _ := some()
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		allocs, err := ToAllocs(data)
		if (err == nil) != (CheckPlacements(data) == nil) {
			t.Fatal("checked otherwise than read")
		}
		if err != nil {
			return
		}
		w := NewPlacementWriter(ID(data[1:17]))
		for _, a := range allocs { // what was read can be written again, and is the same
			w.Cohort(Cohort{a.GetNamespace(), a.GetJob(), a.GetGroup(), a.GetEvalId(), a.GetJobVersion()})
			w.Add(a.GetNodeId(), a.GetIndex(), a.GetAssignment(), a)
		}
		again, err := ToAllocs(w.Bytes())
		if err != nil || len(again) != len(allocs) {
			t.Fatalf("written again: %d of %d, %v", len(again), len(allocs), err)
		}
		for i := range again {
			if again[i].GetId() != allocs[i].GetId() || again[i].GetIndex() != allocs[i].GetIndex() {
				t.Fatalf("row %d differs", i)
			}
		}
	})
}

func FuzzReports(f *testing.F) {
	data, _ := someReports()
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		read, err := ToUpdates(data)
		if err != nil {
			return
		}
		w := &ReportWriter{}
		for _, u := range read {
			w.Add(u)
		}
		if again, err := ToUpdates(w.Bytes()); len(read) > 0 && (err != nil || len(again) != len(read)) {
			t.Fatalf("written again: %d of %d, %v", len(again), len(read), err)
		}
	})
}

func BenchmarkPlacements(b *testing.B) {
	g, nodes := []*berthv1.Assignment{grant(0), grant(1)}, []string{"node-a", "node-b", "node-c"}
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		w := NewPlacementWriter(base)
		for i := range b.N {
			if i%4096 == 0 {
				w = NewPlacementWriter(base)
			}
			w.Cohort(Cohort{"default", "web", "g", "e1", 3})
			w.Add(nodes[i%3], uint32(i), g[i%2], nil)
		}
	})
	w := NewPlacementWriter(base)
	w.Cohort(Cohort{"default", "web", "g", "e1", 3})
	for i := range 4096 {
		w.Add(nodes[i%3], uint32(i), g[i%2], nil)
	}
	data := bytes.Clone(w.Bytes())
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; i < b.N; i += 4096 {
			if err := CheckPlacements(data); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(data))/4096, "B/row")
	})
}
