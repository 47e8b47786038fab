package state

import (
	"bytes"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/rows"
)

// sameWire compares the encoding of a row, made by hand, with that of its message.
func sameWire(t interface{ Errorf(string, ...any) }, v *View, id string) {
	row := v.AllocRow(id)
	want := appendMessage(nil, row.Alloc())
	if got := row.AppendWire([]byte{1}); got[0] != 1 || !bytes.Equal(got[1:], want) {
		t.Errorf("encoded %x\nwant %x\nof %v", got[1:], want, row.Alloc())
	}
}

func TestPlacedRowsAreEncodedAsTheirMessages(t *testing.T) {
	s, a := New(), &berthv1.Assignment{DiskMib: 3, WholeNode: true}
	put(s, func(tx *Tx) {
		c := tx.NewCohort(rows.Cohort{Namespace: "default", Job: "web", Group: "g", EvalID: "e", JobVersion: 300}, timestamppb.New(time.Unix(1e9, 7)))
		c.Place(AllocID{15: 1}, &OnNode{ID: "n", Name: "node"}, 1<<31, c.Grant(a, appendMessage(nil, a)), nil)
		c.Close()
	})
	sameWire(t, s.View(), AllocID{15: 1}.String())
	row := s.View().AllocRow(AllocID{15: 1}.String())
	put(s, func(tx *Tx) { tx.SetStatus(&row, berthv1.Alloc_running, -1, timestamppb.Now()) })
	sameWire(t, s.View(), AllocID{15: 1}.String())
}

// FuzzAllocWire holds the encoding by hand against proto.Marshal, whatever is stored.
func FuzzAllocWire(f *testing.F) {
	whole := &berthv1.Alloc{}
	fill(whole.ProtoReflect(), 0)
	for _, a := range append([]*berthv1.Alloc{{}, whole}, fieldByField(whole)...) {
		f.Add(appendMessage(nil, a))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		a := &berthv1.Alloc{}
		if (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, a) != nil {
			return
		}
		a.Id, a.CreateTime = idA, timestampOf(nanosOf(a.GetCreateTime())) // a time that there is
		s := New()
		put(s, func(tx *Tx) { tx.PutAlloc(a) })
		sameWire(t, s.View(), idA)
	})
}
