package state

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"pgregory.net/rapid"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
	"github.com/berthd/berth/server/rows"
)

// Readers of views and the writer are in nobody's way: each view stays what it was, whatever is placed,
// removed and placed again where that was.
func TestViewsStayWhileOthersWrite(t *testing.T) {
	s := New()
	views := make(chan *View, 1)
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for v := range views {
				byID, byJob := 0, 0
				for a := range v.AllocRows() {
					if got := v.AllocRowOf(a.ID()); got != *a {
						t.Errorf("revision %d: %v by its id, %v in order", v.Revision(), got, a)
					}
					byID++
				}
				for i := range 3 {
					for range v.AllocRowsByJob("default", fmt.Sprint("job", i)) {
						byJob++
					}
				}
				if n := v.AllocCount(); byID != n || byJob != n {
					t.Errorf("revision %d: %d allocations, %d by id, %d by job", v.Revision(), n, byID, byJob)
				}
			}
		})
	}
	at := timestamppb.New(time.Unix(1, 0))
	var there []AllocID
	for i := range 300 {
		put(s, func(tx *Tx) {
			for _, id := range there[:min(len(there), i%40)] {
				tx.DeleteAlloc(id.String())
			}
			there = there[min(len(there), i%40):]
			c := tx.NewCohort(rows.Cohort{Namespace: "default", Job: fmt.Sprint("job", i%3), Group: "g"}, at)
			grant := c.Grant(&berthv1.Assignment{DiskMib: 1}, nil)
			ids := rows.NewIDs(rows.ID{byte(i), byte(i >> 8)})
			on := OnNode{ID: fmt.Sprint("node", i%7)}
			for k := range 20 {
				id := ids.At(k)
				there = append(there, id)
				c.Place(id, &on, uint32(k), grant, nil)
			}
			c.Close()
		})
		views <- s.View()
	}
	close(views)
	readers.Wait()
}

// Whatever comes and goes, and however much keys are alike, the index of slots is what a map would be.
func TestSlotIndexIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var index slotIndex
		var rows slab[fixedRow]
		model := map[allocKey]uint32{}
		slot := uint32(0)
		for range rapid.IntRange(0, 400).Draw(t, "steps") {
			key := allocKey{hi: rapid.Uint64Range(0, 3).Draw(t, "hi") << 40, lo: rapid.Uint64Range(0, 30).Draw(t, "lo")}
			if _, there := model[key]; there {
				index.remove(&rows, key)
				delete(model, key)
				continue
			}
			rows.fresh(slot).key = key
			index.add(key, slot)
			model[key] = slot
			slot++
		}
		for hi := range uint64(5) {
			for lo := range uint64(32) {
				key := allocKey{hi << 40, lo}
				want, there := model[key]
				if got, ok := index.find(&rows, key); ok != there || got != want {
					t.Fatalf("%v: %d %v, want %d %v", key, got, ok, want, there)
				}
			}
		}
	})
}

// Entries of one part, whose places run into each other and over the end, are found when others have gone.
func TestSlotPartsCloseTheirHoles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p slotPart
		p.grow()
		var rows slab[fixedRow]
		tags := map[uint32]uint32{}
		for slot := range uint32(6) {
			tag := rapid.Uint32Range(0, 7).Draw(t, "home") | slot<<8
			*rows.fresh(slot) = fixedRow{key: allocKey{hi: uint64(slot)}}
			p.put(newSlotEntry(tag, slot))
			tags[slot] = tag
		}
		for _, gone := range rapid.Permutation([]uint32{0, 1, 2, 3, 4, 5}).Draw(t, "order") {
			hole := p.find(&rows, allocKey{hi: uint64(gone)}, tags[gone])
			if hole < 0 {
				t.Fatalf("slot %d of %v is lost", gone, tags)
			}
			p.close(hole)
			delete(tags, gone)
			for slot, tag := range tags {
				if p.find(&rows, allocKey{hi: uint64(slot)}, tag) < 0 {
					t.Fatalf("slot %d of %v is lost", slot, tags)
				}
			}
		}
		if slices.ContainsFunc(p.entries, func(e slotEntry) bool { return e != 0 }) {
			t.Fatalf("%v are left", p.entries)
		}
	})
}
