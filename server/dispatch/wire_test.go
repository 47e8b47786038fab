package dispatch

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/rows"
)

func TestNestedHasLengthsOfAnySize(t *testing.T) {
	for _, n := range []int{0, 1, 127, 128, 16383, 16384, 1 << 21} {
		body := bytes.Repeat([]byte{7}, n)
		got := nested([]byte("before"), 5, func(b []byte) []byte { return append(b, body...) })
		want := protowire.AppendBytes(protowire.AppendTag([]byte("before"), 5, protowire.BytesType), body)
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes: got %.20x, want %.20x", n, got, want)
		}
	}
}

// FuzzReportsWire holds the reading by hand against the generated code: what that reads,
// this reads alike, and what that refuses is not taken in whole.
func FuzzReportsWire(f *testing.F) {
	at := &timestamppb.Timestamp{Seconds: 1e9, Nanos: 5}
	for _, u := range []*berthv1.AllocStatusUpdate{
		{}, {AllocId: allocID(1), Status: berthv1.Alloc_running, StatusTime: at}, {AllocId: allocID(1), StatusTime: &timestamppb.Timestamp{}},
		{AllocId: "x", StatusTime: at}, {AllocId: allocID(2), Status: 200, StatusTime: at}, {AllocId: allocID(2), StatusTime: &timestamppb.Timestamp{Seconds: -1}},
		{AllocId: allocID(3), StatusTime: at, StatusReason: "so", Tasks: []*berthv1.TaskState{{Task: "t"}}},
	} {
		b, err := proto.Marshal(&berthv1.AgentMessage{Body: &berthv1.AgentMessage_Report{Report: &berthv1.StatusReport{Sequence: 9, Updates: []*berthv1.AllocStatusUpdate{u, u}}}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		report := reportOf(data)
		if report == nil {
			return
		}
		var got, want rows.ReportWriter
		sequence, err := readReport(report, func(u []byte) error { return addUpdate(&got, u) })
		m := &berthv1.AgentMessage{}
		if wrong := proto.Unmarshal(data, m); wrong != nil || err != nil {
			if (wrong == nil) != (err == nil) {
				t.Fatalf("by hand: %v, generated: %v", err, wrong)
			}
			return
		}
		for _, u := range m.GetReport().GetUpdates() {
			want.Add(u)
		}
		if a, b := got.Bytes(), want.Bytes(); sequence != m.GetReport().GetSequence() || !bytes.Equal(a, b) {
			t.Fatalf("read %d %x, want %d %x", sequence, a, m.GetReport().GetSequence(), b)
		}
	})
}
