package state

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/rows"
)

// BenchmarkPlace places a million allocations over 10,000 nodes in entries of 300, and then has
// each reported to run, with a view after every entry or never: an operation is one
// allocation's both.
func BenchmarkPlace(b *testing.B) {
	for _, views := range []bool{false, true} {
		b.Run(fmt.Sprint("views=", views), func(b *testing.B) {
			const entry, most = 300, 1_000_000
			var s *Store
			var rng *rand.Rand
			var ids [most]AllocID
			var nodes [10000]OnNode
			for i := range nodes {
				nodes[i] = OnNode{ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", i), Name: "node"}
			}
			at := timestamppb.New(time.Unix(1e9, 0))
			b.ReportAllocs()
			for done := 0; done < b.N; done += most {
				s, rng = New(), rand.New(rand.NewPCG(1, 2))
				for i := range nodes {
					nodes[i].node = nil
				}
				for first := 0; first < most; first += entry {
					last := min(first+entry, most)
					put(s, func(tx *Tx) {
						c := tx.NewCohort(rows.Cohort{Namespace: "default", Job: fmt.Sprint("job", first/1000), Group: "g"}, at)
						grant := c.Grant(&berthv1.Assignment{DiskMib: 1}, nil)
						for i := first; i < last; i++ {
							binary.BigEndian.PutUint64(ids[i][:], rng.Uint64())
							binary.BigEndian.PutUint64(ids[i][8:], uint64(i))
							c.Place(ids[i], &nodes[(i*7)%10000], uint32(i), grant, nil)
						}
						c.Close()
					})
					if views {
						s.View()
					}
					put(s, func(tx *Tx) {
						for i := first; i < last; i++ {
							row := tx.AllocRowOf(ids[i])
							tx.SetStatus(&row, berthv1.Alloc_running, 1, at)
						}
					})
					if views {
						s.View()
					}
				}
			}
		})
	}
}
