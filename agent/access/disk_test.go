package access

import (
	"bytes"
	"os"
	"testing"
	"testing/synctest"

	"github.com/berthd/berth/agent/disk"
	"github.com/berthd/berth/problem"
	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

func TestSendDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, o := newServer(t)
		order := func(id string) *berthv1.StreamOrder {
			return &berthv1.StreamOrder{Order: &berthv1.StreamOrder_SendDisk{SendDisk: &berthv1.SendDiskOrder{AllocId: id}}}
		}
		refused := func(id string, kind problem.Kind) {
			t.Helper()
			frames, last := serve(t, s, order(id))
			if p := last.GetProblem(); len(frames) > 0 || p.GetKind() != string(kind) {
				t.Errorf("%d frames, then %v, want %s", len(frames), last, kind)
			}
		}
		refused("other", problem.NotFound)
		refused("a1", problem.Conflict) // it runs
		o.ended.Store(true)
		refused("a1", problem.NotFound) // it has none
		o.data = t.TempDir()
		content := bytes.Repeat([]byte("0123456789"), 20000)
		if err := os.WriteFile(o.data+"/file", content, 0o600); err != nil {
			t.Fatal(err)
		}
		frames, last := serve(t, s, order("a1"))
		var sent bytes.Buffer
		for _, f := range frames {
			c := f.GetChunk()
			if c.GetOffset() != int64(sent.Len()) || len(c.GetData()) > chunk {
				t.Errorf("%d bytes at %d after %d", len(c.GetData()), c.GetOffset(), sent.Len())
			}
			sent.Write(c.GetData())
		}
		to := t.TempDir()
		_, err := disk.Unpack(t.Context(), &sent, to, 0, func(disk.Count) {})
		if got, rerr := os.ReadFile(to + "/file"); err != nil || rerr != nil || !bytes.Equal(got, content) || !last.GetDone() {
			t.Errorf("%d bytes, %v %v %v", len(got), err, rerr, last)
		}
	})
}
