package state

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// slotOf is an entry for these tests: a number in the highest 31 bits, a slot in the next 32, and whether
// it is gone in the last.
type slotOf uint64

func newSlotOf(number, slot uint32) slotOf { return slotOf(number)<<33 | slotOf(slot)<<1 }

func (s slotOf) before(o slotOf) bool { return s>>1 < o>>1 }
func (s slotOf) gone() bool           { return s&1 != 0 }
func (s slotOf) head() uint64         { return uint64(s) }

// Whatever is written, in whatever batches, a set of runs is what a map would be, and
// so is every copy that was ever made of it.
func TestRunsAreASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type moment struct {
			set   runs[slotOf]
			model map[slotOf]bool
		}
		var set runs[slotOf]
		model := map[slotOf]bool{}
		var moments []moment
		for range rapid.IntRange(0, 200).Draw(t, "steps") {
			switch s := newSlotOf(rapid.Uint32Range(0, 3).Draw(t, "number"), rapid.Uint32Range(0, 7).Draw(t, "slot")); {
			case rapid.IntRange(0, 9).Draw(t, "copy") == 0:
				m := moment{set.copy(), maps.Clone(model)}
				if rapid.Bool().Draw(t, "read") {
					m.set.sorted()
				}
				moments = append(moments, m)
			case model[s]:
				set.remove(s | 1)
				delete(model, s)
			default:
				set.add(s)
				model[s] = true
			}
		}
		for _, m := range append(moments, moment{set, model}) {
			sorted := slices.Sorted(maps.Keys(m.model))
			for _, start := range []slotOf{0, newSlotOf(1, 0), newSlotOf(2, 4), newSlotOf(9, 0)} {
				first, _ := slices.BinarySearch(sorted, start)
				if got := slices.Collect(m.set.from(start)); !slices.Equal(got, sorted[first:]) {
					t.Fatalf("from %d: %v, want %v", start, got, sorted[first:])
				}
				if _, ok := m.set.find(start); ok != m.model[start] {
					t.Fatalf("%d: found %v", start, ok)
				}
			}
			if m.set.len() != len(sorted) {
				t.Fatalf("%d, want %d", m.set.len(), len(sorted))
			}
		}
	})
}

// What has come and gone takes no room for ever, and there are few runs, whether anybody reads or not.
func TestRunsStayFew(t *testing.T) {
	for _, read := range []bool{true, false} {
		var set runs[slotOf]
		look := func(i uint32) {
			if c := set.copy(); i%100 == 0 && read {
				c.sorted()
			}
		}
		for i := range uint32(100_000) {
			set.add(newSlotOf(i*2654435761>>4, i))
			look(i)
		}
		if n := len(set.sealed); n > 12 {
			t.Errorf("%d runs", n)
		}
		for i := range uint32(100_000) {
			set.remove(newSlotOf(i*2654435761>>4, i) | 1)
			look(i)
		}
		total := len(set.fresh)
		for _, run := range set.sealed {
			total += len(run)
		}
		if set.len() != 0 || total > 3*mostFresh {
			t.Errorf("%d things in %d entries", set.len(), total)
		}
	}
}
